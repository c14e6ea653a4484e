//! The engine's own slots: which engine starts, its trial, and the way back.
//!
//! ```text
//! /usr/bin/enos-edge        packaged: the engine of the .deb, and the launcher
//! STATE/engines/pointer     which place starts, which was before, what is on trial
//! STATE/engines/back        the pointer as it will be if the trial fails: going back is a rename, also on a full disk
//! STATE/engines/tried       starts and running time of the trial; only the launcher writes it
//! STATE/engines/starts      starts of a confirmed engine that nobody ended in order
//! STATE/engines/{a,b}/      an engine that came over the air, with its manifest and signature
//! ```
//! While an engine on trial lives, only it writes the pointer; when it is dead, only the launcher does.

mod alone;
pub mod choice;
mod clear;
pub mod launch;
pub mod on_trial;
pub mod proof;
pub mod record;
pub mod slots;
pub mod space;
pub mod starts;
pub mod supervise;
pub mod target;
pub mod trial;
pub mod tried;
pub mod watch;

pub use on_trial::{Observe, Shown};
pub use record::{Facts, How, Outcome, Place, Record, Slot, Trial};
pub use slots::Slots;
pub use target::EngineTarget;

use std::path::{Path, PathBuf};

/// Folder below the state folder.
pub const FOLDER: &str = "engines";
/// Name of the program in a slot.
pub const PROGRAM: &str = "enos-edge";
/// Tells a started engine where it lies: `a` or `b`; absent for the packaged one.
pub const SLOT_VARIABLE: &str = "ENOS_EDGE_SLOT";

/// Tells a started engine the version of its launcher, which is the packaged engine.
pub const LAUNCHER_VARIABLE: &str = "ENOS_EDGE_LAUNCHER";

/// How this engine was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Version of the packaged engine; `None` when nobody launched this one, so that nobody could take it back.
    pub packaged: Option<String>,
    pub place: Place,
}

impl Started {
    /// What the launcher told this process.
    #[must_use]
    pub fn here() -> Started {
        let word = |name: &str| std::env::var(name).ok();
        let place = word(SLOT_VARIABLE).and_then(|word| Place::parse(&word)).unwrap_or_default();
        Started { packaged: word(LAUNCHER_VARIABLE), place }
    }
}

/// Where the files of this module lie.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    #[must_use]
    pub fn of(state_dir: &Path) -> Folder {
        Folder(state_dir.join(FOLDER))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    #[must_use]
    pub fn slot(&self, slot: Slot) -> PathBuf {
        self.0.join(slot.word())
    }

    #[must_use]
    pub fn program(&self, slot: Slot) -> PathBuf {
        self.slot(slot).join(PROGRAM)
    }

    /// What an engine on trial may write without being asked; emptied when it goes.
    #[must_use]
    pub fn scratch(&self, slot: Slot) -> PathBuf {
        self.slot(slot).join("tmp")
    }
}
