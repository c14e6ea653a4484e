//! The flag by which local applications know which package runs.

use super::{FOLDER, Facts};
use crate::store::{self, Disk};
use std::io;
use std::path::Path;

/// Says which package is applied to all parts; local applications may wait for it.
pub const READY: &str = "ready";

/// Tells local applications that this package runs. It is gone while none does.
///
/// # Errors
/// When the disk does not take it.
pub fn tell_ready(disk: &dyn Disk, state_dir: &Path, facts: &Facts) -> io::Result<()> {
    let text = serde_json::json!({ "generation": facts.generation, "name": facts.name, "version": facts.version });
    store::replace(disk, &state_dir.join(FOLDER), READY, format!("{text}\n").as_bytes())
}

/// No package runs yet, or none any more.
pub fn tell_not_ready(disk: &dyn Disk, state_dir: &Path) {
    // Best effort: mostly there is none.
    let _ = disk.remove(&state_dir.join(FOLDER).join(READY));
}
