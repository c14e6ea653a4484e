//! The store thread: the only one that touches the disk. It asks the tail what to do and does it.

use super::destination::Facts;
use super::gap::{Gap, Reason, SetAsideRow};
use super::group::Job;
use super::lock::Lock;
use super::outlet::Shared;
use super::salvage;
use super::segment::{self, Segment};
use super::store::{Space, Store, StoreError};
use crate::model::Timestamp;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Segments dropped for one transaction.
const DROPS: usize = 64;
/// After a failed read.
const PAUSE: Duration = Duration::from_millis(100);
/// A drop, a full disk: said once in this time.
const EPISODE: Duration = Duration::from_secs(60);

pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    pub(super) space: Space,
    pub(super) max_age: Duration,
    /// Held as long as the connection.
    pub(super) _lock: Lock,
    pub(super) told: Option<Instant>,
    /// Dropped when the thread ends: whoever closes waits for that.
    pub(super) _alive: SyncSender<()>,
}

impl Keeper {
    pub(super) fn run(mut self) {
        while let Some(job) = self.shared.next_job() {
            match job {
                Job::Commit { need } => self.commit(need),
                Job::Fetch { destination, generation, from, until } => self.fetch(destination, generation, from, until),
                Job::Housekeep => self.housekeep(),
                Job::Exit => break,
                Job::Wait(_) => {}
            }
            self.answer_questions();
        }
        if !self.shared.abandoned.load(Ordering::Relaxed) {
            self.tidy_up();
        }
        self.answer_questions();
    }

    /// On the way out: one slice of free space and the log. What is left over, the next run does.
    fn tidy_up(&mut self) {
        if let Err(e) = self.store.give_back().and_then(|_| self.store.checkpoint()) {
            tracing::warn!(error = %chain(&e), "outbox log is not written back; the next start does it");
        }
    }

    fn commit(&mut self, need: usize) {
        let drops = self.make_room(need as u64);
        let mut group = self.shared.lock().take_group();
        group.drops = drops;
        let began = Instant::now();
        match self.store.commit(&group) {
            Ok(()) => {
                self.shared.lock().committed(&group, began.elapsed(), Instant::now());
                self.say_drops(&group.gaps);
                if self.store.path().exists() {
                    self.recovered()
                } else {
                    self.gone()
                }
                self.look();
                self.shared.wake_destinations();
            }
            Err(e) => {
                self.shared.lock().failed(group, Instant::now());
                // Backlog may wait for this commit; now it goes without.
                self.shared.wake_destinations();
                self.trouble(&e);
            }
        }
    }

    /// Drops the oldest segments until the next transaction fits. The newest are never refused.
    fn make_room(&mut self, need: u64) -> Vec<u64> {
        let (mut drops, mut freed, mut from) = (Vec::new(), 0, 0);
        while drops.len() < DROPS {
            let Some(reason) = self.reason_to_drop(need, freed, from) else { break };
            let Ok(Some(segment)) = self.store.segment_at(from, u64::MAX) else { break };
            // Space of what nobody wants comes back by itself.
            freed += segment.body.len() as u64;
            from = segment.last + 1;
            self.drop_segment(&segment, reason);
            drops.push(segment.first);
        }
        drops
    }

    fn drop_segment(&self, segment: &Segment, reason: Reason) {
        let (mut tail, now) = (self.shared.lock(), Instant::now());
        match segment::decode(segment) {
            Ok(parcels) => {
                let facts: Vec<Facts> = parcels.iter().map(|p| Facts::of(p.seq, &p.batch)).collect();
                tail.drop_segment(&facts, reason, now);
            }
            Err(_) => tail.drop_damaged(segment, now),
        }
    }

    /// Why the first segment from there on must go, if so. A clock that stands before the readings was not set yet:
    /// it tells no age.
    fn reason_to_drop(&self, need: u64, freed: u64, from: u64) -> Option<Reason> {
        let too_old = |newest: Timestamp| {
            let age = Timestamp::now().0.saturating_sub(newest.0);
            u128::try_from(age).is_ok_and(|age| age > self.max_age.as_millis())
        };
        match self.store.shortage(need, freed) {
            Ok(Some(reason)) => Some(reason),
            Ok(None) => self.store.newest_of_segment(from).ok().flatten().filter(|t| too_old(*t)).map(|_| Reason::Age),
            Err(_) => None,
        }
    }

    fn fetch(&mut self, destination: usize, generation: u64, from: u64, until: u64) {
        match self.read(from, until) {
            Ok((parcels, names, next)) => {
                self.shared.lock().fetched(destination, generation, parcels, names.as_ref(), next);
                self.shared.wake_backlog(destination);
            }
            Err(e) => {
                self.shared.lock().fetch_failed(destination, generation);
                self.trouble(&e);
                std::thread::sleep(PAUSE);
            }
        }
    }

    #[expect(clippy::type_complexity, reason = "parcels, their names, and where the next read begins")]
    fn read(
        &mut self,
        from: u64,
        until: u64,
    ) -> Result<(Vec<segment::Numbered>, Option<Arc<crate::model::Names>>, u64), StoreError> {
        let Some(row) = self.store.segment_at(from, until)? else { return Ok((Vec::new(), None, until)) };
        let (parcels, names) = (segment::decode(&row), self.store.names(row.epoch));
        match (parcels, names) {
            (Ok(parcels), Ok(names)) => Ok((parcels, Some(names), until.min(row.last + 1))),
            (_, Err(e)) if !matches!(e, StoreError::Damaged(_)) => Err(e),
            _ => {
                tracing::error!(
                    first = row.first,
                    readings = row.readings,
                    "a stored segment is damaged; its readings are lost"
                );
                self.shared.lock().drop_damaged(&row, Instant::now());
                Ok((Vec::new(), None, until.min(row.last + 1)))
            }
        }
    }

    fn housekeep(&mut self) {
        let (need, current) = {
            let tail = self.shared.lock();
            (0, tail.current_epochs())
        };
        let drops = self.make_room(need);
        if !drops.is_empty() {
            let mut group = self.shared.lock().take_group();
            group.drops = drops;
            match self.store.commit(&group) {
                Ok(()) => {
                    self.shared.lock().committed(&group, PAUSE / 10, Instant::now());
                    self.shared.wake_destinations();
                    self.say_drops(&group.gaps);
                }
                Err(e) => {
                    self.shared.lock().failed(group, Instant::now());
                    self.shared.wake_destinations();
                    return self.trouble(&e);
                }
            }
        }
        match self.store.forget_names(&current).and_then(|()| self.store.give_back()) {
            Ok(more) => self.shared.lock().housekeep_again(more, Instant::now()),
            Err(e) => self.trouble(&e),
        }
        self.look();
    }

    /// What the status shows of the disk.
    fn look(&self) {
        let bytes = self.store.bytes();
        let oldest = self.store.oldest().ok().flatten();
        self.shared.saw_disk(bytes, oldest);
    }

    fn trouble(&mut self, e: &StoreError) {
        // What a connection that was let go answers tells nothing of the disk.
        let mut text = self.store.is_open().then(|| chain(e));
        if let Some(text) = &text
            && self.told.is_none_or(|told| told.elapsed() > EPISODE)
        {
            tracing::error!(error = %text, "outbox can not write; readings stay in memory until it can");
            self.told = Some(Instant::now());
        }
        match e {
            StoreError::Damaged(problem) => self.replace(problem.clone()),
            StoreError::Full(_) => {}
            // Also what a connection answers that could not be opened again last time.
            _ => match self.store.reopen() {
                Ok(()) => {}
                Err(StoreError::Damaged(problem)) => self.replace(problem),
                Err(e) => {
                    tracing::debug!(error = %chain(&e), "outbox can not be opened again yet");
                    text = Some(chain(&e));
                }
            },
        }
        if text.is_some() {
            self.shared.set_trouble(text);
        }
    }

    fn replace(&mut self, problem: String) {
        if let Err(e) = self.store.let_go() {
            return tracing::debug!(error = %chain(&e), "damaged outbox can not be let go yet");
        }
        match salvage::replace(self.store.path(), self.space, problem, Timestamp::now(), false) {
            Ok((store, quarantine)) => {
                tracing::error!(file = %quarantine.file.display(), problem = %quarantine.problem, segments = quarantine.segments_saved,
                    "outbox file was damaged and set aside; what could be read was carried over");
                self.store = store;
                self.shared.set_quarantine(quarantine);
                self.reconcile();
            }
            Err(e) => tracing::debug!(error = %chain(&e), "damaged outbox can not be replaced yet"),
        }
    }

    /// After rows were lost while running: what waits is what is on disk and in memory.
    fn reconcile(&self) {
        let done = self.shared.lock().done();
        match super::start::waiting(&self.store, &done.iter().collect::<Vec<_>>()) {
            Ok((each, all)) => self.shared.lock().reconcile(&each, all, Timestamp::now(), Instant::now()),
            Err(e) => tracing::debug!(error = %chain(&e), "carried-over outbox can not be read yet"),
        }
    }

    /// Somebody deleted the file under us. Writes go on into nothing: only a person can tell what that was for.
    fn gone(&mut self) {
        let file = self.store.path().display().to_string();
        if self.told.is_none_or(|told| told.elapsed() > EPISODE) {
            tracing::error!(file, "the outbox file was deleted; what waits is lost when the gateway stops");
            self.told = Some(Instant::now());
        }
        self.shared.set_trouble(Some(format!("{file} was deleted; what waits is lost when the gateway stops")));
    }

    fn recovered(&mut self) {
        if self.shared.set_trouble(None) {
            tracing::info!("outbox writes again");
            self.told = None;
        }
    }

    fn say_drops(&mut self, gaps: &[Gap]) {
        let Some(gap) = gaps.first() else { return };
        if self.shared.is_new_episode(gap.reason, EPISODE) {
            let readings: u64 = gaps.iter().map(|g| g.readings).sum();
            tracing::error!(reason = gap.reason.as_str(), destination = %gap.destination, readings, from = gap.from, to = gap.to,
                "outbox dropped its oldest readings; the gap is recorded");
        }
    }

    fn answer_questions(&self) {
        for question in self.shared.take_questions() {
            match question {
                // Whoever asked may have given up: then there is nobody to tell.
                Question::Gaps(to) => drop(to.send(self.store.gaps())),
                Question::SetAside(to) => drop(to.send(self.store.set_aside())),
            }
        }
    }
}

/// A listing from the store.
pub(super) enum Question {
    Gaps(SyncSender<Result<Vec<Gap>, StoreError>>),
    SetAside(SyncSender<Result<Vec<SetAsideRow>, StoreError>>),
}

/// An error with its causes, in one line.
pub(super) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
