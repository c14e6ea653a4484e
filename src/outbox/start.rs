//! What a store holds for each destination, when it is opened or was replaced.

use super::group::Group;
use super::ranges::Ranges;
use super::segment;
use super::store::{Store, StoreError};
use super::tail::{Loaded, SEQ_BLOCK};

/// Reads the cursors, forgets destinations that are no longer configured, and reserves numbers.
///
/// # Errors
/// When the disk or the file fails.
pub fn load(store: &mut Store, configured: &[&str]) -> Result<Loaded, StoreError> {
    let highest = store.highest_stored()?;
    let next_seq = store.seq_limit().max(highest + 1).max(1);
    let known = store.destinations()?;
    for (name, _) in known.iter().filter(|(name, _)| !configured.contains(&name.as_str())) {
        tracing::warn!(destination = %name, "destination is no longer configured; what waited for it alone is let go");
        store.forget_destination(name)?;
    }
    let done = configured.iter().map(|name| {
        let found = known.iter().find(|(known, _)| known == name).and_then(|(_, text)| Ranges::from_text(text));
        // A new destination starts now: the backlog of others is not for it.
        ((*name).to_owned(), found.unwrap_or_else(|| Ranges::up_to(next_seq - 1)))
    });
    let done: Vec<(String, Ranges)> = done.collect();
    let sets: Vec<&Ranges> = done.iter().map(|(_, done)| done).collect();
    let (each, all) = waiting(store, &sets)?;
    let cursors = done.iter().map(|(name, done)| (name.clone(), done.to_text())).collect();
    let seq_limit = next_seq + SEQ_BLOCK;
    store.commit(&Group { cursors, seq_limit, ..Group::default() })?;
    let destinations = done.into_iter().zip(each).map(|((name, done), waiting)| (name, done, waiting)).collect();
    Ok(Loaded { next_seq, seq_limit, destinations, waiting: all })
}

/// Readings on disk that each set does not cover, and those that some set does not cover.
///
/// # Errors
/// When the disk or the file fails.
pub fn waiting(store: &Store, done: &[&Ranges]) -> Result<(Vec<u64>, u64), StoreError> {
    let (mut each, mut all) = (vec![0; done.len()], 0);
    store.for_each_segment(|first, last, readings| {
        let whole = |set: &&Ranges| set.misses(first, last);
        if done.iter().all(whole) && !done.is_empty() {
            each.iter_mut().for_each(|n| *n += readings);
            all += readings;
        } else if done.iter().any(|set| !set.covers(first, last)) {
            let row = store.segment_at(first, first + 1)?;
            let parcels = row.and_then(|row| segment::decode(&row).ok()).unwrap_or_default();
            for parcel in parcels {
                let count = u64::from(parcel.batch.count);
                let mut wanted = false;
                for (n, _) in each.iter_mut().zip(done).filter(|(_, set)| !set.contains(parcel.seq)) {
                    *n += count;
                    wanted = true;
                }
                all += if wanted { count } else { 0 };
            }
        }
        Ok(())
    })?;
    Ok((each, all))
}
