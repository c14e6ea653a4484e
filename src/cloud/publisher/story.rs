//! The whole story of publisher, outlet and cloud, told by chance: whatever is interleaved, no parcel is acknowledged
//! whose readings did not arrive (or were set aside, or removed by policy), and in the end none is left over.
//! The faults it was shown, and caught, are listed in SPECIFICATION.md.

mod cloud;
mod outbox;
mod session;
mod steps;

use super::*;
use crate::config::{LateDataConfig, Order};
use crate::model::{Batch, BatchBuilder, DeviceNames, LatePolicy, LateRules, Names, PointName, PointNames, Value};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use steps::{Setup, Step, setup, step};

/// Devices 0 to 2 have points 0 to 3; point 3 of each wants no late readings.
const POINTS: u32 = 4;
const REMOVED_POINT: u32 = 3;
const THRESHOLD: Duration = Duration::from_secs(30);
/// Rounds in which all has to come to its end once the faults have stopped.
const ROUNDS: usize = 3000;

/// One reading: parcel, device, point.
type Reading = (u64, u32, u32);

struct World {
    setup: Setup,
    publisher: Publisher,
    names: Arc<Names>,
    now: Duration,
    next_seq: u64,
    next_id: u16,
    lives: u64,
    /// All that was ever appended, and what of it the outbox still holds.
    parcels: BTreeMap<u64, (i64, Vec<(u32, u32)>)>,
    waiting: BTreeSet<u64>,
    handed_out: BTreeSet<u64>,
    /// Below this the outbox calls it backlog.
    live_from: u64,
    /// Messages the cloud has and did not answer, and ids it answered before.
    with_cloud: BTreeMap<u16, Vec<Reading>>,
    answered: Vec<u16>,
    arrived: BTreeSet<Reading>,
    aside: BTreeSet<Reading>,
    /// Held in the outbox until their device is well.
    held: BTreeSet<Reading>,
    to_hold: BTreeSet<Reading>,
    /// What a parcel made of held readings was before.
    origin: BTreeMap<Reading, Reading>,
    shut: BTreeSet<u32>,
    removed: u64,
    /// Readings of acknowledged parcels that may have been removed.
    removable: u64,
}

impl World {
    fn new(setup: Setup) -> World {
        let points = (0..POINTS).map(|n| PointName { id: format!("p{n}"), has_quality: n == 2 }).collect();
        let points = Arc::new(PointNames { model: "M".to_owned(), points });
        let device = |n: u32| DeviceNames {
            name: format!("d{n}"),
            product_key: "pk".to_owned(),
            device_key: format!("d{n}"),
            asset_id: None,
            points: Arc::clone(&points),
        };
        let rules = LateRules::from([("M".to_owned(), [(REMOVED_POINT, LatePolicy::Remove)].into())]);
        World {
            publisher: publisher(&setup, 0),
            setup,
            names: Arc::new(Names::with_late((0..3).map(device).collect(), rules)),
            now: Duration::from_secs(1000),
            next_seq: 1,
            next_id: 0,
            lives: 0,
            parcels: BTreeMap::new(),
            waiting: BTreeSet::new(),
            handed_out: BTreeSet::new(),
            live_from: 1,
            with_cloud: BTreeMap::new(),
            answered: Vec::new(),
            arrived: BTreeSet::new(),
            aside: BTreeSet::new(),
            held: BTreeSet::new(),
            to_hold: BTreeSet::new(),
            origin: BTreeMap::new(),
            shut: BTreeSet::new(),
            removed: 0,
            removable: 0,
        }
    }

    fn clock(&self) -> Now {
        Now { at: self.now, wall: Timestamp(1_700_000_000_000 + i64::try_from(self.now.as_millis()).unwrap()) }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { readings, age } => self.append(readings, i64::from(age) * 1000),
            Step::Work => self.work(),
            Step::Answer { which, code } => {
                if let Some(id) = pick(self.with_cloud.keys().copied(), which) {
                    self.answer(id, code);
                }
            }
            Step::Puback { which } => {
                let by_reply = self.setup.acknowledge == Acknowledge::Reply;
                if let Some(id) = pick(self.with_cloud.keys().copied(), which).filter(|_| by_reply) {
                    self.publisher.acknowledged(id, self.clock());
                }
            }
            Step::Again { which, code } => {
                if let Some(id) = pick(self.answered.iter().copied(), which).filter(|id| !self.publisher.awaits(*id)) {
                    self.publisher.answered(id, code, "again", self.clock());
                }
            }
            Step::Unknown { id, code } => {
                if !self.publisher.awaits(id) {
                    self.publisher.answered(id, code, "unknown", self.clock());
                    self.publisher.acknowledged(id, self.clock());
                }
            }
            Step::Wait { seconds } => self.now += Duration::from_secs(seconds.into()) + Duration::from_millis(7),
            Step::Shut { device, shut } => self.shut(device, shut),
            Step::Absent { device, absent } => self.absent(device, absent),
            Step::Lose => self.lose(),
            Step::Crash => {
                self.lives += 1;
                self.publisher = publisher(&self.setup, self.lives);
                self.shut.clear();
                self.forget_link();
                self.publisher.holds(self.held_devices());
            }
        }
        self.settle();
    }

    /// The cloud is well from here on. All must come to its end.
    fn drain(&mut self) {
        for device in 0..3 {
            self.shut(device, false);
            self.absent(device, false);
        }
        for _ in 0..ROUNDS {
            self.step(Step::Work);
            while let Some(id) = self.with_cloud.keys().next().copied() {
                self.step(Step::Answer { which: 0, code: Some(200) });
                assert!(!self.with_cloud.contains_key(&id));
            }
            // As the session after a login.
            for keys in self.held_devices() {
                if self.publisher.is_well(&keys.0, &keys.1, self.clock()) {
                    self.release(&keys);
                }
            }
            if self.waiting.is_empty() && self.held.is_empty() {
                return;
            }
            // As the session: until something is due, and no longer than it sleeps at most.
            let wake = self.publisher.wake(self.clock()).unwrap_or(Duration::MAX);
            self.now = wake.clamp(self.now + Duration::from_millis(1), self.now + Duration::from_secs(5));
        }
        panic!("stuck: {:?} of {} parcels, handed out {:?}", self.waiting, self.parcels.len(), self.handed_out);
    }

    fn check_the_end(&self) {
        let all =
            self.parcels.values().map(|(_, readings)| readings.len() as u64).sum::<u64>() - self.origin.len() as u64;
        let first = |reading: &Reading| self.origin.get(reading).copied().unwrap_or(*reading);
        let seen = self.arrived.union(&self.aside).map(first).collect::<BTreeSet<_>>().len() as u64;
        assert!(seen + self.removed >= all, "{seen} seen and {} removed of {all}", self.removed);
        assert_eq!(self.publisher.messages_in_flight(), 0);
        assert!(self.publisher.removed.is_empty(), "counts of removed readings are not kept for ever");
    }
}

fn publisher(setup: &Setup, life: u64) -> Publisher {
    let late_data = LateDataConfig { order: setup.order, threshold: THRESHOLD, policy: setup.policy };
    let mut publisher = Publisher::new(&CloudConfig {
        acknowledge: setup.acknowledge,
        sub_device_login: setup.acknowledge == Acknowledge::Reply,
        late_data,
        linger: if setup.linger { Duration::from_millis(20) } else { Duration::ZERO },
        in_flight: setup.slots,
        upstream_bytes_per_second: setup.upstream,
        ..CloudConfig::new("", 0, "gwPK", "gw")
    });
    publisher.chance = fastrand::Rng::with_seed(setup.seed ^ life);
    publisher
}

fn pick<T>(items: impl Iterator<Item = T>, which: usize) -> Option<T> {
    let mut items: Vec<T> = items.collect();
    if items.is_empty() { None } else { Some(items.swap_remove(which % items.len())) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_acknowledged_that_did_not_arrive_and_nothing_is_stuck(
        setup in setup(),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut world = World::new(setup);
        for step in steps {
            world.step(step);
        }
        world.drain();
        world.check_the_end();
    }
}
