//! Doors to `operate/`. Each offers the same table of operations.

pub mod local;
pub mod outward;
