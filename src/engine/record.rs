//! The pointer: which engine starts, what was before it, what is on trial. One small file, replaced as a whole, with its
//! own digest in it. Fields of a newer engine are kept.

use super::Folder;
use crate::store::{self, Disk, sha256};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

const POINTER: &str = "pointer";
/// The pointer as it will be when the trial has failed.
const BACK: &str = "back";
/// A pointer that could not be read.
const BROKEN: &str = "pointer.broken";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    A,
    B,
}

/// Where an engine lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// That of the operating system's package, which is the launcher as well.
    #[default]
    Packaged,
    A,
    B,
}

/// What a slot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub version: String,
    /// SHA-256 of the program, lower-case hex.
    pub sha256: String,
    /// When it was installed, milliseconds UTC; for people.
    pub at: i64,
    #[serde(flatten)]
    pub more: Map<String, Json>,
}

/// An engine that has to prove itself. Limits are those of the engine that switched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The job it came with.
    pub job: String,
    pub version: String,
    /// It proves itself within so much running time, over all its starts.
    pub window_ms: u64,
    /// It says READY within so much after each start.
    pub ready_ms: u64,
    /// Free bytes of the state folder below which it is taken back.
    pub floor_bytes: u64,
    /// It, or somebody, says that it must go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    #[serde(flatten)]
    pub more: Map<String, Json>,
}

/// How the last change ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub job: String,
    pub version: String,
    pub how: How,
    pub why: String,
    /// Milliseconds UTC, for people.
    pub at: i64,
    /// The cloud has been told.
    #[serde(default)]
    pub told: bool,
    #[serde(flatten)]
    pub more: Map<String, Json>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It has shown that it works.
    Proven,
    /// What was before runs again.
    RolledBack,
    /// A person chose.
    Chosen,
    /// The operating system's package brought another engine, and the last act of a person wins.
    Upgraded,
}

/// All that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub current: Place,
    pub previous: Place,
    /// Version of the packaged engine when the pointer was set.
    pub packaged: String,
    #[serde(default)]
    pub slots: BTreeMap<Slot, Facts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Outcome>,
    #[serde(flatten)]
    pub more: Map<String, Json>,
}

impl Slot {
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }

    #[must_use]
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

impl Place {
    #[must_use]
    pub fn slot(self) -> Option<Slot> {
        match self {
            Place::Packaged => None,
            Place::A => Some(Slot::A),
            Place::B => Some(Slot::B),
        }
    }

    #[must_use]
    pub fn word(self) -> &'static str {
        self.slot().map_or("packaged", Slot::word)
    }

    /// `packaged`, `a` or `b`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Place> {
        [Place::Packaged, Place::A, Place::B].into_iter().find(|place| place.word() == word)
    }
}

impl From<Slot> for Place {
    fn from(slot: Slot) -> Place {
        match slot {
            Slot::A => Place::A,
            Slot::B => Place::B,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Record {
    /// `None` when there never was one: the packaged engine runs.
    ///
    /// # Errors
    /// When there is one and it is damaged, or the disk does not tell.
    pub fn read(disk: &dyn Disk, folder: &Folder) -> io::Result<Option<Record>> {
        read_sealed(disk, &folder.path().join(POINTER))
    }

    /// The record that waits for a failed trial.
    ///
    /// # Errors
    /// As [`Record::read`].
    pub fn read_back(disk: &dyn Disk, folder: &Folder) -> io::Result<Option<Record>> {
        read_sealed(disk, &folder.path().join(BACK))
    }

    /// On disk when it returns well; the old one is still there otherwise.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, disk: &dyn Disk, folder: &Folder) -> io::Result<()> {
        write_sealed(disk, folder, POINTER, self)
    }

    /// Prepares the way back.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write_back(&self, disk: &dyn Disk, folder: &Folder) -> io::Result<()> {
        write_sealed(disk, folder, BACK, self)
    }

    /// Folders make way for the files that belong here, and a file for the folder itself.
    pub(super) fn clear(folder: &Folder) {
        super::clear::folder(folder.path());
        for name in [POINTER, BACK, BROKEN, super::tried::TRIED, super::starts::STARTS, super::launch::SOCKET] {
            super::clear::file(&folder.path().join(name));
            super::clear::file(&folder.path().join(format!("{name}.tmp")));
        }
    }

    /// Takes the prepared way back. Needs no room on the disk.
    ///
    /// # Errors
    /// When there is none, or the disk does not take it.
    pub fn go_back(disk: &dyn Disk, folder: &Folder) -> io::Result<()> {
        disk.rename(&folder.path().join(BACK), &folder.path().join(POINTER))?;
        disk.sync_folder(folder.path())
    }

    /// Whether it will not get better by itself, as trouble of the disk may.
    #[must_use]
    pub fn is_damage(error: &io::Error) -> bool {
        use io::ErrorKind::{FileTooLarge, InvalidData, IsADirectory};
        matches!(error.kind(), InvalidData | FileTooLarge | IsADirectory)
    }

    /// Puts a damaged pointer where nobody reads it; then there is none. Needs no room on the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn lay_aside(disk: &dyn Disk, folder: &Folder) -> io::Result<()> {
        disk.rename(&folder.path().join(POINTER), &folder.path().join(BROKEN))?;
        disk.sync_folder(folder.path())
    }

    /// The version that a place holds, as far as is known.
    #[must_use]
    pub fn version_of(&self, place: Place) -> Option<&str> {
        match place.slot() {
            None => Some(&self.packaged),
            Some(slot) => self.slots.get(&slot).map(|facts| facts.version.as_str()),
        }
    }
}

/// A digest in a line of its own, then JSON.
pub(super) fn write_sealed<T: Serialize>(disk: &dyn Disk, folder: &Folder, name: &str, what: &T) -> io::Result<()> {
    let text = serde_json::to_string(what)?;
    store::replace(disk, folder.path(), name, format!("{}\n{text}\n", sha256(text.as_bytes())).as_bytes())
}

pub(super) fn read_sealed<T: DeserializeOwned>(disk: &dyn Disk, path: &Path) -> io::Result<Option<T>> {
    let Some(bytes) = store::read(disk, path)? else { return Ok(None) };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display()));
    let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.strip_suffix('\n'));
    let (digest, text) = text.and_then(|text| text.split_once('\n')).ok_or_else(damaged)?;
    if sha256(text.as_bytes()) != digest {
        return Err(damaged());
    }
    serde_json::from_str(text).map(Some).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RealDisk;

    #[test]
    fn fields_of_a_newer_engine_stay_and_a_damaged_record_is_told() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::of(home.path());
        assert_eq!(Record::read(&RealDisk, &folder).unwrap(), None);
        let text = r#"{"current":"b","previous":"packaged","packaged":"1.0.0","slots":{"b":{"version":"2.0.0","sha256":"x","at":1,"colour":"red"}},
            "trial":{"job":"j","version":"2.0.0","window_ms":1,"ready_ms":1,"floor_bytes":0,"moon":"full"},"new":[1]}"#;
        let record: Record = serde_json::from_str(text).unwrap();
        record.write(&RealDisk, &folder).unwrap();
        let again = Record::read(&RealDisk, &folder).unwrap().unwrap();
        assert_eq!(again, record);
        assert_eq!((again.current, again.version_of(Place::B)), (Place::B, Some("2.0.0")));
        let shown = serde_json::to_value(&again).unwrap();
        assert_eq!((&shown["new"][0], &shown["trial"]["moon"]), (&1.into(), &"full".into()));
        assert_eq!(shown["slots"]["b"]["colour"], "red");
        let pointer = folder.path().join(POINTER);
        let mut bytes = std::fs::read(&pointer).unwrap();
        bytes[80] ^= 1;
        std::fs::write(&pointer, bytes).unwrap();
        assert!(Record::read(&RealDisk, &folder).unwrap_err().to_string().contains("is damaged"));
    }
}
