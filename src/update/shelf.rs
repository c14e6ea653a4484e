//! STATE/update: the job that is under way or was last, and how earlier ones ended. Each write is whole or not there.

use super::job::{Job, Origin, State};
use super::manifest::Manifest;
use crate::model::update::Offer;
use crate::store::{self, Disk};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Below the state folder.
pub const FOLDER: &str = "update";
const JOB: &str = "job.json";
const HISTORY: &str = "history.jsonl";
const VERSIONS: &str = "versions.json";
/// Older ends are forgotten.
const REMEMBERED: usize = 100;

/// How a job ended, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    pub id: String,
    pub begun: i64,
    pub ended: i64,
    /// `cloud` or the file's name.
    pub from: String,
    pub result: String,
    pub why: String,
    pub name: Option<String>,
    /// `engine`, or the firmware's target.
    pub target: Option<String>,
    pub version: Option<String>,
    pub replaced: Option<String>,
    /// The cloud's digest of the file.
    pub sign: Option<String>,
    /// The device it was offered to, as `productKey/deviceKey`; older engines did not write it down.
    #[serde(default)]
    pub device: Option<String>,
}

/// The folder.
#[derive(Clone)]
pub struct Shelf {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

impl Shelf {
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, state_dir: &Path) -> Shelf {
        Shelf { disk, folder: state_dir.join(FOLDER) }
    }

    /// Where files of jobs lie while they are under way.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// The job on disk. One that can not be understood is laid aside: no job is better than a gateway that does not start.
    ///
    /// # Errors
    /// When the disk does not give it.
    pub fn load(&self) -> io::Result<Option<Job>> {
        let Some(bytes) = store::read(&*self.disk, &self.folder.join(JOB))? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(job) => Ok(Some(job)),
            Err(error) => {
                tracing::error!(%error, "the update job on disk can not be read; it is laid aside as job.json.broken");
                self.disk.rename(&self.folder.join(JOB), &self.folder.join(format!("{JOB}.broken")))?;
                self.disk.sync_folder(&self.folder)?;
                Ok(None)
            }
        }
    }

    /// The same for somebody who only looks: nothing is laid aside.
    ///
    /// # Errors
    /// When the disk does not give it, or (`InvalidData`) it can not be understood.
    pub fn look(&self) -> io::Result<Option<Job>> {
        let bytes = store::read(&*self.disk, &self.folder.join(JOB))?;
        bytes
            .map(|bytes| serde_json::from_slice(&bytes))
            .transpose()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// # Errors
    /// When it is not on disk.
    pub fn save(&self, job: &Job) -> io::Result<()> {
        store::replace(&*self.disk, &self.folder, JOB, &serde_json::to_vec(job)?)
    }

    /// Writes down how a job ended, once.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn record(&self, job: &Job) -> io::Result<()> {
        let mut past = self.history()?;
        past.retain(|one| one.id != job.id);
        past.push(Past::of(job));
        let from = past.len().saturating_sub(REMEMBERED);
        let lines: Vec<String> = past[from..].iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        store::replace(&*self.disk, &self.folder, HISTORY, format!("{}\n", lines.join("\n")).as_bytes())
    }

    /// Whether the end of this job is in the history.
    ///
    /// # Errors
    /// When the disk does not tell.
    pub fn is_recorded(&self, job: &Job) -> io::Result<bool> {
        let now = Past::of(job);
        Ok(self.history()?.iter().any(|past| past.id == now.id && past.result == now.result))
    }

    /// The oldest first. Lines that can not be read are left out.
    ///
    /// # Errors
    /// When the disk does not give it.
    pub fn history(&self) -> io::Result<Vec<Past>> {
        let bytes = store::read(&*self.disk, &self.folder.join(HISTORY))?.unwrap_or_default();
        Ok(bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
    }

    /// Whether the last change of what `manifest` is for ended between two versions, and this is the newer one: it may
    /// run, and nobody confirmed it.
    ///
    /// # Errors
    /// When the disk does not give the history.
    pub fn is_half_done(&self, manifest: &Manifest) -> io::Result<bool> {
        let done = State::Done.word();
        let changes = |past: &&Past| {
            past.target.as_deref() == Some(manifest.kind.target())
                && [done, LATER, HALF_DONE].contains(&past.result.as_str())
        };
        let history = self.history()?;
        let last = history.iter().rev().find(changes);
        let version = manifest.version.to_string();
        Ok(last.is_some_and(|last| last.result == HALF_DONE && last.version.as_ref() == Some(&version)))
    }

    /// Versions of firmware that the cloud was told, by `productKey/deviceKey`.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub fn versions(&self) -> io::Result<Versions> {
        let bytes = store::read(&*self.disk, &self.folder.join(VERSIONS))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    /// # Errors
    /// When they are not on disk.
    pub fn save_versions(&self, versions: &Versions) -> io::Result<()> {
        store::replace(&*self.disk, &self.folder, VERSIONS, &serde_json::to_vec(versions)?)
    }

    /// Removes files of jobs that are not under way. Best effort: what stays is removed the next time.
    pub fn tidy_up(&self, keep: Option<&Job>) {
        let keep = keep.filter(|job| !job.state.is_end()).map(|job| format!("{}.", job.id));
        for name in self.disk.names(&self.work()).unwrap_or_default() {
            if keep.as_ref().is_none_or(|keep| !name.starts_with(keep.as_str())) {
                let path = self.work().join(name);
                for inner in self.disk.names(&path).unwrap_or_default() {
                    let _ = self.disk.remove(&path.join(inner));
                }
                let _ = self.disk.remove(&path).or_else(|_| std::fs::remove_dir(&path));
            }
        }
    }
}

/// Results of jobs that the state alone does not tell.
const LATER: &str = "rolled back later";
const HALF_DONE: &str = "half done";

/// Version by `productKey/deviceKey`.
pub type Versions = std::collections::BTreeMap<String, String>;

impl Past {
    /// What one meter took, the next one still needs.
    #[must_use]
    pub fn may_be_of(&self, offer: &Offer) -> bool {
        let whose = format!("{}/{}", offer.product_key, offer.device_key);
        self.device.as_ref().is_none_or(|device| *device == whose)
    }

    fn of(job: &Job) -> Past {
        let manifest =
            job.manifest.as_deref().and_then(|text| Manifest::parse(text).ok()).map(|(_, manifest)| manifest);
        let result = match &job.state {
            State::RolledBack { .. } if job.was_done => LATER,
            state if state.is_half_done() => HALF_DONE,
            state => state.word(),
        };
        Past {
            id: job.id.clone(),
            begun: job.begun,
            ended: job.changed,
            from: match &job.origin {
                Origin::Cloud(_) => "cloud".to_owned(),
                Origin::File(name) => name.clone(),
            },
            result: result.to_owned(),
            why: job.state.why().chars().take(1000).collect(),
            name: job.name.clone(),
            target: manifest.as_ref().map(|manifest| manifest.kind.target().to_owned()),
            version: manifest.map(|m| m.version.to_string()).or_else(|| job.offer().map(|o| o.version.clone())),
            replaced: job.from.clone(),
            sign: job.offer().map(|offer| offer.sign.clone()),
            device: job.offer().map(|offer| format!("{}/{}", offer.product_key, offer.device_key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::power_cut::{AFTERMATHS, CutDisk};
    use crate::update::job::tests::{good_events, job};

    /// All states of a good job, in order.
    fn states() -> Vec<Job> {
        let mut all = vec![job()];
        for event in good_events() {
            all.push(all[all.len() - 1].after(event, 5).unwrap());
        }
        all
    }

    fn walk(shelf: &Shelf) -> usize {
        for (at, job) in states().iter().enumerate() {
            if shelf.save(job).is_err() {
                return at;
            }
            if job.state.is_end() && shelf.record(job).is_err() {
                return at + 1;
            }
        }
        states().len()
    }

    #[test]
    fn a_power_cut_at_every_step_leaves_the_job_before_or_after_it() {
        let whole = Arc::new(CutDisk::default());
        let shelf = Shelf::new(Arc::clone(&whole) as _, Path::new("/state"));
        assert_eq!(walk(&shelf), states().len());
        let (steps, states) = (whole.steps(), states());
        assert!(steps > 60, "{steps}");
        let mut rounds = 0;
        for cut in 0..steps {
            for aftermath in AFTERMATHS {
                let disk = Arc::new(CutDisk::default());
                disk.cut_at(cut);
                let saved = walk(&Shelf::new(Arc::clone(&disk) as _, Path::new("/state")));
                let after = Arc::new(disk.after(aftermath));
                let shelf = Shelf::new(Arc::clone(&after) as _, Path::new("/state"));
                let found = shelf.load().unwrap();
                let at = found.as_ref().map(|found| states.iter().position(|job| job == found).expect("a whole job"));
                let right = match at {
                    None => saved == 0,
                    // The one whose write was cut, or the one before it.
                    Some(at) => at + 1 >= saved && at <= saved,
                };
                assert!(right, "cut at {cut} {aftermath:?}: job {at:?} of {saved}\n{:?}", disk.log());
                let history = shelf.history().unwrap();
                assert!(history.len() <= 1);
                // The end of a job is written down after a restart, too.
                if let Some(end) = found.filter(|job| job.state.is_end()) {
                    shelf.record(&end).unwrap();
                    assert_eq!(shelf.history().unwrap().len(), 1);
                }
                rounds += 1;
            }
        }
        assert!(rounds > 360, "{rounds}");
    }

    #[test]
    fn a_broken_job_is_laid_aside_and_the_history_stays_short() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Arc::new(crate::store::RealDisk), folder.path());
        for number in 0..120 {
            let done = Job { id: format!("{number}-a"), state: State::Done, ..job() };
            shelf.record(&done).unwrap();
            assert!(shelf.is_recorded(&done).unwrap());
        }
        let history = shelf.history().unwrap();
        assert_eq!((history.len(), history[0].id.as_str()), (100, "20-a"));
        std::fs::write(folder.path().join("update/job.json"), "{\"id\":").unwrap();
        assert_eq!(shelf.load().unwrap(), None);
        assert!(folder.path().join("update/job.json.broken").exists());
        assert_eq!(shelf.load().unwrap(), None);
    }

    #[test]
    fn only_files_of_the_job_that_is_under_way_stay() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Arc::new(crate::store::RealDisk), folder.path());
        std::fs::create_dir_all(shelf.work()).unwrap();
        for name in ["1-a.part", "1-a.payload", "1-ab.part", "2-b.part"] {
            std::fs::write(shelf.work().join(name), "x").unwrap();
        }
        shelf.tidy_up(Some(&job()));
        std::fs::create_dir(shelf.work().join("1-a.proof")).unwrap();
        std::fs::write(shelf.work().join("1-a.proof/update.sig"), "x").unwrap();
        shelf.tidy_up(Some(&job()));
        assert_eq!(std::fs::read_dir(shelf.work()).unwrap().count(), 3);
        shelf.tidy_up(Some(&Job { state: State::Done, ..job() }));
        assert_eq!(std::fs::read_dir(shelf.work()).unwrap().count(), 0);
    }
}
