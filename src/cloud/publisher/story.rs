//! The whole story of publisher, outlet and cloud, told by chance: whatever is interleaved, no parcel is acknowledged
//! whose readings did not arrive (or were set aside, or removed by policy), and in the end none is left over.
//! The faults it was shown, and caught, are listed in SPECIFICATION.md.

use super::*;
use crate::config::LateDataConfig;
use crate::model::{Batch, BatchBuilder, DeviceNames, LatePolicy, LateRules, Names, PointName, PointNames, Value};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Devices 0 to 2 have points 0 to 3; point 3 of each wants no late readings.
const POINTS: u32 = 4;
const REMOVED_POINT: u32 = 3;
const THRESHOLD: Duration = Duration::from_secs(30);
/// Rounds in which all has to come to its end once the faults have stopped.
const ROUNDS: usize = 3000;

/// One reading: parcel, device, point.
type Reading = (u64, u32, u32);

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// Readings of these (device, point) come into the outbox, so many seconds old.
    Append {
        readings: Vec<(u32, u32)>,
        age: u8,
    },
    /// The session takes what it wants and sends what it may.
    Work,
    /// The cloud answers a message it has, with this code; `None`: it swallowed it.
    Answer {
        which: usize,
        code: Option<i64>,
    },
    /// The broker has a message; what the cloud makes of it is still open.
    Puback {
        which: usize,
    },
    /// An answer comes a second time, or to something never sent.
    Again {
        which: usize,
        code: i64,
    },
    Unknown {
        id: u16,
        code: i64,
    },
    Wait {
        seconds: u8,
    },
    /// The cloud disables a device, or enables it.
    Shut {
        device: u32,
        shut: bool,
    },
    /// A device is still on its way into the topology, or has arrived.
    Absent {
        device: u32,
        absent: bool,
    },
    /// The link is lost and comes back.
    Lose,
    /// The daemon dies: the publisher is gone, the outbox hands out what was not acknowledged.
    Crash,
}

fn code() -> impl Strategy<Value = i64> {
    prop::sample::select(vec![200, 200, 200, 200, 1204, 1008, 1212, 1009, 429, 503, 500, 99_999])
}

fn step() -> impl Strategy<Value = Step> {
    let reading = (0u32..3, 0..POINTS);
    prop_oneof![
        4 => (prop::collection::vec(reading, 1..10), prop::sample::select(vec![0u8, 0, 20, 60]))
            .prop_map(|(readings, age)| Step::Append { readings, age }),
        6 => Just(Step::Work),
        6 => (any::<usize>(), code()).prop_map(|(which, code)| Step::Answer { which, code: Some(code) }),
        1 => any::<usize>().prop_map(|which| Step::Answer { which, code: None }),
        1 => any::<usize>().prop_map(|which| Step::Puback { which }),
        1 => (any::<usize>(), code()).prop_map(|(which, code)| Step::Again { which, code }),
        1 => (any::<u16>(), code()).prop_map(|(id, code)| Step::Unknown { id, code }),
        2 => prop::sample::select(vec![0u8, 1, 5, 31, 200]).prop_map(|seconds| Step::Wait { seconds }),
        1 => (0u32..3, any::<bool>()).prop_map(|(device, shut)| Step::Shut { device, shut }),
        1 => (0u32..3, any::<bool>()).prop_map(|(device, absent)| Step::Absent { device, absent }),
        1 => Just(Step::Lose),
        1 => Just(Step::Crash),
    ]
}

/// How the gateway is set up.
#[derive(Clone, Debug)]
struct Setup {
    order: Order,
    policy: LatePolicy,
    acknowledge: Acknowledge,
    slots: usize,
    upstream: Option<u64>,
    linger: bool,
    /// This point of device 1 never fits the cloud's model.
    guilty: Option<u32>,
    seed: u64,
}

fn setup() -> impl Strategy<Value = Setup> {
    let policy = prop::sample::select(vec![
        LatePolicy::HisChannel,
        LatePolicy::HisChannel,
        LatePolicy::RealChannel,
        LatePolicy::Remove,
    ]);
    let order = prop::sample::select(vec![Order::RealTimeFirst, Order::Fifo]);
    let upstream = prop::sample::select(vec![None, Some(1_000_000), Some(2_000)]);
    (order, policy, any::<bool>(), 1usize..5, upstream, any::<bool>(), prop::option::of(0..POINTS), any::<u64>())
        .prop_map(|(order, policy, puback, slots, upstream, linger, guilty, seed)| Setup {
            order,
            policy,
            acknowledge: if puback { Acknowledge::Puback } else { Acknowledge::Reply },
            slots,
            upstream,
            linger,
            guilty,
            seed,
        })
}

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

    fn append(&mut self, mut readings: Vec<(u32, u32)>, age: i64) {
        readings.sort_unstable();
        readings.dedup();
        self.parcels.insert(self.next_seq, (self.clock().wall.0 - age, readings));
        self.waiting.insert(self.next_seq);
        self.next_seq += 1;
    }

    fn batch(&self, seq: u64) -> Batch {
        let (time, readings) = &self.parcels[&seq];
        let mut builder = BatchBuilder::default();
        for (device, point) in readings {
            builder.begin(*device, Timestamp(*time));
            // The value tells the parcel, so that the cloud knows what it got.
            builder.push(*point, 0, &Value::Int(i64::try_from(seq).unwrap()));
        }
        builder.finish(self.names.epoch).unwrap()
    }

    fn work(&mut self) {
        let now = self.clock();
        if self.publisher.time_out(now) {
            return self.lose();
        }
        for lane in [Lane::Live, Lane::Backlog] {
            if let Some(bytes) = self.publisher.wants(lane, now) {
                let parcels = self.hand_out(lane, bytes);
                self.publisher.take(parcels, now);
            }
        }
        self.publish(now);
    }

    fn hand_out(&mut self, lane: Lane, bytes: usize) -> Vec<Parcel> {
        let mine = |seq: &u64| self.setup.order == Order::Fifo || (*seq >= self.live_from) == (lane == Lane::Live);
        let seqs: Vec<u64> = self.waiting.difference(&self.handed_out).copied().filter(mine).collect();
        let (mut parcels, mut taken) = (Vec::new(), 0);
        for seq in seqs {
            let batch = self.batch(seq);
            taken += batch.bytes.len();
            if !parcels.is_empty() && taken > bytes {
                break;
            }
            self.handed_out.insert(seq);
            let lane = if seq >= self.live_from { Lane::Live } else { Lane::Backlog };
            parcels.push(Parcel { seq, lane, names: Arc::clone(&self.names), batch });
        }
        parcels
    }

    fn publish(&mut self, now: Now) {
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            while self.publisher.awaits(self.next_id) || self.with_cloud.contains_key(&self.next_id) {
                self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            }
            let Some(outgoing) = self.publisher.next_message(self.next_id, now) else { return };
            let readings = readings(&outgoing.text);
            assert_eq!(readings.len(), outgoing.readings);
            let late = |(seq, ..): &Reading| self.parcels[seq].0 < now.wall.0 - 30_000;
            let routes = |route| if route == Route::Resume { readings.iter().all(late) } else { true };
            assert!(routes(outgoing.route), "what is not late does not travel as history");
            if self.setup.policy == LatePolicy::HisChannel && outgoing.route == Route::Post {
                assert!(!readings.iter().any(late), "what is late does not travel as live");
            }
            assert!(!readings.iter().any(|r| late(r) && r.2 == REMOVED_POINT), "what is to be removed does not travel");
            self.with_cloud.insert(self.next_id, readings);
        }
    }

    /// A cloud takes nothing of a message it refuses, and refuses what does not fit its model.
    fn answer(&mut self, id: u16, code: Option<i64>) {
        let readings = self.with_cloud.remove(&id).expect("a message the cloud has");
        let Some(mut code) = code else { return };
        let guilty = |r: &Reading| r.1 == 1 && Some(r.2) == self.setup.guilty;
        let puback = self.setup.acknowledge == Acknowledge::Puback;
        if puback {
            code = 200;
        } else if code == 200 && readings.iter().any(guilty) {
            code = 1204;
        }
        if code == 200 {
            self.arrived.extend(readings);
        }
        self.answered.push(id);
        if puback {
            self.publisher.acknowledged(id, self.clock());
        } else {
            self.publisher.answered(id, code, "because", self.clock());
        }
    }

    fn shut(&mut self, device: u32, shut: bool) {
        self.publisher.shut("pk", &format!("d{device}"), shut);
        if shut {
            self.shut.insert(device)
        } else {
            self.shut.remove(&device)
        };
    }

    fn absent(&mut self, device: u32, absent: bool) {
        let keys = ("pk".to_owned(), format!("d{device}"));
        if absent {
            self.publisher.absent(vec![keys]);
        } else if self.publisher.present(&keys) {
            self.release(&keys);
        }
    }

    fn lose(&mut self) {
        self.publisher.lost(self.clock());
        self.forget_link();
    }

    fn forget_link(&mut self) {
        self.to_hold.clear();
        self.handed_out.clear();
        self.with_cloud.clear();
        // What waited out the loss lies on disk.
        self.live_from = self.next_seq;
    }

    /// What the session does with the publisher's decisions, and what the outbox must be able to rely on.
    fn settle(&mut self) {
        let effects = self.publisher.effects();
        for aside in effects.set_aside {
            assert!(self.handed_out.contains(&aside.seq), "only what is under way is set aside");
            assert!(aside.code != 0 && !aside.reason.is_empty());
            for block in aside.batch.blocks().flatten() {
                let points = block.entries().flatten().map(|entry| (aside.seq, block.device, entry.point));
                self.aside.extend(points);
            }
        }
        // Held from the moment their parcel is acknowledged; until then the parcel itself comes again.
        for waits in effects.hold {
            assert!(self.handed_out.contains(&waits.seq), "only what is under way is held");
            for block in waits.batch.blocks().flatten() {
                let points = block.entries().flatten().map(|entry| (waits.seq, block.device, entry.point));
                self.to_hold.extend(points);
            }
        }
        for keys in effects.release {
            assert!(!self.shut.contains(&device_of(&keys)), "a device that is shut gets nothing handed out");
            self.release(&keys);
        }
        for seq in effects.acknowledge {
            assert!(self.handed_out.remove(&seq), "{seq} is acknowledged and was not handed out");
            assert!(self.waiting.remove(&seq));
            let (time, readings) = &self.parcels[&seq];
            let waits: Vec<Reading> = self.to_hold.iter().filter(|r| r.0 == seq).copied().collect();
            self.held.extend(&waits);
            self.to_hold.retain(|r| r.0 != seq);
            let late = *time < self.clock().wall.0 - 30_000;
            for (device, point) in readings {
                let reading = (seq, *device, *point);
                let removable = late && (*point == REMOVED_POINT || self.setup.policy == LatePolicy::Remove);
                self.removable += u64::from(removable);
                assert!(
                    self.arrived.contains(&reading)
                        || self.aside.contains(&reading)
                        || waits.contains(&reading)
                        || removable,
                    "{reading:?} is acknowledged and did not arrive"
                );
            }
        }
        self.removed += effects.late_removed;
        assert!(self.removed <= self.removable, "{} removed of at most {}", self.removed, self.removable);
    }

    fn held_devices(&self) -> Vec<(String, String)> {
        let devices: BTreeSet<u32> = self.held.iter().map(|reading| reading.1).collect();
        devices.into_iter().map(|device| ("pk".to_owned(), format!("d{device}"))).collect()
    }

    /// As the outbox: the first few of a device become a parcel of their own, with the time they had.
    fn release(&mut self, keys: &(String, String)) {
        let some: Vec<Reading> = self.held.iter().filter(|r| r.1 == device_of(keys)).take(3).copied().collect();
        if some.is_empty() && !self.to_hold.iter().any(|r| r.1 == device_of(keys)) {
            return self.publisher.is_free(keys);
        }
        for reading in some {
            self.held.remove(&reading);
            let (time, _) = self.parcels[&reading.0];
            self.parcels.insert(self.next_seq, (time, vec![(reading.1, reading.2)]));
            self.waiting.insert(self.next_seq);
            let origin = self.origin.get(&reading).copied().unwrap_or(reading);
            self.origin.insert((self.next_seq, reading.1, reading.2), origin);
            self.next_seq += 1;
        }
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

fn device_of(keys: &(String, String)) -> u32 {
    keys.1[1..].parse().unwrap()
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

/// The readings of a message, as the cloud reads them.
fn readings(text: &[u8]) -> Vec<Reading> {
    let message: serde_json::Value = serde_json::from_slice(text).expect("a message is JSON");
    let mut readings = Vec::new();
    for item in message["params"].as_array().unwrap() {
        let device = item["deviceKey"].as_str().unwrap()[1..].parse().unwrap();
        for (point, value) in item["measurepoints"].as_object().unwrap() {
            let seq = value.as_u64().or_else(|| value["value"].as_u64()).unwrap();
            readings.push((seq, device, point[1..].parse().unwrap()));
        }
    }
    readings
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
