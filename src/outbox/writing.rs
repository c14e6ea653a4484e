//! What one transaction writes: segments, who needs them, what is done with, and what was lost.

use super::group::Group;
use super::needs::{self, Demand, Need};
use super::rows::{self, signed};
use super::segment::Segment;
use super::store::{Flow, StoreError};
use rusqlite::Transaction;

/// Bytes that a group takes, roughly.
pub(super) fn group_bytes(group: &Group) -> u64 {
    let held: usize = group.held.iter().map(|held| held.batch.bytes.len() + 256).sum();
    let rows = group.set_aside.len() * 256 + group.gaps.len() * 128 + held;
    (group.parcels.iter().map(|p| p.batch.bytes.len() + 16).sum::<usize>() + rows) as u64
}

/// Everything of a group but what is held.
pub(super) fn write_group(
    tx: &Transaction<'_>,
    group: &Group,
    segments: &[Segment],
    targets: &[i64],
    flow: &mut [Flow],
) -> Result<(), StoreError> {
    if let Some(first) = group.parcels.first() {
        forget_from(tx, targets, signed(first.seq))?;
    }
    for (only, first) in &group.drops {
        drop_segment(tx, *only, *first, targets, flow)?;
    }
    for names in &group.names {
        rows::put_names(tx, names)?;
    }
    for segment in segments {
        rows::put_segment(tx, segment)?;
        let demand = Demand::of(targets.len(), needs::within(segment, &group.parcels, &group.wanted));
        put_needs(tx, segment, &demand, targets, flow)?;
    }
    for (destination, done) in &group.cursors {
        let target = targets[*destination];
        rows::put_done(tx, target, &done.to_text())?;
        for (first, bytes) in needs::take_done(tx, target, done)? {
            flow[*destination].ceased += bytes;
            needs::drop_if_idle(tx, targets, first)?;
        }
    }
    group.set_aside.iter().try_for_each(|row| rows::put_set_aside(tx, row))?;
    group.gaps.iter().try_for_each(|gap| rows::put_gap(tx, gap))?;
    Ok(())
}

/// What a commit left behind whose fsync failed; it was never counted as stored.
fn forget_from(tx: &Transaction<'_>, targets: &[i64], first: i64) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM segment WHERE first >= ?1")?.execute([first])?;
    let mut forget = tx.prepare_cached("DELETE FROM need WHERE destination = ?1 AND first >= ?2")?;
    targets.iter().try_for_each(|target| forget.execute([*target, first]).map(drop))
}

fn drop_segment(
    tx: &Transaction<'_>,
    only: Option<usize>,
    first: u64,
    targets: &[i64],
    flow: &mut [Flow],
) -> rusqlite::Result<()> {
    for (i, target) in targets.iter().enumerate().filter(|(i, _)| only.is_none_or(|only| only == *i)) {
        flow[i].ceased += needs::take(tx, *target, first)?.unwrap_or(0);
    }
    needs::drop_if_idle(tx, targets, signed(first))
}

pub(super) fn put_needs(
    tx: &Transaction<'_>,
    segment: &Segment,
    demand: &Demand,
    targets: &[i64],
    flow: &mut [Flow],
) -> rusqlite::Result<()> {
    let bytes = segment.body.len() as u64;
    for (i, readings) in demand.each.iter().enumerate().filter(|(_, readings)| **readings > 0) {
        let (first, last) = (segment.first, segment.last);
        needs::put(tx, targets[i], &Need { first, last, readings: *readings, anyone: demand.anyone, bytes })?;
        flow[i].begun += bytes;
    }
    Ok(())
}
