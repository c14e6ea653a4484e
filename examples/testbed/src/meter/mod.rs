//! Stand-in Modbus devices: many units in one process, with fault knobs that turn at run time.
//!
//! A register tells by default which unit, area and address it belongs to, so a value that ends up
//! at the wrong point is seen at once. Written registers keep what was written.

mod connection;
mod faults;
mod frame;
mod handle;
mod journal;
mod pty;
mod registers;
mod request;

pub use faults::{Faults, TooMany};
pub use handle::{Meters, Wire};
pub use journal::{Given, Written};
pub use registers::{Area, FIRST_COUNTING, Pattern, address_value};
