//! Resource packages: opening, sealing and reading their files.

pub mod build;
pub mod faults;
pub mod manifest;
pub mod mapping_table;
pub mod points;
pub mod seal;
pub mod source;
