//! Rows of the outbox's tables, in and out. Every function takes an open connection or transaction.

use super::gap::{Gap, Reason, SetAsideRow};
use super::segment::Segment;
use super::store::StoreError;
use crate::model::{Names, Timestamp};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, params};

/// Refused values kept, gaps kept.
pub(super) const SET_ASIDE_ROWS: i64 = 10_000;
pub(super) const GAP_ROWS: i64 = 10_000;

pub(super) fn to_segment(row: &Row<'_>) -> rusqlite::Result<Segment> {
    Ok(Segment {
        first: row.get::<_, i64>(0)? as u64,
        last: row.get::<_, i64>(1)? as u64,
        epoch: row.get::<_, i64>(2)? as u64,
        readings: row.get::<_, i64>(3)? as u64,
        oldest: Timestamp(row.get(4)?),
        newest: Timestamp(row.get(5)?),
        body: row.get(6)?,
    })
}

pub(super) fn put_segment(to: &Transaction<'_>, s: &Segment) -> rusqlite::Result<()> {
    to.prepare_cached(
        "INSERT OR REPLACE INTO segment (first, last, epoch, readings, oldest, newest, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![s.first as i64, s.last as i64, s.epoch as i64, s.readings as i64, s.oldest.0, s.newest.0, s.body])
    .map(drop)
}

/// As [`put_segment`]; false when the quota leaves no room for it.
pub(super) fn put_segment_if_fits(to: &Transaction<'_>, segment: &Segment) -> rusqlite::Result<bool> {
    match put_segment(to, segment) {
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::DiskFull) => Ok(false),
        other => other.map(|()| true),
    }
}

pub(super) fn put_names(to: &Transaction<'_>, names: &Names) -> Result<(), StoreError> {
    let known = to.prepare_cached("SELECT 1 FROM names WHERE epoch = ?1")?.exists([names.epoch as i64])?;
    if !known {
        let json = serde_json::to_vec(names).expect("names are plain strings");
        let body = zstd::bulk::compress(&json, 3)?;
        to.execute("INSERT INTO names (epoch, body) VALUES (?1, ?2)", params![names.epoch as i64, body])?;
    }
    Ok(())
}

pub(super) fn read_names(from: &Connection, epoch: u64) -> Result<Names, StoreError> {
    let damaged = || StoreError::Damaged(format!("names of epoch {epoch} are unreadable"));
    let body: Option<Vec<u8>> =
        from.query_row("SELECT body FROM names WHERE epoch = ?1", [epoch as i64], |row| row.get(0)).optional()?;
    let json = zstd::stream::decode_all(body.ok_or_else(damaged)?.as_slice()).map_err(|_| damaged())?;
    serde_json::from_slice(&json).map_err(|_| damaged())
}

/// A destination as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DestinationRow {
    pub(super) name: String,
    pub(super) done: String,
    /// 0: it has none yet.
    pub(super) id: i64,
    /// The selection its rows of `need` were made with.
    pub(super) selection: String,
}

pub(super) fn put_destination(to: &Transaction<'_>, row: &DestinationRow) -> rusqlite::Result<()> {
    to.prepare_cached(
        "INSERT INTO destination (name, done, id, selection) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (name) DO UPDATE SET done = ?2, id = ?3, selection = ?4",
    )?
    .execute(params![row.name, row.done, row.id, row.selection])
    .map(drop)
}

pub(super) fn put_done(to: &Transaction<'_>, id: i64, done: &str) -> rusqlite::Result<()> {
    to.prepare_cached("UPDATE destination SET done = ?2 WHERE id = ?1")?.execute(params![id, done]).map(drop)
}

pub(super) fn put_set_aside(to: &Transaction<'_>, r: &SetAsideRow) -> rusqlite::Result<()> {
    let mut insert = to.prepare_cached(
        "INSERT OR REPLACE INTO set_aside (destination, seq, device, product_key, device_key, point, time, value, quality, code, reason, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    insert.execute(params![
        r.destination,
        r.seq as i64,
        r.device,
        r.product_key,
        r.device_key,
        r.point,
        r.time,
        r.value,
        r.quality,
        r.code,
        r.reason,
        r.at
    ])?;
    to.prepare_cached("DELETE FROM set_aside WHERE id <= (SELECT max(id) FROM set_aside) - ?1")?
        .execute([SET_ASIDE_ROWS])
        .map(drop)
}

pub(super) fn put_gap(to: &Transaction<'_>, gap: &Gap) -> rusqlite::Result<()> {
    let last = to
        .prepare_cached(
            "SELECT destination, reason, first, last, from_time, to_time, readings, id FROM gap
             WHERE destination = ?1 ORDER BY id DESC LIMIT 1",
        )?
        .query_row([&gap.destination], |row| Ok((to_gap(row)?, row.get::<_, i64>(7)?)))
        .optional()?;
    let mut merged = gap.clone();
    let mut id = None;
    if let Some((mut before, before_id)) = last
        && before.merge(gap)
    {
        (merged, id) = (before, Some(before_id));
    }
    to.prepare_cached(
        "INSERT OR REPLACE INTO gap (id, destination, reason, first, last, from_time, to_time, readings)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        id,
        merged.destination,
        merged.reason.as_str(),
        merged.first as i64,
        merged.last as i64,
        merged.from,
        merged.to,
        merged.readings as i64
    ])?;
    to.prepare_cached("DELETE FROM gap WHERE id <= (SELECT max(id) FROM gap) - ?1")?.execute([GAP_ROWS]).map(drop)
}

fn to_gap(row: &Row<'_>) -> rusqlite::Result<Gap> {
    Ok(Gap {
        destination: row.get(0)?,
        reason: Reason::from_text(&row.get::<_, String>(1)?),
        first: row.get::<_, i64>(2)? as u64,
        last: row.get::<_, i64>(3)? as u64,
        from: row.get(4)?,
        to: row.get(5)?,
        readings: row.get::<_, i64>(6)? as u64,
    })
}

/// The newest gaps, the newest last.
pub(super) fn newest_gaps(from: &Connection, limit: usize) -> Result<Vec<Gap>, StoreError> {
    let mut query = from.prepare(
        "SELECT destination, reason, first, last, from_time, to_time, readings FROM gap ORDER BY id DESC LIMIT ?1",
    )?;
    let mut gaps = query.query_map([limit as i64], to_gap)?.collect::<Result<Vec<_>, _>>()?;
    gaps.reverse();
    Ok(gaps)
}

/// The newest refused values, the newest last.
pub(super) fn newest_set_aside(from: &Connection, limit: usize) -> Result<Vec<SetAsideRow>, StoreError> {
    let mut query = from.prepare(
        "SELECT destination, seq, device, product_key, device_key, point, time, value, quality, code, reason, at
         FROM set_aside ORDER BY id DESC LIMIT ?1",
    )?;
    let rows = query.query_map([limit as i64], |row| {
        Ok(SetAsideRow {
            destination: row.get(0)?,
            seq: row.get::<_, i64>(1)? as u64,
            device: row.get(2)?,
            product_key: row.get(3)?,
            device_key: row.get(4)?,
            point: row.get(5)?,
            time: row.get(6)?,
            value: row.get(7)?,
            quality: row.get(8)?,
            code: row.get(9)?,
            reason: row.get(10)?,
            at: row.get(11)?,
        })
    })?;
    let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
    rows.reverse();
    Ok(rows)
}

pub(super) fn all_destinations(from: &Connection) -> Result<Vec<DestinationRow>, StoreError> {
    let mut query = from.prepare("SELECT name, done, id, selection FROM destination")?;
    let rows = query.query_map([], |row| {
        Ok(DestinationRow { name: row.get(0)?, done: row.get(1)?, id: row.get(2)?, selection: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Names and what they are done with, also from a file of an older engine.
pub(super) fn all_cursors(from: &Connection) -> Result<Vec<(String, String)>, StoreError> {
    let mut query = from.prepare("SELECT name, done FROM destination")?;
    Ok(query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}

pub(super) fn put_meta(to: &Transaction<'_>, key: &str, value: u64) -> rusqlite::Result<()> {
    to.execute(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
        params![key, signed(value)],
    )
    .map(drop)
}

pub(super) fn read_meta(from: &Connection, key: &str) -> Result<Option<u64>, StoreError> {
    let value =
        from.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get::<_, i64>(0)).optional()?;
    Ok(value.map(|v| v as u64))
}

pub(super) fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
