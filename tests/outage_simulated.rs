//! An outage through the real outbox and the real publisher on a simulated clock: 10,000 values/s go in as fast as the
//! disk takes them, then the backlog drains beside live data against a cloud in this process.
//!
//! The small one runs with all tests. The day:
//! `cargo test --release --test outage_simulated -- --ignored --nocapture`

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod outbox_support;

use enos_edge::cloud::publisher::{Now, Publisher};
use enos_edge::config::{CloudConfig, OutboxConfig};
use enos_edge::model::{Batch, BatchBuilder, Outlet, Parcel, Timestamp, Value};
use enos_edge::outbox::Outbox;
use outbox_support::*;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

const RATE: u64 = 10_000;
/// Readings of a batch; ten a second.
const BATCH: u32 = 1000;
const BEGIN: i64 = 1_790_000_000_000;
/// So few waiting readings are those of now.
const LAST: u64 = 20_000;
/// To the cloud and back.
const WAY: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(10);

/// What meters show.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Digits {
    /// All that a 32-bit float has.
    All,
    Tenths,
}

/// Ten devices of a hundred points that swing by 2 % in ten minutes with a noise of 0.05 %, as in `outbox_speed`.
struct Meters {
    digits: Digits,
    chance: fastrand::Rng,
    /// A bell of noise, made once: a day has nearly a billion readings.
    bell: Vec<f32>,
}

impl Meters {
    fn new(digits: Digits) -> Meters {
        let mut chance = fastrand::Rng::with_seed(1);
        // Twelve even numbers make a bell.
        let bell = (0..1 << 16).map(|_| (0..12).map(|_| chance.f32()).sum::<f32>() - 6.0).collect();
        Meters { digits, chance, bell }
    }

    fn batch(&mut self, tenth: u64) -> Batch {
        let mut builder = BatchBuilder::default();
        let time = BEGIN + i64::try_from(tenth * 100).unwrap();
        #[allow(clippy::cast_precision_loss, reason = "a phase")]
        let phase = (tenth % 6000) as f32 / 6000.0 * std::f32::consts::TAU;
        for device in 0..10 {
            builder.begin(device, Timestamp(time));
            for point in 0..BATCH / 10 {
                builder.push(point, 0, &Value::Float(self.value(point, phase)));
            }
        }
        builder.finish(names().epoch).unwrap()
    }

    fn value(&mut self, point: u32, phase: f32) -> f32 {
        #[allow(clippy::cast_precision_loss, reason = "a small number")]
        let base = 200.0 + point as f32;
        let noise = self.bell[usize::from(self.chance.u16(..))];
        let value = base * (1.0 + 0.02 * (phase + base).sin() + 0.0005 * noise);
        match self.digits {
            Digits::All => value,
            Digits::Tenths => (value * 10.0).round() / 10.0,
        }
    }
}

#[derive(Debug, Default)]
struct Figures {
    filled_in: Duration,
    disk: u64,
    kept: u64,
    dropped: u64,
    gaps: u64,
    drained_in: Duration,
    simulated: Duration,
    readings: u64,
    messages: u64,
    bytes: u64,
    waits: Vec<Duration>,
}

/// Time, and what is under way to the cloud and back.
struct Story {
    outbox: Outbox,
    publisher: Publisher,
    at: Duration,
    tenth: u64,
    meters: Meters,
    under_way: BTreeMap<(Duration, u16), u64>,
    born: HashMap<u64, Duration>,
    id: u16,
    figures: Figures,
}

impl Story {
    fn now(&self) -> Now {
        Now { at: self.at, wall: Timestamp(BEGIN + i64::try_from(self.at.as_millis()).unwrap()) }
    }

    fn append(&mut self) {
        let batch = self.meters.batch(self.tenth);
        self.tenth += 1;
        self.outbox.inlet().append(batch);
    }

    /// The link is down for so long.
    fn outage(&mut self, seconds: u64) {
        let began = Instant::now();
        for _ in 0..seconds * 10 {
            self.append();
            if self.tenth.is_multiple_of(200) {
                // Below a half of the memory, and above what the store would wait for its bound with.
                until("the disk keeps up", || self.outbox.status().readings_in_memory < 500_000);
            }
        }
        all_stored(&self.outbox);
        self.at = Duration::from_secs(seconds);
        let status = self.outbox.status();
        let readings = status.destinations[0].readings;
        let f = &mut self.figures;
        (f.filled_in, f.disk, f.kept, f.dropped) =
            (began.elapsed(), status.bytes_on_disk, readings.waiting, readings.dropped);
        f.gaps = self.outbox.gaps(usize::MAX).unwrap().iter().map(|gap| gap.readings).sum();
    }

    /// The link is back. Stops when all is drained, or after so much simulated time.
    async fn drain(&mut self, longest: Duration) {
        let (began, from) = (Instant::now(), self.at);
        let outlet = self.outbox.outlet(CLOUD);
        outlet.link(true);
        while self.at < from + longest {
            self.at += TICK;
            self.hear(&*outlet);
            if self.at.as_millis().is_multiple_of(100) {
                self.tenth = u64::try_from(self.at.as_millis() / 100).unwrap();
                self.append();
            }
            if !self.fetch(&*outlet).await {
                break;
            }
            self.send();
        }
        self.figures.drained_in = began.elapsed();
        self.figures.simulated = self.at - from;
        self.figures.waits.sort_unstable();
    }

    fn hear(&mut self, outlet: &dyn Outlet) {
        let now = self.now();
        while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.key().0 <= self.at) {
            let ((_, id), readings) = entry.remove_entry();
            self.figures.readings += readings;
            self.publisher.answered(id, 200, "", now);
        }
        let effects = self.publisher.effects();
        assert!(effects.set_aside.is_empty());
        if !effects.acknowledge.is_empty() {
            for seq in &effects.acknowledge {
                if let Some(born) = self.born.remove(seq) {
                    self.figures.waits.push(self.at - born);
                }
            }
            outlet.acknowledge(&effects.acknowledge);
        }
    }

    /// Takes what the publisher wants. The simulated clock stands while the disk works. False when no backlog is left.
    async fn fetch(&mut self, outlet: &dyn Outlet) -> bool {
        use enos_edge::model::Lane;
        let now = self.now();
        if let Some(bytes) = self.publisher.wants(Lane::Live, now)
            && let Some(parcels) = at_hand(outlet.live(bytes)).await
        {
            self.take(parcels, now);
        }
        let status = self.outbox.status();
        let only_live = status.destinations[0].readings.waiting <= LAST;
        if let Some(bytes) = self.publisher.wants(Lane::Backlog, now).filter(|_| !only_live) {
            // Acknowledgements that are not on disk yet hold it back for a moment of real time.
            if let Ok(parcels) = tokio::time::timeout(Duration::from_millis(200), outlet.backlog(bytes)).await {
                self.take(parcels, now);
            }
        }
        !only_live
    }

    fn take(&mut self, parcels: Vec<Parcel>, now: Now) {
        use enos_edge::model::Lane;
        for parcel in parcels.iter().filter(|parcel| parcel.lane == Lane::Live) {
            let age = now.wall.0 - parcel.batch.newest.0;
            self.born.insert(parcel.seq, self.at - Duration::from_millis(u64::try_from(age).unwrap_or(0)));
        }
        self.publisher.take(parcels, now);
    }

    fn send(&mut self) {
        let now = self.now();
        loop {
            self.id = self.id.checked_add(1).unwrap_or(1);
            if self.publisher.awaits(self.id) {
                continue;
            }
            let Some(outgoing) = self.publisher.next_message(self.id, now) else { return };
            self.figures.messages += 1;
            self.figures.bytes += outgoing.text.len() as u64;
            self.under_way.insert((self.at + WAY, self.id), outgoing.readings as u64);
        }
    }
}

/// What is ready without waiting for more than the tasks at hand.
async fn at_hand<T>(answer: impl Future<Output = T>) -> Option<T> {
    tokio::select! { biased; got = answer => Some(got), () = std::future::ready(()) => None }
}

async fn story(digits: Digits, outage: u64, quota: u64, upstream: Option<u64>, longest: Duration) -> Figures {
    // Not a tmpfs: what lies on the disk is counted.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = OutboxConfig { quota_bytes: quota, bound: Duration::from_secs(1), ..config() };
    let (outbox, _) = open(folder.path(), &config);
    let cloud = CloudConfig { upstream_bytes_per_second: upstream, ..CloudConfig::new("", 0, "gwPK", "gw") };
    let mut story = Story {
        outbox,
        publisher: Publisher::new(&cloud),
        at: Duration::ZERO,
        tenth: 0,
        meters: Meters::new(digits),
        under_way: BTreeMap::new(),
        born: HashMap::new(),
        id: 0,
        figures: Figures::default(),
    };
    story.outage(outage);
    story.drain(longest).await;
    balanced(&story.outbox);
    story.figures
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn show(name: &str, f: &Figures) {
    let each = f.disk as f64 / f.kept as f64;
    println!(
        "{name}: filled in {:.0} s; {:.0} MB on disk for {} readings, {each:.2} bytes each",
        f.filled_in.as_secs_f64(),
        f.disk as f64 / 1e6,
        f.kept
    );
    println!("{name}: dropped {}, gaps {}", f.dropped, f.gaps);
    let (simulated, real) = (f.simulated.as_secs_f64(), f.drained_in.as_secs_f64());
    let pace = f.readings as f64 / simulated;
    println!(
        "{name}: {} readings in {} messages of {:.0} KB within {simulated:.0} simulated s: {pace:.0}/s, {:.1} x live ({real:.0} real s: {:.0}/s)",
        f.readings,
        f.messages,
        f.bytes as f64 / 1e3 / f.messages as f64,
        pace / RATE as f64,
        f.readings as f64 / real,
    );
    println!("{name}: live p50 {:?}, p99 {:?} of {} batches", at(&f.waits, 50), at(&f.waits, 99), f.waits.len());
}

fn at(waits: &[Duration], percent: usize) -> Duration {
    waits.get(waits.len() * percent / 100).copied().unwrap_or_default()
}

#[tokio::test]
async fn a_quarter_of_an_hour_drains_beside_live_data_and_every_reading_is_accounted_for() {
    let f =
        story(Digits::Tenths, if cfg!(debug_assertions) { 90 } else { 900 }, 1 << 30, None, Duration::from_secs(600))
            .await;
    show("small", &f);
    assert_eq!((f.dropped, f.gaps), (0, 0));
    assert!(f.readings + 3 * LAST >= f.kept, "the backlog is drained: {} of {}", f.readings, f.kept);
    assert!(at(&f.waits, 99) <= Duration::from_millis(250), "{:?}", at(&f.waits, 99));
}

#[tokio::test]
async fn what_a_quota_took_in_an_outage_stands_in_the_gaps() {
    let f =
        story(Digits::Tenths, if cfg!(debug_assertions) { 120 } else { 900 }, 1 << 20, None, Duration::from_secs(600))
            .await;
    show("small quota", &f);
    assert!(f.dropped > 0);
    assert_eq!(f.dropped, f.gaps);
    assert_eq!(f.dropped + f.kept, if cfg!(debug_assertions) { 120 } else { 900 } * RATE);
}

#[tokio::test]
#[ignore = "a day of readings: minutes, gigabytes, and meaningful in release only"]
async fn a_day() {
    // Less for a machine or a build that is slow.
    let day: u64 = std::env::var("OUTAGE_SECONDS").map_or(86_400, |text| text.parse().unwrap());
    let paced = story(Digits::All, day, 1 << 30, Some(1_000_000), Duration::from_secs(600)).await;
    show("1 GiB, 1 MB/s, ten minutes of it", &paced);
    assert_eq!((paced.dropped, paced.dropped + paced.kept), (paced.gaps, day * RATE));
    let whole = story(Digits::All, day, 7 << 30, None, Duration::from_secs(day)).await;
    show("7 GiB, no bound", &whole);
    assert_eq!((whole.dropped, whole.gaps), (0, 0));
    let tenths = story(Digits::Tenths, day / 24, 1 << 30, Some(1_000_000), Duration::from_secs(600)).await;
    show("an hour in tenths, 1 MB/s, ten minutes of it", &tenths);
    assert_eq!((tenths.dropped, tenths.gaps), (0, 0));
}
