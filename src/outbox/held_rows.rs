//! Rows of the table `held`, in and out.

use super::held::{Held, HeldFacts, Keys};
use super::segment::{self, Numbered, Segment};
use super::store::{Store, StoreError};
use crate::model::Timestamp;
use rusqlite::{Connection, Transaction, params};

/// Rows read for one release.
const ROWS: i64 = 8;
/// Rows looked at to make room.
const OLDEST: i64 = 64;

/// A commit whose fsync failed may have left the same row behind.
pub(super) fn put(to: &Transaction<'_>, destination: &str, held: &Held) -> Result<(), StoreError> {
    let encoded = segment::encode(&[Numbered { seq: held.seq, batch: held.batch.clone() }])?;
    let (product_key, device_key) = &held.keys;
    for s in encoded {
        to.prepare_cached(
            "INSERT OR REPLACE INTO held (destination, product_key, device_key, seq, epoch, readings, oldest, newest, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            destination,
            product_key,
            device_key,
            s.first as i64,
            s.epoch as i64,
            s.readings as i64,
            s.oldest.0,
            s.newest.0,
            s.body
        ])?;
    }
    Ok(())
}

pub(super) fn delete(from: &Transaction<'_>, ids: &[i64]) -> rusqlite::Result<()> {
    let mut delete = from.prepare_cached("DELETE FROM held WHERE id = ?1")?;
    ids.iter().try_for_each(|id| delete.execute([id]).map(drop))
}

/// Forgets those of destinations that are not configured.
pub(super) fn settle(tx: &Transaction<'_>, configured: &[&str]) -> rusqlite::Result<()> {
    let mut query = tx.prepare("SELECT DISTINCT destination FROM held")?;
    let known = query.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    for gone in known.iter().filter(|name| !configured.contains(&name.as_str())) {
        tx.execute("DELETE FROM held WHERE destination = ?1", [gone])?;
    }
    Ok(())
}

/// Copies the rows of a damaged file that can be read; they keep their numbers.
pub(super) fn carry_over(old: &Connection, to: &Transaction<'_>) -> Result<(), StoreError> {
    let Ok(mut query) = old.prepare(
        "SELECT id, destination, product_key, device_key, seq, epoch, readings, oldest, newest, body FROM held ORDER BY id",
    ) else {
        return Ok(());
    };
    let Ok(mut rows) = query.query([]) else { return Ok(()) };
    while let Ok(Some(row)) = rows.next() {
        let Ok((id, segment)) = read(row) else { continue };
        if segment::decode(&segment).is_err() {
            continue;
        }
        let Ok(names) = super::rows::read_names(old, segment.epoch) else { continue };
        super::rows::put_names(to, &names)?;
        to.execute(
            "INSERT OR REPLACE INTO held
             (id, destination, product_key, device_key, seq, epoch, readings, oldest, newest, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                id,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, String>(3)?,
                segment.first as i64,
                segment.epoch as i64,
                segment.readings as i64,
                segment.oldest.0,
                segment.newest.0,
                segment.body
            ],
        )?;
    }
    Ok(())
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, Segment)> {
    let seq = row.get::<_, i64>(4)? as u64;
    let segment = Segment {
        first: seq,
        last: seq,
        epoch: row.get::<_, i64>(5)? as u64,
        readings: row.get::<_, i64>(6)? as u64,
        oldest: Timestamp(row.get(7)?),
        newest: Timestamp(row.get(8)?),
        body: row.get(9)?,
    };
    Ok((row.get(0)?, segment))
}

fn facts(row: &rusqlite::Row<'_>, names: &[&str]) -> rusqlite::Result<Option<HeldFacts>> {
    let name: String = row.get(1)?;
    let Some(destination) = names.iter().position(|known| *known == name) else { return Ok(None) };
    Ok(Some(HeldFacts {
        id: row.get(0)?,
        destination,
        keys: (row.get(2)?, row.get(3)?),
        seq: row.get::<_, i64>(4)? as u64,
        readings: row.get::<_, i64>(5)? as u64,
        oldest: Timestamp(row.get(6)?),
        newest: Timestamp(row.get(7)?),
        bytes: row.get::<_, i64>(8)? as u64,
    }))
}

const FACTS: &str =
    "SELECT id, destination, product_key, device_key, seq, readings, oldest, newest, length(body) FROM held";

impl Store {
    /// The first rows of a device.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub(super) fn held_of(&self, destination: &str, keys: &Keys) -> Result<Vec<(i64, Segment)>, StoreError> {
        let mut query = self.connection.prepare_cached(
            "SELECT id, destination, product_key, device_key, seq, epoch, readings, oldest, newest, body FROM held
             WHERE destination = ?1 AND product_key = ?2 AND device_key = ?3 ORDER BY seq LIMIT ?4",
        )?;
        let rows = query.query_map(params![destination, keys.0, keys.1, ROWS], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The oldest rows after this one.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub(super) fn oldest_held(&self, names: &[&str], after: (u64, i64)) -> Result<Vec<HeldFacts>, StoreError> {
        let sql = format!("{FACTS} WHERE (seq, id) > (?1, ?2) ORDER BY seq, id LIMIT ?3");
        let mut query = self.connection.prepare_cached(&sql)?;
        let rows = query.query_map(params![super::rows::signed(after.0), after.1, OLDEST], |row| facts(row, names))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// All rows, without what is in them.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub(super) fn all_held(&self, names: &[&str]) -> Result<Vec<HeldFacts>, StoreError> {
        let mut query = self.connection.prepare(FACTS)?;
        let rows = query.query_map([], |row| facts(row, names))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Bytes of rows of one destination.
    ///
    /// # Errors
    /// When the disk or the file fails.
    pub(super) fn held_bytes(&self, destination: &str) -> Result<u64, StoreError> {
        let sql = "SELECT coalesce(sum(length(body)), 0) FROM held WHERE destination = ?1";
        let mut query = self.connection.prepare_cached(sql)?;
        Ok(query.query_row([destination], |row| row.get::<_, i64>(0))? as u64)
    }
}
