//! The only file that opens the outbox database, and the only thread-bound owner of its connection.
//!
//! WAL with `synchronous=FULL`: a commit that returned survives a power cut. The lock is exclusive, so that the
//! wal-index lives in memory: there is no `-shm` file to lose, and nobody's reader can hold the log.

mod error;
mod reading;

pub use error::StoreError;

use super::file::{configure, create_private, identify, quick_check, read_side, write_side};
use super::group::Group;
use super::space::Space;
use super::writing::{group_bytes, write_group};
use super::{held_rows, rows, schema, segment};
use crate::model::Names;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Older ones can damage a database when the log is reset under a race; mended in 3.51.3 (March 2026).
const OLDEST_SQLITE: i32 = 3_051_003;
/// Names read back from the file are kept for this many epochs.
const NAMES_CACHED: usize = 4;

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
mod tests;
