//! PURE. Samples become readings: a(x+b), formula, the measurement point's data type, and what is worth sending.
//!
//! A template is compiled once into a [`Mapping`]; each device keeps a [`DeviceMapper`] with what must be
//! remembered between batches. Time is an argument: monotonic, counted from any fixed moment.

mod apply;
mod compile;
pub mod control;
mod convert;
mod evaluate;
pub mod quality;
mod upload;

pub use apply::{Computed, DeviceMapper, Readings};
pub use compile::Mapping;
pub use convert::{Scale, Scaled, convert};

#[cfg(test)]
mod oracle;
