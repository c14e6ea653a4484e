//! What can be updated, as the job sees it: the engine's slots, a firmware drop-in, a device.
//!
//! The job calls `prepare`, `install`, `activate` in this order, then asks `standing` until it is told how it ended. Each
//! may be called again after a power cut, with what was done before half done or done, and must come out the same.

use super::Manifest;
use driver::Answer;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A verified update on disk.
#[derive(Clone, Debug)]
pub struct Staged {
    /// Of the job; names folders.
    pub id: String,
    pub manifest: Manifest,
    /// The payload alone, unpacked; its digest was checked. The target may move it away.
    pub payload: PathBuf,
    /// Folder with `update.yaml` and `update.sig`, byte for byte as they were signed: the engine's slots keep them, and
    /// the launcher checks them before each start. [`super::Verified::keep_proof`] writes it.
    pub proof: PathBuf,
}

/// Progress of a step, 0 to 100, with words for a person. Never blocks.
pub trait Tell: Send + Sync {
    fn tell(&self, percent: u8, words: &str);
}

/// Something that can be updated. One job at a time.
pub trait Target: Send + Sync {
    /// Version that runs now; `None` when it can not be told.
    fn running(&self) -> Answer<'_, Option<String>>;

    /// Whether it could be installed: architecture, room, a slot. Nothing that runs is changed.
    fn prepare<'a>(&'a self, update: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>>;

    /// Writes it where it does not run yet.
    fn install<'a>(&'a self, update: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>>;

    /// Makes it what starts next, on trial where the target can try.
    fn activate<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Activation, Failure>>;

    /// How it stands since it was activated; also asked by another engine, after a restart.
    fn standing<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Standing, Failure>>;

    /// It is the one from now on. Called once `standing` says `Proven`.
    fn confirm<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<(), Failure>>;

    /// Brings back what ran before. Harmless when nothing was activated.
    fn roll_back<'a>(&'a self, update: &'a Staged, why: &'a str) -> Answer<'a, Result<Activation, Failure>>;
}

/// What has to happen for a change to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// It has.
    Now,
    /// The engine stops in order and is started again, by systemd or the launcher.
    RestartEngine,
    /// The target restarts the machine by itself.
    RestartMachine,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not known yet; the words say what is waited for.
    OnTrial(String),
    /// It has shown that it works.
    Proven,
    /// What ran before runs again, and why.
    RolledBack(String),
}

/// Why a step failed, and which: the cloud's progress codes need no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{words}")]
pub struct Failure {
    pub stage: Stage,
    pub words: String,
}

/// Steps that can fail, with EnOS's progress codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// -1
    Other,
    /// -2
    Download,
    /// -3
    Verification,
    /// -4
    Writing,
    /// -5: the gateway will not, now or ever: wrong architecture, an older version, a condition.
    Refused,
}

impl Stage {
    /// What the cloud is told as a step of progress.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Stage::Other => -1,
            Stage::Download => -2,
            Stage::Verification => -3,
            Stage::Writing => -4,
            Stage::Refused => -5,
        }
    }
}

impl Failure {
    #[must_use]
    pub fn new(stage: Stage, words: impl Into<String>) -> Failure {
        Failure { stage, words: words.into() }
    }
}
