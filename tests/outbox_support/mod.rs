//! What the outbox's tests share: a folder, batches whose values tell their number, and a destination that counts.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use enos_edge::config::{Durability, OutboxConfig};
use enos_edge::model::{
    Batch, BatchBuilder, DeviceNames, Names, Outlet, Parcel, PointName, PointNames, Timestamp, Value,
};
use enos_edge::outbox::{self, Outbox};
use enos_edge::telemetry::Counters;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub const CLOUD: &str = "cloud";
/// Longest wait for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn names() -> Arc<Names> {
    static NAMES: std::sync::LazyLock<Arc<Names>> = std::sync::LazyLock::new(make_names);
    NAMES.clone()
}

fn make_names() -> Arc<Names> {
    let points = (0..100).map(|i| PointName { id: format!("p{i}"), has_quality: false }).collect();
    let points = Arc::new(PointNames { model: "Meter".into(), points });
    let device = |i: u32| DeviceNames {
        name: format!("Meter {i}"),
        product_key: "pk".into(),
        device_key: format!("meter-{i}"),
        asset_id: None,
        points: points.clone(),
    };
    Arc::new(Names::new((0..10).map(device).collect()))
}

/// `readings` readings, the first of which tells `number`; all different, so that they compress as noise does.
pub fn batch(number: u64, readings: u32) -> Batch {
    let mut noise = fastrand::Rng::with_seed(number);
    let mut builder = BatchBuilder::default();
    for i in 0..readings {
        builder.begin(i / 100 % 10, Timestamp(1_790_000_000_000 + number as i64));
        let value = if i == 0 { Value::Int(number as i64) } else { Value::Double(noise.f64()) };
        builder.push(i % 100, 0, &value);
    }
    builder.finish(names().epoch).expect("there is a reading")
}

pub fn number_of(parcel: &Parcel) -> u64 {
    let block = parcel.batch.blocks().next().unwrap().unwrap();
    let Value::Int(number) = block.entries().next().unwrap().unwrap().value.to_value() else { panic!("not a number") };
    number as u64
}

pub fn config() -> OutboxConfig {
    // The times in the batches are fixed: they grow old.
    let max_age = Duration::from_secs(100 * 365 * 86_400);
    OutboxConfig { bound: Duration::from_millis(50), disk_reserve_bytes: 0, max_age, ..OutboxConfig::default() }
}

pub fn strict() -> OutboxConfig {
    OutboxConfig { durability: Durability::Strict, ..config() }
}

pub fn open(folder: &Path, config: &OutboxConfig) -> (Outbox, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    let outbox = outbox::open(folder, config, &[CLOUD.into()], names(), counters.clone()).unwrap();
    (outbox, counters)
}

/// Waits until the store thread has brought something about.
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + PATIENCE;
    while !happened() {
        assert!(std::time::Instant::now() < end, "{what} never happened");
        std::thread::yield_now();
    }
}

pub fn all_stored(outbox: &Outbox) {
    until("everything is stored", || outbox.status().readings_in_memory == 0);
}

/// Everything that waits, acknowledged as it comes. Number -> (seq, how often).
pub async fn drain(outlet: &dyn Outlet, outbox: &Outbox) -> BTreeMap<u64, (u64, u32)> {
    let mut seen: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
    while outbox.status().destinations[0].readings.waiting > 0 {
        let wait = async {
            tokio::select! { biased; live = outlet.live(64 << 10) => live, old = outlet.backlog(64 << 10) => old }
        };
        let Ok(parcels) = tokio::time::timeout(PATIENCE, wait).await else {
            if outbox.status().destinations[0].readings.waiting == 0 {
                // What waited was found damaged and is told as lost: nothing is owed.
                break;
            }
            panic!("nothing comes, yet {:?}", outbox.status())
        };
        for parcel in &parcels {
            seen.entry(number_of(parcel)).and_modify(|(_, times)| *times += 1).or_insert((parcel.seq, 1));
        }
        outlet.acknowledge(&parcels.iter().map(|p| p.seq).collect::<Vec<_>>());
    }
    seen
}

/// What was produced is somewhere, exactly.
pub fn balanced(outbox: &Outbox) {
    for destination in outbox.status().destinations {
        let r = destination.readings;
        let gone = r.acknowledged + r.set_aside + r.dropped + r.waiting + r.held;
        assert_eq!(r.waiting_at_open + r.held_at_open + r.produced, gone, "{r:?}");
    }
}
