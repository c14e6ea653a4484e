//! A cloud that takes so many bytes a second and refuses what is beyond, on a simulated clock: the publisher has to find
//! out how many, without being told and without losing anything.

use super::*;
use crate::model::{Batch, BatchBuilder, DeviceNames, Names, PointName, PointNames, Value};
use std::collections::BTreeMap;

const MS: Duration = Duration::from_millis(1);

/// How the cloud measures.
#[derive(Clone, Copy, Debug)]
enum Meter {
    /// What is saved up, at most this many seconds' worth, may be spent at once.
    Bucket { seconds: f64 },
    /// So many bytes in each second by the clock.
    Seconds,
}

struct Cloud {
    rate: f64,
    meter: Meter,
    code: i64,
    left: f64,
    at: Duration,
}

impl Cloud {
    fn new(rate: f64, meter: Meter, code: i64) -> Cloud {
        Cloud { rate, meter, code, left: f64::MAX, at: Duration::ZERO }
    }

    fn answer(&mut self, bytes: usize, now: Duration) -> i64 {
        match self.meter {
            Meter::Bucket { seconds } => {
                let more = self.rate * (now - self.at).as_secs_f64();
                self.left = (self.left + more).min(self.rate * seconds);
            }
            Meter::Seconds if self.left > self.rate || now.as_secs() > self.at.as_secs() => self.left = self.rate,
            Meter::Seconds => {}
        }
        self.at = now;
        if self.left < bytes as f64 {
            return self.code;
        }
        self.left -= bytes as f64;
        200
    }
}

#[derive(Debug, Default)]
struct Outcome {
    taken: usize,
    messages: usize,
    refused: usize,
    live_waits: Vec<Duration>,
}

/// As much backlog as is asked for, and a live batch of 100 readings each 100 ms.
struct Site {
    names: Arc<Names>,
    seq: u64,
    born: BTreeMap<u64, Duration>,
}

impl Site {
    fn new() -> Site {
        let points = (0..100).map(|n| PointName { id: format!("point_{n}"), has_quality: false }).collect();
        let device = DeviceNames {
            name: "Meter".to_owned(),
            product_key: "pk".to_owned(),
            device_key: "meter".to_owned(),
            asset_id: None,
            points: Arc::new(PointNames { model: String::new(), points }),
        };
        Site { names: Arc::new(Names::new(vec![device])), seq: 0, born: BTreeMap::new() }
    }

    fn batch(&self, now: Now, age: i64) -> Batch {
        let mut builder = BatchBuilder::default();
        builder.begin(0, Timestamp(now.wall.0 - age));
        (0..100).for_each(|point| builder.push(point, 0, &Value::Int(i64::from(point) * 1000)));
        builder.finish(self.names.epoch).unwrap()
    }

    fn parcel(&mut self, lane: Lane, now: Now) -> Parcel {
        self.seq += 1;
        let age = if lane == Lane::Live { 0 } else { 86_400_000 };
        if lane == Lane::Live {
            self.born.insert(self.seq, now.at);
        }
        Parcel { seq: self.seq, lane, names: Arc::clone(&self.names), batch: self.batch(now, age) }
    }

    fn serve(&mut self, publisher: &mut Publisher, now: Now) {
        if now.at.as_millis().is_multiple_of(100) {
            let parcel = self.parcel(Lane::Live, now);
            publisher.take(vec![parcel], now);
        }
        if let Some(bytes) = publisher.wants(Lane::Backlog, now) {
            let mut parcels = Vec::new();
            let mut taken = 0;
            while taken < bytes {
                let parcel = self.parcel(Lane::Backlog, now);
                taken += parcel.batch.bytes.len();
                parcels.push(parcel);
            }
            publisher.take(parcels, now);
        }
    }
}

fn run(config: &CloudConfig, cloud: &mut Cloud, warm_up: u64, seconds: u64, rate_at: impl Fn(u64) -> f64) -> Outcome {
    let mut publisher = Publisher::new(config);
    publisher.chance = fastrand::Rng::with_seed(1);
    let (mut site, mut outcome) = (Site::new(), Outcome::default());
    // The way takes 40 ms in each direction.
    let mut on_the_way: BTreeMap<(Duration, u16), (usize, Option<i64>)> = BTreeMap::new();
    let mut id = 0u16;
    let mut at = Duration::ZERO;
    while at.as_secs() < warm_up + seconds {
        at += MS;
        cloud.rate = rate_at(at.as_secs());
        let now = Now { at, wall: Timestamp(1_700_000_000_000 + i64::try_from(at.as_millis()).unwrap()) };
        let counted = at.as_secs() >= warm_up;
        while let Some(entry) = on_the_way.first_entry().filter(|entry| entry.key().0 <= at) {
            let ((_, id), (bytes, code)) = entry.remove_entry();
            if let Some(code) = code {
                publisher.answered(id, code, "", now);
                continue;
            }
            let code = cloud.answer(bytes, at);
            if counted {
                outcome.messages += 1;
                outcome.refused += usize::from(code != 200);
                outcome.taken += if code == 200 { bytes } else { 0 };
            }
            on_the_way.insert((at + 40 * MS, id), (bytes, Some(code)));
        }
        site.serve(&mut publisher, now);
        loop {
            id = id.checked_add(1).unwrap_or(1);
            if publisher.awaits(id) {
                continue;
            }
            let Some(outgoing) = publisher.next_message(id, now) else { break };
            on_the_way.insert((at + 40 * MS, id), (outgoing.text.len() + publisher.overhead, None));
        }
        let effects = publisher.effects();
        assert!(effects.set_aside.is_empty(), "an overload is nobody's fault: {:?}", effects.set_aside);
        for seq in effects.acknowledge {
            if let Some(born) = site.born.remove(&seq).filter(|_| counted) {
                outcome.live_waits.push(at - born);
            }
        }
    }
    outcome.live_waits.sort_unstable();
    outcome
}

fn unbounded() -> CloudConfig {
    CloudConfig { upstream_bytes_per_second: None, linger: Duration::ZERO, ..CloudConfig::new("", 0, "gwPK", "gw") }
}

#[test]
fn the_pace_of_a_cloud_that_refuses_is_found_and_kept() {
    let meters = [1.0, 0.5, 0.25].map(|seconds| Meter::Bucket { seconds });
    for (code, meter) in
        [429, 500].into_iter().flat_map(|code| meters.map(|m| (code, m)).into_iter().chain([(code, Meter::Seconds)]))
    {
        for rate in [40_000.0, 250_000.0] {
            let mut cloud = Cloud::new(rate, meter, code);
            let outcome = run(&unbounded(), &mut cloud, 30, 120, |_| rate);
            let share = outcome.taken as f64 / (120.0 * rate);
            let refused = outcome.refused as f64 / outcome.messages as f64;
            let p99 = outcome.live_waits[outcome.live_waits.len() * 99 / 100];
            println!("{code} {meter:?} {rate}: {share:.3} of the rate, {refused:.4} refused, live p99 {p99:?}");
            assert!((0.9..=1.02).contains(&share), "{code} {meter:?} {rate}: {share:.3} of the rate");
            assert!(refused < 0.03, "{code} {meter:?} {rate}: {refused:.3} refused");
        }
    }
}

#[test]
fn a_limit_that_is_lifted_or_lowered_is_found_again() {
    let mut cloud = Cloud::new(0.0, Meter::Bucket { seconds: 1.0 }, 429);
    let lifted = run(&unbounded(), &mut cloud, 150, 30, |at| if at < 30 { 30_000.0 } else { 300_000.0 });
    assert!(lifted.taken as f64 > 0.8 * 30.0 * 300_000.0, "{}", lifted.taken);
    let mut cloud = Cloud::new(0.0, Meter::Bucket { seconds: 1.0 }, 429);
    let lowered = run(&unbounded(), &mut cloud, 60, 60, |at| if at < 30 { 300_000.0 } else { 30_000.0 });
    assert!(lowered.taken as f64 > 0.85 * 60.0 * 30_000.0, "{}", lowered.taken);
    assert!(lowered.refused * 20 < lowered.messages, "{} of {}", lowered.refused, lowered.messages);
}

#[test]
fn what_is_agreed_is_kept_to_and_live_readings_do_not_wait_for_backlog() {
    let config = CloudConfig { upstream_bytes_per_second: Some(1_000_000), ..unbounded() };
    let mut cloud = Cloud::new(1_048_576.0, Meter::Seconds, 429);
    let outcome = run(&config, &mut cloud, 10, 30, |_| 1_048_576.0);
    assert_eq!(outcome.refused, 0);
    let share = outcome.taken as f64 / (30.0 * 1_000_000.0);
    assert!((0.93..=1.0).contains(&share), "{share}");
    let p99 = outcome.live_waits[outcome.live_waits.len() * 99 / 100];
    assert!(p99 <= 120 * MS, "80 ms are the way: {p99:?}");
}
