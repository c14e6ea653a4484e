//! How long no request goes out, on disk: a daemon that starts again and again asks no more often than one that runs.

use crate::identity::activation::Keys;
use crate::identity::connects::Moment;
use crate::store::{self, Disk};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// What the schedule remembers across a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// From the moment it was stored.
    pub quiet: Duration,
    pub failures: u32,
    pub unusable: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    at: Moment,
    quiet_ms: u64,
    failures: u32,
    unusable: u32,
}

const NAME: &str = "certificate-pace";

/// On disk when it returns well.
///
/// # Errors
/// In words.
pub(super) fn store(disk: &dyn Disk, folder: &Path, keys: &Keys, pace: Pace) -> Result<(), String> {
    let quiet_ms = u64::try_from(pace.quiet.as_millis()).unwrap_or(u64::MAX);
    let stored = Stored { at: Moment::now(), quiet_ms, failures: pace.failures, unusable: pace.unusable };
    let bytes = serde_json::to_vec(&stored).expect("plain strings and numbers");
    store::replace(disk, folder, &keys.name(NAME), &bytes)
        .map_err(|error| format!("store when a certificate was asked for in {}: {error}", folder.display()))
}

/// Nothing when there is no file, or none that can be read: the times of the pairs count then.
pub(super) fn load(disk: &dyn Disk, folder: &Path, keys: &Keys) -> Option<(Pace, Moment)> {
    let bytes = disk.read(&folder.join(keys.name(NAME))).ok()?;
    let stored: Stored = serde_json::from_slice(&bytes).ok()?;
    let quiet = Duration::from_millis(stored.quiet_ms);
    Some((Pace { quiet, failures: stored.failures, unusable: stored.unusable }, stored.at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::power_cut::CutDisk;

    #[test]
    fn it_is_found_again_and_a_torn_file_is_none() {
        let (disk, folder, keys) = (CutDisk::default(), Path::new("/s/identity"), Keys::new("pk", "dk"));
        assert!(load(&disk, folder, &keys).is_none());
        let pace = Pace { quiet: Duration::from_secs(90), failures: 3, unusable: 1 };
        store(&disk, folder, &keys, pace).unwrap();
        assert_eq!(load(&disk, folder, &keys).unwrap().0, pace);
        disk.write(&folder.join(keys.name(NAME)), b"{\"at\":").unwrap();
        assert!(load(&disk, folder, &keys).is_none());
    }
}
