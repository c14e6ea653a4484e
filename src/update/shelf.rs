//! STATE/update: the job that is under way or was last, and the versions that devices show. Each write is whole or not there.

mod history;

use super::job::Job;
use crate::store::{self, Disk};
pub use history::Past;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Below the state folder.
pub const FOLDER: &str = "update";
const JOB: &str = "job.json";
const VERSIONS: &str = "versions.json";
/// A hundred thousand devices with long keys.
const VERSIONS_BYTES: u64 = 16 << 20;

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
        match self.look() {
            Err(error) if is_garbage(&error) => {
                tracing::error!(%error, "the update job on disk can not be understood; it is laid aside as job.json.broken");
                self.lay_aside(JOB)?;
                Ok(None)
            }
            looked => looked,
        }
    }

    /// What keeps the job from being read, and what to do: whether one is under way is not known until then.
    #[must_use]
    pub fn unread(&self, error: &io::Error) -> (String, String) {
        let path = self.folder.join(JOB);
        let path = path.display();
        match error.kind() {
            ErrorKind::IsADirectory => {
                (format!("{path} is a folder, and should be a file"), format!("mv {path} {path}.aside"))
            }
            ErrorKind::PermissionDenied => {
                (format!("{path} can not be read: {error}"), "see the findings of rights".to_owned())
            }
            _ => (format!("{path} can not be read: {error}"), "see the findings of disk".to_owned()),
        }
    }

    fn lay_aside(&self, name: &str) -> io::Result<()> {
        self.disk.rename(&self.folder.join(name), &self.folder.join(broken(name)))?;
        self.disk.sync_folder(&self.folder)
    }

    /// Files that were laid aside, of this engine or an earlier one.
    #[must_use]
    pub fn laid_aside(&self) -> Vec<PathBuf> {
        let names = self.disk.names(&self.folder).unwrap_or_default();
        let mut found: Vec<PathBuf> =
            names.iter().filter(|name| name.ends_with(BROKEN)).map(|name| self.folder.join(name)).collect();
        found.sort();
        found
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

    /// Versions of firmware that the cloud was told, by `productKey/deviceKey`.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub fn versions(&self) -> io::Result<Versions> {
        match self.disk.read_list(&self.folder.join(VERSIONS), VERSIONS_BYTES) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Versions::default()),
            Err(error) => Err(error),
        }
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

/// Version by `productKey/deviceKey`.
pub type Versions = std::collections::BTreeMap<String, String>;

/// What is appended to the name of a file that can not be understood.
const BROKEN: &str = ".broken";

fn broken(name: &str) -> String {
    format!("{name}{BROKEN}")
}

/// None of this program's: it may be laid aside, and nothing is lost that it could use.
fn is_garbage(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::power_cut::{AFTERMATHS, CutDisk};
    use crate::update::job::State;
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
        std::fs::write(folder.path().join("update/job.json"), vec![b' '; 300 << 10]).unwrap();
        assert_eq!(shelf.load().unwrap(), None, "one that is none of ours by its size");
        assert!(!folder.path().join("update/job.json").exists());
    }

    #[test]
    fn a_folder_in_the_place_of_the_job_is_told_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Arc::new(crate::store::RealDisk), folder.path());
        let path = folder.path().join("update/job.json");
        std::fs::create_dir_all(&path).unwrap();
        let (what, remedy) = shelf.unread(&shelf.load().unwrap_err());
        assert!(what.ends_with("job.json is a folder, and should be a file"), "{what}");
        assert_eq!(remedy, format!("mv {0} {0}.aside", path.display()));
        assert!(path.is_dir());
    }

    #[test]
    fn versions_of_tens_of_thousands_of_devices_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Arc::new(crate::store::RealDisk), folder.path());
        let versions: Versions =
            (0..20_000).map(|n| (format!("productKey/deviceKey-{n:06}"), "1.2.3".to_owned())).collect();
        shelf.save_versions(&versions).unwrap();
        assert_eq!(shelf.versions().unwrap(), versions);
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
