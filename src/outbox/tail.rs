//! PURE. The outbox's memory: the recent parcels, who has got them, and what must be on disk by when.
//! Time is an argument.
//!
//! Numbers cut the parcels in three: up to `stored_upto` they are on disk, up to `taken_upto` they are being
//! written, above that they are fresh. A parcel that no destination waits for leaves at once.

use super::destination::Destination;
use super::gap::{Gap, Reason, SetAsideRow};
use super::held::{Keys, Shelf};
use super::ranges::Ranges;
use super::wishes::{Census, Judge, Wishes, bit};
use super::work::ACKNOWLEDGED_WINDOW;
use crate::model::{Batch, Lane, Names, Parcel};
use crate::telemetry::Counters;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a parcel costs in memory beside its bytes.
const PARCEL_OVERHEAD: usize = 128;
/// Numbers reserved at a time: at 1,000 parcels a second, seven weeks.
pub const SEQ_BLOCK: u64 = 1 << 32;
/// Names of packages that readings may still come for.
const NAMES_KEPT: usize = 6;

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
    /// Destination, device, readings held on disk.
    pub held: Vec<(usize, Keys, u64)>,
    /// The disk took nothing of what a start writes, and why.
    pub trouble: Option<String>,
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
    names: HashMap<u64, Epoch>,
    names_order: VecDeque<u64>,
    pub(super) judge: Judge,
    /// Most values any destination refused, or does not take yet, of a parcel that others still wait for.
    pub(super) refused: BTreeMap<u64, (u64, u64)>,
    pub(super) shelf: Shelf,
    pub(super) counters: Arc<Counters>,
}

/// Names readings may come for, and who wants which.
#[derive(Clone)]
struct Epoch {
    names: Arc<Names>,
    wishes: Arc<Wishes>,
}

/// One parcel in memory, wanted by somebody.
pub(super) struct Entry {
    pub(super) batch: Batch,
    pub(super) names: Arc<Names>,
    pub(super) wishes: Arc<Wishes>,
    pub(super) census: Census,
    pub(super) born: Instant,
}

impl Entry {
    pub(super) fn cost(&self) -> usize {
        self.batch.bytes.len() + PARCEL_OVERHEAD
    }
}

impl Tail {
    #[must_use]
    pub fn new(limits: Limits, loaded: Loaded, judge: Judge, counters: Arc<Counters>) -> Tail {
        let held = &loaded.held;
        let destination = |(i, (n, done, waiting)): (usize, &(String, Ranges, u64))| {
            Destination::new(n, done.clone(), *waiting).with_held(i, held)
        };
        let destinations = loaded.destinations.iter().enumerate().map(destination);
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
            judge,
            refused: BTreeMap::new(),
            shelf: Shelf::new(&loaded.held),
            counters,
        }
    }

    /// Readings of this epoch may come from now on.
    pub fn use_names(&mut self, names: Arc<Names>) {
        let wishes = self.judge.wishes(&names);
        let epoch = names.epoch;
        self.names.insert(epoch, Epoch { names, wishes });
        // Also one that comes back is the newest: it must not be forgotten while it is in use.
        self.names_order.retain(|other| *other != epoch);
        self.names_order.push_back(epoch);
        while self.names_order.len() > NAMES_KEPT {
            let oldest = self.names_order.pop_front().expect("there are too many");
            self.names.remove(&oldest);
        }
    }

    /// All names that are known.
    #[must_use]
    pub fn known_names(&self) -> Vec<Arc<Names>> {
        self.names.values().map(|epoch| epoch.names.clone()).collect()
    }

    /// Takes a batch; what nobody wants is not kept. Tells who wants some of it.
    ///
    /// # Errors
    /// Why it, or an older one in its place, was dropped.
    pub fn append(&mut self, batch: Batch, now: Instant) -> Result<u64, Reason> {
        let seq = self.next_seq;
        self.next_seq += 1;
        let epoch = self.names.get(&batch.epoch).filter(|_| !self.closing).cloned();
        let everyone = self.destinations.iter().enumerate().fold(0, |mask, (i, _)| mask | bit(i));
        let census = match &epoch {
            Some(epoch) => epoch.wishes.census(&batch),
            None => Census::whole(&batch, everyone),
        };
        for (i, destination) in self.destinations.iter_mut().enumerate() {
            let readings = u64::from(census.share(i).readings);
            destination.tally.produced += readings;
            destination.tally.waiting += readings;
        }
        self.wait(i64::from(census.any));
        let wanted_by = census.wanted_by;
        let Some(Epoch { names, wishes }) = epoch.filter(|_| wanted_by != 0) else {
            self.entries.push_back(None);
            self.trim_front();
            return if wanted_by == 0 { Ok(0) } else { self.lose(seq, &census, Reason::Refused, now) };
        };
        let entry = Entry { batch, names, wishes, census, born: now };
        self.bytes += entry.cost();
        self.fresh_bytes += entry.cost();
        self.entries.push_back(Some(entry));
        self.bound_memory(now).map(|()| wanted_by)
    }

    fn lose<T>(&mut self, seq: u64, census: &Census, reason: Reason, now: Instant) -> Result<T, Reason> {
        self.drop_parcel(seq, census, None, reason, now);
        Err(reason)
    }

    /// Stored parcels become backlog first; only when the disk is stuck are the oldest fresh ones dropped.
    pub(super) fn bound_memory(&mut self, now: Instant) -> Result<(), Reason> {
        let mut result = Ok(());
        while self.bytes > self.limits.memory_bytes / 2 && self.front <= self.stored_upto && !self.entries.is_empty() {
            self.evict(self.front);
        }
        while self.bytes > self.limits.memory_bytes {
            let Some(seq) = self.first_fresh() else { break };
            let Some(entry) = self.remove(seq) else { break };
            result = self.lose(seq, &entry.census, Reason::Memory, now);
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
        while self.destinations[destination].up {
            self.skip_to_front(destination);
            let seq = self.destinations[destination].live_from;
            if seq >= end {
                break;
            }
            let one = &mut self.destinations[destination];
            let entry = self.entries.get((seq - self.front) as usize).and_then(Option::as_ref);
            match entry.filter(|entry| entry.census.is_wanted_by(destination) && one.wants_live(seq)) {
                Some(entry) => {
                    let facts = entry.census.facts(seq, destination);
                    let Some(cut) = entry.wishes.cut(&entry.census, destination, &entry.batch) else { break };
                    let size = cut.bytes.len();
                    if !parcels.is_empty() && bytes + size > max_bytes {
                        break;
                    }
                    bytes += size;
                    parcels.push(one.depart(facts, cut, &entry.names, Lane::Live));
                }
                None => one.pass(seq, seq),
            }
            one.raise_live(seq + 1, true);
            self.release(seq);
        }
        parcels
    }

    /// What has left memory was not for this destination, or is done with.
    fn skip_to_front(&mut self, destination: usize) {
        let (one, front) = (&mut self.destinations[destination], self.front);
        if one.up && one.live_from < front {
            one.pass(one.live_from, front - 1);
            one.raise_live(front, true);
        }
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

    pub(super) fn remove(&mut self, seq: u64) -> Option<Entry> {
        let index = usize::try_from(seq.checked_sub(self.front)?).ok()?;
        let entry = self.entries.get_mut(index).and_then(Option::take);
        if let Some(entry) = &entry {
            self.bytes -= entry.cost();
            if seq > self.taken_upto {
                self.fresh_bytes -= entry.cost();
            }
        }
        self.trim_front();
        entry
    }

    fn trim_front(&mut self) {
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.front += 1;
        }
    }

    /// Lets go of a stored parcel that nobody wants from memory.
    pub(super) fn release(&mut self, seq: u64) {
        let Some(wanted_by) = self.entry(seq).filter(|_| seq <= self.stored_upto).map(|e| e.census.wanted_by) else {
            return;
        };
        let wants = |(i, d): (usize, &Destination)| wanted_by & bit(i) != 0 && d.wants_live(seq);
        if !self.destinations.iter().enumerate().any(wants) {
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
