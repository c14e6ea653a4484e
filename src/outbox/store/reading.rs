//! What is read from the file: segments and who needs them, gaps, refused values, cursors.

use super::{Store, StoreError};
use crate::model::Timestamp;
use crate::outbox::gap::{Gap, SetAsideRow};
use crate::outbox::needs::{self, Need};
use crate::outbox::rows::{self, DestinationRow, signed};
use crate::outbox::segment::Segment;
use rusqlite::OptionalExtension;

impl Store {
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

    pub(in crate::outbox) fn destinations(&self) -> Result<Vec<DestinationRow>, StoreError> {
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

    pub(in crate::outbox) fn meta(&self, key: &str) -> Result<Option<u64>, StoreError> {
        rows::read_meta(&self.connection, key)
    }
}
