//! PURE. One destination's view of the outbox: what it is done with, what is on its way, what waits to be handed out.
//!
//! Every parcel a destination is not done with is in exactly one of these places:
//! - at or above `live_from`: in memory, handed out live;
//! - in `flights`: handed out, neither acknowledged nor given up;
//! - in `queue`: read back from disk, not handed out yet;
//! - at or above `scan_next` and below `live_from`: on disk, still to be read.

use super::gap::Reason;
use super::ranges::Ranges;
use super::segment::Numbered;
use crate::model::{Batch, Lane, Names, Parcel, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Encoded bytes read ahead for a destination that is catching up.
pub(super) const PREFETCH_BYTES: usize = 512 << 10;

/// Readings of one destination, since the outbox was opened. Always
/// `waiting_at_open + produced = acknowledged + set_aside + dropped + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub waiting_at_open: u64,
    pub produced: u64,
    pub acknowledged: u64,
    pub set_aside: u64,
    pub dropped: u64,
    pub waiting: u64,
}

#[derive(Debug)]
pub(super) struct Destination {
    pub(super) name: String,
    pub(super) up: bool,
    pub(super) done: Ranges,
    pub(super) live_from: u64,
    pub(super) scan_next: u64,
    pub(super) fetching: bool,
    /// Rises when the link goes down: what was being read from disk for the old link is thrown away.
    pub(super) generation: u64,
    /// `done` differs from what the store holds, for parcels that are on disk.
    pub(super) dirty: bool,
    pub(super) tally: Tally,
    pub(super) flights: BTreeMap<u64, Flight>,
    queue: VecDeque<(Numbered, Arc<Names>)>,
    queue_bytes: usize,
}

/// A parcel handed out and not acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) facts: Facts,
    /// Values the destination refused; they count when the parcel is acknowledged.
    pub(super) refused: u64,
    /// It was dropped meanwhile: it still counts as delivered if its acknowledgement comes.
    pub(super) gone: Option<Gone>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    pub(super) reason: Reason,
    /// Another destination has lost it, so that it is counted as dropped already.
    pub(super) counted: bool,
}

/// What must be known of a parcel to account for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub seq: u64,
    pub readings: u64,
    pub bytes: usize,
    pub oldest: Timestamp,
    pub newest: Timestamp,
}

impl Facts {
    #[must_use]
    pub fn of(seq: u64, batch: &Batch) -> Facts {
        let (oldest, newest) = (batch.oldest, batch.newest);
        Facts { seq, readings: u64::from(batch.count), bytes: batch.bytes.len(), oldest, newest }
    }
}

impl Destination {
    pub(super) fn new(name: &str, done: Ranges, waiting: u64) -> Destination {
        let tally = Tally { waiting_at_open: waiting, waiting, ..Tally::default() };
        Destination {
            name: name.to_owned(),
            up: false,
            scan_next: done.cursor() + 1,
            live_from: 0,
            done,
            fetching: false,
            generation: 0,
            dirty: false,
            tally,
            flights: BTreeMap::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
        }
    }

    /// The link is up: what is stored is backlog, what is not is live.
    pub(super) fn rise(&mut self, stored_upto: u64) {
        self.up = true;
        self.live_from = stored_upto + 1;
        self.scan_next = self.done.cursor() + 1;
    }

    /// The link is down. Returns what was on its way.
    pub(super) fn fall(&mut self) -> BTreeMap<u64, Flight> {
        self.up = false;
        self.generation += 1;
        self.fetching = false;
        self.forget_queue();
        std::mem::take(&mut self.flights)
    }

    /// What was read ahead must be read again.
    pub(super) fn forget_queue(&mut self) {
        self.queue.clear();
        self.queue_bytes = 0;
    }

    /// It has not been handed out and is wanted from memory.
    pub(super) fn wants_live(&self, seq: u64) -> bool {
        self.up && seq >= self.live_from && !self.done.contains(seq)
    }

    /// Moves the border between backlog and live; `handed` tells whether what lies below was handed out.
    pub(super) fn raise_live(&mut self, to: u64, handed: bool) {
        if handed && self.scan_next == self.live_from {
            self.scan_next = to;
        }
        self.live_from = to;
    }

    pub(super) fn depart(&mut self, seq: u64, batch: &Batch, names: &Arc<Names>, lane: Lane) -> Parcel {
        self.flights.insert(seq, Flight { facts: Facts::of(seq, batch), refused: 0, gone: None });
        Parcel { seq, lane, names: names.clone(), batch: batch.clone() }
    }

    pub(super) fn wants_fetch(&self) -> bool {
        self.up && !self.fetching && self.queue_bytes < PREFETCH_BYTES && self.scan_next < self.live_from
    }

    /// Something below the live parcels was not handed out, or may not have been.
    pub(super) fn has_backlog(&self) -> bool {
        self.up && (self.fetching || !self.queue.is_empty() || self.scan_next < self.live_from)
    }

    pub(super) fn take_backlog(&mut self, max_bytes: usize) -> Vec<Parcel> {
        let (mut parcels, mut bytes) = (Vec::new(), 0);
        while let Some((numbered, _)) = self.queue.front() {
            let size = numbered.batch.bytes.len();
            if !parcels.is_empty() && bytes + size > max_bytes {
                break;
            }
            let (numbered, names) = self.queue.pop_front().expect("the queue has a front");
            self.queue_bytes -= size;
            // Dropped or acknowledged late, while it waited here.
            if !self.done.contains(numbered.seq) {
                bytes += size;
                parcels.push(self.depart(numbered.seq, &numbered.batch, &names, Lane::Backlog));
            }
        }
        parcels
    }

    /// Takes what was read from disk for `scan_next..next`. What is not on disk and not on its way will never come:
    /// it was acknowledged, or a restart left the numbers unused.
    pub(super) fn fetched(&mut self, parcels: Vec<Numbered>, names: Option<&Arc<Names>>, next: u64) {
        let mut from = self.scan_next;
        for numbered in parcels {
            let seq = numbered.seq;
            if seq < self.scan_next || seq >= next {
                continue;
            }
            self.close_hole(from, seq - 1);
            from = seq + 1;
            if let Some(names) = names
                && !self.done.contains(seq)
                && !self.flights.contains_key(&seq)
            {
                self.queue_bytes += numbered.batch.bytes.len();
                self.queue.push_back((numbered, names.clone()));
            }
        }
        self.close_hole(from, next - 1);
        self.scan_next = next;
    }

    fn close_hole(&mut self, mut first: u64, last: u64) {
        if first > last || self.done.covers(first, last) {
            return;
        }
        for seq in self.flights.range(first..=last).map(|(seq, _)| *seq) {
            self.done.insert(first, seq - 1);
            first = seq + 1;
        }
        self.done.insert(first, last);
        self.dirty = true;
    }
}
