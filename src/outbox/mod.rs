//! Breakpoint resumption: every reading is acknowledged, on disk, or younger than the durability bound.
//!
//! ```text
//! append -> tail (memory) -> live  -> acknowledged: never touches the disk
//!              | older than the bound, in one transaction
//!              v
//!           store (SQLite)  -> backlog -> acknowledged
//! ```
//! `tail`, `work`, `destination` decide; `keeper` is the thread that acts, the only one that touches `store`.
//! What a crash may send twice: parcels handed out and not acknowledged, and parcels out of the store whose
//! acknowledgement is younger than the bound and among the last 256 KiB.

mod account;
mod destination;
mod file;
mod gap;
mod group;
mod held;
mod held_rows;
mod inspect;
mod keeper;
mod lock;
mod needs;
mod outlet;
mod quota;
mod ranges;
mod recount;
mod roomless;
mod rows;
mod salvage;
mod schema;
mod segment;
mod settings;
mod space;
mod start;
mod status;
mod store;
mod tail;
#[cfg(test)]
mod tail_tests;
mod wishes;
mod work;
mod writing;

pub use destination::Tally;
pub use gap::{Gap, Reason, SetAsideRow};
pub use inspect::{Inspection, Integrity, inspect};
pub use lock::is_held as in_use;
pub use salvage::Quarantine;
#[doc(hidden)]
pub use schema::be_the_next;
pub use settings::DestinationSettings;
pub use status::{DestinationStatus, Status};
#[doc(hidden)]
pub use store::need_the_next;

use crate::config::{Durability, OutboxConfig};
use crate::model::{Inlet, Names, OnDuty, Outlet, Pulse, Selection, Timestamp};
use crate::telemetry::Counters;
use keeper::{Keeper, Question};
use outlet::{In, Out, Shared};
use space::Space;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use store::{Store, StoreError};
use tail::{Limits, Loaded, Tail};
use wishes::Judge;

/// Below this there is no room for one transaction, its log and the tables.
const SMALLEST_QUOTA: u64 = 1 << 20;
const SMALLEST_MEMORY: usize = 256 << 10;
/// How long a listing may take.
const ANSWER_TIME: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    #[error("outbox {}: {problem}", path.display())]
    Open { path: PathBuf, problem: String },
    #[error("outbox {} is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("outbox still holds {readings} readings in memory that could not be stored in time")]
    NotStored { readings: u64 },
    #[error("outbox does not answer")]
    Silent,
    #[error("read outbox: {0}")]
    Read(String),
}

/// The outbox of a gateway. Dropping it stores what is in memory, as [`Outbox::close`] does, but tells nobody when it fails.
pub struct Outbox {
    shared: Arc<Shared>,
    names: Vec<String>,
    /// Taken by whoever ends it. Nothing is ever received: the thread's end is the message.
    thread: Mutex<Option<(JoinHandle<()>, mpsc::Receiver<()>)>>,
}

/// Opens the outbox in `folder`, making or mending what is needed.
///
/// # Errors
/// When another process has it, when a newer engine wrote it, or when the folder takes no files. A damaged file is no
/// error: it is set aside, and [`Status::quarantine`] tells. Nor is a full disk: [`Status::trouble`] tells, and the file is
/// opened when there is room.
pub fn open(
    folder: &Path,
    config: &OutboxConfig,
    destinations: &[DestinationSettings],
    names: Arc<Names>,
    counters: Arc<Counters>,
) -> Result<Outbox, OutboxError> {
    let path = folder.join("outbox.db");
    let failed = |e: StoreError| match e {
        StoreError::InUse => OutboxError::InUse { path: path.clone() },
        e => OutboxError::Open { path: path.clone(), problem: keeper::chain(&e) },
    };
    if destinations.len() > settings::MOST_DESTINATIONS {
        let problem = format!("{} destinations are more than {}", destinations.len(), settings::MOST_DESTINATIONS);
        return Err(OutboxError::Open { path, problem });
    }
    let taken = file::make_private_folder(folder).map_err(StoreError::from).and_then(|()| lock::Lock::take(folder));
    let (lock, unlocked) = match taken {
        Ok(lock) => (Some(lock), None),
        // The folder of packages is locked before: two gateways do not get here.
        Err(e) if e.is_no_room(&path) => (None, Some(e)),
        Err(e) => return Err(failed(e)),
    };
    let space = Space { quota: config.quota_bytes.max(SMALLEST_QUOTA), reserve: config.disk_reserve_bytes };
    let selections: Arc<[Selection]> = destinations.iter().map(|d| d.selection.clone()).collect();
    let mut judge = Judge::new(selections.clone());
    let opened = match unlocked {
        Some(e) => Err(e),
        None => open_or_replace(&path, space, destinations, &mut judge, &names),
    };
    let (store, loaded, quarantine, begun_without) = match opened {
        Ok((store, loaded, quarantine)) => (store, loaded, quarantine, None),
        Err(e) if e.is_no_room(&path) => {
            let (store, loaded) = roomless::begin(&path, space, destinations).map_err(failed)?;
            let first = loaded.next_seq;
            (store, Loaded { trouble: Some(roomless::told(&e)), ..loaded }, None, Some(first))
        }
        Err(e) => return Err(failed(e)),
    };
    let trouble = loaded.trouble.clone();
    counters.dropped.add(quarantine.as_ref().map_or(0, |q| q.readings_lost));

    let mut tail = Tail::new(limits(config, space), loaded, Judge::new(selections), counters.clone());
    tail.use_names(names);
    if trouble.is_some() {
        // Tried at once: it may have passed.
        tail.commit_soon(Instant::now());
    }
    let shared = Arc::new(Shared::new(tail, destinations.len(), quarantine, counters));
    shared.saw_disk(store.bytes(), store.oldest().ok().flatten());
    shared.set_trouble(trouble);
    // Nothing is ever sent: its end is the message.
    let (alive, ended) = mpsc::sync_channel(1);
    let keeper = Keeper {
        duty: OnDuty::new(&shared.pulse),
        shared: shared.clone(),
        store,
        space,
        max_age: config.max_age,
        destinations: destinations.to_vec(),
        judge,
        quotas: quota::of(destinations),
        lock,
        begun_without,
        told: None,
        _alive: alive,
    };
    let thread = std::thread::Builder::new().name("outbox".into()).spawn(move || keeper.run());
    let thread = thread.map_err(|e| OutboxError::Open { path: path.clone(), problem: e.to_string() })?;
    let thread = Mutex::new(Some((thread, ended)));
    Ok(Outbox { shared, names: destinations.iter().map(|d| d.name.clone()).collect(), thread })
}

/// Whether nobody has the outbox in this folder open.
#[must_use]
pub fn is_free(folder: &Path) -> bool {
    // Without a folder nobody ever had it.
    !folder.exists() || !matches!(lock::Lock::take(folder), Err(StoreError::InUse))
}

fn limits(config: &OutboxConfig, space: Space) -> Limits {
    let memory_bytes = config.memory_bytes.max(SMALLEST_MEMORY);
    let group_bytes = (memory_bytes / 4).min((space.quota / 16) as usize).min(2 << 20);
    Limits { bound: config.bound, strict: config.durability == Durability::Strict, memory_bytes, group_bytes }
}

fn open_or_replace(
    path: &Path,
    space: Space,
    destinations: &[DestinationSettings],
    judge: &mut Judge,
    names: &Arc<Names>,
) -> Result<(Store, Loaded, Option<Quarantine>), StoreError> {
    let opened = Store::open(path, space).and_then(|mut store| {
        let loaded = start::load(&mut store, destinations, judge)?;
        Ok((store, loaded, None))
    });
    match opened {
        Err(StoreError::Damaged(problem)) => {
            let (mut store, quarantine) = salvage::replace(path, space, problem, Timestamp::now(), true)?;
            tracing::error!(file = %quarantine.file.display(), problem = %quarantine.problem, segments = quarantine.segments_saved,
                lost = quarantine.readings_lost, "outbox file is damaged and was set aside; what could be read was carried over");
            // The damage may have taken the names, and without them no segment can be read.
            store.restore_names(std::slice::from_ref(names))?;
            let loaded = start::load(&mut store, destinations, judge)?;
            Ok((store, loaded, Some(quarantine)))
        }
        other => other,
    }
}

impl Outbox {
    /// Where readings go in.
    #[must_use]
    pub fn inlet(&self) -> Arc<dyn Inlet> {
        Arc::new(In(self.shared.clone()))
    }

    /// The end of a destination named when the outbox was opened.
    ///
    /// # Panics
    /// When it was not named.
    #[must_use]
    pub fn outlet(&self, destination: &str) -> Arc<dyn Outlet> {
        let index = self.names.iter().position(|name| name == destination);
        let destination = index.expect("destinations are named when the outbox is opened");
        Arc::new(Out { shared: self.shared.clone(), destination })
    }

    /// Readings of this epoch may be appended from now on.
    pub fn use_names(&self, names: Arc<Names>) {
        self.shared.lock().use_names(names);
    }

    /// What the watchdog looks at.
    #[must_use]
    pub fn pulse(&self) -> &Pulse {
        &self.shared.pulse
    }

    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// What was lost most recently, `limit` rows at most, the newest last. Blocks for a disk access.
    ///
    /// # Errors
    /// When the disk is stuck or fails.
    pub fn gaps(&self, limit: usize) -> Result<Vec<Gap>, OutboxError> {
        self.ask(|to| Question::Gaps(limit, to))
    }

    /// What was refused most recently, `limit` rows at most, the newest last. Blocks for a disk access.
    ///
    /// # Errors
    /// When the disk is stuck or fails.
    pub fn set_aside_rows(&self, limit: usize) -> Result<Vec<SetAsideRow>, OutboxError> {
        self.ask(|to| Question::SetAside(limit, to))
    }

    fn ask<T>(
        &self,
        question: impl FnOnce(mpsc::SyncSender<Result<T, StoreError>>) -> Question,
    ) -> Result<T, OutboxError> {
        // One answer, one place: the store thread never waits for who asks.
        let (to, answer) = mpsc::sync_channel(1);
        if !self.shared.ask(question(to)) {
            return Err(OutboxError::Silent);
        }
        let answer = answer.recv_timeout(ANSWER_TIME).map_err(|_| OutboxError::Silent)?;
        answer.map_err(|e| OutboxError::Read(keeper::chain(&e)))
    }

    /// Stores everything that is not acknowledged and ends the store thread. What is appended afterwards is dropped
    /// and counted. Blocks for at most `deadline`.
    ///
    /// # Errors
    /// When the disk did not take everything in time.
    pub fn close(&self, deadline: Duration) -> Result<(), OutboxError> {
        self.end(deadline)
    }

    fn take_thread(&self) -> Option<(JoinHandle<()>, mpsc::Receiver<()>)> {
        self.thread.lock().expect("nobody panics holding this").take()
    }

    fn end(&self, deadline: Duration) -> Result<(), OutboxError> {
        let Some((thread, ended)) = self.take_thread() else { return Ok(()) };
        self.shared.close();
        if ended.recv_timeout(deadline) == Err(mpsc::RecvTimeoutError::Timeout) {
            // The disk is stuck: the thread ends by itself when that call returns, or with the process.
            self.shared.abandon();
            return Err(OutboxError::NotStored { readings: self.shared.status().readings_in_memory });
        }
        thread.join().map_err(|_| OutboxError::Silent)
    }

    /// Ends like a power cut: nothing more is stored. For tests.
    #[doc(hidden)]
    pub fn abandon(self) {
        self.shared.abandon();
        if let Some((thread, _)) = self.take_thread() {
            thread.join().expect("the store thread does not panic");
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // Best effort: whoever wants to know calls close().
        let _ = self.end(Duration::from_secs(2));
    }
}
