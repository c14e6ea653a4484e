//! Puts an engine into a slot, makes it the next one on trial, and takes it back: every step on disk before the next, and
//! each may be done again after a power cut.

use super::alone::Alone;
use super::clear;
use super::trial::Baseline;
use super::{Folder, How, Outcome, PROGRAM, Place, Record, Slot, Started, Trial};
use crate::model::Timestamp;
use crate::store::{self, Disk};
use crate::update::manifest::{FILE, SIGNATURE};
use crate::update::{Manifest, Staged};
use std::io;
use std::sync::Arc;

/// Field of a trial's record that the judge reads.
const BASELINE: &str = "baseline";

/// The slots, as the engine that runs sees them.
pub struct Slots {
    disk: Arc<dyn Disk>,
    folder: Folder,
    started: Started,
}

/// What a trial is held to.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub window_ms: u64,
    pub ready_ms: u64,
    pub floor_bytes: u64,
}

/// How a job stands, read from the pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was never activated.
    Unknown,
    /// Activated; it runs, or the next start makes it run.
    OnTrial,
    Proven,
    Back(String),
}

impl Slots {
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, folder: Folder, started: Started) -> Slots {
        Slots { disk, folder, started }
    }

    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    #[must_use]
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// What the pointer says; that of a packaged engine alone when there is none.
    ///
    /// # Errors
    /// When it is damaged, or the disk does not tell.
    pub fn record(&self) -> io::Result<Record> {
        let record = Record::read(&*self.disk, &self.folder)?;
        Ok(record.unwrap_or_else(|| Record { packaged: self.packaged(), ..Record::default() }))
    }

    fn packaged(&self) -> String {
        self.started.packaged.clone().unwrap_or_default()
    }

    /// Where the next engine goes: not where one runs, not where the pointer points, rather not what was before.
    #[must_use]
    pub fn target(&self, record: &Record) -> Slot {
        let free = |slot: &Slot| ![self.started.place, record.current].contains(&Place::from(*slot));
        let rather = Slot::ALL.into_iter().filter(free).find(|slot| Place::from(*slot) != record.previous);
        // Two places can be taken, by what runs and what the pointer says; then what runs stays.
        rather
            .or_else(|| Slot::ALL.into_iter().find(free))
            .unwrap_or_else(|| self.started.place.slot().map_or(Slot::A, Slot::other))
    }

    /// Copies the engine into a slot and reads it back. The pointer says nothing of the slot until it is whole.
    ///
    /// # Errors
    /// When the disk does not take it, or gives back something else.
    pub fn install(&self, update: &Staged) -> io::Result<()> {
        let slot = {
            let _alone = Alone::with(&self.folder);
            Record::clear(&self.folder);
            let mut record = self.record()?;
            if state(&record, update) != State::Unknown {
                return Ok(());
            }
            let slot = self.target(&record);
            self.forget(&mut record, slot)?;
            slot
        };
        let (disk, path) = (&*self.disk, self.folder.slot(slot));
        let temporary = path.join("enos-edge.tmp");
        disk.make_folder(self.folder.path())?;
        clear::slot(&path)?;
        disk.make_folder(&path)?;
        disk.copy(&update.payload, &temporary)?;
        disk.make_executable(&temporary)?;
        disk.sync(&temporary)?;
        disk.rename(&temporary, &path.join(PROGRAM))?;
        for name in [FILE, SIGNATURE] {
            let bytes = store::read(disk, &update.proof.join(name))?;
            let bytes = bytes.ok_or_else(|| io::Error::other(format!("{name} of the update is gone")))?;
            store::replace(disk, &path, name, &bytes)?;
        }
        disk.sync_folder(&path)?;
        if disk.digest(&path.join(PROGRAM))? != update.manifest.payload_sha256 {
            return Err(io::Error::other("the disk gave back another engine than was written"));
        }
        // Only what is whole has a name in the pointer.
        let _alone = Alone::with(&self.folder);
        let mut record = self.record()?;
        record.slots.insert(slot, facts(&update.manifest));
        record.write(disk, &self.folder)
    }

    /// Nothing points to a slot that is written to.
    fn forget(&self, record: &mut Record, slot: Slot) -> io::Result<()> {
        let named = record.previous == Place::from(slot) || record.slots.contains_key(&slot);
        if record.previous == Place::from(slot) {
            record.previous = Place::Packaged;
        }
        record.slots.remove(&slot);
        if named { record.write(&*self.disk, &self.folder) } else { Ok(()) }
    }

    /// Makes the installed engine the next one, on trial. The way back is on disk before the way forth.
    ///
    /// # Errors
    /// When it is not installed, or the disk does not take it.
    pub fn activate(&self, update: &Staged, terms: Terms, baseline: Option<&Baseline>) -> io::Result<()> {
        let _alone = Alone::with(&self.folder);
        let record = self.record()?;
        if state(&record, update) != State::Unknown {
            return Ok(());
        }
        let slot = Slot::ALL
            .into_iter()
            .find(|slot| Place::from(*slot) != self.started.place && holds(&record, *slot, &update.manifest));
        let slot = slot.ok_or_else(|| io::Error::other("the engine is in no slot"))?;
        let (disk, version) = (&*self.disk, update.manifest.version.to_string());
        let trial = Trial {
            job: update.id.clone(),
            version: version.clone(),
            window_ms: terms.window_ms,
            ready_ms: terms.ready_ms,
            floor_bytes: terms.floor_bytes,
            failed: None,
            more: baseline
                .map(|b| Ok((BASELINE.to_owned(), serde_json::to_value(b)?)))
                .into_iter()
                .collect::<io::Result<_>>()?,
        };
        let running = self.started.place;
        let back = Record {
            current: running,
            previous: Place::Packaged,
            packaged: self.packaged(),
            trial: None,
            last: Some(outcome(&update.id, &version, How::RolledBack, "it did not pass its trial")),
            ..record.clone()
        };
        back.write_back(disk, &self.folder)?;
        let next =
            Record { current: slot.into(), previous: running, packaged: self.packaged(), trial: Some(trial), ..record };
        next.write(disk, &self.folder)
    }

    /// # Errors
    /// When the pointer can not be read.
    pub fn state(&self, update: &Staged) -> io::Result<State> {
        Ok(state(&self.record()?, update))
    }

    /// The engine on trial has proven itself. Harmless when it was said before.
    ///
    /// # Errors
    /// When the disk does not take it: it is on trial still.
    pub fn confirm(&self, why: &str) -> io::Result<()> {
        let _alone = Alone::with(&self.folder);
        let mut record = self.record()?;
        let Some(trial) = record.trial.take() else { return Ok(()) };
        record.last = Some(outcome(&trial.job, &trial.version, How::Proven, why));
        record.write(&*self.disk, &self.folder)
    }

    /// Says that the engine on trial must go: the launcher ends it and starts what was before.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn fail(&self, why: &str) -> io::Result<()> {
        let _alone = Alone::with(&self.folder);
        self.failed(why)
    }

    fn failed(&self, why: &str) -> io::Result<()> {
        let mut record = self.record()?;
        let Some(trial) = &mut record.trial else { return Ok(()) };
        trial.failed = Some(why.to_owned());
        record.write(&*self.disk, &self.folder)
    }

    /// Takes a job back, on trial or after it. True when the engine has to start again for it.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn take_back(&self, update: &Staged, why: &str) -> io::Result<bool> {
        let _alone = Alone::with(&self.folder);
        let record = self.record()?;
        let on_trial = record.trial.as_ref().is_some_and(|trial| trial.job == update.id);
        if on_trial && self.started.place == record.current {
            self.failed(why)?;
            return Ok(true);
        }
        let is_current = record.current.slot().is_some_and(|slot| holds(&record, slot, &update.manifest));
        if !on_trial && !is_current {
            return Ok(false);
        }
        let version = update.manifest.version.to_string();
        let to = if self.started.place == record.current { record.previous } else { self.started.place };
        let last = Some(outcome(&update.id, &version, How::RolledBack, why));
        let next =
            Record { current: to, previous: Place::Packaged, packaged: self.packaged(), trial: None, last, ..record };
        next.write(&*self.disk, &self.folder)?;
        Ok(to != self.started.place)
    }

    /// A person chooses. On trial is nothing then.
    ///
    /// # Errors
    /// When the slot is empty, or the disk does not take it.
    pub fn choose(&self, place: Place, packaged: &str) -> io::Result<Record> {
        let _alone = Alone::with(&self.folder);
        let record = self.record()?;
        if place.slot().is_some_and(|slot| !record.slots.contains_key(&slot)) {
            return Err(io::Error::other(format!("slot {place} holds no engine")));
        }
        let version = match place {
            Place::Packaged => packaged.to_owned(),
            slot => record.version_of(slot).unwrap_or_default().to_owned(),
        };
        let last = Some(outcome("", &version, How::Chosen, "a person chose it"));
        let previous = if record.current == place { record.previous } else { record.current };
        let next = Record { current: place, previous, packaged: packaged.to_owned(), trial: None, last, ..record };
        next.write(&*self.disk, &self.folder)?;
        Ok(next)
    }

    /// The cloud knows how the last change ended.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn told(&self) -> io::Result<()> {
        let _alone = Alone::with(&self.folder);
        let mut record = self.record()?;
        match &mut record.last {
            Some(last) if !last.told => last.told = true,
            _ => return Ok(()),
        }
        record.write(&*self.disk, &self.folder)
    }
}

/// What the engine before left to compare with.
#[must_use]
pub fn baseline(trial: &Trial) -> Option<Baseline> {
    serde_json::from_value(trial.more.get(BASELINE)?.clone()).ok()
}

fn facts(manifest: &Manifest) -> super::Facts {
    super::Facts {
        version: manifest.version.to_string(),
        sha256: manifest.payload_sha256.clone(),
        at: Timestamp::now().0,
        more: serde_json::Map::new(),
    }
}

/// Whether a slot holds this very engine.
fn holds(record: &Record, slot: Slot, manifest: &Manifest) -> bool {
    record.slots.get(&slot).is_some_and(|facts| facts.sha256 == manifest.payload_sha256)
}

fn state(record: &Record, update: &Staged) -> State {
    if record.trial.as_ref().is_some_and(|trial| trial.job == update.id) {
        return State::OnTrial;
    }
    match record.last.as_ref().filter(|last| last.job == update.id) {
        Some(last) if last.how == How::Proven => State::Proven,
        Some(last) => State::Back(last.why.clone()),
        None => State::Unknown,
    }
}

fn outcome(job: &str, version: &str, how: How, why: &str) -> Outcome {
    let (job, version, why) = (job.to_owned(), version.to_owned(), why.to_owned());
    Outcome { job, version, how, why, at: Timestamp::now().0, told: false, more: serde_json::Map::new() }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
