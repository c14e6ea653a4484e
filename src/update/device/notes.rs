//! What an update of a sub-device has to remember over restarts of the gateway, beside the job.

use crate::store::{self, RealDisk};
use crate::update::Staged;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notes {
    /// Bytes that the device had confirmed.
    #[serde(default)]
    pub sent: u64,
    /// It has all of them.
    #[serde(default)]
    pub whole: bool,
    /// When it was to begin with the new version, in milliseconds since 1970: written down first.
    #[serde(default)]
    pub begun: Option<i64>,
}

impl Notes {
    /// None yet where there is no file, and where it can not be understood: then the file is sent from its beginning.
    pub(super) fn read(update: &Staged) -> io::Result<Notes> {
        let bytes = store::read(&RealDisk, &path(update))?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    pub(super) fn write(&self, update: &Staged) -> io::Result<()> {
        let path = path(update);
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        store::replace(&RealDisk, folder, name, &serde_json::to_vec(self)?)
    }
}

/// Beside the payload, and tidied up with it.
fn path(update: &Staged) -> PathBuf {
    update.payload.with_file_name(format!("{}.notes", update.id))
}
