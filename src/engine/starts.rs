//! Starts of a confirmed engine that nobody ended in order: one that has passed its trial and crashes again and again later is
//! taken back as well.
//!
//! The launcher notes a start before it is made; an engine that ends as it was told takes its note away again. Time is that of
//! the boot, which no clock moves. A power cut is no crash: notes of another boot do not count.

use super::Folder;
use super::record::{read_sealed, write_sealed};
use crate::store::Disk;
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;

/// So many ends by itself within [`WITHIN`], and what ran before is back. Somebody who kills it by hand now and then does not come
/// so far; one that dies at its start is there in a quarter of a minute.
pub const CRASHES: usize = 10;
pub const WITHIN: Duration = Duration::from_secs(3600);

pub(super) const STARTS: &str = "starts";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts {
    /// SHA-256 of the engine that was started.
    engine: String,
    /// Which boot of the machine.
    boot: String,
    /// The oldest first, and never more than [`CRASHES`].
    begun: Vec<Begun>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Begun {
    /// Milliseconds since boot.
    at: u64,
    /// The launcher becomes the engine, so both have this number.
    process: u32,
}

/// A moment of this boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    pub boot: String,
    /// Milliseconds since then.
    pub up: u64,
}

impl Moment {
    /// `None` where the kernel does not tell: then nothing can be counted.
    #[must_use]
    pub fn now() -> Option<Moment> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let seconds: f64 = uptime.split(' ').next()?.parse().ok()?;
        Some(Moment { boot, up: (seconds * 1000.0) as u64 })
    }
}

impl Starts {
    /// What counts against this engine now. A file that is damaged or of another engine says nothing.
    #[must_use]
    pub fn read(disk: &dyn Disk, folder: &Folder, engine: &str, now: &Moment) -> Starts {
        let found: Option<Starts> = read_sealed(disk, &folder.path().join(STARTS)).unwrap_or_default();
        let mut starts = found.filter(|found| found.engine == engine && found.boot == now.boot).unwrap_or_default();
        let within = u64::try_from(WITHIN.as_millis()).unwrap_or(u64::MAX);
        starts.begun.retain(|begun| now.up.saturating_sub(begun.at) < within);
        Starts { engine: engine.to_owned(), boot: now.boot.clone(), ..starts }
    }

    /// Counts one more.
    ///
    /// # Errors
    /// Why there is none left.
    pub fn one_more(mut self, version: &str, now: &Moment, process: u32) -> Result<Starts, String> {
        if self.begun.len() >= CRASHES {
            let minutes = WITHIN.as_secs() / 60;
            return Err(format!("engine {version} ended by itself {CRASHES} times within {minutes} min"));
        }
        self.begun.push(Begun { at: now.up, process });
        Ok(self)
    }

    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, disk: &dyn Disk, folder: &Folder) -> io::Result<()> {
        write_sealed(disk, folder, STARTS, self)
    }
}

/// The engine it counts for is taken back. Best effort: within an hour it counts for nothing.
pub fn forget(disk: &dyn Disk, folder: &Folder) {
    match disk.remove(&folder.path().join(STARTS)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => tracing::debug!(%error, "starts stay counted"),
        _ => {}
    }
}

/// This process ends as it was told, or for a reason that is none of the engine's. Best effort: a note that stays counts once.
pub fn ended_in_order(disk: &dyn Disk, folder: &Folder) {
    let process = std::process::id();
    let Ok(Some(mut starts)) = read_sealed::<Starts>(disk, &folder.path().join(STARTS)) else { return };
    let before = starts.begun.len();
    starts.begun.retain(|begun| begun.process != process);
    if starts.begun.len() < before
        && let Err(error) = starts.write(disk, folder)
    {
        tracing::debug!(%error, "that this engine ended in order is not on disk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RealDisk;

    fn at(boot: &str, minutes: u64) -> Moment {
        Moment { boot: boot.to_owned(), up: minutes * 60_000 }
    }

    #[test]
    fn ten_ends_within_an_hour_are_the_last_and_other_boots_and_engines_do_not_count() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::of(home.path());
        let start = |engine: &str, now: &Moment| {
            let one_more = Starts::read(&RealDisk, &folder, engine, now).one_more("2.0.0", now, 7);
            one_more.map(|starts| starts.write(&RealDisk, &folder).unwrap())
        };
        for minute in 0..10 {
            start("x", &at("one", minute)).unwrap();
        }
        assert_eq!(start("x", &at("one", 10)).unwrap_err(), "engine 2.0.0 ended by itself 10 times within 60 min");
        // The first was an hour ago.
        start("x", &at("one", 60)).unwrap();
        start("x", &at("one", 60)).unwrap_err();
        start("x", &at("two", 60)).unwrap();
        start("y", &at("two", 60)).unwrap();
    }

    #[test]
    fn an_end_in_order_takes_its_own_note_away() {
        let home = tempfile::tempdir().unwrap();
        let (folder, now) = (Folder::of(home.path()), at("one", 1));
        let read = || Starts::read(&RealDisk, &folder, "x", &now);
        ended_in_order(&RealDisk, &folder);
        read().one_more("2.0.0", &now, 1).unwrap().write(&RealDisk, &folder).unwrap();
        read().one_more("2.0.0", &now, std::process::id()).unwrap().write(&RealDisk, &folder).unwrap();
        ended_in_order(&RealDisk, &folder);
        assert_eq!(read().begun, [Begun { at: 60_000, process: 1 }]);
        std::fs::write(folder.path().join(STARTS), "damaged").unwrap();
        ended_in_order(&RealDisk, &folder);
        assert!(read().begun.is_empty());
    }
}
