//! Sets a damaged file aside and carries over what can still be read, row by row.

use super::file::{self, beside};
use super::gap::{Gap, Reason};
use super::held_rows;
use super::needs;
use super::ranges::Ranges;
use super::rows::{self, DestinationRow};
use super::segment::{self, Segment};
use super::space::Space;
use super::start::UNKNOWN;
use super::store::{Store, StoreError};
use crate::model::Timestamp;
use rusqlite::{Connection, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What became of a damaged file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Quarantine {
    pub file: PathBuf,
    pub problem: String,
    pub segments_saved: u64,
    pub readings_saved: u64,
    /// Readings of damaged segments that a destination waited for, found at start. Rows that could not be reached are not
    /// in it: nobody knows them.
    pub readings_lost: u64,
}

/// Renames the damaged file and makes a new one from its readable rows. `tell`: what is lost becomes a gap;
/// a running outbox knows better what it had and tells itself.
///
/// # Errors
/// When the folder does not take a new file.
pub fn replace(
    path: &Path,
    space: Space,
    problem: String,
    now: Timestamp,
    tell: bool,
) -> Result<(Store, Quarantine), StoreError> {
    let file = set_aside_file(path, now)?;
    let mut store = Store::open(path, space)?;
    let old = Store::open_damaged(&file);
    let mut quarantine = Quarantine { file, problem, segments_saved: 0, readings_saved: 0, readings_lost: 0 };
    if let Ok(old) = old {
        carry_over(&old, &mut store, &mut quarantine, tell.then_some(now))?;
    }
    Ok((store, quarantine))
}

/// One damaged file is kept, the newest: each may be as large as the quota.
fn set_aside_file(path: &Path, now: Timestamp) -> Result<PathBuf, StoreError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    for entry in std::fs::read_dir(folder)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("outbox.db.damaged-") {
            std::fs::remove_file(entry.path())?;
        }
    }
    let file = beside(path, &format!(".damaged-{}", now.0));
    std::fs::rename(path, &file)?;
    for (suffix, keep) in [("-wal", true), ("-shm", false), ("-journal", true)] {
        let (from, to) = (beside(path, suffix), beside(&file, suffix));
        match if keep { std::fs::rename(&from, &to) } else { std::fs::remove_file(&from) } {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
    }
    file::sync_folder(path)?;
    Ok(file)
}

fn carry_over(
    old: &Connection,
    new: &mut Store,
    quarantine: &mut Quarantine,
    tell: Option<Timestamp>,
) -> Result<(), StoreError> {
    let segments = Segments::read(old);
    let destinations = rows::all_cursors(old).unwrap_or_default();
    let ids = rows::all_destinations(old).unwrap_or_default();
    let limit = rows::read_meta(old, "seq_limit").ok().flatten().unwrap_or(0);
    let highest = segments.good.keys().chain(segments.bad.iter().map(|s| &s.last)).copied().max().unwrap_or(0);
    let limit = limit.max(new.seq_limit()).max(highest + 1).min(i64::MAX as u64 / 2);

    let tx = new.connection.transaction()?;
    for first in segments.good.keys() {
        let Ok(segment) = read_one(old, *first) else { continue };
        if rows::put_segment_if_fits(&tx, &segment)? {
            quarantine.segments_saved += 1;
            quarantine.readings_saved += segment.readings;
        }
    }
    for epoch in segments.good.values() {
        if let Ok(names) = rows::read_names(old, *epoch) {
            rows::put_names(&tx, &names)?;
        }
    }
    held_rows::carry_over(old, &tx)?;
    for (name, done) in &destinations {
        if Ranges::from_text(done).is_some() {
            // Who needs what is counted again when the file is opened.
            let (name, done, selection) = (name.clone(), done.clone(), UNKNOWN.to_owned());
            rows::put_destination(&tx, &DestinationRow { name, done, id: 0, selection })?;
        }
    }
    let all = usize::try_from(rows::SET_ASIDE_ROWS.max(rows::GAP_ROWS)).unwrap_or(usize::MAX);
    rows::newest_set_aside(old, all).unwrap_or_default().iter().try_for_each(|row| rows::put_set_aside(&tx, row))?;
    rows::newest_gaps(old, all).unwrap_or_default().iter().try_for_each(|gap| rows::put_gap(&tx, gap))?;
    for (name, done) in &destinations {
        let done = Ranges::from_text(done).unwrap_or_default();
        let id = ids.iter().find(|row| row.name == *name).map(|row| row.id);
        let wanted = |segment: &Segment| id.map_or(segment.readings, |id| wanted(old, id, segment));
        if let Some(gap) = tell.and_then(|now| segments.gap(name, &done, now, &wanted)) {
            quarantine.readings_lost = gap.readings.max(quarantine.readings_lost);
            rows::put_gap(&tx, &gap)?;
        }
    }
    rows::put_meta(&tx, "seq_limit", limit)?;
    tx.commit()?;
    new.raise_seq_limit(limit);
    Ok(())
}

/// What the damaged file says about its segments.
#[derive(Default)]
struct Segments {
    /// First number and epoch of those that pass their checksum.
    good: BTreeMap<u64, u64>,
    /// Rows whose body is lost.
    bad: Vec<Segment>,
    /// Some rows could not be reached at all.
    torn: bool,
}

impl Segments {
    /// From both ends, and by leaps where the table is torn, so that one bad page costs only what lies on it.
    fn read(old: &Connection) -> Segments {
        let mut found = Segments::default();
        let (mut at, mut leap) = (0i64, 1i64);
        let end = last_first(old);
        while at <= end {
            match next_first(old, at) {
                Ok(None) => break,
                Ok(Some(first)) => {
                    found.take(old, first);
                    (at, leap) = (first + 1, 1);
                }
                Err(_) => {
                    found.torn = true;
                    (at, leap) = (at.saturating_add(leap), leap.saturating_mul(2));
                }
            }
        }
        found
    }

    fn take(&mut self, old: &Connection, first: i64) {
        match read_one(old, first as u64) {
            Ok(segment) if segment::decode(&segment).is_ok() => {
                self.good.insert(segment.first, segment.epoch);
            }
            Ok(segment) => self.bad.push(segment),
            Err(_) => match read_facts(old, first) {
                Ok(segment) => self.bad.push(segment),
                Err(_) => self.torn = true,
            },
        }
    }

    /// What a destination lost. Rows that can not be reached count as 0 readings: nobody knows them any more.
    fn gap(&self, destination: &str, done: &Ranges, now: Timestamp, wanted: &dyn Fn(&Segment) -> u64) -> Option<Gap> {
        let waits = |s: &&Segment| s.first <= s.last && !done.covers(s.first, s.last) && wanted(s) > 0;
        let lost: Vec<&Segment> = self.bad.iter().filter(waits).collect();
        if lost.is_empty() && !self.torn {
            return None;
        }
        Some(Gap {
            destination: destination.to_owned(),
            reason: Reason::Damaged,
            first: lost.iter().map(|s| s.first).min().unwrap_or(0),
            last: lost.iter().map(|s| s.last).max().unwrap_or(0),
            from: lost.iter().map(|s| s.oldest.0).min().unwrap_or(now.0),
            to: lost.iter().map(|s| s.newest.0).max().unwrap_or(now.0),
            readings: lost.iter().map(|s| wanted(s)).sum(),
        })
    }
}

/// Readings of a segment that the destination needed; all of them when its row can not be read.
fn wanted(old: &Connection, id: i64, segment: &Segment) -> u64 {
    match needs::of_segment(old, id, segment.first) {
        Ok(need) => need.map_or(0, |need| need.readings),
        Err(_) => segment.readings,
    }
}

fn last_first(old: &Connection) -> i64 {
    let newest = old.query_row("SELECT first FROM segment ORDER BY first DESC LIMIT 1", [], |row| row.get(0));
    newest
        .or_else(|_| old.query_row("SELECT value FROM meta WHERE key = 'seq_limit'", [], |row| row.get(0)))
        .unwrap_or(i64::MAX / 2)
}

fn next_first(old: &Connection, at: i64) -> rusqlite::Result<Option<i64>> {
    use rusqlite::OptionalExtension;
    old.query_row("SELECT first FROM segment WHERE first >= ?1 ORDER BY first LIMIT 1", [at], |row| row.get(0))
        .optional()
}

fn read_one(old: &Connection, first: u64) -> rusqlite::Result<Segment> {
    let sql = "SELECT first, last, epoch, readings, oldest, newest, body FROM segment WHERE first = ?1";
    old.query_row(sql, params![first as i64], rows::to_segment)
}

/// The row without its body, which may lie on other pages.
fn read_facts(old: &Connection, first: i64) -> rusqlite::Result<Segment> {
    let sql = "SELECT first, last, epoch, readings, oldest, newest, x'' FROM segment WHERE first = ?1";
    old.query_row(sql, params![first], rows::to_segment)
}
