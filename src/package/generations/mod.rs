//! Packages this gateway has run, on disk: each a file that never changes, and one pointer that is replaced as a whole.
//!
//! ```text
//! STATE/packages/generations/7.package   the archive, as it came or built from a folder
//! STATE/packages/current                 which one runs, and what is known of each
//! STATE/packages/history                 what happened, a JSON line an event
//! ```
//! Whatever step a power cut hits, the next start finds a whole package: the old one or the new one.

mod back;
mod content;
mod history;
mod judge;
mod lock;
mod ready;
mod record;
mod room;
#[cfg(test)]
mod tests;
mod watch;

pub use content::content_of;
pub use history::Event;
pub use judge::{Judge, Look, Share, Verdict};
pub use ready::{READY, tell_not_ready, tell_ready};
pub use record::{Facts, Record};
pub use room::{limits, limits_for_new};
pub use watch::{Noted, Watch};

use super::guards::{self, Before};
use super::places::Places;
use super::source::{Limits, Source};
use super::{build, manifest};
use crate::diagnostic::{Diagnostic, Place, Severity, joined};
use crate::model::Site;
use crate::model::progress::{Progress, Unit};
use crate::store::{Disk, RealDisk};
use content::content;
use lock::Lock;
use room::limits_of;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The folder of `state_dir`.
pub const FOLDER: &str = "packages";
/// Generations kept beside the one that runs.
const KEPT: usize = 2;
/// Contents remembered as taken back.
const REJECTED: usize = 32;

/// The packages of one gateway.
pub struct Generations {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    record: Record,
    /// How far the package is that arrives.
    progress: Progress,
    /// `None` in tests with a disk of their own.
    _lock: Option<Lock>,
}

/// A package that has arrived and is no generation yet.
#[derive(Debug)]
pub struct Staged {
    facts: Facts,
    path: PathBuf,
}

impl Staged {
    /// What is to be checked: the very bytes that will run.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// How a package may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Somebody insists: guards are off. It must still be sound.
    pub force: bool,
    /// The configuration names it, so its version may be older.
    pub explicit: bool,
}

fn fault(path: &Path, problem: String) -> Vec<Diagnostic> {
    vec![Diagnostic::error(Place::new(&path.display().to_string().into(), 0, 0), problem)]
}

impl Generations {
    /// Finds what is there and removes what a power cut left over.
    ///
    /// # Errors
    /// When the disk does not work.
    pub fn open(disk: Arc<dyn Disk>, state_dir: &Path) -> io::Result<Generations> {
        let folder = state_dir.join(FOLDER);
        disk.make_folder(&folder)?;
        disk.make_folder(&folder.join("generations"))?;
        let record = match Record::read(&*disk, &folder) {
            Ok(record) => record.unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "the list of generations is made anew from what lies there");
                recovered(&*disk, &folder.join("generations"))?
            }
        };
        let mut all = Generations { disk, folder, record, progress: Progress::default(), _lock: None };
        for name in all.disk.names(&all.folder.join("generations"))? {
            let number = name.strip_suffix(".package").and_then(|number| number.parse().ok());
            match number.filter(|number| all.record.facts(*number).is_some()) {
                Some(_) => {}
                None => {
                    // A folder that somebody made there keeps nobody from booting.
                    if let Err(error) = all.disk.remove(&all.folder.join("generations").join(&name)) {
                        tracing::warn!(%error, name, "what lies among the generations and is none can not be removed");
                    }
                }
            }
            all.record.last = all.record.last.max(number.unwrap_or_default());
        }
        Ok(all)
    }

    /// As [`Generations::open`] on the machine's own disk, for as long as nobody else has them open.
    ///
    /// # Errors
    /// When the disk does not work, or another program changes them.
    pub fn open_alone(state_dir: &Path) -> io::Result<Generations> {
        let folder = state_dir.join(FOLDER);
        RealDisk
            .make_folder(&folder)
            .map_err(|error| io::Error::new(error.kind(), format!("make the folder {}: {error}", folder.display())))?;
        let lock = Lock::take(&folder)?;
        Ok(Generations { _lock: Some(lock), ..Generations::open(Arc::new(RealDisk), state_dir)? })
    }

    /// The next package that arrives tells this how far it is.
    pub fn report_to(&mut self, progress: &Progress) {
        self.progress = progress.clone();
    }

    /// Only looks: what a gateway that may be running remembers, and the file of the package it runs.
    ///
    /// # Errors
    /// When there is none, or this user may not read it.
    pub fn look(disk: &dyn Disk, state_dir: &Path) -> io::Result<(Record, PathBuf)> {
        let folder = state_dir.join(FOLDER);
        let record = Record::read(disk, &folder)?.filter(|record| record.current != 0);
        let record = record.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no package was installed yet"))?;
        let path = folder.join("generations").join(format!("{}.package", record.current));
        Ok((record, path))
    }

    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    #[must_use]
    pub fn current(&self) -> Option<&Facts> {
        self.record.facts(self.record.current)
    }

    /// The file of a generation.
    #[must_use]
    pub fn path(&self, generation: u64) -> PathBuf {
        self.folder.join("generations").join(format!("{generation}.package"))
    }

    /// What a start may try, the one that should run first. Damaged ones are left out.
    #[must_use]
    pub fn usable(&self) -> Vec<Facts> {
        let others = self.record.generations.iter().rev().filter(|facts| facts.generation != self.record.current);
        let whole = |facts: &&Facts| {
            let digest = self.disk.digest(&self.path(facts.generation));
            let whole = digest.as_ref().is_ok_and(|digest| *digest == facts.sha256);
            if !whole {
                tracing::error!(generation = facts.generation, ?digest, "a generation on disk is damaged");
            }
            whole
        };
        self.current().into_iter().chain(others).filter(whole).cloned().collect()
    }

    /// Takes a package over, so that what is checked is what will run.
    ///
    /// # Errors
    /// What keeps it from being a package, or the disk from taking it.
    pub fn stage(&mut self, from: &Path, shown: &str, at: i64) -> Result<Staged, Vec<Diagnostic>> {
        let limits = Limits { progress: self.progress.clone(), ..limits_of(&self.folder) };
        let source = Source::open(from, &limits)?;
        self.progress.step("taking over", 0, Unit::Bytes);
        let (manifest, faults) = manifest::read(&source);
        let broken = faults.iter().any(|fault| fault.severity == Severity::Error);
        let Some(manifest) = manifest.filter(|_| !broken) else { return Err(faults) };
        let content = content(&source)?;
        let generation = self.record.last + 1;
        let path = self.folder.join("generations").join(format!("{generation}.part"));
        let built = self.folder.join("incoming.tar.zst");
        let bytes = if source.is_archive() {
            from.to_owned()
        } else {
            build::build(from, &built, &limits)?;
            built.clone()
        };
        let told = |e: io::Error| -> Vec<Diagnostic> {
            let faults = fault(from, format!("can not be taken over: {e}"));
            faults.into_iter().map(Diagnostic::of_machine).collect()
        };
        let copied = self.room(&bytes).and_then(|()| {
            self.disk.copy(&bytes, &path)?;
            self.disk.sync(&path)?;
            self.disk.digest(&path)
        });
        if !source.is_archive() {
            // Best effort: the next one replaces it.
            let _ = std::fs::remove_file(&built);
        }
        let facts = Facts {
            generation,
            name: manifest.name,
            version: manifest.version.to_string(),
            org: manifest.org,
            sha256: copied.map_err(told)?,
            content,
            from: shown.to_owned(),
            at,
        };
        Ok(Staged { facts, path })
    }

    fn room(&self, file: &Path) -> io::Result<()> {
        let needed = std::fs::metadata(file)?.len() + Limits::RESERVE;
        // A folder that is not there (in a test's memory) has all the room.
        let Ok(space) = rustix::fs::statvfs(&self.folder) else { return Ok(()) };
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free >= needed {
            return Ok(());
        }
        let problem =
            format!("{needed} bytes are needed on the disk of {}, and {free} are free", self.folder.display());
        Err(io::Error::new(io::ErrorKind::StorageFull, problem))
    }

    /// Whether a sound package may come after what ran before.
    ///
    /// # Errors
    /// Each guard that refuses it.
    pub fn admit(
        &self,
        staged: &Staged,
        site: &Site,
        old: Option<&Site>,
        how: Admission,
    ) -> Result<(), Vec<Diagnostic>> {
        if how.force {
            return Ok(());
        }
        let (before, named) = (self.before_it(&staged.facts.content, old), staged.facts.named());
        let refused = |places: &Places| guards::refuse(&before, named, site, how.explicit, places);
        if refused(&Places::default()).is_empty() {
            return Ok(());
        }
        // Only now: the lines of a sound package are nobody's business.
        let source = Source::open(&staged.path, &limits_of(&self.folder))?;
        Err(refused(&super::places_of(&source)))
    }

    /// What guards hold a package of this content against.
    #[must_use]
    pub fn before_it<'a>(&'a self, content: &str, site: Option<&'a Site>) -> Before<'a> {
        Before {
            running: self.current().map(Facts::named),
            site,
            types: &self.record.types,
            taken_back: self.record.rejected.iter().any(|rejected| rejected == content),
        }
    }

    /// What its manifest alone tells against a package, before anybody reads all of it.
    ///
    /// # Errors
    /// Each guard that refuses it.
    pub fn admit_by_name(&self, staged: &Staged, how: Admission) -> Result<(), Vec<Diagnostic>> {
        let before = self.before_it(&staged.facts.content, None);
        let refused = if how.force { Vec::new() } else { guards::by_name(&before, staged.facts.named(), how.explicit) };
        if refused.is_empty() { Ok(()) } else { Err(refused) }
    }

    /// Makes it the generation that runs, judged as `watch` says if another ran before. When this returns well it is, also
    /// after a power cut.
    ///
    /// # Errors
    /// When the disk does not take it; the old one is still current then.
    pub fn publish(&mut self, staged: Staged, site: &Site, watch: Option<Watch>) -> io::Result<Facts> {
        let Staged { mut facts, path } = staged;
        // A package that names no OU is one of the OU that was named before: there is only one.
        facts.org = facts.org.or_else(|| self.current()?.org.clone());
        let kept = self.folder.join("generations");
        self.disk.rename(&path, &self.path(facts.generation))?;
        self.disk.sync_folder(&kept)?;
        let mut record = self.record.clone();
        record.last = facts.generation;
        record.current = facts.generation;
        let again = self.current().is_some_and(|current| current.content == facts.content);
        // The same once more is judged as it was: by what ran before both.
        if !again {
            // What comes under watch and is replaced has not proved itself: nobody goes back to it.
            record.unproven.extend(record.watch.as_ref().map(|_| self.record.current));
            record.watch = watch.filter(|_| self.current().is_some()).map(|watch| watch.noted(site));
        }
        record.rejected.retain(|content| *content != facts.content);
        // What ran last is the one to go back to; what was gone back from comes first, and goes first. Equal content is kept
        // once, or installing the same three times would leave nothing to go back to.
        let ran = record.generations.iter().position(|one| one.generation == self.record.current);
        record.generations.rotate_left(ran.map_or(0, |ran| ran + 1));
        record.generations.retain(|one| one.content != facts.content);
        record.generations.push(facts.clone());
        guards::learn(&mut record.types, site);
        record.prune(KEPT);
        record.write(&*self.disk, &self.folder)?;
        self.record = record;
        self.note("installed", &facts, facts.from.clone());
        self.prune();
        Ok(facts)
    }

    /// It did not pass: nothing of it stays but a line of the history.
    pub fn discard(&mut self, staged: &Staged, faults: &[Diagnostic]) {
        // Best effort: a start removes what is left over.
        let _ = self.disk.remove(&staged.path);
        let first = faults.iter().find(|fault| fault.severity == Severity::Error).or(faults.first());
        let why = first.map(|fault| joined(std::slice::from_ref(fault))).unwrap_or_default();
        let facts = Facts { generation: 0, ..staged.facts.clone() };
        self.note("refused", &facts, why);
    }

    /// Remembers what `package:` of the configuration held, so that only a change of it counts.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn seeded(&mut self, content: &str) -> io::Result<()> {
        let record = Record { seed: Some(content.to_owned()), ..self.record.clone() };
        record.write(&*self.disk, &self.folder)?;
        self.record = record;
        Ok(())
    }

    /// Adds a line to the history. A disk that does not take it stops nobody.
    pub fn note(&self, event: &str, facts: &Facts, why: String) {
        let event = Event {
            at: crate::model::Timestamp::now().0,
            event: event.to_owned(),
            generation: facts.generation,
            name: facts.name.clone(),
            version: facts.version.clone(),
            why,
        };
        if let Err(error) = history::add(&*self.disk, &self.folder, &event) {
            tracing::warn!(%error, "the history of packages takes no line");
        }
    }

    #[must_use]
    pub fn history(&self) -> Vec<Event> {
        history::read(&*self.disk, &self.folder)
    }

    fn prune(&self) {
        let Ok(names) = self.disk.names(&self.folder.join("generations")) else { return };
        for name in names {
            let number = name.strip_suffix(".package").and_then(|number| number.parse().ok());
            if number.is_some_and(|number| self.record.facts(number).is_none()) {
                // Best effort: the next start tries again.
                let _ = self.disk.remove(&self.folder.join("generations").join(&name));
            }
        }
    }
}

/// The generation that would run and its file, without touching anything. `None` when there was never any.
///
/// # Errors
/// When the list can not be read.
pub fn current(disk: &dyn Disk, state_dir: &Path) -> io::Result<Option<(Facts, PathBuf)>> {
    let folder = state_dir.join(FOLDER);
    let record = Record::read(disk, &folder)?.unwrap_or_default();
    let path = folder.join("generations").join(format!("{}.package", record.current));
    Ok(record.facts(record.current).cloned().map(|facts| (facts, path)))
}

/// The history, the newest last, without touching anything.
#[must_use]
pub fn events(disk: &dyn Disk, state_dir: &Path) -> Vec<Event> {
    history::read(disk, &state_dir.join(FOLDER))
}

/// Both lists are damaged: the files themselves tell which generations there are.
fn recovered(disk: &dyn Disk, folder: &Path) -> io::Result<Record> {
    let mut record = Record::default();
    for name in disk.names(folder)? {
        let Some(generation) = name.strip_suffix(".package").and_then(|number| number.parse().ok()) else { continue };
        record.generations.push(Facts {
            generation,
            name: "recovered".to_owned(),
            version: "0.0.0".to_owned(),
            org: None,
            sha256: disk.digest(&folder.join(&name))?,
            content: String::new(),
            from: "recovered".to_owned(),
            at: 0,
        });
    }
    record.generations.sort_by_key(|facts| facts.generation);
    record.current = record.generations.last().map_or(0, |facts| facts.generation);
    record.last = record.current;
    Ok(record)
}
