//! The tail against a disk that is a map: every interleaving of appends, commits that succeed or fail, reads,
//! acknowledgements in any order, refusals, links that come and go, drops for all and for one, power cuts, and filters
//! that are others after a restart.

use super::destination::Read;
use super::gap::Reason;
use super::group::{Group, Job};
use super::held::{Held, HeldFacts, Keys};
use super::ranges::Ranges;
use super::segment::Numbered;
use super::tail::{Limits, Loaded, SEQ_BLOCK, Tail};
use super::wishes::{Census, Judge, Wishes, bit};
use super::work::{ACKNOWLEDGED_WINDOW, Drop};
use crate::model::{
    AssetKind, Batch, BatchBuilder, DeviceNames, Glob, Names, Parcel, PointName, PointNames, Selection, SetAside,
    Timestamp, Value,
};
use crate::telemetry::Counters;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DESTINATIONS: [&str; 3] = ["cloud", "broker", "integration"];
const BOUND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum Step {
    /// Of the devices in this mask, in turn.
    Append {
        readings: u32,
        devices: u32,
    },
    Live {
        to: usize,
    },
    Backlog {
        to: usize,
    },
    /// Every `nth` of what is on its way.
    Acknowledge {
        from: usize,
        nth: usize,
    },
    Link {
        of: usize,
        up: bool,
    },
    Work {
        wait_ms: u64,
        disk_works: bool,
    },
    /// Refuses the first of what is on its way, a value of it.
    SetAside {
        at: usize,
    },
    /// The first of what is on its way: its devices in this mask are not in order.
    Hold {
        at: usize,
        devices: u32,
    },
    /// One of those is well, it seems.
    Release {
        of: usize,
        device: usize,
    },
    /// The oldest held readings make room.
    DropHeld {
        disk_works: bool,
    },
    DropOldest {
        only: Option<usize>,
        disk_works: bool,
    },
    PowerCut {
        selections: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let to = 0..DESTINATIONS.len();
    let step = prop_oneof![
        6 => (1u32..40, 1u32..8).prop_map(|(readings, devices)| Step::Append { readings, devices }),
        3 => to.clone().prop_map(|to| Step::Live { to }),
        3 => to.clone().prop_map(|to| Step::Backlog { to }),
        3 => (to.clone(), 1usize..4).prop_map(|(from, nth)| Step::Acknowledge { from, nth }),
        1 => to.clone().prop_map(|at| Step::SetAside { at }),
        3 => (to.clone(), 1u32..8).prop_map(|(at, devices)| Step::Hold { at, devices }),
        2 => (to.clone(), 0usize..3).prop_map(|(of, device)| Step::Release { of, device }),
        1 => prop::bool::weighted(0.8).prop_map(|disk_works| Step::DropHeld { disk_works }),
        2 => (to.clone(), any::<bool>()).prop_map(|(of, up)| Step::Link { of, up }),
        6 => (0u64..700, prop::bool::weighted(0.85)).prop_map(|(wait_ms, disk_works)| Step::Work { wait_ms, disk_works }),
        1 => (prop::option::of(to), prop::bool::weighted(0.8))
            .prop_map(|(only, disk_works)| Step::DropOldest { only, disk_works }),
        1 => (0usize..3).prop_map(|selections| Step::PowerCut { selections }),
    ];
    prop::collection::vec(step, 1..160)
}

/// Everything to all; by kind, one with some points only; one that wants nothing that there is.
fn selections(which: usize) -> Vec<Selection> {
    let points = |globs: &[&str]| globs.iter().map(|glob| Glob::new(glob)).collect::<Vec<_>>();
    match which {
        0 => vec![Selection::default(); 3],
        1 => vec![
            Selection::of_kind(AssetKind::Device),
            Selection { points: points(&["p1", "p3*"]), ..Selection::default() },
            Selection::of_kind(AssetKind::Logic),
        ],
        _ => vec![
            Selection { devices: points(&["meter"]), ..Selection::default() },
            Selection { points: points(&["nothing"]), ..Selection::default() },
            Selection::default(),
        ],
    }
}

/// What survives a power cut.
#[derive(Default)]
struct Disk {
    boots: usize,
    parcels: BTreeMap<u64, Batch>,
    /// For each destination the parcels it still needs.
    needs: [BTreeSet<u64>; DESTINATIONS.len()],
    done: Vec<Ranges>,
    /// Readings in the gaps written since the start, by destination.
    gaps: BTreeMap<String, u64>,
    seq_limit: u64,
    held: BTreeMap<i64, Held>,
    next_id: i64,
}

impl Disk {
    fn write(&mut self, group: &Group) {
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

    fn held_facts(&self) -> Vec<HeldFacts> {
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

    fn needed_by(&self, seq: u64) -> u64 {
        (0..DESTINATIONS.len()).filter(|i| self.needs[*i].contains(&seq)).fold(0, |mask, i| mask | bit(i))
    }

    fn forget(&mut self) {
        let needs = &self.needs;
        self.parcels.retain(|seq, _| needs.iter().any(|needs| needs.contains(seq)));
    }

    /// As the daemon starts: the rows are counted by the selections of today.
    fn load(&mut self, wishes: &Wishes) -> Loaded {
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

struct World {
    tail: Tail,
    disk: Disk,
    wishes: Wishes,
    strict: bool,
    counters: Arc<Counters>,
    now: Instant,
    /// Whatever was appended.
    appended: BTreeMap<u64, Batch>,
    highest: u64,
    on_the_way: Vec<BTreeSet<u64>>,
    /// What each destination waits for, and how many readings of it.
    owed: Vec<BTreeMap<u64, u32>>,
    /// Dropped while it was on its way.
    gone: Vec<BTreeSet<u64>>,
    /// Held once their parcel is acknowledged, and held.
    to_hold: BTreeMap<(usize, u64), u64>,
    held: Vec<u64>,
}

fn names() -> Arc<Names> {
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
fn boot(disk: &mut Disk, which: usize, strict: bool, counters: &Arc<Counters>) -> (Tail, Wishes) {
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

impl World {
    fn new(strict: bool, which: usize) -> World {
        let mut disk = Disk::default();
        let counters = Arc::new(Counters::default());
        let (tail, wishes) = boot(&mut disk, which, strict, &counters);
        World {
            tail,
            disk,
            wishes,
            strict,
            counters,
            now: Instant::now(),
            appended: BTreeMap::new(),
            highest: 0,
            on_the_way: vec![BTreeSet::new(); DESTINATIONS.len()],
            owed: vec![BTreeMap::new(); DESTINATIONS.len()],
            gone: vec![BTreeSet::new(); DESTINATIONS.len()],
            to_hold: BTreeMap::new(),
            held: vec![0; DESTINATIONS.len()],
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Append { readings, devices } => self.append(readings, devices),
            Step::Live { to } => {
                let parcels = self.tail.take_live(to, 300);
                self.received(to, &parcels);
            }
            Step::Backlog { to } => {
                let parcels = self.tail.take_backlog(to, 300);
                self.received(to, &parcels);
            }
            Step::Acknowledge { from, nth } => self.acknowledge(from, nth),
            Step::SetAside { at } => self.set_aside(at),
            Step::Hold { at, devices } => self.hold(at, devices),
            Step::Release { of, device } => {
                let device = &names().devices[device];
                self.tail.want_release(of, (device.product_key.clone(), device.device_key.clone()));
            }
            Step::DropHeld { disk_works } => self.drop_held(disk_works),
            Step::Link { of, up } => {
                self.tail.link(of, up, self.now);
                if !up {
                    self.to_hold.retain(|(at, _), _| *at != of);
                    self.on_the_way[of].clear();
                    let gone = std::mem::take(&mut self.gone[of]);
                    self.owed[of].retain(|seq, _| !gone.contains(seq));
                }
            }
            Step::Work { wait_ms, disk_works } => {
                self.now += Duration::from_millis(wait_ms);
                self.work(disk_works);
            }
            Step::DropOldest { only, disk_works } => self.drop_oldest(only, disk_works),
            Step::PowerCut { selections } => self.power_cut(selections),
        }
        self.check();
    }

    fn append(&mut self, readings: u32, devices: u32) {
        let mut builder = BatchBuilder::default();
        let devices: Vec<u32> = (0..3).filter(|d| devices & (1 << d) != 0).collect();
        for i in 0..readings {
            builder.begin(devices[i as usize % devices.len()], Timestamp(1));
            builder.push(i % 5, 0, &Value::Double(f64::from(i)));
        }
        let batch = builder.finish(names().epoch).unwrap();
        let seq = self.tail.next_seq;
        assert!(seq > self.highest, "a number repeats");
        assert!(seq < self.disk.seq_limit, "a number was used that is not reserved");
        self.highest = seq;
        let census = self.wishes.census(&batch);
        for (i, owed) in self.owed.iter_mut().enumerate().filter(|(i, _)| census.is_wanted_by(*i)) {
            owed.insert(seq, census.share(i).readings);
        }
        self.appended.insert(seq, batch.clone());
        if self.tail.append(batch, self.now) == Err(Reason::Memory) {
            self.forget_what_memory_lost();
        }
    }

    fn forget_what_memory_lost(&mut self) {
        let gone = |seq: &u64| *seq > self.tail.taken_upto && self.tail.entry(*seq).is_none();
        let gone: Vec<u64> = self.appended.keys().copied().filter(gone).collect();
        gone.into_iter().for_each(|seq| self.dropped(seq, None));
    }

    /// For those it is not on its way to.
    fn dropped(&mut self, seq: u64, only: Option<usize>) {
        for i in (0..DESTINATIONS.len()).filter(|i| only.is_none_or(|only| only == *i)) {
            if self.on_the_way[i].contains(&seq) {
                self.gone[i].insert(seq);
            } else {
                self.owed[i].remove(&seq);
            }
        }
    }

    fn batch(&self, seq: u64) -> Batch {
        self.appended[&seq].clone()
    }

    fn received(&mut self, to: usize, parcels: &[Parcel]) {
        assert!(parcels.is_sorted_by(|a, b| a.seq < b.seq));
        for parcel in parcels {
            assert!(self.on_the_way[to].insert(parcel.seq), "{} is handed out while it is on its way", parcel.seq);
            let owed = self.owed[to].get(&parcel.seq);
            assert_eq!(owed, Some(&parcel.batch.count), "{} is not owed to {to}", parcel.seq);
            let whole = self.batch(parcel.seq);
            assert_eq!(self.wishes.cut(&self.wishes.census(&whole), to, &whole), Some(parcel.batch.clone()));
            assert!(!self.strict || parcel.seq <= self.tail.stored_upto, "strict hands out what is not stored");
        }
    }

    fn acknowledge(&mut self, from: usize, nth: usize) {
        let seqs: Vec<u64> = self.on_the_way[from].iter().copied().rev().step_by(nth).collect();
        let dropped = |tail: &Tail| tail.destination_status().iter().map(|d| d.readings.dropped).collect::<Vec<_>>();
        let before = dropped(&self.tail);
        self.tail.acknowledge(from, &seqs, self.now);
        // Only what is held and can not be written in time is lost here.
        let lost = dropped(&self.tail);
        let lost: Vec<u64> = lost.iter().zip(before).map(|(after, before)| after - before).collect();
        for seq in seqs {
            self.on_the_way[from].remove(&seq);
            self.gone[from].remove(&seq);
            self.owed[from].remove(&seq);
            self.held[from] += self.to_hold.remove(&(from, seq)).unwrap_or(0);
        }
        self.held.iter_mut().zip(lost).for_each(|(held, lost)| *held -= lost);
    }

    fn set_aside(&mut self, at: usize) {
        let Some(seq) = self.on_the_way[at].first().copied() else { return };
        let mut builder = BatchBuilder::default();
        builder.begin(0, Timestamp(1));
        builder.push(0, 0, &Value::Bool(true));
        let batch = builder.finish(names().epoch).unwrap();
        let (code, reason, at_time) = (1204, "range".to_owned(), Timestamp(2));
        self.tail.set_aside(at, &SetAside { seq, names: names(), batch, code, reason, at: at_time }, self.now);
    }

    fn hold(&mut self, at: usize, devices: u32) {
        let Some(seq) = self.on_the_way[at].iter().copied().find(|seq| !self.to_hold.contains_key(&(at, *seq))) else {
            return;
        };
        let whole = self.batch(seq);
        let Some(owed) = self.wishes.cut(&self.wishes.census(&whole), at, &whole) else { return };
        let Ok(Some(batch)) = owed.filter(|device, _, _| devices & (1 << device) != 0) else { return };
        let before = self.tail.destinations[at].flights[&seq].refused;
        if before + u64::from(batch.count) > u64::from(owed.count) {
            return;
        }
        let count = u64::from(batch.count);
        let refused =
            SetAside { seq, names: names(), batch, code: 705, reason: "disabled".to_owned(), at: Timestamp(2) };
        self.tail.hold(at, &refused);
        self.to_hold.insert((at, seq), count);
    }

    /// As the store thread: all rows of the device.
    fn release(&mut self, destination: usize, keys: &Keys) {
        let rows = self.disk.held.iter().filter(|(_, row)| row.destination == destination && row.keys == *keys);
        let rows: Vec<(i64, Held)> = rows.map(|(id, row)| (*id, row.clone())).collect();
        for (id, row) in rows {
            let (seq, waiting) = (self.tail.next_seq, self.tail.destinations[destination].tally.waiting);
            if self.tail.shelf.has_left(id) {
                continue;
            }
            let count = row.batch.count;
            self.held[destination] -= u64::from(count);
            let wanted = self.wishes.cut(&self.wishes.census(&row.batch), destination, &row.batch);
            self.tail.put_back(id, row, self.now);
            if let Some(batch) = wanted {
                assert_eq!(self.tail.destinations[destination].tally.waiting, waiting + u64::from(batch.count));
                self.highest = seq;
                self.owed[destination].insert(seq, batch.count);
                self.appended.insert(seq, batch);
            }
            self.forget_what_memory_lost();
        }
    }

    fn drop_held(&mut self, disk_works: bool) {
        let Some(row) = self.disk.held_facts().into_iter().find(|row| !self.tail.shelf.has_left(row.id)) else {
            return;
        };
        self.tail.drop_held(&row, Reason::Age, self.now);
        self.held[row.destination] -= row.readings;
        self.commit(Vec::new(), disk_works);
    }

    fn work(&mut self, disk_works: bool) {
        match self.tail.next_job(self.now) {
            Job::Release { destination, keys } if disk_works => self.release(destination, &keys),
            Job::Release { .. } => {}
            Job::Commit { .. } => self.commit(Vec::new(), disk_works),
            Job::Fetch { destination, generation, from, until } if disk_works => {
                let read = |seq: &u64| {
                    let (batch, names) = (&self.disk.parcels[seq], names());
                    let census = self.wishes.census(batch).among(self.disk.needed_by(*seq));
                    let batch = self.wishes.cut(&census, destination, batch)?;
                    Some(Read { facts: census.facts(*seq, destination), batch, names })
                };
                let found: Vec<Read> =
                    self.disk.needs[destination].range(from..until).take(3).filter_map(read).collect();
                let next = if found.len() == 3 { found[2].facts.seq + 1 } else { until };
                self.tail.fetched(destination, generation, found, next);
            }
            Job::Fetch { destination, generation, .. } => self.tail.fetch_failed(destination, generation),
            Job::Wait(until) => assert!(until > self.now),
            Job::Housekeep | Job::Exit => {}
        }
    }

    fn commit(&mut self, drops: Vec<(Option<usize>, u64)>, disk_works: bool) {
        let mut group = self.tail.take_group();
        group.drops = drops;
        if disk_works {
            self.disk.write(&group);
            self.tail.committed(&group, Duration::from_millis(5), self.now);
        } else {
            self.tail.failed(group, self.now);
        }
    }

    /// As the store thread makes room: for all the oldest of all, for one the oldest that it needs.
    fn drop_oldest(&mut self, only: Option<usize>, disk_works: bool) {
        let oldest = match only {
            None => self.disk.parcels.keys().next(),
            Some(only) => self.disk.needs[only].first(),
        };
        let Some(seq) = oldest.copied() else { return };
        let needed_by = self.disk.needed_by(seq);
        let drop = Drop { only, reason: Reason::Quota, needed_by, behind: vec![0; DESTINATIONS.len()] };
        let parcel = Numbered { seq, batch: self.disk.parcels[&seq].clone() };
        self.tail.drop_segment(&[parcel], &self.wishes, &drop, self.now);
        self.dropped(seq, only);
        self.commit(vec![(only, seq)], disk_works);
    }

    /// Only the disk is left. What it did not have was younger than the bound, or acknowledged.
    fn power_cut(&mut self, which: usize) {
        for (i, owed) in self.owed.iter().enumerate() {
            let kept = |seq: &&u64| **seq <= self.tail.stored_upto && !self.gone[i].contains(seq);
            let on_disk: u64 =
                self.disk.held.values().filter(|h| h.destination == i).map(|h| u64::from(h.batch.count)).sum();
            let pending = self.tail.shelf.pending.iter().filter(|h| h.destination == i);
            let pending: u64 = pending.map(|h| u64::from(h.batch.count)).sum();
            assert!(on_disk + pending >= self.held[i], "what is held is promised to be on disk for {i}");
            for seq in owed.keys().filter(kept) {
                assert!(self.disk.needs[i].contains(seq), "{seq} is promised to be on disk for {i}");
            }
        }
        (self.tail, self.wishes) = boot(&mut self.disk, which, self.strict, &self.counters);
        self.on_the_way.iter_mut().for_each(BTreeSet::clear);
        self.gone.iter_mut().for_each(BTreeSet::clear);
        self.to_hold.clear();
        for (i, held) in self.held.iter_mut().enumerate() {
            *held = self.disk.held.values().filter(|h| h.destination == i).map(|h| u64::from(h.batch.count)).sum();
        }
        // The stated window: an acknowledgement or a drop the disk was not told of happens again.
        for (i, owed) in self.owed.iter_mut().enumerate() {
            let share = |seq: &u64| self.wishes.census(&self.disk.parcels[seq]).share(i).readings;
            *owed = self.disk.needs[i].iter().map(|seq| (*seq, share(seq))).collect();
        }
    }

    fn check(&self) {
        for (destination, owed) in self.tail.destination_status().iter().zip(&self.owed) {
            let r = destination.readings;
            let all = r.acknowledged + r.set_aside + r.dropped + r.waiting + r.held;
            assert_eq!(r.waiting_at_open + r.held_at_open + r.produced, all, "{destination:?}");
            let held = &self.held[self.tail.destinations.iter().position(|d| d.name == destination.name).unwrap()];
            assert_eq!(r.held, *held, "{destination:?}");
            assert_eq!(r.waiting, owed.values().map(|n| u64::from(*n)).sum::<u64>(), "{destination:?}");
            let unwritten = self.tail.gaps.iter().filter(|gap| gap.destination == destination.name);
            let written = self.disk.gaps.get(&destination.name).copied().unwrap_or(0);
            assert_eq!(
                r.dropped,
                written + unwritten.map(|gap| gap.readings).sum::<u64>(),
                "what was dropped is a gap"
            );
        }
        let owed: BTreeSet<u64> = self.owed.iter().flat_map(BTreeMap::keys).copied().collect();
        let any = |seq: &u64| u64::from(self.wishes.census(&self.batch(*seq)).any);
        assert_eq!(self.tail.waiting, owed.iter().map(any).sum::<u64>());
        let (bytes, fresh) = self.tail.recount();
        assert_eq!((bytes, fresh), (self.tail.bytes, self.tail.fresh_bytes));
        assert!(self.tail.bytes <= self.tail.limits.memory_bytes + 1024, "{} bytes in memory", self.tail.bytes);
    }

    /// All links come up and everything is delivered: then nothing may be left.
    fn finish(mut self) {
        for _ in 0..4000 {
            for to in 0..DESTINATIONS.len() {
                self.apply(&Step::Link { of: to, up: true });
                self.apply(&Step::Live { to });
                self.apply(&Step::Backlog { to });
                self.apply(&Step::Acknowledge { from: to, nth: 1 });
                (0..3).for_each(|device| self.apply(&Step::Release { of: to, device }));
            }
            self.apply(&Step::Work { wait_ms: 400, disk_works: true });
            if self.tail.waiting == 0
                && !self.tail.holds_anything()
                && self.tail.rows_since.is_none()
                && self.tail.next_fetch_is_idle()
            {
                break;
            }
        }
        assert_eq!((self.tail.waiting, self.tail.bytes), (0, 0));
        for (destination, owed) in self.tail.destination_status().iter().zip(&self.owed) {
            assert_eq!((destination.readings.waiting, owed.len()), (0, 0));
        }
        assert!(self.disk.held.is_empty(), "{:?} stay held on disk", self.disk.held.keys());
        assert!(self.disk.parcels.is_empty(), "{:?} stay on disk", self.disk.parcels.keys());
        for one in &self.tail.destinations {
            // What a destination never wanted must not tear its cursor to shreds.
            assert!(one.done.iter().count() < 40, "{} ranges", one.done.iter().count());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn nothing_is_lost_doubled_or_miscounted(steps in steps(), strict in any::<bool>(), which in 0usize..3) {
        let mut world = World::new(strict, which);
        for step in &steps {
            world.apply(step);
        }
        world.finish();
    }
}

#[test]
fn a_commit_begins_early_enough_to_end_within_the_bound() {
    let mut world = World::new(false, 0);
    world.append(3, 1);
    world.tail.lead = Duration::from_millis(40);
    let Job::Wait(until) = world.tail.next_job(world.now) else { panic!("nothing is due yet") };
    assert_eq!(until, world.now + BOUND - Duration::from_millis(40));
    assert_eq!(world.tail.next_job(until), Job::Commit { need: world.tail.fresh_bytes.min(1 << 10) });
}

#[test]
fn a_stuck_disk_costs_the_oldest_and_each_is_counted() {
    let mut world = World::new(false, 0);
    for _ in 0..200 {
        world.append(30, 1);
    }
    let status = &world.tail.destination_status()[0];
    assert_eq!(status.readings.produced, 6000);
    assert!(status.readings.dropped > 0 && status.readings.waiting > 0);
    assert_eq!(world.counters.dropped.get(), status.readings.dropped);
    assert_eq!(world.tail.gaps.iter().map(|g| g.readings).sum::<u64>(), 3 * status.readings.dropped);
    assert!(world.tail.gaps.len() <= 3, "neighbours are one gap");
    assert_eq!(world.tail.gaps[0].first, 1);
}

#[test]
fn a_crash_repeats_no_more_backlog_than_the_window() {
    let mut world = World::new(false, 0);
    (0..4).for_each(|_| world.append(30, 1));
    world.apply(&Step::Work { wait_ms: 1000, disk_works: true });
    (0..DESTINATIONS.len()).for_each(|of| world.apply(&Step::Link { of, up: true }));
    (0..4).for_each(|_| world.apply(&Step::Work { wait_ms: 0, disk_works: true }));
    world.apply(&Step::Backlog { to: 0 });
    // As if almost half of the window had been acknowledged: the next one is told to the store at once.
    world.tail.acknowledged_bytes = ACKNOWLEDGED_WINDOW / 2 - 1;
    world.apply(&Step::Acknowledge { from: 0, nth: 1 });
    assert!(matches!(world.tail.next_job(world.now), Job::Commit { .. }));
    // The commit takes long, the rest of the window fills: nothing is handed out until it is over, or failed.
    let group = world.tail.take_group();
    assert!(!group.cursors.is_empty(), "the store is told");
    world.tail.acknowledged_bytes = ACKNOWLEDGED_WINDOW / 2;
    assert!(world.tail.take_backlog(0, 300).is_empty());
    world.tail.failed(group, world.now);
    assert!(!world.tail.take_backlog(0, 300).is_empty(), "a failing disk does not keep the backlog back");
}
