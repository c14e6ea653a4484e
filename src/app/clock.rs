//! Readings from before the gateway's clock was set wait here, in memory, until their times can be mended: a gateway without a
//! battery begins in 1970, and what is stored in the cloud under a wrong time stays there.

use crate::model::clock::is_set;
use crate::model::{Batch, Inlet, Timestamp};
use crate::telemetry::Counters;
use serde_json::{Value as Json, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of encoded readings, more than a million of them. When full the oldest go, and are counted.
const MOST: usize = 8 << 20;
/// A time that comes so near after mending was taken by the clock that was set meanwhile.
const NEAR_MS: i64 = 60_000;
/// The log says so often that nobody has set the clock.
const TOLD: Duration = Duration::from_secs(3600);

/// Between those who read and everybody else.
pub(super) struct Clocked {
    next: Arc<dyn Inlet>,
    counters: Arc<Counters>,
    waiting: Mutex<Waiting>,
    now: fn() -> Timestamp,
    /// How long readings wait.
    patience: Duration,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<Held>,
    bytes: usize,
    /// By how much the clock was moved when it was set.
    moved: Option<i64>,
    /// Since when the clock is not set, as far as readings show.
    since: Option<Instant>,
    told: Option<Instant>,
    /// Readings waited long enough and go on as they are until the clock is set.
    given_up: bool,
}

struct Held {
    batch: Batch,
    wall: Timestamp,
    at: Instant,
}

impl Clocked {
    pub fn new(next: Arc<dyn Inlet>, counters: &Arc<Counters>, patience: Duration) -> Clocked {
        Clocked { next, counters: Arc::clone(counters), waiting: Mutex::default(), now: Timestamp::now, patience }
    }

    /// For `status`.
    pub fn status(&self) -> Json {
        let waiting = self.lock();
        let left = waiting.since.map(|since| self.patience.saturating_sub(since.elapsed()));
        json!({
            "set": is_set((self.now)()),
            "waiting": self.counters.untimed.get(),
            "lost": self.counters.untimed_lost.get(),
            "goes_on_in_s": left.filter(|_| !waiting.given_up).map(|left| left.as_secs()),
            "wrong_times": waiting.given_up,
        })
    }

    /// The gateway stops. What still has no time is lost, and said to be.
    pub fn stop(&self) {
        let mut waiting = self.lock();
        let lost: u64 = waiting.batches.drain(..).map(|held| u64::from(held.batch.count)).sum();
        waiting.bytes = 0;
        if lost > 0 {
            self.counters.untimed_lost.add(lost);
            tracing::error!(readings = lost, "the clock was never set; readings without a time are lost");
        }
        self.counters.untimed.set(0);
    }

    fn hold(&self, waiting: &mut Waiting, batch: Batch, wall: Timestamp) {
        let now = Instant::now();
        if waiting.told.is_none_or(|told| now - told >= TOLD) {
            waiting.told = Some(now);
            let (readings, lost) = (self.counters.untimed.get(), self.counters.untimed_lost.get());
            tracing::error!(
                readings,
                lost,
                "the clock is not set; readings wait in memory until it is, and are not sent: start a time service or \
                 name `clock: {{ wait_min: … }}`"
            );
        }
        waiting.bytes += batch.bytes.len();
        waiting.batches.push_back(Held { batch, wall, at: now });
        while waiting.bytes > MOST
            && let Some(oldest) = waiting.batches.pop_front()
        {
            waiting.bytes -= oldest.batch.bytes.len();
            self.counters.untimed_lost.add(u64::from(oldest.batch.count));
        }
        let readings = waiting.batches.iter().map(|held| u64::from(held.batch.count)).sum();
        self.counters.untimed.set(readings);
    }

    /// The clock has been set: what waited goes on, under the times it would have had.
    fn mend(&self, waiting: &mut Waiting, wall: Timestamp) {
        let Some(last) = waiting.batches.back() else { return };
        // The monotonic clock tells how long ago it was.
        let since = i64::try_from(last.at.elapsed().as_millis()).unwrap_or(i64::MAX);
        let moved = wall.0.saturating_sub(last.wall.0.saturating_add(since));
        waiting.moved = Some(moved);
        let readings = self.counters.untimed.get();
        tracing::info!(
            readings,
            moved_s = moved / 1000,
            "the clock is set; readings that waited go on with mended times"
        );
        self.counters.untimed.set(0);
        waiting.bytes = 0;
        for held in waiting.batches.drain(..) {
            self.pass(&held.batch, moved);
        }
    }

    /// Whether readings go on under the times of a clock that is not set. What waited goes first.
    fn gives_up(&self, waiting: &mut Waiting) -> bool {
        let since = *waiting.since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.patience {
            return false;
        }
        if !waiting.given_up {
            waiting.given_up = true;
            let readings = self.counters.untimed.get();
            tracing::error!(readings, waited = ?self.patience, "the clock is still not set; readings go on with wrong times");
        }
        self.counters.untimed.set(0);
        waiting.bytes = 0;
        for held in waiting.batches.drain(..) {
            self.next.append(held.batch);
        }
        true
    }

    fn pass(&self, batch: &Batch, moved: i64) {
        // Times of sources that know better are left alone.
        let mended = batch.retimed(|time| if is_set(time) { time } else { Timestamp(time.0.saturating_add(moved)) });
        match mended {
            Ok(Some(batch)) => self.next.append(batch),
            Ok(None) => {}
            Err(_) => self.next.append(batch.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Each change is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inlet for Clocked {
    fn append(&self, batch: Batch) {
        let wall = (self.now)();
        let mut waiting = self.lock();
        if !is_set(wall) {
            if is_set(batch.oldest) || self.gives_up(&mut waiting) {
                self.next.append(batch);
            } else {
                self.hold(&mut waiting, batch, wall);
            }
            return;
        }
        self.mend(&mut waiting, wall);
        (waiting.since, waiting.told, waiting.given_up) = (None, None, false);
        // Read a moment before the clock was set. Times of devices that are wrong by themselves are not ours to mend.
        let late = waiting.moved.filter(|moved| {
            !is_set(batch.oldest) && (batch.oldest.0.saturating_add(*moved)).abs_diff(wall.0) < NEAR_MS.unsigned_abs()
        });
        match late {
            Some(moved) => self.pass(&batch, moved),
            None => self.next.append(batch),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Value};
    use std::sync::atomic::{AtomicI64, Ordering};

    static WALL: AtomicI64 = AtomicI64::new(0);
    const SET: i64 = 1_800_000_000_000;

    #[derive(Default)]
    struct Kept(Mutex<Vec<Batch>>);

    impl Inlet for Kept {
        fn append(&self, batch: Batch) {
            self.0.lock().unwrap().push(batch);
        }
    }

    fn batch(times: &[i64]) -> Batch {
        let mut builder = BatchBuilder::default();
        for time in times {
            builder.begin(0, Timestamp(*time));
            builder.push(0, 0, &Value::Int(*time));
        }
        builder.finish(7).unwrap()
    }

    /// One test: the wall clock of all of them is one.
    #[tokio::test(start_paused = true)]
    async fn readings_of_1970_go_on_under_the_times_they_would_have_had() {
        let (kept, counters) = (Arc::<Kept>::default(), Arc::<Counters>::default());
        let now = || Timestamp(WALL.load(Ordering::Relaxed));
        let inlet = Clocked {
            now,
            ..Clocked::new(Arc::clone(&kept) as Arc<dyn Inlet>, &counters, Duration::from_secs(31_536_000))
        };
        WALL.store(1000, Ordering::Relaxed);
        inlet.append(batch(&[900, 1000]));
        tokio::time::advance(Duration::from_secs(10)).await;
        WALL.store(11_000, Ordering::Relaxed);
        inlet.append(batch(&[11_000, SET - 5]));
        inlet.append(batch(&[SET - 7]));
        assert_eq!(kept.0.lock().unwrap().len(), 1, "a source that knows its time waits for nobody");
        assert_eq!(counters.untimed.get(), 4);
        // Five seconds later somebody sets the clock; one batch was under way.
        tokio::time::advance(Duration::from_secs(5)).await;
        WALL.store(SET, Ordering::Relaxed);
        inlet.append(batch(&[15_990]));
        // A device whose clock stands in 2000 keeps its time.
        inlet.append(batch(&[946_684_800_000]));
        let got: Vec<Vec<i64>> = kept.0.lock().unwrap()[1..]
            .iter()
            .map(|batch| batch.blocks().map(|block| block.unwrap().time.0).collect())
            .collect();
        let expected: [&[i64]; 4] =
            [&[SET - 15_100, SET - 15_000], &[SET - 5000, SET - 5], &[SET - 10], &[946_684_800_000]];
        assert_eq!(got, expected);
        assert!(kept.0.lock().unwrap().iter().all(|batch| batch.epoch == 7));
        assert_eq!((counters.untimed.get(), counters.untimed_lost.get()), (0, 0));
        // A clock that is never set costs bounded memory, and nothing silently.
        WALL.store(1000, Ordering::Relaxed);
        let large = batch(&(0..200_000).collect::<Vec<_>>());
        (0..10).for_each(|_| inlet.append(large.clone()));
        assert!(inlet.lock().bytes <= MOST && counters.untimed_lost.get() > 0);
        inlet.stop();
        assert_eq!(counters.untimed_lost.get(), 2_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_plant_without_any_clock_goes_on_after_the_time_it_says_and_waits_again_once_it_was_set() {
        static CLOCK: AtomicI64 = AtomicI64::new(1000);
        let (kept, counters) = (Arc::<Kept>::default(), Arc::<Counters>::default());
        let patience = Duration::from_secs(600);
        let now = || Timestamp(CLOCK.load(Ordering::Relaxed));
        let inlet = Clocked { now, ..Clocked::new(Arc::clone(&kept) as Arc<dyn Inlet>, &counters, patience) };
        let count = || kept.0.lock().unwrap().len();
        inlet.append(batch(&[900]));
        tokio::time::advance(Duration::from_secs(599)).await;
        inlet.append(batch(&[1000]));
        assert_eq!((count(), &inlet.status()["goes_on_in_s"], &inlet.status()["set"]), (0, &json!(1), &json!(false)));
        tokio::time::advance(Duration::from_secs(1)).await;
        inlet.append(batch(&[1100]));
        inlet.append(batch(&[1200]));
        let times: Vec<i64> = kept.0.lock().unwrap().iter().map(|batch| batch.oldest.0).collect();
        assert_eq!((times, counters.untimed.get()), (vec![900, 1000, 1100, 1200], 0), "in their order, as they are");
        assert_eq!(inlet.status()["wrong_times"], true);
        // Set at last, and back in 1970 after a reset of the clock chip: both are another story.
        CLOCK.store(SET, Ordering::Relaxed);
        inlet.append(batch(&[SET]));
        assert_eq!((count(), &inlet.status()["wrong_times"]), (5, &json!(false)));
        CLOCK.store(5000, Ordering::Relaxed);
        inlet.append(batch(&[5000]));
        assert_eq!((count(), counters.untimed.get()), (5, 1));
        CLOCK.store(SET + 1000, Ordering::Relaxed);
        inlet.append(batch(&[SET + 1000]));
        assert_eq!(
            kept.0.lock().unwrap().iter().map(|batch| batch.oldest.0).collect::<Vec<_>>()[5..],
            [SET + 1000, SET + 1000]
        );
    }
}
