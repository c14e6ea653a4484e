//! What happened to the package, one JSON line an event; added to, never rewritten.

use crate::store::{self, Disk};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

pub const HISTORY: &str = "history";
const OLDER: &str = "history.old";
/// Then a new file is begun; one older one is kept.
const LARGEST: usize = 128 << 10;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds UTC.
    pub at: i64,
    /// `installed`, `refused`, `rolled_back` or `kept`.
    pub event: String,
    /// 0 when nothing became of it.
    pub generation: u64,
    pub name: String,
    pub version: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// Adds one event. It lasts when this returns well.
///
/// # Errors
/// When the disk does not take it.
pub fn add(disk: &dyn Disk, folder: &Path, event: &Event) -> io::Result<()> {
    let path = folder.join(HISTORY);
    let so_far = store::read(disk, &path).unwrap_or_default().unwrap_or_default();
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    if so_far.len() > LARGEST {
        disk.rename(&path, &folder.join(OLDER))?;
    } else if so_far.last().is_some_and(|byte| *byte != b'\n') {
        // A power cut left half a line; it stays alone.
        line.insert(0, b'\n');
    }
    disk.append(&path, &line)?;
    disk.sync(&path)?;
    disk.sync_folder(folder)
}

/// All that is kept, the newest last. Lines that a power cut tore are left out.
#[must_use]
pub fn read(disk: &dyn Disk, folder: &Path) -> Vec<Event> {
    let files = [OLDER, HISTORY].map(|name| store::read(disk, &folder.join(name)).ok().flatten().unwrap_or_default());
    let lines = files.iter().flat_map(|bytes| bytes.split(|byte| *byte == b'\n'));
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
