//! A look at an outbox that no process has open, without changing a byte of it.
//!
//! After an orderly end the file is whole by itself and is read where it lies. After a crash its log holds what is missing;
//! then a copy of both is read, if it is small enough.

use super::file::{beside, look_through};
use super::gap::{Gap, SetAsideRow};
use super::schema;
use super::store::{Store, StoreError};
use super::{keeper, rows};
use rusqlite::Connection;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole file is read within this, or as much of it.
const CHECK_TIME: Duration = Duration::from_secs(6);
/// Larger ones are not copied.
const COPIED: u64 = 128 << 20;
/// Gaps and refused values that are listed.
const LISTED: usize = 20;

/// What is in it. The names are those of the status of a running gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    pub integrity: Integrity,
    pub format: u32,
    pub bytes_on_disk: u64,
    pub segments: u64,
    pub readings_on_disk: u64,
    pub oldest_waiting: Option<i64>,
    pub newest_waiting: Option<i64>,
    /// Readings that wait for each destination.
    pub waiting: BTreeMap<String, u64>,
    pub gaps: Vec<Gap>,
    pub set_aside_rows: Vec<SetAsideRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Integrity {
    Whole,
    /// What was read of it is whole.
    Unfinished,
    NotLooked(String),
    Damaged(String),
}

/// `None` when there is no outbox.
///
/// # Errors
/// In words, when it can not be read at all.
pub fn inspect(folder: &Path) -> Result<Option<Inspection>, String> {
    let path = folder.join("outbox.db");
    match std::fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("the outbox can not be read: {error}")),
        Ok(_) => {}
    }
    let log = length(&beside(&path, "-wal"));
    let bytes = length(&path) + log;
    if log == 0 {
        return look(&path, bytes, Store::open_unchanged).map(Some);
    }
    if bytes > COPIED {
        let why =
            format!("it was not closed in order, and {bytes} bytes are too many to copy; the next start checks it");
        return look(&path, bytes, Store::open_unchanged)
            .map(|found| Some(Inspection { integrity: Integrity::NotLooked(why), ..found }));
    }
    let copy = Copy::make(&path).map_err(|error| format!("the outbox can not be copied to look at it: {error}"))?;
    look(&copy.0.join("outbox.db"), bytes, Store::open_copy).map(Some)
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}

/// Removed when it is dropped.
struct Copy(PathBuf);

impl Copy {
    fn make(path: &Path) -> std::io::Result<Copy> {
        use std::os::unix::fs::DirBuilderExt;
        let name = format!("enos-edge-outbox-{}-{}", std::process::id(), fastrand::u64(..));
        let copy = Copy(std::env::temp_dir().join(name));
        std::fs::DirBuilder::new().mode(0o700).create(&copy.0)?;
        let to = copy.0.join("outbox.db");
        std::fs::copy(path, &to)?;
        std::fs::copy(beside(path, "-wal"), beside(&to, "-wal"))?;
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Best effort: it lies in the system's folder for what may go.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn look(path: &Path, bytes: u64, open: impl Fn(&Path) -> Result<Connection, StoreError>) -> Result<Inspection, String> {
    let told = |error: StoreError| format!("the outbox can not be read: {}", keeper::chain(&error));
    let connection = open(path).map_err(told)?;
    let integrity = check(&connection);
    if let Integrity::Damaged(_) = integrity {
        // Nothing that a damaged file says is to be believed.
        return Ok(Inspection::nothing(integrity, bytes));
    }
    counted(&connection, integrity, bytes).map_err(told)
}

impl Inspection {
    fn nothing(integrity: Integrity, bytes: u64) -> Inspection {
        Inspection {
            integrity,
            format: 0,
            bytes_on_disk: bytes,
            segments: 0,
            readings_on_disk: 0,
            oldest_waiting: None,
            newest_waiting: None,
            waiting: BTreeMap::new(),
            gaps: Vec::new(),
            set_aside_rows: Vec::new(),
        }
    }
}

fn check(connection: &Connection) -> Integrity {
    let id = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0));
    match id {
        Ok(schema::APPLICATION_ID) => {}
        Ok(_) => return Integrity::Damaged("it is no outbox".to_owned()),
        Err(error) => return Integrity::Damaged(error.to_string()),
    }
    match look_through(connection, CHECK_TIME) {
        Ok(None) => Integrity::Unfinished,
        Ok(Some(text)) if text == "ok" => Integrity::Whole,
        Ok(Some(text)) => Integrity::Damaged(text),
        Err(error) => Integrity::Damaged(error.to_string()),
    }
}

fn counted(connection: &Connection, integrity: Integrity, bytes: u64) -> Result<Inspection, StoreError> {
    let format = connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))?;
    let format_known = format as usize >= schema::version() && schema::may_open(connection, format as usize)?;
    if !format_known {
        // An older file is brought up to date by the next start, a newer one may not be ours to read.
        return Ok(Inspection { format, ..Inspection::nothing(integrity, bytes) });
    }
    let sums = "SELECT count(*), coalesce(sum(readings), 0), min(oldest), max(newest) FROM segment";
    let (segments, readings, oldest, newest) = connection
        .query_row(sums, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?)))?;
    let mut query = connection.prepare(
        "SELECT name, coalesce(sum(need.readings), 0) FROM destination
         LEFT JOIN need ON need.destination = destination.id GROUP BY name",
    )?;
    let waiting = query.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.max(0) as u64)))?;
    Ok(Inspection {
        integrity,
        format,
        bytes_on_disk: bytes,
        segments: segments.max(0) as u64,
        readings_on_disk: readings.max(0) as u64,
        oldest_waiting: oldest,
        newest_waiting: newest,
        waiting: waiting.collect::<Result<_, _>>()?,
        gaps: rows::newest_gaps(connection, LISTED)?,
        set_aside_rows: rows::newest_set_aside(connection, LISTED)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::space::Space;

    const SPACE: Space = Space { quota: 64 << 20, reserve: 0 };

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        drop(Store::open(&folder.path().join("outbox.db"), SPACE).unwrap());
        folder
    }

    fn all(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn a_look_changes_no_byte_and_leaves_nothing_behind() {
        let folder = folder();
        let before = all(folder.path());
        let found = inspect(folder.path()).unwrap().unwrap();
        assert_eq!((found.integrity, found.format as usize), (Integrity::Whole, schema::version()));
        assert_eq!(before, all(folder.path()));
        assert!(inspect(Path::new("/nowhere")).unwrap().is_none());
    }

    #[test]
    fn a_file_that_was_not_closed_is_read_with_its_log() {
        let open = tempfile::tempdir().unwrap();
        let store = Store::open(&open.path().join("outbox.db"), SPACE).unwrap();
        store.connection.execute("INSERT INTO meta VALUES ('x', 1)", []).unwrap();
        let crashed = tempfile::tempdir().unwrap();
        for (path, bytes) in all(open.path()) {
            std::fs::write(crashed.path().join(Path::new(&path).file_name().unwrap()), bytes).unwrap();
        }
        drop(store);
        let before = all(crashed.path());
        assert!(before.iter().any(|(name, bytes)| name.ends_with("-wal") && !bytes.is_empty()));
        assert_eq!(inspect(crashed.path()).unwrap().unwrap().integrity, Integrity::Whole);
        assert_eq!(before, all(crashed.path()));
    }

    #[test]
    fn damage_is_told() {
        let folder = folder();
        let path = folder.path().join("outbox.db");
        let mut bytes = std::fs::read(&path).unwrap();
        let from = bytes.len() / 2;
        bytes[from..].fill(0x55);
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(inspect(folder.path()).unwrap().unwrap().integrity, Integrity::Damaged(_)));
        std::fs::write(&path, b"this is no database, and never was one").unwrap();
        assert!(matches!(inspect(folder.path()).unwrap().unwrap().integrity, Integrity::Damaged(_)));
    }
}
