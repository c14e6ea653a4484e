//! How much disk the outbox takes: quota, reserve, the log, and what is given back.

use super::file::beside;
use super::gap::Reason;
use super::store::{Store, StoreError};
use std::path::Path;

/// The log is written back when it has grown to this, or to a quarter of a small quota.
const WAL_BYTES: u64 = 4 << 20;
/// Pages given back at a time.
const VACUUM_PAGES: u64 = 1024;

/// How much disk may be used.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    pub quota: u64,
    pub reserve: u64,
}

impl Store {
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

    /// Writes the whole log back and cuts it to nothing.
    ///
    /// # Errors
    /// When the disk fails; the log then still holds everything.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    pub(super) fn write_back(&self, need: u64) -> Result<(), StoreError> {
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
    pub(super) fn limit_pages(&self) -> Result<(), StoreError> {
        let pages = (self.space.quota - self.wal_budget()) / self.page_size;
        Ok(self.connection.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
    }

    /// Free bytes of the file system beyond the reserve, which is at most a tenth of a small one.
    fn disk_free(&self) -> Result<u64, StoreError> {
        let fs = rustix::fs::statvfs(self.path.parent().unwrap_or(Path::new("."))).map_err(std::io::Error::from)?;
        let reserve = self.space.reserve.min(fs.f_blocks * fs.f_frsize / 10);
        Ok((fs.f_bavail * fs.f_frsize).saturating_sub(reserve))
    }

    pub(super) fn number(&self, pragma: &str) -> Result<u64, StoreError> {
        Ok(self.connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))?.max(0) as u64)
    }
}
