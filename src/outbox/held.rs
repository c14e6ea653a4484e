//! PURE. Readings whose device is not in order at their destination (no login, disabled, under another gateway): held on
//! disk by device, beside the parcels they came in, and handed out again when the device is well. A part of [`Tail`].
//!
//! They are held the moment their parcel is acknowledged. From then on a held reading is in exactly one place: `pending`,
//! a row of the table `held`, or a parcel made of that row. The row goes in the transaction that stores this parcel, or
//! after the parcel has come to its end; a crash before that hands it out once more.

use super::destination::Destination;
use super::gap::{Gap, Reason};
use super::group::Group;
use super::tail::{Entry, Tail};
use super::wishes::{Census, bit};
use crate::model::{Batch, BatchBuilder, Names, SetAside, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Product key and device key.
pub type Keys = (String, String);

/// Encoded bytes of one row: what one release brings into memory is a few of them.
const ROW_BYTES: usize = 32 << 10;

/// Readings of one device, of one parcel or of several one after the other.
#[derive(Clone, Debug)]
pub struct Held {
    pub destination: usize,
    pub keys: Keys,
    /// The parcel the first of them came in.
    pub seq: u64,
    pub names: Arc<Names>,
    pub batch: Batch,
}

/// What must be known of a row to let it go.
#[derive(Clone, Debug)]
pub struct HeldFacts {
    pub id: i64,
    pub destination: usize,
    pub keys: Keys,
    pub seq: u64,
    pub readings: u64,
    pub oldest: Timestamp,
    pub newest: Timestamp,
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) pending: VecDeque<Held>,
    pub(super) pending_bytes: usize,
    /// Readings that are held, for each destination and device.
    by_device: HashMap<(usize, Keys), u64>,
    wanted: BTreeSet<(usize, Keys)>,
    /// Wanted, and what is held of them is still on its way to the disk: after the next commit.
    soon: BTreeSet<(usize, Keys)>,
    /// Parcel -> the row it was made of.
    moved: BTreeMap<u64, i64>,
    /// Rows to be deleted.
    over: BTreeSet<i64>,
}

impl Shelf {
    pub(super) fn new(held: &[(usize, Keys, u64)]) -> Shelf {
        let mut shelf = Shelf::default();
        shelf.join(held);
        shelf
    }

    /// Rows on disk that were not known of.
    pub(super) fn join(&mut self, held: &[(usize, Keys, u64)]) {
        for (destination, keys, readings) in held {
            *self.by_device.entry((*destination, keys.clone())).or_default() += readings;
        }
    }

    /// Its readings are in a parcel, or gone.
    pub(super) fn has_left(&self, id: i64) -> bool {
        self.over.contains(&id) || self.moved.values().any(|moved| *moved == id)
    }

    fn take_from(&mut self, destination: usize, keys: &Keys, readings: u64) {
        let key = (destination, keys.clone());
        if let Some(left) = self.by_device.get_mut(&key) {
            *left = left.saturating_sub(readings);
            if *left == 0 {
                self.by_device.remove(&key);
            }
        }
    }
}

/// A part for each device of it that has keys.
#[must_use]
pub fn by_device(destination: usize, refused: &SetAside) -> Vec<Held> {
    let mut parts: BTreeMap<u32, BatchBuilder> = BTreeMap::new();
    for block in refused.batch.blocks().map_while(Result::ok) {
        let part = parts.entry(block.device).or_default();
        part.begin(block.device, block.time);
        block.entries().map_while(Result::ok).for_each(|e| part.push_ref(e.point, e.quality, e.value));
    }
    let held = |(device, mut builder): (u32, BatchBuilder)| {
        let names = refused.names.devices.get(device as usize)?;
        let keys = (names.product_key.clone(), names.device_key.clone());
        let batch = builder.finish(refused.batch.epoch)?;
        Some(Held { destination, keys, seq: refused.seq, names: Arc::clone(&refused.names), batch })
    };
    parts.into_iter().filter_map(held).collect()
}

/// A row under construction: its first part, what is in it, and its bytes.
type Growing = (Held, BatchBuilder, usize);

/// Small parts of one device become rows of a good size. What comes later is only added at the end, so that a commit
/// that is made again writes the same rows.
fn merged(parts: impl IntoIterator<Item = Held>) -> Vec<Held> {
    let mut rows: BTreeMap<(usize, Keys, u64), Vec<Growing>> = BTreeMap::new();
    for part in parts {
        let of_device = rows.entry((part.destination, part.keys.clone(), part.batch.epoch)).or_default();
        if of_device.last().is_none_or(|(_, _, bytes)| bytes + part.batch.bytes.len() > ROW_BYTES) {
            of_device.push((part.clone(), BatchBuilder::default(), 0));
        }
        let (_, builder, bytes) = of_device.last_mut().expect("one was just put there");
        *bytes += part.batch.bytes.len();
        for block in part.batch.blocks().map_while(Result::ok) {
            builder.begin(block.device, block.time);
            block.entries().map_while(Result::ok).for_each(|e| builder.push_ref(e.point, e.quality, e.value));
        }
    }
    let rows = rows.into_values().flatten();
    rows.filter_map(|(first, mut builder, _)| Some(Held { batch: builder.finish(first.batch.epoch)?, ..first }))
        .collect()
}

impl Tail {
    /// These values are not taken as long as their device is not in order. They wait apart once their parcel is
    /// acknowledged.
    pub fn hold(&mut self, destination: usize, refused: &SetAside) {
        let Some(flight) = self.destinations[destination].flights.get_mut(&refused.seq) else { return };
        for part in by_device(destination, refused) {
            let spoken_for = flight.refused + flight.held_readings() + u64::from(part.batch.count);
            if spoken_for <= flight.facts.readings {
                flight.held.push(part);
            }
        }
    }

    /// Since when they are ours counts, if their parcel was never stored.
    pub(super) fn keep(&mut self, parts: Vec<Held>, since: Instant) {
        for part in parts {
            *self.shelf.by_device.entry((part.destination, part.keys.clone())).or_default() +=
                u64::from(part.batch.count);
            self.shelf.pending_bytes += part.batch.bytes.len();
            self.shelf.pending.push_back(part);
        }
        self.rows_since = Some(self.rows_since.map_or(since, |before| before.min(since)));
        while self.shelf.pending_bytes > self.limits.memory_bytes / 4 {
            let Some(oldest) = self.shelf.pending.pop_front() else { break };
            self.shelf.pending_bytes -= oldest.batch.bytes.len();
            let facts = HeldFacts {
                id: 0,
                destination: oldest.destination,
                keys: oldest.keys,
                seq: oldest.seq,
                readings: u64::from(oldest.batch.count),
                oldest: oldest.batch.oldest,
                newest: oldest.batch.newest,
                bytes: 0,
            };
            self.lose_held(&facts, Reason::Memory, since);
        }
    }

    /// The device is well, it seems. False when nothing is held for it.
    pub fn want_release(&mut self, destination: usize, keys: Keys) -> bool {
        let key = (destination, keys);
        let held = self.shelf.by_device.contains_key(&key);
        if held && !self.closing {
            self.shelf.wanted.insert(key.clone());
        }
        // What is to be held once its parcel is acknowledged counts: otherwise nobody would ask for it again.
        let soon = |part: &Held| part.keys == key.1;
        held || self.destinations[destination].flights.values().any(|flight| flight.held.iter().any(soon))
    }

    /// The next device whose rows are to be read, when there is room for them.
    pub(super) fn next_release(&mut self) -> Option<(usize, Keys)> {
        if !self.may_release() {
            return None;
        }
        self.shelf.wanted.pop_first()
    }

    pub(super) fn may_release(&self) -> bool {
        !self.shelf.wanted.is_empty()
            && !self.closing
            && self.retry_at.is_none()
            && self.bytes < self.limits.memory_bytes / 4
    }

    /// No row of it could be put back.
    pub(super) fn nothing_found(&mut self, destination: usize, keys: Keys) {
        let key = (destination, keys);
        if self.shelf.by_device.contains_key(&key) {
            self.shelf.soon.insert(key);
        }
    }

    /// A row becomes a parcel again, for its destination alone. What that does not want any more waits for nothing. False
    /// when it has become one already.
    pub fn put_back(&mut self, id: i64, row: Held, now: Instant) -> bool {
        if self.shelf.has_left(id) || self.closing {
            return false;
        }
        let (destination, readings) = (row.destination, u64::from(row.batch.count));
        self.shelf.take_from(destination, &row.keys, readings);
        let wishes = self.judge.wishes(&row.names);
        let batch = wishes.cut(&wishes.census(&row.batch), destination, &row.batch);
        let tally = &mut self.destinations[destination].tally;
        tally.held -= readings;
        // Only a filter that was changed before the start leaves some out.
        tally.held_at_open -= readings - batch.as_ref().map_or(0, |batch| u64::from(batch.count));
        let Some(batch) = batch else {
            self.shelf.over.insert(id);
            self.rows_since.get_or_insert(now);
            return true;
        };
        let seq = self.next_seq;
        self.next_seq += 1;
        self.destinations[destination].tally.waiting += u64::from(batch.count);
        self.wait(i64::from(batch.count));
        let census = Census::whole(&batch, bit(destination));
        let entry = Entry { batch, names: row.names, wishes, census, born: now };
        self.bytes += entry.cost();
        self.fresh_bytes += entry.cost();
        self.entries.push_back(Some(entry));
        self.shelf.moved.insert(seq, id);
        for (_, other) in self.destinations.iter_mut().enumerate().filter(|(i, _)| *i != destination) {
            // They had these readings in their first parcel; the cursors are stored with the parcel.
            other.done.insert(seq, seq);
        }
        // What it pushes out is counted there.
        let _ = self.bound_memory(now);
        true
    }

    /// The row is lost, or makes room.
    pub fn drop_held(&mut self, facts: &HeldFacts, reason: Reason, now: Instant) {
        if !self.shelf.has_left(facts.id) {
            self.lose_held(facts, reason, now);
            self.shelf.over.insert(facts.id);
        }
    }

    fn lose_held(&mut self, facts: &HeldFacts, reason: Reason, now: Instant) {
        self.shelf.take_from(facts.destination, &facts.keys, facts.readings);
        let one = &mut self.destinations[facts.destination];
        one.tally.held -= facts.readings;
        one.tally.dropped += facts.readings;
        self.counters.dropped.add(facts.readings);
        let destination = one.name.clone();
        let (from, to, readings) = (facts.oldest.0, facts.newest.0, facts.readings);
        self.put_gap(Gap { destination, reason, first: facts.seq, last: facts.seq, from, to, readings });
        self.rows_since.get_or_insert(now);
    }

    /// The parcel has come to its end: so has the row it was made of.
    pub(super) fn let_go_of_row(&mut self, seq: u64, now: Instant) {
        if let Some(id) = self.shelf.moved.remove(&seq) {
            self.shelf.over.insert(id);
            // There is a row to delete, but no hurry: until then it is sent twice, at worst.
            self.rows_since.get_or_insert(now);
        }
    }

    pub(super) fn take_held(&mut self, group: &mut Group) {
        group.held = merged(self.shelf.pending.drain(..));
        self.shelf.pending_bytes = 0;
        let stored = group.parcels.iter().filter_map(|parcel| self.shelf.moved.get(&parcel.seq));
        group.unheld = self.shelf.over.iter().chain(stored).copied().collect();
        for held in &group.held {
            if group.names.iter().all(|names| names.epoch != held.names.epoch) {
                group.names.push(held.names.clone());
            }
        }
    }

    pub(super) fn held_stored(&mut self, group: &Group) {
        let gone: BTreeSet<i64> = group.unheld.iter().copied().collect();
        self.shelf.over.retain(|id| !gone.contains(id));
        self.shelf.moved.retain(|_, id| !gone.contains(id));
        let mut soon = std::mem::take(&mut self.shelf.soon);
        self.shelf.wanted.append(&mut soon);
    }

    pub(super) fn held_not_stored(&mut self, held: Vec<Held>) {
        for part in held.into_iter().rev() {
            self.shelf.pending_bytes += part.batch.bytes.len();
            self.shelf.pending.push_front(part);
        }
    }

    /// The file was made anew: these are the rows that were carried over.
    pub fn reconcile_held(&mut self, rows: &[HeldFacts], found: Timestamp, now: Instant) {
        let mut on_disk: HashMap<(usize, Keys), u64> = HashMap::new();
        for row in rows.iter().filter(|row| !self.shelf.has_left(row.id)) {
            *on_disk.entry((row.destination, row.keys.clone())).or_default() += row.readings;
        }
        for part in &self.shelf.pending {
            *on_disk.entry((part.destination, part.keys.clone())).or_default() += u64::from(part.batch.count);
        }
        let known: Vec<_> = self.shelf.by_device.iter().map(|(key, readings)| (key.clone(), *readings)).collect();
        for (key, readings) in known {
            let lost = readings.saturating_sub(on_disk.get(&key).copied().unwrap_or(0));
            if lost > 0 {
                let (destination, keys) = key;
                let (id, seq, bytes) = (0, self.destinations[destination].done.cursor(), 0);
                let facts =
                    HeldFacts { id, destination, keys, seq, readings: lost, oldest: found, newest: found, bytes };
                self.lose_held(&facts, Reason::Damaged, now);
            }
        }
    }

    #[must_use]
    pub(super) fn holds_anything(&self) -> bool {
        !self.shelf.by_device.is_empty()
    }

    /// Devices whose readings are held for a destination.
    #[must_use]
    pub fn held_devices(&self, destination: usize) -> Vec<Keys> {
        let of_it = self.shelf.by_device.keys().filter(|(of, _)| *of == destination);
        of_it.map(|(_, keys)| keys.clone()).collect()
    }
}

impl Destination {
    /// As it was stored before the start.
    pub(super) fn with_held(mut self, index: usize, held: &[(usize, Keys, u64)]) -> Destination {
        self.join_held(index, held);
        self
    }

    pub(super) fn join_held(&mut self, index: usize, held: &[(usize, Keys, u64)]) {
        let readings: u64 = held.iter().filter(|(of, ..)| *of == index).map(|(.., readings)| readings).sum();
        self.tally.held_at_open += readings;
        self.tally.held += readings;
    }
}
