//! Makes the rows of `need` from the segments: after a damaged or an older file, and when a selection has changed.

use super::needs::{self, Demand, Need};
use super::ranges::Ranges;
use super::rows::signed;
use super::segment::{self, Numbered, Segment};
use super::store::{Store, StoreError};
use super::wishes::{Census, Judge};

/// Segments of one transaction.
const CHUNK: usize = 256;

/// From nothing: every destination needs what it wants and is not done with.
///
/// # Errors
/// When the disk or the file fails. Done again from the start then.
pub fn make(store: &mut Store, judge: &mut Judge, done: &[Ranges]) -> Result<(), StoreError> {
    store.connection.execute("DELETE FROM need", [])?;
    let mut at = 0;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        while let Some(segment) = store.segment_at(at, u64::MAX)?.filter(|_| chunk.len() < CHUNK) {
            at = segment.last + 1;
            let demand = demand(store, judge, &segment, done);
            chunk.push((segment.first, segment.last, segment.body.len() as u64, demand));
        }
        if chunk.is_empty() {
            return Ok(());
        }
        replace(store, chunk)?;
    }
}

/// What these destinations wait for, by their new selections. What they did not want before they do not get now.
///
/// # Errors
/// When the disk or the file fails. Done again then.
pub fn again(store: &mut Store, judge: &mut Judge, done: &[Ranges], changed: &[usize]) -> Result<(), StoreError> {
    for i in changed {
        let (target, mut at, mut segments) = (store.targets()[*i], 0, 0);
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            while let Some(need) = needs::next(&store.connection, target, at)?.filter(|_| chunk.len() < CHUNK) {
                at = need.last + 1;
                if let Some(segment) = store.segment_at(need.first, need.first + 1)? {
                    chunk.push(counted(store, judge, &segment, done)?);
                }
            }
            if chunk.is_empty() {
                break;
            }
            segments += chunk.len();
            replace(store, chunk)?;
        }
        if segments > 0 {
            tracing::info!(segments, "filter of a destination has changed; what is stored was counted again");
        }
    }
    Ok(())
}

/// First, last, bytes of a segment, and what is wanted of it.
type Counted = (u64, u64, u64, Demand);

/// Who had no row for it keeps none.
fn counted(store: &mut Store, judge: &mut Judge, segment: &Segment, done: &[Ranges]) -> Result<Counted, StoreError> {
    let had = store.needs_of(segment.first)?;
    let mut demand = demand(store, judge, segment, done);
    for (readings, _) in demand.each.iter_mut().zip(&had).filter(|(_, had)| had.is_none()) {
        *readings = 0;
    }
    Ok((segment.first, segment.last, segment.body.len() as u64, demand))
}

/// One transaction: the rows of these segments as they were counted.
fn replace(store: &mut Store, chunk: Vec<Counted>) -> Result<(), StoreError> {
    let targets = store.targets().to_vec();
    let tx = store.connection.transaction()?;
    for (first, last, bytes, Demand { anyone, each }) in chunk {
        for (target, readings) in targets.iter().zip(each) {
            needs::take(&tx, *target, first)?;
            if readings > 0 {
                needs::put(&tx, *target, &Need { first, last, readings, anyone, bytes })?;
            }
        }
        needs::drop_if_idle(&tx, &targets, signed(first))?;
    }
    tx.commit()?;
    store.checkpoint()
}

/// What each destination wants of a segment, nothing for those that have all of it. A segment that can not be read is
/// everybody's: whoever reads it finds that out and counts it as lost.
fn demand(store: &mut Store, judge: &mut Judge, segment: &Segment, done: &[Ranges]) -> Demand {
    let whole = || Demand { anyone: segment.readings, each: vec![segment.readings; done.len()] };
    let mut demand = match (judge.is_indifferent(), segment::decode(segment), store.names(segment.epoch)) {
        (false, Ok(parcels), Ok(names)) => {
            let wishes = judge.wishes(&names);
            let censuses: Vec<_> = parcels.iter().map(|parcel| wishes.census(&parcel.batch)).collect();
            let mut demand = Demand::of(done.len(), censuses.iter());
            for (i, done) in done.iter().enumerate() {
                let waits = |(p, c): (&Numbered, &Census)| c.is_wanted_by(i) && !done.contains(p.seq);
                if !parcels.iter().zip(&censuses).any(waits) {
                    demand.each[i] = 0;
                }
            }
            demand
        }
        _ => whole(),
    };
    for (readings, _) in demand.each.iter_mut().zip(done).filter(|(_, d)| d.covers(segment.first, segment.last)) {
        *readings = 0;
    }
    demand
}
