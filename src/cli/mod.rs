//! The commands of `enos-edge`, one file each.

pub mod check;
