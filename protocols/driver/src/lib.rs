//! The contract every protocol keeps, and the nouns it shares with the daemon.
//!
//! A protocol crate depends on this crate and on nothing else of the project. It implements three
//! small traits: [`Protocol`] checks text and makes a [`Plan`], a plan opens a [`Session`], a session
//! holds one conversation. The runtime owns back-off, dead-lines over a whole scan, quality on failure and
//! counters; a driver never retries, sleeps or reconnects on its own.

mod contract;
mod diagnostic;
mod parameters;
mod points;
mod sample;
pub mod testkit;
mod transfer;
mod value;

pub use contract::{
    Answer, ConnectionText, DeviceText, Direction, FrameTap, Plan, Protocol, RawError, Resource, ScanCost, ScanGroup,
    Session, SessionError, Silent,
};
pub use diagnostic::{Diagnostic, Place, Severity, did_you_mean};
pub use parameters::{Parameters, Text};
pub use points::{Offsets, PointKind, PointRow, PointTable, PointTableBuilder, RowText};
pub use sample::{Datum, Reason, Sample, Timestamp};
pub use transfer::{Phase, Transfer, TransferError, TransferShape};
pub use value::{Value, ValueType};
