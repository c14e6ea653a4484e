//! The one owner of what is written about commands: the window of ids and the audit, on a thread that may block.

use super::audit::Audit;
use super::digest::Digest;
use super::window::{Key, NotTaken, Seen, Window};
use crate::config::CommandConfig;
use crate::model::{Outcome, Timestamp};
use serde_json::{Map, Value as Json, json};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Jobs that wait for the disk. When full, whoever wants another one waits, within its time.
const WAITING: usize = 256;
/// A disk that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// A command that has an id.
#[derive(Clone, Debug)]
pub(super) struct Identified {
    pub key: Key,
    pub contents: Digest,
    /// Milliseconds since 1970, by the caller's clock.
    pub issued: Option<i64>,
}

impl Identified {
    pub(super) fn wish(&self) -> (Key, Digest) {
        (self.key, self.contents)
    }
}

pub(super) type Note = Map<String, Json>;

enum Job {
    Look(Identified, oneshot::Sender<Result<Seen, Refusal>>),
    Begin(Option<Identified>, Note, oneshot::Sender<Result<(), Refusal>>),
    End(Option<Identified>, Note, Outcome, bool, oneshot::Sender<Result<(), Refusal>>),
    Note(Note),
}

/// Why something was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("too many commands are remembered")]
    Full,
    #[error("{0}")]
    Disk(String),
}

impl From<NotTaken> for Refusal {
    fn from(why: NotTaken) -> Refusal {
        match why {
            NotTaken::Full => Refusal::Full,
            NotTaken::Disk(error) => error.into(),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Disk(error.to_string())
    }
}

/// The handle others hold; when the last is gone the thread ends.
#[derive(Clone)]
pub(super) struct Record {
    jobs: mpsc::Sender<Job>,
    /// Refusals that the audit did not take since the last one it took.
    missing: Arc<AtomicU64>,
}

pub(super) struct Books {
    window: Window,
    audit: Audit,
    clock: Clock,
}

/// Ages ids: goes on from where it was when the clock is set, in either direction, and forgets nothing for that.
struct Clock {
    base: i64,
    since: Instant,
}

impl Clock {
    fn now(&self) -> i64 {
        self.base.saturating_add(i64::try_from(self.since.elapsed().as_millis()).unwrap_or(i64::MAX))
    }
}

impl Books {
    /// Opens both below the state folder.
    pub(super) fn open(state_dir: &Path, config: &CommandConfig) -> io::Result<Books> {
        let [commands, audit] = ["commands", "audit"].map(|name| state_dir.join(name));
        for folder in [&commands, &audit] {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let now = Timestamp::now().0;
        let (window, damaged) = Window::open(&commands.join("window"), config, now)?;
        if damaged > 0 {
            tracing::warn!(damaged, "some remembered commands can not be read; they are not known any more");
        }
        let clock = Clock { base: now.max(window.last()), since: Instant::now() };
        Ok(Books { window, audit: Audit::open(&audit, config)?, clock })
    }

    fn begin(&mut self, identified: Option<&Identified>, note: Note) -> Result<(), Refusal> {
        self.audit.append(note, Timestamp::now().0, true)?;
        match identified {
            Some(identified) => Ok(self.window.begin(identified, self.clock.now())?),
            None => Ok(()),
        }
    }

    fn end(
        &mut self,
        identified: Option<&Identified>,
        note: Note,
        outcome: &Outcome,
        sync: bool,
    ) -> Result<(), Refusal> {
        let remembered = match identified {
            Some(identified) => self.window.end(identified, outcome, self.clock.now(), sync),
            None => Ok(()),
        };
        self.audit.append(note, Timestamp::now().0, sync)?;
        Ok(remembered?)
    }

    fn perform(&mut self, job: Job) {
        // Whoever asked may have lost patience.
        match job {
            Job::Look(identified, reply) => {
                let seen = self.window.look(&identified, self.clock.now()).map_err(Refusal::from);
                let _ = reply.send(seen);
            }
            Job::Begin(identified, note, reply) => {
                let _ = reply.send(self.begin(identified.as_ref(), note));
            }
            Job::End(identified, note, outcome, sync, reply) => {
                let _ = reply.send(self.end(identified.as_ref(), note, &outcome, sync));
            }
            Job::Note(note) => {
                if let Err(error) = self.audit.append(note, Timestamp::now().0, false) {
                    tracing::error!(%error, "a refused command is missing in the audit");
                }
            }
        }
    }
}

impl Record {
    /// Starts the thread.
    pub(super) fn start(mut books: Books) -> io::Result<Record> {
        // Full: whoever has another job waits, within its time.
        let (jobs, mut waiting) = mpsc::channel(WAITING);
        std::thread::Builder::new().name("commands".to_owned()).spawn(move || {
            while let Some(job) = waiting.blocking_recv() {
                books.perform(job);
            }
        })?;
        Ok(Record { jobs, missing: Arc::default() })
    }

    pub(super) async fn look(&self, identified: Identified) -> Result<Seen, Refusal> {
        self.ask(|reply| Job::Look(identified, reply)).await
    }

    /// On disk when this returns.
    pub(super) async fn begin(&self, identified: Option<Identified>, note: Note) -> Result<(), Refusal> {
        self.ask(|reply| Job::Begin(identified, note, reply)).await
    }

    pub(super) async fn end(
        &self,
        identified: Option<Identified>,
        note: Note,
        outcome: Outcome,
        sync: bool,
    ) -> Result<(), Refusal> {
        self.ask(|reply| Job::End(identified, note, outcome, sync, reply)).await
    }

    /// Best effort: there may be more refusals than the disk takes.
    pub(super) fn note(&self, mut note: Note) {
        let missing = self.missing.swap(0, Ordering::Relaxed);
        if missing > 0 {
            note.insert("missing_before".to_owned(), json!(missing));
        }
        if self.jobs.try_send(Job::Note(note)).is_err() {
            self.missing.fetch_add(missing + 1, Ordering::Relaxed);
            if missing == 0 {
                tracing::warn!("more commands are refused than the audit takes; some are missing there");
            }
        }
    }

    /// Best effort: the disk was in trouble a moment ago.
    pub(super) fn abandon(&self, identified: Option<Identified>, note: Note, outcome: Outcome) {
        let (reply, _nobody_waits) = oneshot::channel();
        let _ = self.jobs.try_send(Job::End(identified, note, outcome, false, reply));
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Job) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            let gone = || Refusal::Disk("the record of commands has ended".to_owned());
            self.jobs.send(job(reply)).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        let stuck = |_| Err(Refusal::Disk(format!("the disk did not answer within {PATIENCE:?}")));
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(stuck)
    }
}
