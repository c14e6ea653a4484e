//! Updates over the air: of the engine itself, or of firmware that a drop-in or a device takes.
//!
//! A file says what it is for ([`Manifest`]); a [`Target`] carries it out; the job between them is on disk before each step.

mod bring;
mod broker;
pub mod build;
pub mod carry;
pub mod conditions;
pub mod device;
mod elf;
pub mod file;
pub mod firmware;
mod foreign;
pub mod job;
pub mod keys;
pub mod manifest;
mod md5;
pub mod pull;
pub mod runner;
pub mod shelf;
pub mod source;
#[cfg(test)]
mod stories;
pub mod target;
#[cfg(test)]
mod tests;
pub mod window;
pub mod zone;

pub use file::{Opened, Verified, limits};
pub use manifest::{Kind, Manifest};
pub use target::{Activation, Failure, Stage, Staged, Standing, Target, Tell};
