//! Whether a slot holds an engine that somebody trusted signed, asked each time before it is started.

use super::{Folder, Slot};
use std::path::PathBuf;

/// Refuses every engine until signatures of updates can be read: the packaged one runs.
///
/// # Errors
/// Why it is not started.
pub fn prove(folder: &Folder, slot: Slot, keys: &[PathBuf]) -> Result<(), String> {
    let program = folder.program(slot);
    Err(format!(
        "{} can not be proven with {} keys: signatures of engines are not read yet",
        program.display(),
        keys.len()
    ))
}
