//! When the cloud saw connects of this device, kept across restarts: a gateway that crashes again and again must not
//! be shut out for five minutes (EnOS refuses a device after four connects within two minutes).
//!
//! Within one boot the time since boot counts, which no clock adjustment moves; after a reboot the wall clock, and a
//! moment that lies in its future counts as now.

use super::activation::Keys;
use crate::model::Timestamp;
use crate::store::Disk;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

/// More than any budget asks for.
const KEPT: usize = 4;

/// A moment as both clocks tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Milliseconds UTC.
    wall: i64,
    /// Milliseconds since boot.
    up: u64,
    /// Which boot.
    boot: String,
}

impl Moment {
    #[must_use]
    pub fn now() -> Moment {
        // Without /proc the wall clock counts alone.
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let seconds: f64 = read("/proc/uptime").split(' ').next().and_then(|s| s.parse().ok()).unwrap_or(0.0);
        Moment {
            wall: Timestamp::now().0,
            up: (seconds * 1000.0) as u64,
            boot: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
        }
    }

    /// How long ago this was.
    pub(super) fn age(&self, now: &Moment) -> Duration {
        let millis = if !self.boot.is_empty() && self.boot == now.boot {
            now.up.saturating_sub(self.up)
        } else {
            u64::try_from(now.wall.saturating_sub(self.wall)).unwrap_or(0)
        };
        Duration::from_millis(millis)
    }
}

/// The last connects, the oldest first.
#[derive(Debug, Default)]
pub struct Connects(VecDeque<Moment>);

impl Connects {
    /// Empty when there is no file, or none that can be read.
    #[must_use]
    pub fn load(disk: &dyn Disk, folder: &Path, keys: &Keys) -> Connects {
        let read = disk.read(&folder.join(keys.name("connects"))).ok();
        let all: Vec<Moment> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Connects(all.into_iter().rev().take(KEPT).rev().collect())
    }

    pub fn add(&mut self, moment: Moment) {
        self.0.push_back(moment);
        while self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    #[must_use]
    pub fn ages(&self) -> Vec<Duration> {
        self.ages_at(&Moment::now())
    }

    fn ages_at(&self, now: &Moment) -> Vec<Duration> {
        let mut ages: Vec<Duration> = self.0.iter().map(|moment| moment.age(now)).collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        ages
    }

    /// Not synced: it is for a daemon that crashes, not for a power cut, and flash wears out.
    ///
    /// # Errors
    /// When the file can not be written.
    pub fn save(&self, disk: &dyn Disk, folder: &Path, keys: &Keys) -> std::io::Result<()> {
        let name = keys.name("connects");
        let temporary = folder.join(format!("{name}.tmp"));
        disk.make_folder(folder)?;
        disk.write(&temporary, &serde_json::to_vec(&self.0).expect("plain strings and numbers"))?;
        disk.rename(&temporary, &folder.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::power_cut::CutDisk;

    fn moment(wall: i64, up: u64, boot: &str) -> Moment {
        Moment { wall, up, boot: boot.to_owned() }
    }

    fn seconds(ages: &[Duration]) -> Vec<u64> {
        ages.iter().map(Duration::as_secs).collect()
    }

    #[test]
    fn the_newest_are_remembered_across_a_restart() {
        let (disk, folder, keys) = (CutDisk::default(), Path::new("/s/identity"), Keys::new("pk", "dk"));
        let mut connects = Connects::default();
        for n in 0..9 {
            connects.add(moment(n * 1000, n as u64 * 1000, "a"));
            connects.save(&disk, folder, &keys).unwrap();
        }
        let found = Connects::load(&disk, folder, &keys);
        assert_eq!(seconds(&found.ages_at(&moment(0, 10_000, "a"))), [5, 4, 3, 2]);
        assert!(Connects::load(&disk, folder, &Keys::new("pk", "other")).0.is_empty(), "EnOS counts each device");
    }

    #[test]
    fn a_clock_that_jumps_neither_frees_nor_locks() {
        let mut connects = Connects::default();
        connects.add(moment(1_000_000, 60_000, "a"));
        assert_eq!(
            seconds(&connects.ages_at(&moment(9_000_000_000, 70_000, "a"))),
            [10],
            "the same boot: time since it"
        );
        assert_eq!(seconds(&connects.ages_at(&moment(1_030_000, 5_000, "b"))), [30], "another boot: the wall clock");
        assert_eq!(seconds(&connects.ages_at(&moment(0, 5_000, "b"))), [0], "a clock behind: as if it were just now");
    }

    #[test]
    fn a_torn_file_is_an_empty_one() {
        let (disk, folder, keys) = (CutDisk::default(), Path::new("/s"), Keys::new("pk", "dk"));
        disk.write(&folder.join(keys.name("connects")), b"[{\"wall\":1").unwrap();
        assert!(Connects::load(&disk, folder, &keys).ages().is_empty());
    }
}
