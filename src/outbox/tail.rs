//! PURE. The outbox's memory: the recent parcels, who has got them, and what must be on disk by when.
//! Time is an argument.
//!
//! Numbers cut the parcels in three: up to `stored_upto` they are on disk, up to `taken_upto` they are being
//! written, above that they are fresh. A parcel that no destination waits for leaves at once.

use super::destination::{Destination, Facts, Gone};
use super::gap::{self, Gap, Reason, SetAsideRow};
use super::ranges::Ranges;
use super::work::ACKNOWLEDGED_WINDOW;
use crate::model::{Batch, Lane, Names, Parcel, SetAside};
use crate::telemetry::Counters;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a parcel costs in memory beside its bytes.
const PARCEL_OVERHEAD: usize = 128;
/// Numbers reserved at a time: at 1,000 parcels a second, seven weeks.
pub const SEQ_BLOCK: u64 = 1 << 32;
/// Refused values kept in memory while the disk is stuck, and the most that one transaction brings.
const SET_ASIDE_PENDING: usize = 10_000;
/// Names of packages that readings may still come for.
const NAMES_KEPT: usize = 4;

/// How much and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bound: Duration,
    pub strict: bool,
    pub memory_bytes: usize,
    /// Encoded bytes of one transaction.
    pub group_bytes: usize,
}

/// What the store knew when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    pub next_seq: u64,
    pub seq_limit: u64,
    /// Name, what it is done with, readings on disk that wait for it.
    pub destinations: Vec<(String, Ranges, u64)>,
    /// Readings on disk that somebody waits for.
    pub waiting: u64,
}

pub struct Tail {
    pub(super) limits: Limits,
    pub(super) entries: VecDeque<Option<Entry>>,
    pub(super) front: u64,
    pub(super) bytes: usize,
    pub(super) fresh_bytes: usize,
    pub(super) next_seq: u64,
    pub(super) seq_limit: u64,
    pub(super) stored_upto: u64,
    pub(super) taken_upto: u64,
    /// No fresh entry lies between `taken_upto` and this.
    pub(super) fresh_from: u64,
    pub(super) destinations: Vec<Destination>,
    pub(super) gaps: Vec<Gap>,
    pub(super) set_aside: VecDeque<SetAsideRow>,
    /// Refused values that could not even be noted.
    pub(super) set_aside_lost: u64,
    /// Since when rows or acknowledgements wait to be written.
    pub(super) rows_since: Option<Instant>,
    /// Bytes acknowledged out of the store since the store was told.
    pub(super) acknowledged_bytes: usize,
    /// Those that the running commit tells it of.
    pub(super) telling_bytes: usize,
    /// How long before the bound a commit must begin.
    pub(super) lead: Duration,
    pub(super) retry_at: Option<Instant>,
    pub(super) housekeep_at: Option<Instant>,
    pub(super) asleep_until: Option<Instant>,
    pub(super) closing: bool,
    pub(super) last_fetched: usize,
    pub(super) waiting: u64,
    names: HashMap<u64, Arc<Names>>,
    names_order: VecDeque<u64>,
    /// Most values any destination refused of a parcel that others still wait for.
    refused: BTreeMap<u64, u64>,
    pub(super) counters: Arc<Counters>,
}

/// One parcel in memory.
pub(super) struct Entry {
    pub(super) batch: Batch,
    pub(super) names: Arc<Names>,
    pub(super) born: Instant,
}

impl Entry {
    pub(super) fn cost(&self) -> usize {
        self.batch.bytes.len() + PARCEL_OVERHEAD
    }
}

impl Tail {
    #[must_use]
    pub fn new(limits: Limits, loaded: Loaded, counters: Arc<Counters>) -> Tail {
        let destinations =
            loaded.destinations.iter().map(|(n, done, waiting)| Destination::new(n, done.clone(), *waiting));
        counters.outbox_readings.set(loaded.waiting);
        Tail {
            limits,
            entries: VecDeque::new(),
            front: loaded.next_seq,
            bytes: 0,
            fresh_bytes: 0,
            next_seq: loaded.next_seq,
            seq_limit: loaded.seq_limit,
            stored_upto: loaded.next_seq - 1,
            taken_upto: loaded.next_seq - 1,
            fresh_from: loaded.next_seq,
            destinations: destinations.collect(),
            gaps: Vec::new(),
            set_aside: VecDeque::new(),
            set_aside_lost: 0,
            rows_since: None,
            acknowledged_bytes: 0,
            telling_bytes: 0,
            lead: limits.bound / 10,
            retry_at: None,
            housekeep_at: None,
            asleep_until: None,
            closing: false,
            last_fetched: 0,
            waiting: loaded.waiting,
            names: HashMap::new(),
            names_order: VecDeque::new(),
            refused: BTreeMap::new(),
            counters,
        }
    }

    /// Readings of this epoch may come from now on.
    pub fn use_names(&mut self, names: Arc<Names>) {
        if self.names.insert(names.epoch, names.clone()).is_none() {
            self.names_order.push_back(names.epoch);
        }
        while self.names_order.len() > NAMES_KEPT {
            let oldest = self.names_order.pop_front().expect("there are too many");
            self.names.remove(&oldest);
        }
    }

    /// Takes a batch. Without a destination nothing is kept.
    ///
    /// # Errors
    /// Why it, or an older one in its place, was dropped.
    pub fn append(&mut self, batch: Batch, now: Instant) -> Result<(), Reason> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let facts = Facts::of(seq, &batch);
        for destination in &mut self.destinations {
            destination.tally.produced += facts.readings;
            destination.tally.waiting += facts.readings;
        }
        if !self.destinations.is_empty() {
            self.wait(facts.readings as i64);
        }
        let names = self.names.get(&batch.epoch).filter(|_| !self.closing && !self.destinations.is_empty()).cloned();
        let Some(names) = names else {
            self.entries.push_back(None);
            self.trim_front();
            return if self.destinations.is_empty() { Ok(()) } else { self.lose(facts, Reason::Refused, now) };
        };
        let entry = Entry { batch, names, born: now };
        self.bytes += entry.cost();
        self.fresh_bytes += entry.cost();
        self.entries.push_back(Some(entry));
        self.bound_memory(now)
    }

    fn lose(&mut self, facts: Facts, reason: Reason, now: Instant) -> Result<(), Reason> {
        self.drop_parcel(facts, reason, now);
        Err(reason)
    }

    /// Stored parcels become backlog first; only when the disk is stuck are the oldest fresh ones dropped.
    fn bound_memory(&mut self, now: Instant) -> Result<(), Reason> {
        let mut result = Ok(());
        while self.bytes > self.limits.memory_bytes / 2 && self.front <= self.stored_upto && !self.entries.is_empty() {
            self.evict(self.front);
        }
        while self.bytes > self.limits.memory_bytes {
            let Some(seq) = self.first_fresh() else { break };
            let Some(entry) = self.entry(seq) else { break };
            let facts = Facts::of(seq, &entry.batch);
            self.remove(seq);
            result = self.lose(facts, Reason::Memory, now);
        }
        result
    }

    /// What is stored and was not handed out in time will come from disk.
    fn evict(&mut self, seq: u64) {
        for destination in self.destinations.iter_mut().filter(|d| d.up && d.live_from <= seq) {
            destination.raise_live(seq + 1, false);
        }
        self.remove(seq);
    }

    /// Live parcels for a destination whose link is up.
    pub fn take_live(&mut self, destination: usize, max_bytes: usize) -> Vec<Parcel> {
        let (mut parcels, mut bytes) = (Vec::new(), 0);
        let end = if self.limits.strict { self.stored_upto + 1 } else { self.next_seq };
        let mut seq = self.destinations[destination].live_from.max(self.front);
        while self.destinations[destination].up && seq < end {
            let index = (seq - self.front) as usize;
            if let Some(Some(entry)) = self.entries.get(index)
                && self.destinations[destination].wants_live(seq)
            {
                let size = entry.batch.bytes.len();
                if !parcels.is_empty() && bytes + size > max_bytes {
                    break;
                }
                bytes += size;
                parcels.push(self.destinations[destination].depart(seq, &entry.batch, &entry.names, Lane::Live));
            }
            seq += 1;
            self.destinations[destination].raise_live(seq, true);
            self.release(seq - 1);
        }
        parcels
    }

    /// Backlog for a destination whose link is up. It waits while too many acknowledgements are not on disk, unless the
    /// disk takes none: delivering goes before repeating.
    pub fn take_backlog(&mut self, destination: usize, max_bytes: usize) -> Vec<Parcel> {
        let untold = self.acknowledged_bytes + self.telling_bytes;
        if untold >= ACKNOWLEDGED_WINDOW && self.retry_at.is_none() {
            return Vec::new();
        }
        self.destinations[destination].take_backlog(max_bytes)
    }

    /// Backlog as long as there is any, also while it is still being read from disk; then what is live.
    pub fn take_in_order(&mut self, destination: usize, max_bytes: usize) -> Vec<Parcel> {
        if self.destinations[destination].has_backlog() {
            self.take_backlog(destination, max_bytes)
        } else {
            self.take_live(destination, max_bytes)
        }
    }

    /// These have arrived. What is neither on its way nor in memory is passed over: it will be sent again.
    pub fn acknowledge(&mut self, destination: usize, seqs: &[u64], now: Instant) {
        for seq in seqs {
            if self.destinations[destination].done.contains(*seq) {
                continue;
            }
            let flight = self.destinations[destination].flights.remove(seq);
            let facts = flight.map(|f| f.facts).or_else(|| Some(Facts::of(*seq, &self.entry(*seq)?.batch)));
            if let Some(facts) = facts {
                let counted = flight.and_then(|f| f.gone).is_some_and(|gone| gone.counted);
                self.arrived(destination, facts, flight.map_or(0, |f| f.refused), counted, now);
            }
        }
    }

    fn arrived(&mut self, destination: usize, facts: Facts, refused: u64, counted: bool, now: Instant) {
        let one = &mut self.destinations[destination];
        one.done.insert(facts.seq, facts.seq);
        one.tally.acknowledged += facts.readings - refused;
        one.tally.set_aside += refused;
        one.tally.waiting -= facts.readings;
        if facts.seq <= self.taken_upto {
            one.dirty = true;
            self.acknowledged_bytes += facts.bytes;
            self.rows_since.get_or_insert(now);
        }
        if refused > 0 {
            let most = self.refused.entry(facts.seq).or_default();
            *most = refused.max(*most);
        }
        if self.everybody_is_done(facts.seq) {
            let refused = self.refused.remove(&facts.seq).unwrap_or(0);
            if !counted {
                self.counters.acknowledged.add(facts.readings - refused);
                self.counters.set_aside.add(refused);
                self.wait(-(facts.readings as i64));
            }
            self.remove(facts.seq);
        }
    }

    /// These values of a parcel were refused for good.
    pub fn set_aside(&mut self, destination: usize, refused: &SetAside, now: Instant) {
        let one = &mut self.destinations[destination];
        let Some(flight) = one.flights.get_mut(&refused.seq) else { return };
        flight.refused = (flight.refused + u64::from(refused.batch.count)).min(flight.facts.readings);
        self.set_aside.extend(gap::rows(&one.name, refused));
        while self.set_aside.len() > SET_ASIDE_PENDING {
            self.set_aside.pop_front();
            self.set_aside_lost += 1;
        }
        self.rows_since.get_or_insert(now);
    }

    /// The link went up or down.
    pub fn link(&mut self, destination: usize, up: bool, now: Instant) {
        let one = &mut self.destinations[destination];
        if up == one.up {
            return;
        }
        if up {
            one.rise(self.stored_upto);
            return;
        }
        let flights = one.fall();
        for (_, flight) in flights {
            if let Some(gone) = flight.gone {
                self.give_up(destination, flight.facts, flight.refused, gone, now);
            }
        }
        self.release_stored();
    }

    /// A parcel that was dropped while it was on its way, and never arrived.
    fn give_up(&mut self, destination: usize, facts: Facts, refused: u64, gone: Gone, now: Instant) {
        let one = &mut self.destinations[destination];
        one.tally.set_aside += refused;
        self.lost_for(destination, Facts { readings: facts.readings - refused, ..facts }, gone.reason, now);
        self.destinations[destination].tally.waiting -= refused;
        if !gone.counted {
            self.counters.set_aside.add(refused);
            self.wait(-(refused as i64));
            self.count_drop(facts.seq, facts.readings - refused);
        }
    }

    /// Nobody will get this from us any more, but for those it is on its way to.
    pub fn drop_parcel(&mut self, facts: Facts, reason: Reason, now: Instant) {
        let mut lost = false;
        let counted = self
            .destinations
            .iter()
            .any(|d| d.flights.get(&facts.seq).is_some_and(|f| f.gone.is_some_and(|g| g.counted)));
        for i in 0..self.destinations.len() {
            let one = &mut self.destinations[i];
            if one.done.contains(facts.seq) {
                continue;
            }
            if let Some(flight) = one.flights.get_mut(&facts.seq) {
                flight.gone.get_or_insert(Gone { reason, counted: false });
                continue;
            }
            self.lost_for(i, facts, reason, now);
            lost = true;
        }
        if lost && !counted {
            self.count_drop(facts.seq, facts.readings);
        }
    }

    pub(super) fn lost_for(&mut self, destination: usize, facts: Facts, reason: Reason, now: Instant) {
        let one = &mut self.destinations[destination];
        one.done.insert(facts.seq, facts.seq);
        one.dirty = true;
        one.tally.dropped += facts.readings;
        one.tally.waiting -= facts.readings;
        let (from, to) = (facts.oldest.0, facts.newest.0);
        let gap = Gap {
            destination: one.name.clone(),
            reason,
            first: facts.seq,
            last: facts.seq,
            from,
            to,
            readings: facts.readings,
        };
        self.put_gap(gap);
        self.rows_since.get_or_insert(now);
    }

    pub(super) fn count_drop(&mut self, seq: u64, readings: u64) {
        self.counters.dropped.add(readings);
        self.wait(-(readings as i64));
        for flight in self.destinations.iter_mut().filter_map(|d| d.flights.get_mut(&seq)) {
            if let Some(gone) = &mut flight.gone {
                gone.counted = true;
            }
        }
    }

    fn wait(&mut self, readings: i64) {
        self.waiting = self.waiting.saturating_add_signed(readings);
        self.counters.outbox_readings.set(self.waiting);
    }

    pub(super) fn everybody_is_done(&self, seq: u64) -> bool {
        self.destinations.iter().all(|d| d.done.contains(seq))
    }

    pub(super) fn entry(&self, seq: u64) -> Option<&Entry> {
        let index = usize::try_from(seq.checked_sub(self.front)?).ok()?;
        self.entries.get(index)?.as_ref()
    }

    /// The oldest parcel that nobody is writing.
    pub(super) fn first_fresh(&mut self) -> Option<u64> {
        self.fresh_from = self.fresh_from.max(self.taken_upto + 1).max(self.front);
        while self.fresh_from < self.next_seq {
            if self.entry(self.fresh_from).is_some() {
                return Some(self.fresh_from);
            }
            self.fresh_from += 1;
        }
        None
    }

    pub(super) fn remove(&mut self, seq: u64) {
        let Some(index) = seq.checked_sub(self.front).map(|i| i as usize) else { return };
        if let Some(entry) = self.entries.get_mut(index).and_then(Option::take) {
            self.bytes -= entry.cost();
            if seq > self.taken_upto {
                self.fresh_bytes -= entry.cost();
            }
        }
        self.trim_front();
    }

    fn trim_front(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.front += 1;
        }
    }

    /// Lets go of a stored parcel that nobody wants from memory.
    pub(super) fn release(&mut self, seq: u64) {
        if seq <= self.stored_upto && !self.destinations.iter().any(|d| d.wants_live(seq)) {
            self.remove(seq);
        }
    }

    pub(super) fn release_stored(&mut self) {
        let end = (self.stored_upto + 1).min(self.front + self.entries.len() as u64);
        for seq in self.front..end {
            self.release(seq);
        }
    }
}
