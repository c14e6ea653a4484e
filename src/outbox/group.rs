//! PURE. What the state machine and the store tell each other.

use super::gap::{Gap, SetAsideRow};
use super::segment::Numbered;
use crate::model::Names;
use std::sync::Arc;
use std::time::Instant;

/// What one transaction writes.
#[derive(Debug, Default)]
pub struct Group {
    pub parcels: Vec<Numbered>,
    /// Names of the epochs in `parcels`.
    pub names: Vec<Arc<Names>>,
    /// Destination and what it is done with.
    pub cursors: Vec<(String, String)>,
    /// No destination waits for these any more.
    pub finished: Vec<(u64, u64)>,
    pub gaps: Vec<Gap>,
    pub set_aside: Vec<SetAsideRow>,
    /// Numbers below this may be handed out.
    pub seq_limit: u64,
    /// Segments that make room, by their first number.
    pub drops: Vec<u64>,
}

/// What the store thread does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Make room for about this many bytes, then take the group and write it.
    Commit {
        need: usize,
    },
    /// Read the first segment that reaches into `from..until`.
    Fetch {
        destination: usize,
        generation: u64,
        from: u64,
        until: u64,
    },
    /// Give back space, look for old readings.
    Housekeep,
    /// Everything is on disk and the outbox is closing.
    Exit,
    Wait(Instant),
}
