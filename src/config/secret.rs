//! Secrets of `edge.yaml`: `KEY: …` in a file that only the daemon can read, or `KEY_file: …`.

use super::Secret;
use crate::diagnostic::Diagnostic;
use crate::yaml::fields::{Faults, Fields};
use std::path::{Path, PathBuf};

/// From a file that only the daemon should read, or written in the configuration itself.
pub(super) fn read(fields: &Fields<'_, '_>, key: &str, folder: &Path, faults: &mut Faults) -> Option<Secret> {
    let inline = fields.text(key, faults);
    let Some(file) = fields.text(&format!("{key}_file"), faults) else {
        return inline.map(|text| Secret::new(text.text));
    };
    if let Some(inline) = inline {
        faults.push(Diagnostic::error(inline.place, format!("{key} and {key}_file exclude each other")));
    }
    let path: PathBuf = folder.join(&file.text);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Some(Secret::new(text.trim().to_owned())),
        Ok(_) => {
            faults.push(Diagnostic::error(file.place, format!("{key}_file {} is empty", path.display())));
            None
        }
        Err(error) => {
            let problem = format!("{key}_file {} can not be read: {error}", path.display());
            faults.push(Diagnostic::error(file.place, problem));
            None
        }
    }
}
