//! The tail against a disk that is a map: every interleaving of appends, commits that succeed or fail, reads,
//! acknowledgements in any order, refusals, links that come and go, drops for all and for one, power cuts, and filters
//! that are others after a restart.

mod claims;
mod disk;
mod flow;
mod steps;
mod storing;

use crate::model::Batch;
use crate::outbox::group::Job;
use crate::outbox::tail::Tail;
use crate::outbox::wishes::Wishes;
use crate::outbox::work::ACKNOWLEDGED_WINDOW;
use crate::telemetry::Counters;
use disk::{Disk, boot, names};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use steps::{Step, steps};

const DESTINATIONS: [&str; 3] = ["cloud", "broker", "integration"];
const BOUND: Duration = Duration::from_secs(1);

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
