//! Which destination still needs which stored segment: the rows of the table `need`, in and out.
//!
//! A row stands for as long as its destination waits for something of the segment. A segment that nobody needs goes with
//! its last row.

use super::ranges::Ranges;
use super::rows::signed;
use super::segment::{Numbered, Segment};
use super::store::StoreError;
use super::wishes::{Census, bit};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

/// One row. The destination is known by the number the store gave its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub first: u64,
    pub last: u64,
    /// Readings of the segment that the destination wants, whether it has some of them or not.
    pub readings: u64,
    /// Readings of the segment that anybody wants.
    pub anyone: u64,
    /// Bytes that the segment takes.
    pub bytes: u64,
}

/// What each destination wants of one segment.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    pub anyone: u64,
    pub each: Vec<u64>,
}

impl Demand {
    /// Of the parcels of a segment.
    pub fn of<'a>(destinations: usize, parcels: impl Iterator<Item = &'a Census>) -> Demand {
        let mut demand = Demand { anyone: 0, each: vec![0; destinations] };
        for census in parcels {
            demand.anyone += u64::from(census.any);
            for (i, sum) in demand.each.iter_mut().enumerate().filter(|(i, _)| census.wanted_by & bit(*i) != 0) {
                *sum += u64::from(census.share(i).readings);
            }
        }
        demand
    }
}

/// The parcels of a group that went into this segment.
pub(super) fn within<'a>(
    segment: &Segment,
    parcels: &'a [Numbered],
    wanted: &'a [Census],
) -> impl Iterator<Item = &'a Census> {
    let (first, last) = (segment.first, segment.last);
    parcels.iter().zip(wanted).filter(move |(p, _)| (first..=last).contains(&p.seq)).map(|(_, census)| census)
}

pub(super) fn put(to: &Transaction<'_>, destination: i64, need: &Need) -> rusqlite::Result<()> {
    to.prepare_cached(
        "INSERT OR REPLACE INTO need (destination, first, last, readings, anyone, bytes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![
        destination,
        need.first as i64,
        need.last as i64,
        need.readings as i64,
        need.anyone as i64,
        need.bytes as i64
    ])
    .map(drop)
}

/// Takes away the rows of everything the destination is done with. Returns their segments with their bytes.
pub(super) fn take_done(from: &Transaction<'_>, destination: i64, done: &Ranges) -> rusqlite::Result<Vec<(i64, u64)>> {
    let mut query = from.prepare_cached(
        "DELETE FROM need WHERE destination = ?1 AND first BETWEEN ?2 AND ?3 AND last <= ?3 RETURNING first, bytes",
    )?;
    let mut taken = Vec::new();
    for (first, last) in done.iter() {
        let rows = query.query_map([destination, signed(first), signed(last)], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)? as u64))
        })?;
        for row in rows {
            taken.push(row?);
        }
    }
    Ok(taken)
}

/// Takes away one row, if it is there. Returns its bytes.
pub(super) fn take(from: &Transaction<'_>, destination: i64, first: u64) -> rusqlite::Result<Option<u64>> {
    from.prepare_cached("DELETE FROM need WHERE destination = ?1 AND first = ?2 RETURNING bytes")?
        .query_row([destination, signed(first)], |row| Ok(row.get::<_, i64>(0)? as u64))
        .optional()
}

/// Lets go of a segment if nobody needs it any more.
pub(super) fn drop_if_idle(from: &Transaction<'_>, targets: &[i64], first: i64) -> rusqlite::Result<()> {
    let mut exists = from.prepare_cached("SELECT 1 FROM need WHERE destination = ?1 AND first = ?2")?;
    for target in targets {
        if exists.exists([*target, first])? {
            return Ok(());
        }
    }
    from.prepare_cached("DELETE FROM segment WHERE first = ?1")?.execute([first]).map(drop)
}

fn to_need(row: &rusqlite::Row<'_>) -> rusqlite::Result<Need> {
    let number = |i| row.get::<_, i64>(i).map(|n| n as u64);
    Ok(Need { first: number(0)?, last: number(1)?, readings: number(2)?, anyone: number(3)?, bytes: number(4)? })
}

/// The first row that reaches behind `from`.
pub(super) fn next(from: &Connection, destination: i64, at: u64) -> Result<Option<Need>, StoreError> {
    let mut query = from.prepare_cached(
        "SELECT first, last, readings, anyone, bytes FROM need WHERE destination = ?1 AND last >= ?2
         AND first >= coalesce((SELECT max(first) FROM need WHERE destination = ?1 AND first <= ?2), 0)
         ORDER BY first LIMIT 1",
    )?;
    Ok(query.query_row([destination, signed(at)], to_need).optional()?)
}

/// The row of one segment.
pub(super) fn of_segment(from: &Connection, destination: i64, first: u64) -> Result<Option<Need>, StoreError> {
    let mut query = from.prepare_cached(
        "SELECT first, last, readings, anyone, bytes FROM need WHERE destination = ?1 AND first = ?2",
    )?;
    Ok(query.query_row([destination, signed(first)], to_need).optional()?)
}

/// The last number before `first` that is kept for the destination.
pub(super) fn last_before(from: &Connection, destination: i64, first: u64) -> Result<u64, StoreError> {
    let mut query =
        from.prepare_cached("SELECT last FROM need WHERE destination = ?1 AND first < ?2 ORDER BY first DESC LIMIT 1")?;
    let last = query.query_row([destination, signed(first)], |row| row.get::<_, i64>(0)).optional()?;
    Ok(last.unwrap_or(0) as u64)
}

/// Bytes kept for a destination and for none of `others`.
pub(super) fn bytes_alone(from: &Connection, destination: i64, others: &[i64]) -> Result<u64, StoreError> {
    let mut query = from.prepare_cached(&alone("sum(bytes)", others, ""))?;
    Ok(query.query_row([destination], |row| row.get::<_, Option<i64>>(0))?.unwrap_or(0) as u64)
}

/// The oldest rows kept for a destination and for none of `others`.
pub(super) fn oldest_alone(
    from: &Connection,
    destination: i64,
    others: &[i64],
    limit: usize,
) -> Result<Vec<Need>, StoreError> {
    let columns = "first, last, readings, anyone, bytes";
    let mut query = from.prepare_cached(&alone(columns, others, &format!("ORDER BY first LIMIT {limit}")))?;
    Ok(query.query_map([destination], to_need)?.collect::<Result<_, _>>()?)
}

fn alone(columns: &str, others: &[i64], order: &str) -> String {
    let mut sql = format!("SELECT {columns} FROM need AS mine WHERE destination = ?1");
    for other in others {
        let nobody = "NOT EXISTS (SELECT 1 FROM need AS other WHERE other.destination =";
        sql.push_str(&format!(" AND {nobody} {other} AND other.first = mine.first)"));
    }
    format!("{sql} {order}")
}
