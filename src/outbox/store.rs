//! The only file that opens the outbox database, and the only thread-bound owner of its connection.
//!
//! WAL with `synchronous=FULL`: a commit that returned survives a power cut. The lock is exclusive, so that the
//! wal-index lives in memory: there is no `-shm` file to lose, and nobody's reader can hold the log.

use super::file::{configure, create_private, identify, is_filled, quick_check, read_side, write_side};
use super::gap::{Gap, SetAsideRow};
use super::group::Group;
use super::held_rows;
use super::needs::{self, Need};
use super::rows::{self, DestinationRow, signed};
use super::schema;
use super::segment::{self, Segment};
use super::space::Space;
use super::writing::{group_bytes, write_group};
use crate::model::{Names, Timestamp};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Older ones can damage a database when the log is reset under a race; mended in 3.51.3 (March 2026).
const OLDEST_SQLITE: i32 = 3_051_003;
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
    #[error(
        "written by a newer engine (format {found}, this engine writes {}); nothing was changed",
        schema::version()
    )]
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

impl StoreError {
    /// The disk of this file has no room; anything else is another trouble.
    #[must_use]
    pub fn is_no_room(&self, path: &Path) -> bool {
        match self {
            StoreError::Full(_) => true,
            StoreError::File(error) => error.kind() == std::io::ErrorKind::StorageFull,
            // A log that can not be made has no word for why.
            StoreError::Disk(_) => is_filled(path),
            _ => false,
        }
    }
}

pub struct Store {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    pub(super) space: Space,
    pub(super) page_size: u64,
    names: HashMap<u64, Arc<Names>>,
    seq_limit: u64,
    is_open: bool,
    /// The numbers of the destinations in the table `need`, in their order.
    targets: Vec<i64>,
    names_of: Vec<String>,
    flow: Vec<Flow>,
}

/// Bytes of segments that one destination began and ceased to need, since the store was opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    pub begun: u64,
    pub ceased: u64,
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
            targets: Vec::new(),
            names_of: Vec::new(),
            flow: Vec::new(),
        };
        store.limit_pages()?;
        store.seq_limit = store.meta("seq_limit")?.unwrap_or(0).max(read_side(path));
        Ok(store)
    }

    /// Without a file, as after [`Store::let_go`]: there is no room for it yet. `seq_limit`: numbers below it may have been
    /// used.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn absent(path: &Path, space: Space, seq_limit: u64) -> Result<Store, StoreError> {
        Ok(Store {
            connection: Connection::open_in_memory()?,
            path: path.to_owned(),
            space,
            page_size: 4096,
            names: HashMap::new(),
            seq_limit,
            is_open: false,
            targets: Vec::new(),
            names_of: Vec::new(),
            flow: Vec::new(),
        })
    }

    /// The numbers that a file which can not be opened may have used, and what its log may have added; 0 when it tells none.
    pub(super) fn limit_on_disk(path: &Path) -> u64 {
        let told = Store::open_unchanged(path).and_then(|file| rows::read_meta(&file, "seq_limit"));
        told.ok().flatten().unwrap_or(0)
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

    /// A file that nobody writes, for looking at it: no lock is taken and nothing is written, not even beside it.
    ///
    /// # Errors
    /// When it is no database.
    pub fn open_unchanged(path: &Path) -> Result<Connection, StoreError> {
        let mut name = String::new();
        for byte in path.as_os_str().as_encoded_bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => name.push(char::from(*byte)),
                other => name.push_str(&format!("%{other:02X}")),
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Ok(Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)?)
    }

    /// A copy with its log, for looking at it; it may be changed.
    ///
    /// # Errors
    /// When it is no database.
    pub fn open_copy(path: &Path) -> Result<Connection, StoreError> {
        let connection = connect(path)?;
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE;")?;
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
        let (targets, flow) = (std::mem::take(&mut self.targets), std::mem::take(&mut self.flow));
        let names_of = std::mem::take(&mut self.names_of);
        *self = Store { seq_limit, targets, names_of, flow, ..fresh };
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
        let mut flow = self.flow.clone();
        write_group(&tx, group, &segments, &self.targets, &mut flow)?;
        group.held.iter().try_for_each(|held| held_rows::put(&tx, &self.names_of[held.destination], held))?;
        held_rows::delete(&tx, &group.unheld)?;
        if group.seq_limit > self.seq_limit {
            rows::put_meta(&tx, "seq_limit", group.seq_limit)?;
        }
        tx.commit()?;
        self.flow = flow;
        self.seq_limit = group.seq_limit.max(self.seq_limit);
        Ok(())
    }

    /// Tells the destinations' numbers, in their order.
    pub(super) fn aim(&mut self, targets: Vec<i64>, names: Vec<String>) {
        self.names_of = names;
        self.flow = vec![Flow::default(); targets.len()];
        self.targets = targets;
    }

    /// The destinations' names, in their order.
    pub(super) fn names_of(&self) -> Vec<&str> {
        self.names_of.iter().map(String::as_str).collect()
    }

    pub(super) fn targets(&self) -> &[i64] {
        &self.targets
    }

    #[must_use]
    pub fn flow(&self) -> &[Flow] {
        &self.flow
    }

    /// The first segment that reaches into `from..until` and that a destination still needs.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn segment_for(&self, destination: usize, from: u64, until: u64) -> Result<Option<Segment>, StoreError> {
        let need = needs::next(&self.connection, self.targets[destination], from)?;
        let Some(need) = need.filter(|need| need.first < until) else { return Ok(None) };
        let found = self.segment_at(need.first, need.first + 1)?.filter(|segment| segment.first == need.first);
        let missing = || StoreError::Damaged(format!("segment {} is missing", need.first));
        found.ok_or_else(missing).map(Some)
    }

    /// What each destination needs of a segment, and the last number before it that is kept for each.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn needs_of(&self, first: u64) -> Result<Vec<Option<Need>>, StoreError> {
        self.targets.iter().map(|target| needs::of_segment(&self.connection, *target, first)).collect()
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

    /// Writes down names that somebody still knows, where damage took them from the file.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn restore_names(&mut self, known: &[Arc<Names>]) -> Result<(), StoreError> {
        let tx = self.connection.transaction()?;
        known.iter().try_for_each(|names| rows::put_names(&tx, names))?;
        Ok(tx.commit()?)
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
                "DELETE FROM names WHERE epoch = ?1 AND NOT EXISTS (SELECT 1 FROM segment WHERE epoch = ?1)
                 AND NOT EXISTS (SELECT 1 FROM held WHERE epoch = ?1)",
                [*epoch as i64],
            )?;
            self.names.remove(epoch);
        }
        Ok(())
    }

    /// The newest gaps, the newest last.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn gaps(&self, limit: usize) -> Result<Vec<Gap>, StoreError> {
        rows::newest_gaps(&self.connection, limit)
    }

    /// The newest refused values, the newest last.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub fn set_aside(&self, limit: usize) -> Result<Vec<SetAsideRow>, StoreError> {
        rows::newest_set_aside(&self.connection, limit)
    }

    pub(super) fn destinations(&self) -> Result<Vec<DestinationRow>, StoreError> {
        rows::all_destinations(&self.connection)
    }

    /// # Errors
    /// When the disk or the file fails.
    pub fn highest_stored(&self) -> Result<u64, StoreError> {
        let highest = self
            .connection
            .query_row("SELECT last FROM segment ORDER BY first DESC LIMIT 1", [], |row| row.get::<_, i64>(0));
        let held = "SELECT coalesce(max(seq), 0) FROM held";
        let held = self.connection.query_row(held, [], |row| row.get::<_, i64>(0))?;
        Ok(highest.optional()?.unwrap_or(0).max(held) as u64)
    }

    pub(super) fn meta(&self, key: &str) -> Result<Option<u64>, StoreError> {
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

/// A file that wants readers of the next schema. For tests.
#[doc(hidden)]
pub fn need_the_next(path: &Path) {
    let mut connection = connect(path).expect("a test's file opens");
    schema::need_the_next(&mut connection).expect("a test's file takes it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Selection, Value};
    use crate::outbox::ranges::Ranges;
    use crate::outbox::segment::Numbered;
    use crate::outbox::start;
    use crate::outbox::wishes::{Census, Judge};

    const SPACE: Space = Space { quota: 64 << 20, reserve: 0 };

    fn group(seqs: std::ops::Range<u64>, names: &Names) -> Group {
        let parcel = |seq: u64| {
            let mut builder = BatchBuilder::default();
            builder.begin(0, Timestamp(seq as i64));
            builder.push(0, 0, &Value::Int(seq as i64));
            Numbered { seq, batch: builder.finish(names.epoch).unwrap() }
        };
        let parcels: Vec<Numbered> = seqs.map(parcel).collect();
        let wanted = parcels.iter().map(|p| Census::whole(&p.batch, 1)).collect();
        Group { parcels, wanted, names: vec![Arc::new(names.clone())], ..Group::default() }
    }

    fn load(store: &mut Store) -> crate::outbox::tail::Loaded {
        start::load(store, &["cloud".into()], &mut Judge::new(vec![Selection::default()].into())).unwrap()
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
            tx.execute("INSERT INTO destination VALUES ('cloud', '0-9 50-59')", []).unwrap();
            rows::put_meta(&tx, "seq_limit", 1000).unwrap();
            tx.commit().unwrap();
        }
        let mut store = Store::open(&path, SPACE).unwrap();
        let loaded = load(&mut store);
        assert_eq!((loaded.next_seq, loaded.waiting), (1000, 85));
        assert_eq!(store.number("user_version").unwrap(), schema::version() as u64);
        assert!(store.set_aside(9).unwrap().is_empty());
        let segment = store.segment_at(50, 1000).unwrap().unwrap();
        assert_eq!(segment::decode(&segment).unwrap().len(), 100);
        assert_eq!(*store.names(names.epoch).unwrap(), names);
    }

    #[test]
    fn what_a_failed_commit_left_behind_is_written_again_and_not_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let names = Names::new(Vec::new());
        let mut store = Store::open(&folder.path().join("outbox.db"), SPACE).unwrap();
        load(&mut store);
        store.commit(&group(1..50, &names)).unwrap();
        // Visible, but its fsync is said to have failed: the connection is opened again, the group grew meanwhile.
        store.commit(&group(50..60, &names)).unwrap();
        store.reopen().unwrap();
        store.commit(&group(50..80, &names)).unwrap();
        let mut judge = Judge::new(vec![Selection::default()].into());
        let (each, all) = start::waiting(&mut store, &mut judge, &[&Ranges::up_to(0)]).unwrap();
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
        load(&mut store);
        store.commit(&group(1..50, &names)).unwrap();
        store.let_go().unwrap();
        assert!(!store.is_open() && store.commit(&group(50..60, &names)).is_err());
        store.reopen().unwrap();
        store.commit(&group(50..60, &names)).unwrap();
        assert_eq!(store.highest_stored().unwrap(), 59);
    }
}
