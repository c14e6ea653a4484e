//! The launcher: reads the pointer, proves the engine it names, starts it, and goes back when a trial fails.

use super::alone::Alone;
use super::choice::{Choice, choose, one_more};
use super::starts::{self, Moment, Starts};
use super::supervise::{self, Ended, Eyes, Program, Signals, Standing};
use super::tried::Tried;
use super::watch::Limits;
use super::{Folder, How, Outcome, Place, Record, Slot, Trial};
use crate::model::Timestamp;
use crate::store::Disk;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Name of the socket on which an engine on trial says READY.
pub(super) const SOCKET: &str = "notify";
/// Running time of a trial is written down this often: so much may be forgotten in a power cut, of which there are few.
const NOTE: Duration = Duration::from_secs(10);

/// What the launcher works with.
pub struct Launcher<'a> {
    pub disk: &'a dyn Disk,
    pub folder: Folder,
    /// Version of this program, which is the packaged engine.
    pub packaged: &'a str,
    pub own: PathBuf,
    /// Of the engine: `run` and what follows.
    pub arguments: Vec<OsString>,
    /// Whether a slot holds an engine that may run, asked before each start. Why not.
    pub prove: &'a dyn Fn(Slot) -> Result<(), String>,
    /// Whether no engine is alive in the state folder; waits a while for one that is ending.
    pub quiet: &'a dyn Fn() -> bool,
}

/// What is to be done in this process.
#[derive(Debug)]
pub enum Go {
    /// Be the packaged engine.
    Packaged,
    /// Become the engine of a slot.
    Slot(Slot),
    /// The engine ended: somebody told it to stop, or its trial was over.
    Ended(ExitStatus),
    /// Somebody told the launcher to stop while no engine was alive.
    Stopped,
}

/// What a trial is watched with. Made once: a signal between two starts must not be lost.
struct Ground {
    runtime: tokio::runtime::Runtime,
    signals: Signals,
}

impl Ground {
    fn new() -> io::Result<Ground> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = {
            let _inside = runtime.enter();
            Signals::listen()?
        };
        Ok(Ground { runtime, signals })
    }

    fn was_told_to_stop(&mut self) -> bool {
        let next = self.signals.next();
        self.runtime.block_on(async { tokio::time::timeout(Duration::ZERO, next).await.is_ok() })
    }
}

impl Launcher<'_> {
    /// Decides, and carries a trial through if there is one.
    ///
    /// # Errors
    /// When another engine is alive in this state folder.
    pub fn go(&self) -> io::Result<Go> {
        let mut ground = None;
        let go = self.decide(&mut ground)?;
        let stopped = !matches!(go, Go::Ended(_)) && ground.as_mut().is_some_and(Ground::was_told_to_stop);
        Ok(if stopped { Go::Stopped } else { go })
    }

    fn decide(&self, ground: &mut Option<Ground>) -> io::Result<Go> {
        loop {
            if ground.as_mut().is_some_and(Ground::was_told_to_stop) {
                return Ok(Go::Stopped);
            }
            let Some(record) = self.record() else { return Ok(Go::Packaged) };
            match choose(&record, self.packaged) {
                Choice::Start(slots) => return Ok(self.first_sound(record, &slots)),
                Choice::Upgraded => {
                    self.upgraded(record);
                    return Ok(Go::Packaged);
                }
                Choice::Back(why) => {
                    if let Some(place) = self.back(&record, &why) {
                        return Ok(place);
                    }
                }
                Choice::Try(slot) => match self.trial(&record, slot, ground)? {
                    After::Again => {}
                    After::Ended(status) => return Ok(Go::Ended(status)),
                    After::Back(why) => {
                        if let Some(place) = self.back(&record, &why) {
                            return Ok(place);
                        }
                    }
                },
            }
        }
    }

    /// The pointer, or what a damaged one can be replaced by.
    fn record(&self) -> Option<Record> {
        let error = match Record::read(self.disk, &self.folder) {
            Ok(record) => return record,
            Err(error) => error,
        };
        tracing::error!(%error, "the pointer to the engine can not be read");
        let back = Record::read_back(self.disk, &self.folder).ok().flatten();
        if Record::is_damage(&error) {
            self.mend(back.is_some());
        }
        back
    }

    /// A damaged pointer would refuse every update and every choice for ever. It is looked at again by support.
    fn mend(&self, back: bool) {
        let _alone = Alone::with(&self.folder);
        Record::clear(&self.folder);
        // One rename either way: between two the power could go, and leave no pointer beside a good way back.
        let mended =
            if back { Record::go_back(self.disk, &self.folder) } else { Record::lay_aside(self.disk, &self.folder) };
        match mended {
            Ok(()) => {
                tracing::warn!(back, "the damaged pointer is replaced by the way back, or laid aside as pointer.broken")
            }
            Err(error) => tracing::warn!(%error, "the damaged pointer can not be moved; the next start tries again"),
        }
    }

    fn first_sound(&self, mut record: Record, slots: &[Slot]) -> Go {
        let mut doubts = Vec::new();
        let sound =
            slots.iter().copied().find(|slot| match (self.prove)(*slot).and_then(|()| self.count(&record, *slot)) {
                Ok(()) => true,
                Err(why) => {
                    tracing::error!(slot = slot.word(), why, "the engine of this slot is not started");
                    doubts.push(format!("slot {}: {why}", slot.word()));
                    false
                }
            });
        let place = sound.map_or(Place::Packaged, Place::from);
        if place != record.current {
            let outcome = outcome(&record, record.current, How::RolledBack, &doubts.join("; "));
            record = Record { current: place, previous: Place::Packaged, trial: None, last: Some(outcome), ..record };
            self.keep(&record);
            if sound.is_none() {
                // Whoever chooses it again gives it as many starts as any other.
                starts::forget(self.disk, &self.folder);
            }
        }
        sound.map_or(Go::Packaged, Go::Slot)
    }

    /// Counts the start of a confirmed engine. One that meets another engine says nothing of this one.
    fn count(&self, record: &Record, slot: Slot) -> Result<(), String> {
        let (Some(facts), Some(now)) = (record.slots.get(&slot), Moment::now()) else { return Ok(()) };
        let starts = Starts::read(self.disk, &self.folder, &facts.sha256, &now);
        let starts = starts.one_more(&facts.version, &now, std::process::id())?;
        if (self.quiet)()
            && let Err(error) = starts.write(self.disk, &self.folder)
        {
            // A disk that takes nothing must not keep an engine from starting.
            tracing::warn!(%error, "the start of the engine can not be counted");
        }
        Ok(())
    }

    fn upgraded(&self, record: Record) {
        let why = format!(
            "the operating system's package changed from {} to {}; its engine runs",
            record.packaged, self.packaged
        );
        tracing::warn!("{why}");
        let outcome = outcome(&record, record.current, How::Upgraded, &why);
        self.keep(&Record {
            current: Place::Packaged,
            previous: Place::Packaged,
            packaged: self.packaged.to_owned(),
            trial: None,
            last: Some(outcome),
            ..record
        });
    }

    /// Best effort: whoever reads the old record comes to the same end again.
    fn keep(&self, record: &Record) {
        if let Err(error) = record.write(self.disk, &self.folder) {
            tracing::error!(%error, "which engine runs can not be written down");
        }
    }

    fn trial(&self, record: &Record, slot: Slot, ground: &mut Option<Ground>) -> io::Result<After> {
        let Some(trial) = &record.trial else { return Ok(After::Again) };
        if let Err(why) = (self.prove)(slot) {
            return Ok(After::Back(format!("slot {}: {why}", slot.word())));
        }
        // Before a start is counted: one that only meets another engine says nothing of this one.
        if !(self.quiet)() {
            return Err(io::Error::other("another engine is alive in this state folder"));
        }
        let tried = match Tried::read(self.disk, &self.folder, trial) {
            Ok(tried) => tried,
            Err(error) => return Ok(After::Back(format!("what the trial used up is not known: {error}"))),
        };
        let tried = match one_more(trial, &tried) {
            Ok(tried) => tried,
            Err(why) => return Ok(After::Back(why)),
        };
        if let Err(error) = self.ready_for(&tried, slot) {
            return Ok(After::Back(format!("the start can not be counted: {error}")));
        }
        tracing::warn!(slot = slot.word(), version = %trial.version, start = tried.starts, "engine on trial");
        let ground = match ground {
            Some(ground) => ground,
            None => ground.insert(Ground::new()?),
        };
        Ok(self.run(trial, slot, tried, ground))
    }

    fn ready_for(&self, tried: &Tried, slot: Slot) -> io::Result<()> {
        tried.write(self.disk, &self.folder)?;
        self.disk.make_folder(&self.folder.scratch(slot))
    }

    fn run(&self, trial: &Trial, slot: Slot, tried: Tried, ground: &mut Ground) -> After {
        let program = Program {
            own: self.own.clone(),
            path: self.folder.program(slot),
            arguments: self.arguments.clone(),
            slot: slot.word(),
            packaged: self.packaged,
            scratch: self.folder.scratch(slot),
            socket: self.folder.path().join(SOCKET),
        };
        let window = Duration::from_millis(trial.window_ms);
        let ready = Duration::from_millis(trial.ready_ms);
        let limits = Limits {
            version: trial.version.clone(),
            ready,
            window: window.saturating_sub(tried.ran()),
            watchdog: sd_notify::watchdog_enabled(),
            floor_bytes: trial.floor_bytes,
        };
        supervise::tell(&[supervise::extend(ready * 2)]);
        let mut book = Book { launcher: self, trial, slot, before: tried.ran(), noted: tried.ran(), tried };
        let Ground { runtime, signals } = ground;
        let ended = runtime.block_on(supervise::supervise(&program, limits, &mut book, signals));
        book.after(ended)
    }

    /// Goes back to what ran before; answers where, when the pointer can not say it.
    fn back(&self, record: &Record, why: &str) -> Option<Go> {
        let version = record.trial.as_ref().map_or("", |trial| &trial.version);
        tracing::error!(version, why, "the engine on trial is taken back");
        if let Some(slot) = record.current.slot() {
            clean(&self.folder.scratch(slot));
        }
        let last = outcome(record, record.current, How::RolledBack, why);
        match self.take_back(record) {
            Ok(back) => {
                self.keep(&Record { last: Some(last), ..back });
                None
            }
            Err(error) => {
                tracing::error!(%error, "the pointer takes no way back; what ran before is started all the same");
                let before = record.previous.slot().filter(|slot| (self.prove)(*slot).is_ok());
                Some(before.map_or(Go::Packaged, Go::Slot))
            }
        }
    }

    fn take_back(&self, record: &Record) -> io::Result<Record> {
        let prepared = Record::read_back(self.disk, &self.folder);
        if matches!(&prepared, Ok(Some(back)) if back.trial.is_none() && back.current != record.current) {
            Record::go_back(self.disk, &self.folder)?;
        } else {
            // It was lost, or is of another change: it can still be made, if the disk takes it.
            Record { current: record.previous, previous: Place::Packaged, trial: None, ..record.clone() }
                .write(self.disk, &self.folder)?;
        }
        Record::read(self.disk, &self.folder)?.ok_or_else(|| io::Error::other("the pointer is gone"))
    }
}

fn outcome(record: &Record, place: Place, how: How, why: &str) -> Outcome {
    let trial = record.trial.clone().unwrap_or_default();
    let version = record.version_of(place).unwrap_or(&trial.version).to_owned();
    let at = Timestamp::now().0;
    Outcome { job: trial.job, version, how, why: why.to_owned(), at, told: false, more: serde_json::Map::new() }
}

/// Takes away what an engine left in its own folder for passing things.
fn clean(scratch: &Path) {
    match std::fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, folder = %scratch.display(), "can not be emptied");
        }
        _ => {}
    }
}

/// Cuts every file of a folder to nothing: that gives its room back even while somebody has it open.
fn cut_files(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // A link leads elsewhere. Best effort: what can not be cut stays until the engine has ended.
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => cut_files(&path),
            Ok(kind) if kind.is_file() => drop(std::fs::OpenOptions::new().write(true).truncate(true).open(&path)),
            _ => {}
        }
    }
}

enum After {
    Again,
    Back(String),
    Ended(ExitStatus),
}

/// Keeps count while the child lives.
struct Book<'a> {
    launcher: &'a Launcher<'a>,
    trial: &'a Trial,
    slot: Slot,
    before: Duration,
    noted: Duration,
    tried: Tried,
}

impl Book<'_> {
    fn after(mut self, ended: io::Result<Ended>) -> After {
        let standing = self.standing();
        match ended {
            Err(error) => After::Back(format!("engine {} can not be started: {error}", self.trial.version)),
            Ok(Ended::Asked(status)) => {
                if status.success() && standing == Standing::OnTrial {
                    // A stop in order is no try that failed.
                    self.tried.starts = self.tried.starts.saturating_sub(1);
                }
                self.note();
                After::Ended(status)
            }
            Ok(Ended::Itself(status)) if standing == Standing::Passed => After::Ended(status),
            // It proved itself in its last moment, or somebody chose another: the pointer says what is next.
            Ok(Ended::Put(_) | Ended::Itself(_)) if matches!(standing, Standing::Passed | Standing::Chosen) => {
                After::Again
            }
            Ok(Ended::Put(why)) => After::Back(why),
            Ok(Ended::Itself(status)) => self.crashed(status),
        }
    }

    fn crashed(&mut self, status: ExitStatus) -> After {
        self.tried.crashes += 1;
        self.note();
        let how = how(status);
        tracing::error!(version = %self.trial.version, start = self.tried.starts, how, "the engine on trial ended");
        match one_more(self.trial, &self.tried) {
            Ok(_) => After::Again,
            Err(why) => After::Back(format!("{why}, the last time with {how}")),
        }
    }

    fn note(&mut self) {
        if let Err(error) = self.tried.write(self.launcher.disk, &self.launcher.folder) {
            tracing::error!(%error, "what the trial used up can not be written down");
        }
        self.noted = self.tried.ran();
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

impl Eyes for Book<'_> {
    fn free(&self) -> Option<u64> {
        super::space::free(self.launcher.folder.path()).ok()
    }

    fn standing(&self) -> Standing {
        match Record::read(self.launcher.disk, &self.launcher.folder) {
            Ok(Some(record)) => match record.trial {
                None if record.current.slot() == Some(self.slot) => Standing::Passed,
                None => Standing::Chosen,
                Some(trial) => trial.failed.map_or(Standing::OnTrial, Standing::Failed),
            },
            // A disk that does not tell is no word of the engine; the limits hold.
            _ => Standing::OnTrial,
        }
    }

    fn make_room(&self) {
        cut_files(&self.launcher.folder.scratch(self.slot));
    }

    fn ran(&mut self, ran: Duration) {
        self.tried.ran_ms = u64::try_from((self.before + ran).as_millis()).unwrap_or(u64::MAX);
        if self.tried.ran().saturating_sub(self.noted) >= NOTE {
            self.note();
        }
    }
}

#[cfg(test)]
#[path = "launch_tests.rs"]
mod tests;
