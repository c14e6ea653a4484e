//! What the gateway tells the cloud of itself, until the cloud has it. A bounded queue: when it is full what was said in
//! passing goes first, then the oldest. What lasts is handed to whoever keeps it on disk.

use crate::model::{Notice, Notices};
use crate::telemetry::Counters;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// A gateway has little to tell; more than this is the same trouble again and again.
const MOST: usize = 64;
/// Of sub-devices: a storm of alarms is told as far as this.
const MOST_OF_DEVICES: usize = 1000;
/// Of one sub-device: a value that chatters costs the events of others nothing.
const MOST_OF_ONE: usize = 100;
/// A disk that takes longer is stuck, and nobody waits for it.
const DISK: Duration = Duration::from_secs(5);

/// Survives reconnects; written by any part, emptied by the link.
#[derive(Debug, Default)]
pub struct NoticeQueue {
    waiting: Mutex<Waiting>,
    news: Notify,
    changes: Notify,
    /// Somebody waits until they are on disk.
    hurry: Notify,
    /// The revision that is on disk.
    stored: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    notices: VecDeque<Told>,
    last: u64,
    dropped: u64,
    counters: Option<Arc<Counters>>,
    /// Counts changes of what lasts.
    revision: u64,
    /// Somebody keeps it on disk.
    kept: bool,
}

#[derive(Debug)]
struct Told {
    number: u64,
    notice: Notice,
    lasts: bool,
}

impl NoticeQueue {
    /// The oldest that may be told now, with the number it is acknowledged by.
    #[must_use]
    pub fn first(&self, may: impl Fn(&Notice) -> bool) -> Option<(u64, Notice)> {
        let waiting = self.lock();
        waiting.notices.iter().find(|told| may(&told.notice)).map(|told| (told.number, told.notice.clone()))
    }

    /// The cloud has it, or will never take it.
    pub fn done(&self, number: u64) {
        let mut waiting = self.lock();
        let before = waiting.notices.iter().filter(|told| told.lasts).count();
        waiting.notices.retain(|told| told.number != number);
        if waiting.notices.iter().filter(|told| told.lasts).count() != before {
            waiting.revision += 1;
            self.changes.notify_one();
        }
    }

    /// What is dropped from now on is counted there, too.
    pub fn count_in(&self, counters: &Arc<Counters>) {
        self.lock().counters = Some(Arc::clone(counters));
    }

    /// How many wait, and how many were dropped because too many waited.
    #[must_use]
    pub fn counts(&self) -> (usize, u64) {
        let waiting = self.lock();
        (waiting.notices.len(), waiting.dropped)
    }

    /// Resolves when there may be a new one. Cancel-safe.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What waited before a restart comes first. From now on somebody keeps what lasts on disk.
    pub fn restore(&self, notices: Vec<Notice>) {
        let mut waiting = self.lock();
        waiting.kept = true;
        for notice in notices.into_iter().rev() {
            waiting.last += 1;
            let told = Told { number: waiting.last, notice, lasts: true };
            waiting.notices.push_front(told);
        }
        waiting.shorten();
        drop(waiting);
        self.news.notify_one();
    }

    /// What has to be on disk, and the revision to tell [`NoticeQueue::stored`].
    #[must_use]
    pub fn lasting(&self) -> (u64, Vec<Notice>) {
        let waiting = self.lock();
        let lasting = waiting.notices.iter().filter(|told| told.lasts).map(|told| told.notice.clone());
        (waiting.revision, lasting.collect())
    }

    /// Resolves when [`NoticeQueue::lasting`] may have changed. Cancel-safe.
    pub async fn changes(&self) {
        self.changes.notified().await;
    }

    /// Resolves when a change has to go to disk at once: words of the gateway itself, or somebody waits. Cancel-safe.
    pub async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// That revision is on disk.
    pub fn stored(&self, revision: u64) {
        self.stored.send_replace(revision);
    }

    /// Returns when all that was told so far is on disk, or the disk is stuck, or nobody keeps it.
    pub async fn flush(&self) {
        let (revision, kept) = {
            let waiting = self.lock();
            (waiting.revision, waiting.kept)
        };
        if !kept {
            return;
        }
        let mut stored = self.stored.subscribe();
        self.hurry.notify_one();
        // A disk that is stuck is told by whoever writes to it.
        let _ = timeout(DISK, stored.wait_for(|stored| *stored >= revision)).await;
    }

    fn push(&self, notice: Notice, lasts: bool) {
        let mut waiting = self.lock();
        waiting.last += 1;
        let own = notice.device.is_none();
        if let Some(device) = &notice.device {
            waiting.make_room(device);
        }
        let told = Told { number: waiting.last, notice, lasts };
        let place = match lasts {
            true => None,
            false => waiting.notices.iter().position(|other| !other.lasts && same_kind(&other.notice, &told.notice)),
        };
        match place {
            Some(place) => waiting.notices[place] = told,
            None => waiting.notices.push_back(told),
        }
        waiting.shorten();
        if lasts {
            waiting.revision += 1;
        }
        drop(waiting);
        self.news.notify_one();
        if lasts {
            self.changes.notify_one();
        }
        if lasts && own {
            self.hurry.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is whole before the lock is given back.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// For one more of that sub-device.
    fn make_room(&mut self, device: &(String, String)) {
        let its = |told: &&Told| told.notice.device.as_ref() == Some(device);
        if self.notices.iter().filter(its).count() >= MOST_OF_ONE {
            let oldest = self.notices.iter().position(|told| its(&told));
            self.notices.remove(oldest.unwrap_or(0));
            self.dropped();
        }
    }

    /// Told at the first, and ever more rarely.
    fn dropped(&mut self) {
        self.dropped += 1;
        if let Some(counters) = &self.counters {
            counters.notices_dropped.add(1);
        }
        if self.dropped.is_power_of_two() {
            tracing::warn!(
                dropped = self.dropped,
                "more events wait for the cloud than there is room for; the oldest go"
            );
        }
    }

    fn shorten(&mut self) {
        let own = |told: &&Told| told.notice.device.is_none();
        for _ in MOST..self.notices.iter().filter(own).count() {
            let passing = self.notices.iter().position(|told| own(&told) && !told.lasts);
            let least = passing.or_else(|| self.notices.iter().position(|told| own(&told)));
            self.notices.remove(least.unwrap_or(0));
            self.dropped();
        }
        for _ in MOST_OF_DEVICES..self.notices.iter().filter(|told| !own(told)).count() {
            let oldest = self.notices.iter().position(|told| !own(&told));
            self.notices.remove(oldest.unwrap_or(0));
            self.dropped();
        }
    }
}

/// One publish, one word of progress.
fn same_kind(one: &Notice, other: &Notice) -> bool {
    one.event == other.event && one.fields.get("publish") == other.fields.get("publish")
}

impl Notices for NoticeQueue {
    fn tell(&self, notice: Notice) {
        self.push(notice, true);
    }

    fn tell_in_passing(&self, notice: Notice) {
        self.push(notice, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn notice(at: i64) -> Notice {
        Notice { event: "e".to_owned(), fields: serde_json::Map::new(), at: Timestamp(at), device: None }
    }

    fn times(queue: &NoticeQueue) -> Vec<i64> {
        let mut times = Vec::new();
        while let Some((number, notice)) = queue.first(|_| true) {
            times.push(notice.at.0);
            queue.done(number);
        }
        times
    }

    #[test]
    fn a_full_queue_lets_the_oldest_go_and_counts_it() {
        let queue = NoticeQueue::default();
        for at in 0..70 {
            queue.tell(notice(at));
        }
        assert_eq!(queue.counts(), (64, 6));
        let (number, first) = queue.first(|_| true).unwrap();
        assert_eq!(first.at, Timestamp(6));
        queue.done(number);
        queue.done(number);
        assert_eq!((queue.first(|_| true).unwrap().1.at, queue.counts().0), (Timestamp(7), 63));
    }

    #[test]
    fn progress_is_replaced_by_newer_progress_and_never_costs_a_result() {
        let queue = NoticeQueue::default();
        queue.tell(notice(1));
        for at in 2..100 {
            queue.tell_in_passing(notice(at));
        }
        queue.tell(notice(100));
        assert_eq!((queue.lasting().1.len(), queue.counts()), (2, (3, 0)));
        assert_eq!(times(&queue), [1, 99, 100]);
        queue.tell_in_passing(notice(0));
        (0..64).for_each(|at| queue.tell(notice(at)));
        assert_eq!((queue.counts(), queue.first(|_| true).unwrap().1.at), ((64, 1), Timestamp(0)), "the progress went");
    }

    #[test]
    fn a_storm_of_devices_costs_the_gateways_own_words_nothing_and_a_silent_device_holds_up_nobody() {
        let queue = NoticeQueue::default();
        queue.tell(notice(1));
        for at in 0..1100 {
            let device = Some(("pk".to_owned(), format!("d{at}")));
            queue.tell(Notice { device, ..notice(at) });
        }
        queue.tell(notice(2));
        assert_eq!(queue.counts(), (1002, 100));
        let (_, first) = queue.first(|one| one.device.as_ref().is_some_and(|(_, key)| key == "d700")).unwrap();
        assert_eq!(first.at, Timestamp(700));
        assert_eq!(queue.first(|one| one.device.is_none()).unwrap().1.at, Timestamp(1));
    }

    #[test]
    fn a_device_that_chatters_costs_the_events_of_others_nothing() {
        let queue = NoticeQueue::default();
        let of = |device: &str, at| Notice { device: Some(("pk".to_owned(), device.to_owned())), ..notice(at) };
        queue.tell(of("quiet", 1));
        (0..5000).for_each(|at| queue.tell(of("chatters", at)));
        assert_eq!(queue.counts(), (101, 4900));
        assert_eq!(queue.first(|_| true).unwrap().1.at, Timestamp(1));
        assert_eq!(queue.lasting().1.last().unwrap().at, Timestamp(4999), "the newest stay");
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_told_after_a_restart_before_anything_new() {
        let queue = NoticeQueue::default();
        queue.flush().await;
        queue.tell(notice(1));
        queue.tell_in_passing(notice(2));
        let (revision, lasting) = queue.lasting();
        assert_eq!((revision, lasting.len()), (1, 1));
        let next = NoticeQueue::default();
        next.tell(notice(5));
        next.restore(lasting);
        let begun = tokio::time::Instant::now();
        next.flush().await;
        assert_eq!(begun.elapsed(), DISK, "a stuck disk holds up nobody for long");
        next.stored(next.lasting().0);
        next.flush().await;
        assert_eq!(begun.elapsed(), DISK);
        assert_eq!(times(&next), [1, 5]);
    }
}
