//! The tail against a disk that is a map: every interleaving of appends, commits that succeed or fail, reads,
//! acknowledgements in any order, links that come and go, drops and power cuts.

use super::destination::Facts;
use super::gap::Reason;
use super::group::{Group, Job};
use super::ranges::Ranges;
use super::segment::Numbered;
use super::tail::{Limits, Loaded, SEQ_BLOCK, Tail};
use super::work::ACKNOWLEDGED_WINDOW;
use crate::model::{Batch, BatchBuilder, Names, Parcel, Timestamp, Value};
use crate::telemetry::Counters;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

const DESTINATIONS: [&str; 2] = ["cloud", "broker"];
const BOUND: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
enum Step {
    Append {
        readings: u32,
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
    DropOldest,
    PowerCut,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let to = 0..DESTINATIONS.len();
    let step = prop_oneof![
        6 => (1u32..40).prop_map(|readings| Step::Append { readings }),
        3 => to.clone().prop_map(|to| Step::Live { to }),
        3 => to.clone().prop_map(|to| Step::Backlog { to }),
        3 => (to.clone(), 1usize..4).prop_map(|(from, nth)| Step::Acknowledge { from, nth }),
        2 => (to, any::<bool>()).prop_map(|(of, up)| Step::Link { of, up }),
        6 => (0u64..700, prop::bool::weighted(0.85)).prop_map(|(wait_ms, disk_works)| Step::Work { wait_ms, disk_works }),
        1 => Just(Step::DropOldest),
        1 => Just(Step::PowerCut),
    ];
    prop::collection::vec(step, 1..160)
}

/// What survives a power cut.
#[derive(Default)]
struct Disk {
    parcels: BTreeMap<u64, Batch>,
    done: BTreeMap<String, String>,
    seq_limit: u64,
}

impl Disk {
    fn write(&mut self, group: &Group) {
        for (first, last) in &group.finished {
            self.parcels.retain(|seq, _| !(first..=last).contains(&seq));
        }
        self.parcels.extend(group.parcels.iter().map(|p| (p.seq, p.batch.clone())));
        self.done.extend(group.cursors.iter().cloned());
        self.seq_limit = group.seq_limit;
    }

    fn load(&self) -> Loaded {
        let next_seq = self.seq_limit.max(1);
        let set =
            |name: &str| self.done.get(name).map_or(Ranges::up_to(next_seq - 1), |t| Ranges::from_text(t).unwrap());
        let readings = |wanted: &dyn Fn(u64) -> bool| -> u64 {
            self.parcels.iter().filter(|(seq, _)| wanted(**seq)).map(|(_, batch)| u64::from(batch.count)).sum()
        };
        let sets: Vec<Ranges> = DESTINATIONS.iter().map(|name| set(name)).collect();
        let destinations = DESTINATIONS
            .iter()
            .zip(&sets)
            .map(|(name, done)| ((*name).to_owned(), done.clone(), readings(&|seq| !done.contains(seq))))
            .collect();
        let waiting = readings(&|seq| sets.iter().any(|done| !done.contains(seq)));
        Loaded { next_seq, seq_limit: next_seq + SEQ_BLOCK, destinations, waiting }
    }
}

struct World {
    tail: Tail,
    disk: Disk,
    strict: bool,
    counters: Arc<Counters>,
    now: Instant,
    /// Appended in this life; what a power cut may take as long as it is not on disk.
    appended: BTreeMap<u64, u64>,
    produced: BTreeSet<u64>,
    highest: u64,
    on_the_way: Vec<BTreeSet<u64>>,
    acknowledged: Vec<BTreeSet<u64>>,
    dropped: BTreeSet<u64>,
    cut: BTreeSet<u64>,
}

fn names() -> Arc<Names> {
    Arc::new(Names::new(Vec::new()))
}

/// The daemon starts: it reads the disk and reserves numbers.
fn boot(disk: &mut Disk, strict: bool, counters: &Arc<Counters>) -> Tail {
    let limits = Limits { bound: BOUND, strict, memory_bytes: 4 << 10, group_bytes: 1 << 10 };
    let loaded = disk.load();
    disk.seq_limit = loaded.seq_limit;
    disk.done = loaded.destinations.iter().map(|(name, done, _)| (name.clone(), done.to_text())).collect();
    let mut tail = Tail::new(limits, loaded, counters.clone());
    tail.use_names(names());
    tail
}

impl World {
    fn new(strict: bool) -> World {
        let mut disk = Disk::default();
        let counters = Arc::new(Counters::default());
        World {
            tail: boot(&mut disk, strict, &counters),
            disk,
            strict,
            counters,
            now: Instant::now(),
            appended: BTreeMap::new(),
            produced: BTreeSet::new(),
            highest: 0,
            on_the_way: vec![BTreeSet::new(); DESTINATIONS.len()],
            acknowledged: vec![BTreeSet::new(); DESTINATIONS.len()],
            dropped: BTreeSet::new(),
            cut: BTreeSet::new(),
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Append { readings } => self.append(readings),
            Step::Live { to } => {
                let parcels = self.tail.take_live(to, 300);
                self.received(to, &parcels);
            }
            Step::Backlog { to } => {
                let parcels = self.tail.take_backlog(to, 300);
                self.received(to, &parcels);
            }
            Step::Acknowledge { from, nth } => self.acknowledge(from, nth),
            Step::Link { of, up } => {
                self.tail.link(of, up, self.now);
                if !up {
                    self.on_the_way[of].clear();
                }
            }
            Step::Work { wait_ms, disk_works } => {
                self.now += Duration::from_millis(wait_ms);
                self.work(disk_works);
            }
            Step::DropOldest => self.drop_oldest(),
            Step::PowerCut => self.power_cut(),
        }
        self.check();
    }

    fn append(&mut self, readings: u32) {
        let mut builder = BatchBuilder::default();
        builder.begin(0, Timestamp(1));
        (0..readings).for_each(|i| builder.push(i, 0, &Value::Double(f64::from(i))));
        let seq = self.tail.next_seq;
        assert!(seq > self.highest, "a number repeats");
        assert!(seq < self.disk.seq_limit, "a number was used that is not reserved");
        self.highest = seq;
        self.produced.insert(seq);
        self.appended.insert(seq, u64::from(readings));
        if self.tail.append(builder.finish(names().epoch).unwrap(), self.now) == Err(Reason::Memory) {
            let gone = |seq: &&u64| **seq > self.tail.taken_upto && self.tail.entry(**seq).is_none();
            self.dropped.extend(self.appended.keys().filter(gone));
        }
    }

    fn received(&mut self, to: usize, parcels: &[Parcel]) {
        assert!(parcels.is_sorted_by(|a, b| a.seq < b.seq));
        for parcel in parcels {
            assert!(self.on_the_way[to].insert(parcel.seq), "{} is handed out while it is on its way", parcel.seq);
            assert!(
                !self.acknowledged[to].contains(&parcel.seq),
                "{} comes again after its acknowledgement",
                parcel.seq
            );
            assert!(!self.strict || parcel.seq <= self.tail.stored_upto, "strict hands out what is not stored");
        }
    }

    fn acknowledge(&mut self, from: usize, nth: usize) {
        let seqs: Vec<u64> = self.on_the_way[from].iter().copied().rev().step_by(nth).collect();
        self.tail.acknowledge(from, &seqs, self.now);
        for seq in seqs {
            self.on_the_way[from].remove(&seq);
            self.acknowledged[from].insert(seq);
        }
    }

    fn work(&mut self, disk_works: bool) {
        match self.tail.next_job(self.now) {
            Job::Commit { .. } => {
                let group = self.tail.take_group();
                if disk_works {
                    self.disk.write(&group);
                    self.tail.committed(&group, Duration::from_millis(5), self.now);
                } else {
                    self.tail.failed(group, self.now);
                }
            }
            Job::Fetch { destination, generation, from, until } if disk_works => {
                let found: Vec<Numbered> = self
                    .disk
                    .parcels
                    .range(from..until)
                    .take(3)
                    .map(|(seq, batch)| Numbered { seq: *seq, batch: batch.clone() })
                    .collect();
                let next = if found.len() == 3 { found[2].seq + 1 } else { until };
                self.tail.fetched(destination, generation, found, Some(&names()), next);
            }
            Job::Fetch { destination, generation, .. } => self.tail.fetch_failed(destination, generation),
            Job::Wait(until) => assert!(until > self.now),
            Job::Housekeep | Job::Exit => {}
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((seq, batch)) = self.disk.parcels.pop_first() {
            self.tail.drop_parcel(Facts::of(seq, &batch), Reason::Quota, self.now);
            self.dropped.insert(seq);
        }
    }

    /// Only the disk is left. What it did not have was younger than the bound, or acknowledged.
    fn power_cut(&mut self) {
        let unsaved = self.appended.keys().filter(|seq| !self.disk.parcels.contains_key(seq));
        self.cut.extend(unsaved.copied());
        self.appended.clear();
        self.tail = boot(&mut self.disk, self.strict, &self.counters);
        let forgotten = |seq: &u64| self.disk.parcels.contains_key(seq);
        for set in &mut self.acknowledged {
            // The stated window: an acknowledgement the disk was not told of may be needed again.
            set.retain(|seq| !forgotten(seq));
        }
        self.on_the_way.iter_mut().for_each(BTreeSet::clear);
    }

    fn check(&self) {
        for destination in self.tail.destination_status() {
            let r = destination.readings;
            assert_eq!(
                r.waiting_at_open + r.produced,
                r.acknowledged + r.set_aside + r.dropped + r.waiting,
                "{destination:?}"
            );
        }
        let (bytes, fresh) = self.tail.recount();
        assert_eq!((bytes, fresh), (self.tail.bytes, self.tail.fresh_bytes));
        assert!(self.tail.bytes <= self.tail.limits.memory_bytes + 1024, "{} bytes in memory", self.tail.bytes);
    }

    /// Both links come up and everything is delivered: then nothing may be missing.
    fn finish(mut self) {
        for _ in 0..4000 {
            for to in 0..DESTINATIONS.len() {
                self.apply(&Step::Link { of: to, up: true });
                self.apply(&Step::Live { to });
                self.apply(&Step::Backlog { to });
                self.apply(&Step::Acknowledge { from: to, nth: 1 });
            }
            self.apply(&Step::Work { wait_ms: 400, disk_works: true });
            if self.tail.waiting == 0 && self.tail.rows_since.is_none() && self.tail.next_fetch_is_idle() {
                break;
            }
        }
        assert_eq!((self.tail.waiting, self.tail.bytes), (0, 0));
        for (to, acknowledged) in self.acknowledged.iter().enumerate() {
            assert_eq!(self.tail.destination_status()[to].readings.waiting, 0);
            for seq in &self.produced {
                let excused = self.cut.contains(seq) || self.dropped.contains(seq);
                assert!(
                    acknowledged.contains(seq) || excused || !self.appended.contains_key(seq),
                    "{seq} is missing at {to}"
                );
            }
        }
        assert!(self.disk.parcels.is_empty(), "{:?} stay on disk", self.disk.parcels.keys());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn nothing_is_lost_doubled_or_miscounted(steps in steps(), strict in any::<bool>()) {
        let mut world = World::new(strict);
        for step in &steps {
            world.apply(step);
        }
        world.finish();
    }
}

#[test]
fn a_commit_begins_early_enough_to_end_within_the_bound() {
    let mut world = World::new(false);
    world.append(3);
    world.tail.lead = Duration::from_millis(40);
    let Job::Wait(until) = world.tail.next_job(world.now) else { panic!("nothing is due yet") };
    assert_eq!(until, world.now + BOUND - Duration::from_millis(40));
    assert_eq!(world.tail.next_job(until), Job::Commit { need: world.tail.fresh_bytes.min(1 << 10) });
}

#[test]
fn a_stuck_disk_costs_the_oldest_and_each_is_counted() {
    let mut world = World::new(false);
    for _ in 0..200 {
        world.append(30);
    }
    let status = &world.tail.destination_status()[0];
    assert_eq!(status.readings.produced, 6000);
    assert!(status.readings.dropped > 0 && status.readings.waiting > 0);
    assert_eq!(world.counters.dropped.get(), status.readings.dropped);
    assert_eq!(world.tail.gaps.iter().map(|g| g.readings).sum::<u64>(), 2 * status.readings.dropped);
    assert!(world.tail.gaps.len() <= 2, "neighbours are one gap");
    assert_eq!(world.tail.gaps[0].first, *world.produced.first().unwrap());
}

#[test]
fn a_crash_repeats_no_more_backlog_than_the_window() {
    let mut world = World::new(false);
    (0..4).for_each(|_| world.append(30));
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
