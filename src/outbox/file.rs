//! The outbox's files: is this one ours and whole, who may read them, and the number kept beside it.

use super::schema;
use super::store::StoreError;
use rusqlite::{Connection, ErrorCode};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// The whole-file check is bounded: what it does not reach in time is found by the segments' own checksums.
const CHECK_TIME: Duration = Duration::from_secs(2);

/// As SQLite numbers it.
const INCREMENTAL: i64 = 2;
/// With less than this SQLite can not even begin a log.
const FILLED: u64 = 64 << 10;

/// Reads only: a file that is not ours, or newer than us, stays as it is.
pub(super) fn identify(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE;")?;
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let found = usize::try_from(version).map_err(|_| StoreError::Damaged("negative version".into()))?;
    match (id, found, tables) {
        (0, 0, 0) => Ok(()),
        (schema::APPLICATION_ID, found, _) if !schema::may_open(connection, found)? => Err(StoreError::Newer { found }),
        (schema::APPLICATION_ID, 1.., 1..) => Ok(()),
        _ => Err(StoreError::Damaged("not an outbox".into())),
    }
}

pub(super) fn configure(connection: &Connection) -> Result<(), StoreError> {
    // It only takes on a file without tables, and it writes: a file that has it is opened on a full disk too.
    if connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))? != INCREMENTAL {
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL;")?;
    }
    // No mmap: a failing disk would be a SIGBUS.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0; PRAGMA mmap_size = 0; PRAGMA cache_size = -1024; PRAGMA temp_store = MEMORY;
         PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;",
    )?;
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode == "wal" { Ok(()) } else { Err(StoreError::Damaged(format!("journal mode stays {mode}"))) }
}

pub(super) fn quick_check(connection: &Connection) -> Result<(), StoreError> {
    match look_through(connection, CHECK_TIME)? {
        Some(text) if text != "ok" => Err(StoreError::Damaged(text)),
        _ => Ok(()),
    }
}

/// What SQLite says of the whole file; `None` when that takes longer than `most`.
pub(super) fn look_through(connection: &Connection, most: Duration) -> rusqlite::Result<Option<String>> {
    // Nothing is ever sent: its end is the message.
    let (done, waiting) = mpsc::sync_channel::<()>(1);
    let interrupt = connection.get_interrupt_handle();
    let timer = std::thread::spawn(move || {
        if waiting.recv_timeout(most) == Err(mpsc::RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    let answer = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    drop(done);
    timer.join().expect("the timer does not panic");
    match answer {
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(None),
        answer => answer.map(Some),
    }
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(super) fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(super) fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Ok(())
}

/// The limit of the numbers lies beside the database too: they must not repeat when that is damaged or deleted.
pub(super) fn read_side(path: &Path) -> u64 {
    std::fs::read_to_string(path.with_extension("seq")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// On a full disk in the place of the old one: that takes no room, and as it lies in one sector a power cut leaves one of
/// the two; the database keeps a limit of its own beside it.
pub(super) fn write_side(path: &Path, limit: u64) -> std::io::Result<()> {
    match replace_side(path, limit) {
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            // Best effort: the next one is written over it.
            let _ = std::fs::remove_file(path.with_extension("seq.new"));
            overwrite_side(path, limit).map_err(|_| error)
        }
        done => done,
    }
}

fn replace_side(path: &Path, limit: u64) -> std::io::Result<()> {
    use std::io::Write;
    let (target, temporary) = (path.with_extension("seq"), path.with_extension("seq.new"));
    create_private(&temporary)?;
    let mut file = std::fs::File::create(&temporary)?;
    writeln!(file, "{limit}")?;
    file.sync_all()?;
    std::fs::rename(&temporary, &target)?;
    sync_folder(path)
}

fn overwrite_side(path: &Path, limit: u64) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options().read(true).write(true).open(path.with_extension("seq"))?;
    let width = usize::try_from(file.metadata()?.len()).unwrap_or(0).saturating_sub(1);
    // Never shorter than what was there: its end would stay and make another number of it.
    file.write_all_at(format!("{limit:0width$}\n").as_bytes(), 0)?;
    file.sync_all()
}

/// Whether the disk of this file has room for nothing any more.
pub(super) fn is_filled(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(Path::new("."));
    rustix::fs::statvfs(folder).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < FILLED)
}

pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_written_in_place_is_read_as_it_is_however_long_the_one_before_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox.db");
        assert!(overwrite_side(&path, 5).is_err(), "there is none to write over");
        for limit in [4_294_967_297, 7, 8_589_934_593, u64::MAX, 12] {
            if limit == 7 {
                replace_side(&path, 123_456).unwrap()
            } else {
                write_side(&path, limit).unwrap()
            }
            overwrite_side(&path, limit).unwrap();
            assert_eq!(read_side(&path), limit);
        }
    }
}
