//! What is kept on disk for one destination alone, and how much of it is too much.
//!
//! A destination with a quota of its own is charged with the segments that it needs and that no destination without one
//! needs: letting go of others would give nothing back. Counting them all takes a while, so it is done only when what has
//! changed since may have filled the quota.

use super::needs::{self, Need};
use super::settings::DestinationSettings;
use super::store::{Flow, Store, StoreError};
use crate::model::Timestamp;
use std::time::Duration;

/// Rows looked at for one transaction.
const ROWS: usize = 64;

#[derive(Debug)]
pub(super) struct Quota {
    destination: usize,
    bytes: Option<u64>,
    max_age: Option<Duration>,
    /// Bytes charged when they were counted last, and what had flowed by then.
    counted: Option<(u64, Vec<Flow>)>,
}

/// Destinations with a quota or an age of their own.
pub(super) fn of(configured: &[DestinationSettings]) -> Vec<Quota> {
    let own = |(destination, settings): (usize, &DestinationSettings)| {
        let (bytes, max_age) = (settings.quota_bytes, settings.max_age);
        let own = bytes.is_some() || max_age.is_some();
        own.then_some(Quota { destination, bytes, max_age, counted: None })
    };
    configured.iter().enumerate().filter_map(own).collect()
}

impl Quota {
    pub(super) fn destination(&self) -> usize {
        self.destination
    }

    /// What was dropped is not gone: it is counted again.
    pub(super) fn forget(&mut self) {
        self.counted = None;
    }

    /// The oldest segments that are too much for it. `payers`: the destinations without a quota.
    pub(super) fn excess(&mut self, store: &Store, payers: &[usize]) -> Result<Vec<Need>, StoreError> {
        let Some(quota) = self.bytes else { return Ok(Vec::new()) };
        if self.most(store.flow(), payers).is_some_and(|most| most <= quota) {
            return Ok(Vec::new());
        }
        let target = store.targets()[self.destination];
        let others: Vec<i64> = payers.iter().map(|payer| store.targets()[*payer]).collect();
        let mut charged = needs::bytes_alone(&store.connection, target, &others)?;
        let mut drops = Vec::new();
        if charged > quota {
            // A little more than needed, so that not every commit has to count.
            let enough = quota - quota / 16;
            for need in needs::oldest_alone(&store.connection, target, &others, ROWS)? {
                if charged <= enough {
                    break;
                }
                charged -= need.bytes;
                drops.push(need);
            }
        }
        self.counted = Some((charged, store.flow().to_vec()));
        Ok(drops)
    }

    /// At most so much is charged now: a segment comes under it when the destination begins to need it, or when the last
    /// payer ceases to.
    fn most(&self, flow: &[Flow], payers: &[usize]) -> Option<u64> {
        let (charged, then) = self.counted.as_ref()?;
        let begun = flow[self.destination].begun - then[self.destination].begun;
        let ceased: u64 = payers.iter().map(|payer| flow[*payer].ceased - then[*payer].ceased).sum();
        Some(charged + begun + ceased)
    }

    /// The oldest segment it needs, if all of it is too old for it. A clock that stands before the readings was not set yet.
    pub(super) fn aged(&self, store: &Store, now: Timestamp, from: u64) -> Result<Option<Need>, StoreError> {
        let Some(max_age) = self.max_age else { return Ok(None) };
        let Some(need) = needs::next(&store.connection, store.targets()[self.destination], from)? else {
            return Ok(None);
        };
        let newest = store.newest_of_segment(need.first)?;
        let age = newest.and_then(|newest| u128::try_from(now.0.saturating_sub(newest.0)).ok());
        Ok(age.filter(|age| *age > max_age.as_millis()).map(|_| need))
    }
}
