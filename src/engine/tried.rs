//! What a trial has used up: starts, and running time in monotonic milliseconds, so that no clock that jumps shortens or
//! lengthens it. Only the launcher writes it.

use super::record::{read_sealed, write_sealed};
use super::{Folder, Trial};
use crate::store::Disk;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;

pub(super) const TRIED: &str = "tried";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// The job of the trial it counts for.
    pub job: String,
    /// Starts that were begun and not stopped by a person or the machine's orderly end.
    pub starts: u32,
    /// Of those, ended by the engine itself.
    pub crashes: u32,
    pub ran_ms: u64,
}

impl Tried {
    /// Nothing yet, when the file is of another trial.
    ///
    /// # Errors
    /// When it is damaged, or the disk does not tell.
    pub fn read(disk: &dyn Disk, folder: &Folder, trial: &Trial) -> io::Result<Tried> {
        let found: Option<Tried> = read_sealed(disk, &folder.path().join(TRIED))?;
        let fresh = Tried { job: trial.job.clone(), ..Tried::default() };
        Ok(found.filter(|tried| tried.job == trial.job).unwrap_or(fresh))
    }

    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, disk: &dyn Disk, folder: &Folder) -> io::Result<()> {
        write_sealed(disk, folder, TRIED, self)
    }

    #[must_use]
    pub fn ran(&self) -> Duration {
        Duration::from_millis(self.ran_ms)
    }
}
