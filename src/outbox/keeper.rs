//! The store thread: the only one that touches the disk. It asks the tail what to do and does it.

mod room;
mod trouble;

use super::destination::Read;
use super::gap::{Gap, Reason, SetAsideRow};
use super::group::{Group, Job};
use super::held::{Held, HeldFacts, Keys};
use super::lock::Lock;
use super::outlet::Shared;
use super::quota::Quota;
use super::segment::{self, Numbered};
use super::settings::DestinationSettings;
use super::space::Space;
use super::store::{Store, StoreError};
use super::wishes::Judge;
use crate::model::OnDuty;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Segments dropped for one transaction.
const DROPS: usize = 64;
/// After a failed read.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    pub(super) space: Space,
    pub(super) max_age: Duration,
    pub(super) destinations: Vec<DestinationSettings>,
    pub(super) judge: Judge,
    pub(super) quotas: Vec<Quota>,
    /// Held as long as the connection; `None` until there is room for it.
    pub(super) lock: Option<Lock>,
    /// The file was not there at the start, and joins: its numbers are below this.
    pub(super) begun_without: Option<u64>,
    pub(super) told: Option<Instant>,
    /// For the watchdog.
    pub(super) duty: OnDuty,
    /// Dropped when the thread ends: whoever closes waits for that.
    pub(super) _alive: SyncSender<()>,
}

impl Keeper {
    pub(super) fn run(mut self) {
        while let Some(job) = self.shared.next_job() {
            match job {
                Job::Commit { need } => self.commit(need),
                Job::Fetch { destination, generation, from, until } => self.fetch(destination, generation, from, until),
                Job::Release { destination, keys } => self.release(destination, &keys),
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
        if !self.write(group) {
            return;
        }
        if self.store.path().exists() {
            self.recovered()
        } else {
            self.gone()
        }
        self.look();
    }

    fn write(&mut self, group: Group) -> bool {
        let began = Instant::now();
        match self.store.commit(&group) {
            Ok(()) => {
                self.shared.lock().committed(&group, began.elapsed(), Instant::now());
                self.say_drops(&group.gaps);
                self.shared.wake_destinations();
                true
            }
            Err(e) => {
                self.quotas.iter_mut().for_each(Quota::forget);
                self.shared.lock().failed(group, Instant::now());
                // Backlog may wait for this commit; now it goes without.
                self.shared.wake_destinations();
                self.trouble(&e);
                false
            }
        }
    }

    fn fetch(&mut self, destination: usize, generation: u64, from: u64, until: u64) {
        match self.read(destination, from, until) {
            Ok((parcels, next)) => {
                self.shared.lock().fetched(destination, generation, parcels, next);
                self.shared.wake_backlog(destination);
            }
            Err(e) => {
                self.shared.lock().fetch_failed(destination, generation);
                self.trouble(&e);
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// What a destination wants of the next segment it needs, and where the next read begins.
    fn read(&mut self, destination: usize, from: u64, until: u64) -> Result<(Vec<Read>, u64), StoreError> {
        let Some(row) = self.store.segment_for(destination, from, until)? else { return Ok((Vec::new(), until)) };
        let (parcels, names) = (segment::decode(&row), self.store.names(row.epoch));
        let next = until.min(row.last + 1);
        match (parcels, names) {
            (Ok(parcels), Ok(names)) => {
                let (wishes, needed_by) = (self.judge.wishes(&names), self.needed_by(row.first)?);
                let read = |parcel: &segment::Numbered| {
                    let census = wishes.census(&parcel.batch).among(needed_by);
                    let batch = wishes.cut(&census, destination, &parcel.batch)?;
                    Some(Read { facts: census.facts(parcel.seq, destination), batch, names: names.clone() })
                };
                Ok((parcels.iter().filter_map(read).collect(), next))
            }
            (_, Err(e)) if !matches!(e, StoreError::Damaged(_)) => Err(e),
            _ => {
                tracing::error!(
                    first = row.first,
                    readings = row.readings,
                    "a stored segment is damaged; its readings are lost"
                );
                self.drop_damaged(&row, None);
                Ok((Vec::new(), next))
            }
        }
    }

    /// Rows of a device that is well become parcels again.
    fn release(&mut self, destination: usize, keys: &Keys) {
        let name = self.destinations[destination].name.clone();
        let rows = match self.store.held_of(&name, keys) {
            Ok(rows) => rows,
            Err(e) => return self.trouble(&e),
        };
        let mut found = false;
        for (id, segment) in rows {
            match (segment::decode(&segment), self.store.names(segment.epoch)) {
                (Ok(parcels), Ok(names)) => {
                    for Numbered { seq, batch } in parcels {
                        let row = Held { destination, keys: keys.clone(), seq, names: names.clone(), batch };
                        found |= self.shared.lock().put_back(id, row, Instant::now());
                    }
                }
                (Ok(_), Err(e)) if !matches!(e, StoreError::Damaged(_)) => return self.trouble(&e),
                _ => {
                    let (seq, readings, bytes) = (segment.first, segment.readings, 0);
                    let (oldest, newest) = (segment.oldest, segment.newest);
                    let facts = HeldFacts { id, destination, keys: keys.clone(), seq, readings, oldest, newest, bytes };
                    self.shared.lock().drop_held(&facts, Reason::Damaged, Instant::now());
                }
            }
        }
        if !found {
            self.shared.lock().nothing_found(destination, keys.clone());
        }
        self.shared.wake_destinations();
    }

    fn housekeep(&mut self) {
        let current = self.shared.lock().current_epochs();
        let drops = self.make_room(0);
        let more = drops.len() >= DROPS;
        if !drops.is_empty() {
            let mut group = self.shared.lock().take_group();
            group.drops = drops;
            if !self.write(group) {
                return;
            }
        }
        match self.store.forget_names(&current).and_then(|()| self.store.give_back()) {
            Ok(to_give) => self.shared.lock().housekeep_again(more || to_give, Instant::now()),
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

    fn answer_questions(&self) {
        for question in self.shared.take_questions() {
            match question {
                // Whoever asked may have given up: then there is nobody to tell.
                Question::Gaps(limit, to) => drop(to.send(self.store.gaps(limit))),
                Question::SetAside(limit, to) => drop(to.send(self.store.set_aside(limit))),
            }
        }
    }
}

/// A listing from the store.
pub(super) enum Question {
    Gaps(usize, SyncSender<Result<Vec<Gap>, StoreError>>),
    SetAside(usize, SyncSender<Result<Vec<SetAsideRow>, StoreError>>),
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
