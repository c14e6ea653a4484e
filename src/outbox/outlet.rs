//! The ends of the outbox that others hold, and what they share with the store thread.

use super::gap::Reason;
use super::group::Job;
use super::keeper::Question;
use super::salvage::Quarantine;
use super::status::Status;
use super::tail::Tail;
use super::wishes::bit;
use crate::model::{Batch, Inlet, Outlet, Parcel, Pulse, SetAside, Timestamp};
use crate::telemetry::Counters;
use driver::Answer;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Listings asked for at a time; more are refused.
const QUESTIONS: usize = 16;

/// The tail under its lock, and who is woken when it changes. The lock is never held across disk access.
pub(super) struct Shared {
    tail: Mutex<Tail>,
    keeper: Condvar,
    bells: Vec<Bells>,
    disk: Mutex<Disk>,
    questions: Mutex<Vec<Question>>,
    pub(super) counters: Arc<Counters>,
    /// As in a power cut: the store thread ends where it stands.
    pub(super) abandoned: AtomicBool,
    /// By when the store thread means to get on.
    pub(super) pulse: Arc<Pulse>,
}

#[derive(Default)]
struct Bells {
    live: Notify,
    backlog: Notify,
    /// When something was last acknowledged, milliseconds since 1970; 0: never.
    acknowledged_at: AtomicI64,
}

#[derive(Default)]
struct Disk {
    bytes: u64,
    oldest: Option<Timestamp>,
    trouble: Option<String>,
    quarantine: Option<Quarantine>,
    episodes: HashMap<Reason, Instant>,
}

impl Shared {
    pub(super) fn new(
        tail: Tail,
        destinations: usize,
        quarantine: Option<Quarantine>,
        counters: Arc<Counters>,
    ) -> Shared {
        Shared {
            tail: Mutex::new(tail),
            keeper: Condvar::new(),
            bells: (0..destinations).map(|_| Bells::default()).collect(),
            disk: Mutex::new(Disk { quarantine, ..Disk::default() }),
            questions: Mutex::new(Vec::new()),
            counters,
            abandoned: AtomicBool::new(false),
            pulse: Arc::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().expect("nothing panics under the tail's lock")
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("nothing panics under the disk's lock")
    }

    /// Changes the tail, and wakes the store thread if it sleeps for too long now.
    fn change<T>(&self, change: impl FnOnce(&mut Tail, Instant) -> T) -> T {
        let now = Instant::now();
        let mut tail = self.lock();
        let result = change(&mut tail, now);
        let wake = tail.should_wake(now);
        drop(tail);
        if wake {
            self.keeper.notify_one();
        }
        result
    }

    /// Waits for work. `None` when the outbox was abandoned.
    pub(super) fn next_job(&self) -> Option<Job> {
        let mut tail = self.lock();
        loop {
            if self.abandoned.load(Ordering::Relaxed) {
                return None;
            }
            let now = Instant::now();
            // What is at work since now is late from now on: nobody knows how long a disk takes.
            self.pulse.back_by(now);
            if self.has_questions() {
                return Some(Job::Wait(now));
            }
            match tail.next_job(now) {
                Job::Wait(until) => {
                    let wait = until.saturating_duration_since(now);
                    self.pulse.back_by(until);
                    tail = self.keeper.wait_timeout(tail, wait).expect("nothing panics under the tail's lock").0;
                }
                job => return Some(job),
            }
        }
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.keeper.notify_one();
    }

    pub(super) fn abandon(&self) {
        let tail = self.lock();
        self.abandoned.store(true, Ordering::Relaxed);
        drop(tail);
        self.keeper.notify_one();
    }

    pub(super) fn wake_destinations(&self) {
        for bells in &self.bells {
            bells.live.notify_one();
            bells.backlog.notify_one();
        }
    }

    pub(super) fn wake_backlog(&self, destination: usize) {
        self.bells[destination].backlog.notify_one();
    }

    pub(super) fn saw_disk(&self, bytes: u64, oldest: Option<Timestamp>) {
        let mut disk = self.disk();
        (disk.bytes, disk.oldest) = (bytes, oldest);
        self.counters.outbox_bytes.set(bytes);
    }

    /// True when that is news.
    pub(super) fn set_trouble(&self, trouble: Option<String>) -> bool {
        let before = std::mem::replace(&mut self.disk().trouble, trouble);
        before.is_some() != self.disk().trouble.is_some()
    }

    pub(super) fn set_quarantine(&self, quarantine: Quarantine) {
        self.disk().quarantine = Some(quarantine);
    }

    /// Drops for this reason have not been spoken of for a while.
    pub(super) fn is_new_episode(&self, reason: Reason, quiet: Duration) -> bool {
        let before = self.disk().episodes.insert(reason, Instant::now());
        before.is_none_or(|before| before.elapsed() > quiet)
    }

    /// False when too many wait already.
    pub(super) fn ask(&self, question: Question) -> bool {
        let tail = self.lock();
        let mut questions = self.questions.lock().expect("nothing panics under this lock");
        let room = questions.len() < QUESTIONS;
        if room {
            questions.push(question);
        }
        drop((questions, tail));
        self.keeper.notify_one();
        room
    }

    fn has_questions(&self) -> bool {
        !self.questions.lock().expect("nothing panics under this lock").is_empty()
    }

    pub(super) fn take_questions(&self) -> Vec<Question> {
        std::mem::take(&mut *self.questions.lock().expect("nothing panics under this lock"))
    }

    pub(super) fn status(&self) -> Status {
        let tail = self.lock();
        let in_memory = tail.readings_in_memory();
        let (oldest_in_memory, mut destinations, waiting) =
            (tail.oldest_in_memory(), tail.destination_status(), tail.waiting);
        for (destination, bells) in destinations.iter_mut().zip(&self.bells) {
            destination.last_acknowledged = Some(bells.acknowledged_at.load(Ordering::Relaxed)).filter(|at| *at > 0);
        }
        let set_aside_lost = tail.set_aside_lost;
        drop(tail);
        let disk = self.disk();
        let on_disk = waiting.saturating_sub(in_memory);
        let oldest = [oldest_in_memory, disk.oldest.filter(|_| on_disk > 0)].into_iter().flatten().min();
        Status {
            readings_in_memory: in_memory,
            readings_on_disk: on_disk,
            bytes_on_disk: disk.bytes,
            oldest_waiting: oldest.map(|t| t.0),
            destinations,
            dropped: self.counters.dropped.get(),
            set_aside: self.counters.set_aside.get(),
            set_aside_lost,
            trouble: disk.trouble.clone(),
            quarantine: disk.quarantine.clone(),
        }
    }
}

/// Where readings go in.
pub(super) struct In(pub(super) Arc<Shared>);

impl Inlet for In {
    fn append(&self, batch: Batch) {
        let result = self.0.change(|tail, now| tail.append(batch, now));
        let wanted_by = result.unwrap_or(0);
        for (_, bells) in self.0.bells.iter().enumerate().filter(|(i, _)| wanted_by & bit(*i) != 0) {
            bells.live.notify_one();
        }
        if let Err(reason) = result
            && self.0.is_new_episode(reason, Duration::from_secs(60))
        {
            tracing::error!(reason = reason.as_str(), "outbox drops readings; the gap will be recorded");
        }
    }
}

/// One destination's end.
pub(super) struct Out {
    pub(super) shared: Arc<Shared>,
    pub(super) destination: usize,
}

impl Outlet for Out {
    fn live(&self, max_bytes: usize) -> Answer<'_, Vec<Parcel>> {
        Box::pin(async move {
            loop {
                let parcels = self.shared.change(|tail, _| tail.take_live(self.destination, max_bytes));
                if !parcels.is_empty() {
                    return parcels;
                }
                self.shared.bells[self.destination].live.notified().await;
            }
        })
    }

    fn backlog(&self, max_bytes: usize) -> Answer<'_, Vec<Parcel>> {
        Box::pin(async move {
            loop {
                let parcels = self.shared.change(|tail, _| tail.take_backlog(self.destination, max_bytes));
                if !parcels.is_empty() {
                    return parcels;
                }
                self.shared.bells[self.destination].backlog.notified().await;
            }
        })
    }

    fn in_order(&self, max_bytes: usize) -> Answer<'_, Vec<Parcel>> {
        let bells = &self.shared.bells[self.destination];
        Box::pin(async move {
            loop {
                let parcels = self.shared.change(|tail, _| tail.take_in_order(self.destination, max_bytes));
                if !parcels.is_empty() {
                    return parcels;
                }
                tokio::select! {
                    () = bells.backlog.notified() => {}
                    () = bells.live.notified() => {}
                }
            }
        })
    }

    fn acknowledge(&self, seqs: &[u64]) {
        self.shared.change(|tail, now| tail.acknowledge(self.destination, seqs, now));
        self.shared.bells[self.destination].acknowledged_at.store(Timestamp::now().0, Ordering::Relaxed);
    }

    fn set_aside(&self, refused: SetAside) {
        self.shared.change(|tail, now| tail.set_aside(self.destination, &refused, now));
    }

    fn hold(&self, refused: SetAside) {
        self.shared.change(|tail, _| tail.hold(self.destination, &refused));
    }

    fn release(&self, product_key: &str, device_key: &str) -> bool {
        let keys = (product_key.to_owned(), device_key.to_owned());
        self.shared.change(|tail, _| tail.want_release(self.destination, keys))
    }

    fn held(&self) -> Vec<(String, String)> {
        self.shared.lock().held_devices(self.destination)
    }

    fn link(&self, up: bool) {
        self.shared.change(|tail, now| tail.link(self.destination, up, now));
        self.shared.bells[self.destination].live.notify_one();
        self.shared.bells[self.destination].backlog.notify_one();
    }
}
