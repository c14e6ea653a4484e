//! PURE. One destination's view of the outbox: what it is done with, what is on its way, what waits to be handed out.
//!
//! Every parcel a destination is not done with is in exactly one of these places:
//! - at or above `live_from`: in memory, handed out live;
//! - in `flights`: handed out, neither acknowledged nor given up;
//! - in `queue`: read back from disk, not handed out yet;
//! - at or above `scan_next` and below `live_from`: on disk, still to be read.

use super::gap::Reason;
use super::held::Held;
use super::ranges::Ranges;
use crate::model::{Batch, Lane, Names, Parcel, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Encoded bytes read ahead for a destination that is catching up.
pub(super) const PREFETCH_BYTES: usize = 512 << 10;

/// Readings of one destination, since the outbox was opened. Always
/// `waiting_at_open + held_at_open + produced = acknowledged + set_aside + dropped + waiting + held`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub waiting_at_open: u64,
    pub produced: u64,
    pub acknowledged: u64,
    pub set_aside: u64,
    pub dropped: u64,
    pub waiting: u64,
    /// Held on disk until their device is in order.
    pub held: u64,
    pub held_at_open: u64,
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
    /// The number lost last.
    pub(super) lost_upto: u64,
    pub(super) flights: BTreeMap<u64, Flight>,
    queue: VecDeque<Read>,
    queue_bytes: usize,
}

/// A parcel read back from disk: what the destination wants of it.
#[derive(Clone, Debug)]
pub struct Read {
    pub facts: Facts,
    pub batch: Batch,
    pub names: Arc<Names>,
}

/// A parcel handed out and not acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) facts: Facts,
    /// Values the destination refused; they count when the parcel is acknowledged.
    pub(super) refused: u64,
    /// Values it does not take yet; they are held apart when the parcel is acknowledged.
    pub(super) held: Vec<Held>,
    /// It was dropped meanwhile: it still counts as delivered if its acknowledgement comes.
    pub(super) gone: Option<Reason>,
}

impl Flight {
    pub(super) fn held_readings(&self) -> u64 {
        self.held.iter().map(|part| u64::from(part.batch.count)).sum()
    }
}

/// What must be known of a parcel to account for it at one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub seq: u64,
    /// Those this destination wants, and those that anybody wants.
    pub readings: u64,
    pub any: u64,
    /// Who wants some of it, a bit each.
    pub wanted_by: u64,
    pub bytes: usize,
    pub oldest: Timestamp,
    pub newest: Timestamp,
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
            lost_upto: 0,
            flights: BTreeMap::new(),
            queue: VecDeque::new(),
            queue_bytes: 0,
        }
    }

    /// What it is done with and what waits below `first`, where so far nothing was known of.
    pub(super) fn join(&mut self, stored: &Ranges, waiting: u64, first: u64) {
        let mut done = Ranges::default();
        for (from, to) in stored.iter().filter(|(from, _)| *from < first) {
            done.insert(from, to.min(first - 1));
        }
        for (from, to) in self.done.iter().filter(|(_, to)| *to >= first) {
            done.insert(from.max(first), to);
        }
        self.done = done;
        self.tally.waiting_at_open += waiting;
        self.tally.waiting += waiting;
        (self.scan_next, self.generation, self.fetching) = (self.done.cursor() + 1, self.generation + 1, false);
        self.dirty = true;
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

    pub(super) fn depart(&mut self, facts: Facts, batch: Batch, names: &Arc<Names>, lane: Lane) -> Parcel {
        self.flights.insert(facts.seq, Flight { facts, refused: 0, held: Vec::new(), gone: None });
        Parcel { seq: facts.seq, lane, names: names.clone(), batch }
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
        while let Some(read) = self.queue.front() {
            let size = read.batch.bytes.len();
            if !parcels.is_empty() && bytes + size > max_bytes {
                break;
            }
            let Some(Read { facts, batch, names }) = self.queue.pop_front() else { break };
            self.queue_bytes -= size;
            // Dropped or acknowledged late, while it waited here.
            if !self.done.contains(facts.seq) {
                bytes += size;
                parcels.push(self.depart(facts, batch, &names, Lane::Backlog));
            }
        }
        parcels
    }

    /// Takes what was read from disk for `scan_next..next`. What is not on disk and not on its way will never come:
    /// it was acknowledged, it is not wanted, or a restart left the numbers unused.
    pub(super) fn fetched(&mut self, parcels: Vec<Read>, next: u64) {
        let mut from = self.scan_next;
        for read in parcels {
            let seq = read.facts.seq;
            if seq < self.scan_next || seq >= next {
                continue;
            }
            self.close_hole(from, seq - 1);
            from = seq + 1;
            if !self.done.contains(seq) && !self.flights.contains_key(&seq) {
                self.queue_bytes += read.batch.bytes.len();
                self.queue.push_back(read);
            }
        }
        self.close_hole(from, next - 1);
        self.scan_next = next;
    }

    /// Nothing of `from..=last` waits any more, but for what is on its way.
    pub(super) fn settle(&mut self, from: u64, last: u64) {
        self.close_hole(from.max(1), last);
        if (from..=last).contains(&self.lost_upto) {
            self.lost_upto = last;
        }
    }

    /// It does not want these, or is done with them, or has them on their way.
    pub(super) fn pass(&mut self, first: u64, last: u64) {
        let was_dirty = self.dirty;
        self.close_hole(first, last);
        // What it passes over it does not wait for on disk either: there is nothing to tell the store.
        self.dirty = was_dirty;
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
