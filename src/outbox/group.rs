//! PURE. What the state machine and the store tell each other.

use super::gap::{Gap, SetAsideRow};
use super::held::{Held, Keys};
use super::ranges::Ranges;
use super::segment::Numbered;
use super::wishes::Census;
use crate::model::Names;
use std::sync::Arc;
use std::time::Instant;

/// What one transaction writes.
#[derive(Debug, Default)]
pub struct Group {
    pub parcels: Vec<Numbered>,
    /// Names of the epochs in `parcels`.
    pub names: Vec<Arc<Names>>,
    /// Who wants how much of each of them.
    pub wanted: Vec<Census>,
    /// Destination and what it is done with.
    pub cursors: Vec<(usize, Ranges)>,
    pub gaps: Vec<Gap>,
    pub set_aside: Vec<SetAsideRow>,
    /// Rows of readings held back, and those that are to be deleted.
    pub held: Vec<Held>,
    pub unheld: Vec<i64>,
    /// Numbers below this may be handed out.
    pub seq_limit: u64,
    /// Segments that make room, by their first number: for one destination, or for all.
    pub drops: Vec<(Option<usize>, u64)>,
}

/// What the store thread does next.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Read what is held of a device that is well again.
    Release {
        destination: usize,
        keys: Keys,
    },
    /// Give back space, look for old readings.
    Housekeep,
    /// Everything is on disk and the outbox is closing.
    Exit,
    Wait(Instant),
}
