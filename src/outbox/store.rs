//! The only file that opens the outbox database, and the only thread-bound owner of its connection.
//!
//! WAL with `synchronous=FULL`: a commit that returned survives a power cut. The lock is exclusive, so that the
//! wal-index lives in memory: there is no `-shm` file to lose, and nobody's reader can hold the log.

use super::gap::{Gap, Reason, SetAsideRow};
use super::group::Group;
use super::rows::{self, signed};
use super::schema;
use super::segment::{self, Segment};
use crate::model::{Names, Timestamp};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Older ones can damage a database when the log is reset under a race; mended in 3.51.3 (March 2026).
const OLDEST_SQLITE: i32 = 3_051_003;
/// The whole-file check is bounded: what it does not reach in time is found by the segments' own checksums.
const CHECK_TIME: Duration = Duration::from_secs(2);
/// The log is written back when it has grown to this, or to a quarter of a small quota.
const WAL_BYTES: u64 = 4 << 20;
/// Pages given back at a time.
const VACUUM_PAGES: u64 = 1024;
/// Names read back from the file are kept for this many epochs.
const NAMES_CACHED: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("no room")]
    Full(#[source] rusqlite::Error),
    #[error("disk failed")]
    Disk(#[source] rusqlite::Error),
    #[error("file is damaged: {0}")]
    Damaged(String),
    #[error("written by a newer engine (format {found}, this engine writes {}); nothing was changed", schema::VERSION)]
    Newer { found: usize },
    #[error("in use by another process")]
    InUse,
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("database")]
    Other(#[source] rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(e: rusqlite::Error) -> StoreError {
        let extended = e.sqlite_error().map(|e| e.extended_code);
        match e.sqlite_error_code() {
            // A page that the disk can not read back: a worn block. What lies on the others is carried over.
            _ if extended == Some(rusqlite::ffi::SQLITE_IOERR_CORRUPTFS) => StoreError::Damaged(e.to_string()),
            Some(ErrorCode::DiskFull) => StoreError::Full(e),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(e.to_string()),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse,
            Some(ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => StoreError::Disk(e),
            _ => StoreError::Other(e),
        }
    }
}

/// How much disk may be used.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub quota: u64,
    pub reserve: u64,
}

pub struct Store {
    pub(super) connection: Connection,
    path: PathBuf,
    space: Space,
    page_size: u64,
    names: HashMap<u64, Arc<Names>>,
    seq_limit: u64,
    is_open: bool,
}

impl Store {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// `Damaged` when it must be set aside; everything else leaves it as it is.
    pub fn open(path: &Path, space: Space) -> Result<Store, StoreError> {
        assert!(rusqlite::version_number() >= OLDEST_SQLITE, "SQLite {} is too old to be trusted", rusqlite::version());
        create_private(path)?;
        let mut connection = connect(path)?;
        identify(&connection)?;
        configure(&connection)?;
        schema::migrate(&mut connection)?;
        quick_check(&connection)?;
        let page_size = connection.pragma_query_value(None, "page_size", |row| row.get::<_, i64>(0))? as u64;
        let mut store = Store {
            connection,
            path: path.to_owned(),
            space,
            page_size,
            names: HashMap::new(),
            seq_limit: 0,
            is_open: true,
        };
        store.limit_pages()?;
        store.seq_limit = store.meta("seq_limit")?.unwrap_or(0).max(read_side(path));
        Ok(store)
    }

    /// The connection to a file set aside, for reading what is left of it.
    ///
    /// # Errors
    /// When not even the first page is readable.
    pub fn open_damaged(path: &Path) -> Result<Connection, StoreError> {
        let connection = connect(path)?;
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA writable_schema = ON;")?;
        Ok(connection)
    }

    /// A failed fsync may have thrown away pages that SQLite believes written: only a new connection reads what is there.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        self.let_go()?;
        let fresh = Store::open(&self.path, self.space)?;
        let seq_limit = self.seq_limit.max(fresh.seq_limit);
        *self = Store { seq_limit, ..fresh };
        Ok(())
    }

    /// Closes the file. Until it is opened again, everything asked of it fails.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn let_go(&mut self) -> Result<(), StoreError> {
        let nothing = Connection::open_in_memory()?;
        drop(std::mem::replace(&mut self.connection, nothing));
        self.is_open = false;
        Ok(())
    }

    /// False after [`Store::let_go`]: its errors then say nothing of the disk.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Numbers below this may have been used.
    #[must_use]
    pub fn seq_limit(&self) -> u64 {
        self.seq_limit
    }

    pub(super) fn raise_seq_limit(&mut self, limit: u64) {
        self.seq_limit = self.seq_limit.max(limit);
    }

    /// Writes a group in one transaction. When this returns, it survives a power cut.
    ///
    /// # Errors
    /// Nothing of the group may be counted as stored.
    pub fn commit(&mut self, group: &Group) -> Result<(), StoreError> {
        let segments = segment::encode(&group.parcels)?;
        if group.seq_limit > self.seq_limit {
            write_side(&self.path, group.seq_limit)?;
        }
        self.write_back(group_bytes(group))?;
        let tx = self.connection.transaction()?;
        if let Some(first) = group.parcels.first() {
            // What a commit left behind whose fsync failed; it was never counted as stored.
            tx.prepare_cached("DELETE FROM segment WHERE first >= ?1")?.execute([first.seq as i64])?;
        }
        let mut drop_one = tx.prepare_cached("DELETE FROM segment WHERE first = ?1")?;
        for first in &group.drops {
            drop_one.execute([*first as i64])?;
        }
        drop(drop_one);
        let mut finish = tx.prepare_cached("DELETE FROM segment WHERE first BETWEEN ?1 AND ?2 AND last <= ?2")?;
        for (first, last) in &group.finished {
            finish.execute([signed(*first), signed(*last)])?;
        }
        drop(finish);
        for names in &group.names {
            rows::put_names(&tx, names)?;
        }
        for segment in &segments {
            rows::put_segment(&tx, segment)?;
        }
        for (name, done) in &group.cursors {
            rows::put_destination(&tx, name, done)?;
        }
        group.set_aside.iter().try_for_each(|row| rows::put_set_aside(&tx, row))?;
        group.gaps.iter().try_for_each(|gap| rows::put_gap(&tx, gap))?;
        if group.seq_limit > self.seq_limit {
            rows::put_meta(&tx, "seq_limit", group.seq_limit)?;
        }
        tx.commit()?;
        self.seq_limit = group.seq_limit.max(self.seq_limit);
        Ok(())
    }

    /// The first segment that reaches into `from..until`.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn segment_at(&self, from: u64, until: u64) -> Result<Option<Segment>, StoreError> {
        let mut query = self.connection.prepare_cached(
            "SELECT first, last, epoch, readings, oldest, newest, body FROM segment
             WHERE first >= coalesce((SELECT max(first) FROM segment WHERE first <= ?1), 0) AND last >= ?1 AND first < ?2
             ORDER BY first LIMIT 1",
        )?;
        Ok(query.query_row([signed(from), signed(until)], rows::to_segment).optional()?)
    }

    /// Time of the oldest reading on disk.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn oldest(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut query = self.connection.prepare_cached("SELECT oldest FROM segment ORDER BY first LIMIT 1")?;
        Ok(query.query_row([], |row| row.get(0).map(Timestamp)).optional()?)
    }

    /// Time of the newest reading of the first segment from `from` on.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn newest_of_segment(&self, from: u64) -> Result<Option<Timestamp>, StoreError> {
        let mut query =
            self.connection.prepare_cached("SELECT newest FROM segment WHERE first >= ?1 ORDER BY first LIMIT 1")?;
        Ok(query.query_row([signed(from)], |row| row.get(0).map(Timestamp)).optional()?)
    }

    /// Names of an epoch that has segments.
    ///
    /// # Errors
    /// `Damaged` when they are missing.
    pub fn names(&mut self, epoch: u64) -> Result<Arc<Names>, StoreError> {
        if let Some(names) = self.names.get(&epoch) {
            return Ok(names.clone());
        }
        let names = Arc::new(rows::read_names(&self.connection, epoch)?);
        if self.names.len() >= NAMES_CACHED {
            self.names.clear();
        }
        self.names.insert(epoch, names.clone());
        Ok(names)
    }

    /// Why there is no room for `need` more bytes once `freed` bytes of segments are gone, if so.
    ///
    /// # Errors
    /// When the file can not be asked.
    pub fn shortage(&self, need: u64, freed: u64) -> Result<Option<Reason>, StoreError> {
        // Worst case of the encoding, and the pages of the tables' trees.
        let need = need + need / 8 + 8 * self.page_size;
        let pages = self.number("page_count")?;
        let free = self.number("freelist_count")? * self.page_size + freed;
        let used = (pages * self.page_size).saturating_sub(free);
        if used + need > self.space.quota - self.wal_budget() {
            return Ok(Some(Reason::Quota));
        }
        // Without free pages the file must grow; the log grows in any case, by as much as it is allowed to.
        let grow = need.saturating_sub(free);
        Ok((grow > 0 && self.disk_free()? < grow).then_some(Reason::DiskFull))
    }

    /// Bytes on disk: the file with its free pages, and the log.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
        size(&self.path) + size(&beside(&self.path, "-wal"))
    }

    /// Gives a slice of free pages back to the file system. True when there is more to give.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn give_back(&mut self) -> Result<bool, StoreError> {
        let (free, pages) = (self.number("freelist_count")?, self.number("page_count")?);
        // A steady backlog reuses its pages; only a drain leaves most of them free.
        if free < 64 || free < pages / 2 {
            return Ok(false);
        }
        // One row a page: it gives back only what it is stepped through.
        let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        drop(pages);
        drop(vacuum);
        self.checkpoint()?;
        Ok(free > VACUUM_PAGES + 64)
    }

    /// Forgets names that no segment uses.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn forget_names(&mut self, current: &[u64]) -> Result<(), StoreError> {
        let epochs: Vec<u64> = self
            .connection
            .prepare_cached("SELECT epoch FROM names")?
            .query_map([], |row| row.get::<_, i64>(0).map(|e| e as u64))?
            .collect::<Result<_, _>>()?;
        for epoch in epochs.iter().filter(|epoch| epochs.len() > 1 && !current.contains(epoch)) {
            self.connection.execute(
                "DELETE FROM names WHERE epoch = ?1 AND NOT EXISTS (SELECT 1 FROM segment WHERE epoch = ?1)",
                [*epoch as i64],
            )?;
            self.names.remove(epoch);
        }
        Ok(())
    }

    /// Writes the whole log back and cuts it to nothing.
    ///
    /// # Errors
    /// When the disk fails; the log then still holds everything.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Gaps, the newest last.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn gaps(&self) -> Result<Vec<Gap>, StoreError> {
        rows::all_gaps(&self.connection)
    }

    /// Refused values, the newest last.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn set_aside(&self) -> Result<Vec<SetAsideRow>, StoreError> {
        rows::all_set_aside(&self.connection)
    }

    /// Name and what it is done with.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn destinations(&self) -> Result<Vec<(String, String)>, StoreError> {
        rows::all_destinations(&self.connection)
    }

    /// # Errors
    /// When the disk or the file fails.
    pub fn highest_stored(&self) -> Result<u64, StoreError> {
        let highest = self
            .connection
            .query_row("SELECT last FROM segment ORDER BY first DESC LIMIT 1", [], |row| row.get::<_, i64>(0));
        Ok(highest.optional()?.unwrap_or(0) as u64)
    }

    /// # Errors
    /// When the disk or the file fails.
    pub fn forget_destination(&self, name: &str) -> Result<(), StoreError> {
        Ok(self.connection.execute("DELETE FROM destination WHERE name = ?1", [name]).map(drop)?)
    }

    /// First and last number and readings of every segment, in order.
    ///
    /// # Errors
    /// When the disk or the file fails, or the first error of `each`.
    pub fn for_each_segment(
        &self,
        mut each: impl FnMut(u64, u64, u64) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut query = self.connection.prepare("SELECT first, last, readings FROM segment ORDER BY first")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            each(row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64)?;
        }
        Ok(())
    }

    fn write_back(&self, need: u64) -> Result<(), StoreError> {
        let wal = std::fs::metadata(beside(&self.path, "-wal")).map_or(0, |m| m.len());
        if wal > 0 && wal + need + need / 8 + 16 * self.page_size > self.wal_budget() {
            self.checkpoint()
        } else {
            Ok(())
        }
    }

    fn wal_budget(&self) -> u64 {
        WAL_BYTES.min(self.space.quota / 4)
    }

    /// SQLite itself refuses to grow beyond the quota, whatever we reckon.
    fn limit_pages(&self) -> Result<(), StoreError> {
        let pages = (self.space.quota - self.wal_budget()) / self.page_size;
        Ok(self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
    }

    /// Free bytes of the file system beyond the reserve, which is at most a tenth of a small one.
    fn disk_free(&self) -> Result<u64, StoreError> {
        let fs = rustix::fs::statvfs(self.path.parent().unwrap_or(Path::new("."))).map_err(std::io::Error::from)?;
        let reserve = self.space.reserve.min(fs.f_blocks * fs.f_frsize / 10);
        Ok((fs.f_bavail * fs.f_frsize).saturating_sub(reserve))
    }

    fn number(&self, pragma: &str) -> Result<u64, StoreError> {
        Ok(self.connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))?.max(0) as u64)
    }

    fn meta(&self, key: &str) -> Result<Option<u64>, StoreError> {
        rows::read_meta(&self.connection, key)
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Reads only: a file that is not ours, or newer than us, stays as it is.
fn identify(connection: &Connection) -> Result<(), StoreError> {
    connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE;")?;
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let found = usize::try_from(version).map_err(|_| StoreError::Damaged("negative version".into()))?;
    match (id, found, tables) {
        (0, 0, 0) => Ok(()),
        (schema::APPLICATION_ID, found, _) if found > schema::VERSION => Err(StoreError::Newer { found }),
        (schema::APPLICATION_ID, 1.., 1..) => Ok(()),
        _ => Err(StoreError::Damaged("not an outbox".into())),
    }
}

fn configure(connection: &Connection) -> Result<(), StoreError> {
    // auto_vacuum only takes on a file without tables. No mmap: a failing disk would be a SIGBUS.
    connection.execute_batch(
        "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0; PRAGMA mmap_size = 0; PRAGMA cache_size = -1024; PRAGMA temp_store = MEMORY;
         PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;",
    )?;
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if mode == "wal" { Ok(()) } else { Err(StoreError::Damaged(format!("journal mode stays {mode}"))) }
}

fn quick_check(connection: &Connection) -> Result<(), StoreError> {
    let (done, waiting) = mpsc::sync_channel::<()>(1);
    let interrupt = connection.get_interrupt_handle();
    let timer = std::thread::spawn(move || {
        if waiting.recv_timeout(CHECK_TIME) == Err(mpsc::RecvTimeoutError::Timeout) {
            interrupt.interrupt();
        }
    });
    let answer = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    drop(done);
    timer.join().expect("the timer does not panic");
    match answer {
        Ok(text) if text == "ok" => Ok(()),
        Ok(text) => Err(StoreError::Damaged(text)),
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn group_bytes(group: &Group) -> u64 {
    let rows = group.set_aside.len() * 256 + group.gaps.len() * 128;
    (group.parcels.iter().map(|p| p.batch.bytes.len() + 16).sum::<usize>() + rows) as u64
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    Ok(())
}

/// The limit of the numbers lies beside the database too: they must not repeat when that is damaged or deleted.
fn read_side(path: &Path) -> u64 {
    std::fs::read_to_string(path.with_extension("seq")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn write_side(path: &Path, limit: u64) -> std::io::Result<()> {
    use std::io::Write;
    let (target, temporary) = (path.with_extension("seq"), path.with_extension("seq.new"));
    create_private(&temporary)?;
    let mut file = std::fs::File::create(&temporary)?;
    writeln!(file, "{limit}")?;
    file.sync_all()?;
    std::fs::rename(&temporary, &target)?;
    sync_folder(path)
}

pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Value};
    use crate::outbox::ranges::Ranges;
    use crate::outbox::segment::Numbered;
    use crate::outbox::start;

    const SPACE: Space = Space { quota: 64 << 20, reserve: 0 };

    fn group(seqs: std::ops::Range<u64>, names: &Names) -> Group {
        let parcel = |seq: u64| {
            let mut builder = BatchBuilder::default();
            builder.begin(0, Timestamp(seq as i64));
            builder.push(0, 0, &Value::Int(seq as i64));
            Numbered { seq, batch: builder.finish(names.epoch).unwrap() }
        };
        Group { parcels: seqs.map(parcel).collect(), names: vec![Arc::new(names.clone())], ..Group::default() }
    }

    #[test]
    fn a_file_of_the_first_version_is_migrated_with_everything_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox.db");
        let names = Names::new(Vec::new());
        {
            let mut old = Connection::open(&path).unwrap();
            old.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;").unwrap();
            schema::migrate_to(&mut old, 1);
            let tx = old.transaction().unwrap();
            rows::put_names(&tx, &names).unwrap();
            for segment in segment::encode(&group(5..105, &names).parcels).unwrap() {
                rows::put_segment(&tx, &segment).unwrap();
            }
            rows::put_destination(&tx, "cloud", "0-9 50-59").unwrap();
            rows::put_meta(&tx, "seq_limit", 1000).unwrap();
            tx.commit().unwrap();
        }
        let mut store = Store::open(&path, SPACE).unwrap();
        let loaded = start::load(&mut store, &["cloud"]).unwrap();
        assert_eq!((loaded.next_seq, loaded.waiting), (1000, 85));
        assert_eq!(store.number("user_version").unwrap(), schema::VERSION as u64);
        assert!(store.set_aside().unwrap().is_empty());
        let segment = store.segment_at(50, 1000).unwrap().unwrap();
        assert_eq!(segment::decode(&segment).unwrap().len(), 100);
        assert_eq!(*store.names(names.epoch).unwrap(), names);
    }

    #[test]
    fn what_a_failed_commit_left_behind_is_written_again_and_not_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let names = Names::new(Vec::new());
        let mut store = Store::open(&folder.path().join("outbox.db"), SPACE).unwrap();
        store.commit(&group(1..50, &names)).unwrap();
        // Visible, but its fsync is said to have failed: the connection is opened again, the group grew meanwhile.
        store.commit(&group(50..60, &names)).unwrap();
        store.reopen().unwrap();
        store.commit(&group(50..80, &names)).unwrap();
        let (each, all) = start::waiting(&store, &[&Ranges::up_to(0)]).unwrap();
        assert_eq!((each, all), (vec![79], 79));
    }

    #[test]
    fn an_unreadable_page_is_damage_and_a_failed_fsync_is_not() {
        use rusqlite::ffi;
        let error = |code| StoreError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(matches!(error(ffi::SQLITE_IOERR_CORRUPTFS), StoreError::Damaged(_)));
        assert!(matches!(error(ffi::SQLITE_IOERR_FSYNC), StoreError::Disk(_)));
        assert!(matches!(error(ffi::SQLITE_IOERR_WRITE), StoreError::Disk(_)));
    }

    #[test]
    fn a_connection_that_was_let_go_answers_nothing_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let names = Names::new(Vec::new());
        let mut store = Store::open(&folder.path().join("outbox.db"), SPACE).unwrap();
        store.commit(&group(1..50, &names)).unwrap();
        store.let_go().unwrap();
        assert!(!store.is_open() && store.commit(&group(50..60, &names)).is_err());
        store.reopen().unwrap();
        store.commit(&group(50..60, &names)).unwrap();
        assert_eq!(store.highest_stored().unwrap(), 59);
    }
}
