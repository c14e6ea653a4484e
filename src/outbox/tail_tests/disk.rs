//! The disk, as a map: what survives a power cut, and how the daemon starts from it.

use super::steps::selections;
use super::{BOUND, DESTINATIONS};
use crate::model::{Batch, DeviceNames, Names, PointName, PointNames};
use crate::outbox::group::Group;
use crate::outbox::held::{Held, HeldFacts};
use crate::outbox::ranges::Ranges;
use crate::outbox::tail::{Limits, Loaded, SEQ_BLOCK, Tail};
use crate::outbox::wishes::{Census, Judge, Wishes, bit};
use crate::telemetry::Counters;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// What survives a power cut.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) boots: usize,
    pub(super) parcels: BTreeMap<u64, Batch>,
    /// For each destination the parcels it still needs.
    pub(super) needs: [BTreeSet<u64>; DESTINATIONS.len()],
    pub(super) done: Vec<Ranges>,
    /// Readings in the gaps written since the start, by destination.
    pub(super) gaps: BTreeMap<String, u64>,
    pub(super) seq_limit: u64,
    pub(super) held: BTreeMap<i64, Held>,
    pub(super) next_id: i64,
}

impl Disk {
    pub(super) fn write(&mut self, group: &Group) {
        for (only, seq) in &group.drops {
            let needs = self.needs.iter_mut().enumerate().filter(|(i, _)| only.is_none_or(|only| only == *i));
            for (_, needs) in needs {
                needs.remove(seq);
            }
        }
        for (parcel, census) in group.parcels.iter().zip(&group.wanted) {
            self.parcels.insert(parcel.seq, parcel.batch.clone());
            let needs = self.needs.iter_mut().enumerate().filter(|(i, _)| census.is_wanted_by(*i));
            for (_, needs) in needs {
                needs.insert(parcel.seq);
            }
        }
        for (destination, done) in &group.cursors {
            self.needs[*destination].retain(|seq| !done.contains(*seq));
            self.done[*destination] = done.clone();
        }
        for gap in &group.gaps {
            *self.gaps.entry(gap.destination.clone()).or_default() += gap.readings;
        }
        self.seq_limit = group.seq_limit;
        for held in &group.held {
            self.next_id += 1;
            self.held.insert(self.next_id, held.clone());
        }
        self.held.retain(|id, _| !group.unheld.contains(id));
        self.forget();
    }

    pub(super) fn held_facts(&self) -> Vec<HeldFacts> {
        let facts = |(id, held): (&i64, &Held)| HeldFacts {
            id: *id,
            destination: held.destination,
            keys: held.keys.clone(),
            seq: held.seq,
            readings: u64::from(held.batch.count),
            oldest: held.batch.oldest,
            newest: held.batch.newest,
            bytes: 0,
        };
        self.held.iter().map(facts).collect()
    }

    pub(super) fn needed_by(&self, seq: u64) -> u64 {
        (0..DESTINATIONS.len()).filter(|i| self.needs[*i].contains(&seq)).fold(0, |mask, i| mask | bit(i))
    }

    fn forget(&mut self) {
        let needs = &self.needs;
        self.parcels.retain(|seq, _| needs.iter().any(|needs| needs.contains(seq)));
    }

    /// As the daemon starts: the rows are counted by the selections of today.
    pub(super) fn load(&mut self, wishes: &Wishes) -> Loaded {
        let next_seq = self.seq_limit.max(1);
        self.gaps.clear();
        if self.done.is_empty() {
            self.done = vec![Ranges::up_to(next_seq - 1); DESTINATIONS.len()];
        }
        let census: BTreeMap<u64, Census> = self.parcels.iter().map(|(s, batch)| (*s, wishes.census(batch))).collect();
        for (i, needs) in self.needs.iter_mut().enumerate() {
            needs.retain(|seq| census[seq].is_wanted_by(i) && !self.done[i].contains(*seq));
        }
        self.forget();
        let waiting = |i: usize| self.needs[i].iter().map(|seq| u64::from(census[seq].share(i).readings)).sum();
        let destinations = DESTINATIONS.iter().enumerate();
        let destinations = destinations.map(|(i, name)| ((*name).to_owned(), self.done[i].clone(), waiting(i)));
        let destinations = destinations.collect();
        let waiting = self.parcels.keys().map(|seq| u64::from(census[seq].any)).sum();
        let held = self.held_facts().into_iter().map(|row| (row.destination, row.keys, row.readings)).collect();
        Loaded { next_seq, seq_limit: next_seq + SEQ_BLOCK, destinations, waiting, held, trouble: None }
    }
}

pub(super) fn names() -> Arc<Names> {
    let points = (0..5).map(|i| PointName { id: format!("p{i}"), has_quality: false }).collect();
    let points = Arc::new(PointNames { model: "Meter".into(), points });
    let device = |name: &str, key: &str| DeviceNames {
        name: name.into(),
        product_key: key.into(),
        device_key: key.into(),
        asset_id: None,
        points: points.clone(),
    };
    Arc::new(Names::new(vec![device("meter", "k1"), device("server", ""), device("pump", "k2")]))
}

/// The daemon starts: it reads the disk and reserves numbers.
pub(super) fn boot(disk: &mut Disk, which: usize, strict: bool, counters: &Arc<Counters>) -> (Tail, Wishes) {
    let limits = Limits { bound: BOUND, strict, memory_bytes: 4 << 10, group_bytes: 1 << 10 };
    let wishes = Wishes::new(&selections(which), &names());
    let first = disk.seq_limit.max(1);
    let loaded = disk.load(&wishes);
    disk.seq_limit = loaded.seq_limit;
    disk.boots += 1;
    let begin = |loaded| Tail::new(limits, loaded, Judge::new(selections(which).into()), counters.clone());
    let mut tail = if disk.boots.is_multiple_of(2) {
        // The disk was full: the tail begins without the file, which joins later.
        let blank = |name: &&str| ((*name).to_owned(), Ranges::up_to(first - 1), 0);
        let destinations = DESTINATIONS.iter().map(blank).collect();
        let mut tail =
            begin(Loaded { next_seq: first, seq_limit: loaded.seq_limit, destinations, ..Loaded::default() });
        tail.join(&loaded, first, Instant::now());
        tail
    } else {
        begin(loaded)
    };
    tail.use_names(names());
    (tail, wishes)
}
