//! PURE. What the outbox says about itself.

use super::destination::Tally;
use super::salvage::Quarantine;
use serde::Serialize;

/// A look at the outbox. Cheap: nothing is read from disk for it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Readings that somebody waits for and that are not on disk yet.
    pub readings_in_memory: u64,
    /// Readings that somebody waits for and that are on disk.
    pub readings_on_disk: u64,
    /// The file with its free pages, and the write-ahead log.
    pub bytes_on_disk: u64,
    /// Time of the oldest waiting reading, milliseconds since 1970.
    pub oldest_waiting: Option<i64>,
    pub destinations: Vec<DestinationStatus>,
    /// Readings dropped since the start.
    pub dropped: u64,
    /// Refused values since the start, and those of them that the quota of refused values pushed out unwritten.
    pub set_aside: u64,
    pub set_aside_lost: u64,
    /// The disk takes no writes, and why.
    pub trouble: Option<String>,
    pub quarantine: Option<Quarantine>,
}

#[derive(Clone, Debug, Serialize)]
pub struct DestinationStatus {
    pub name: String,
    pub up: bool,
    /// Everything up to this number is acknowledged, dropped or was never used.
    pub cursor: u64,
    /// Parcels handed out and not acknowledged.
    pub in_flight: usize,
    pub readings: Tally,
    /// When it last acknowledged something, milliseconds since 1970; `None`: not since the start.
    pub last_acknowledged: Option<i64>,
}
