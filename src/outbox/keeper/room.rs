//! Room for what comes: the oldest goes, for all or for one destination, and each is counted.

use super::{DROPS, Keeper};
use crate::model::Timestamp;
use crate::outbox::gap::Reason;
use crate::outbox::needs::{self, Need};
use crate::outbox::quota::Quota;
use crate::outbox::segment::{self, Segment};
use crate::outbox::store::StoreError;
use crate::outbox::wishes::bit;
use crate::outbox::work::Drop;
use std::time::Instant;

impl Keeper {
    /// Drops what is too much for one destination, then the oldest segments until the next transaction fits. The newest
    /// are never refused.
    pub(super) fn make_room(&mut self, need: u64) -> Vec<(Option<usize>, u64)> {
        let mut drops = Vec::new();
        let mut freed = self.trim(&mut drops).unwrap_or(0);
        freed += self.drop_old_held(Timestamp::now()).unwrap_or(0);
        let mut after = (0, 0);
        let (most, mut from) = (drops.len() + DROPS, 0);
        while drops.len() < most {
            let Some(reason) = self.reason_to_drop(need, freed, from) else { break };
            let segment = self.store.segment_at(from, u64::MAX).ok().flatten();
            let before = segment.as_ref().map_or(u64::MAX, |segment| segment.first);
            if reason != Reason::Age
                && let Some(bytes) = self.drop_held_before(before, &mut after, reason)
            {
                freed += bytes;
                continue;
            }
            let Some(segment) = segment else { break };
            // Space of what nobody wants comes back by itself.
            freed += segment.body.len() as u64;
            from = segment.last + 1;
            self.drop_segment(&segment, None, reason);
            drops.push((None, segment.first));
        }
        drops
    }

    /// Drops what exceeds the quota or the age of one destination, for that one only. Returns the bytes that come free.
    fn trim(&mut self, drops: &mut Vec<(Option<usize>, u64)>) -> Result<u64, StoreError> {
        let payers: Vec<usize> =
            (0..self.destinations.len()).filter(|i| self.destinations[*i].quota_bytes.is_none()).collect();
        let mut quotas = std::mem::take(&mut self.quotas);
        let mut freed = 0;
        let mut result = Ok(());
        for quota in &mut quotas {
            result = result.and_then(|()| self.trim_one(quota, &payers, drops).map(|bytes| freed += bytes));
        }
        self.quotas = quotas;
        result.map(|()| freed)
    }

    fn trim_one(
        &mut self,
        quota: &mut Quota,
        payers: &[usize],
        drops: &mut Vec<(Option<usize>, u64)>,
    ) -> Result<u64, StoreError> {
        let one = quota.destination();
        let (mut freed, mut from) = (0, 0);
        for need in quota.excess(&self.store, payers)? {
            freed += self.drop_for(one, &need, Reason::Quota, drops)?;
        }
        for _ in 0..DROPS {
            let Some(need) = quota.aged(&self.store, Timestamp::now(), from)? else { break };
            from = need.last + 1;
            if !drops.contains(&(Some(one), need.first)) {
                freed += self.drop_for(one, &need, Reason::Age, drops)?;
            }
        }
        Ok(freed)
    }

    /// Returns the bytes that come free: none when somebody else needs the segment.
    fn drop_for(
        &mut self,
        destination: usize,
        need: &Need,
        reason: Reason,
        drops: &mut Vec<(Option<usize>, u64)>,
    ) -> Result<u64, StoreError> {
        let Some(segment) = self.store.segment_at(need.first, need.first + 1)? else { return Ok(0) };
        let others = self.store.needs_of(need.first)?.iter().enumerate().any(|(i, n)| i != destination && n.is_some());
        self.drop_segment(&segment, Some(destination), reason);
        drops.push((Some(destination), need.first));
        Ok(if others { 0 } else { need.bytes })
    }

    fn drop_segment(&mut self, segment: &Segment, only: Option<usize>, reason: Reason) {
        let now = Instant::now();
        let target = only.map(|destination| (destination, self.store.targets()[destination]));
        let mut behind = vec![0; self.destinations.len()];
        if let Some((destination, target)) = target {
            // Without an answer nothing before it is taken for settled.
            let last = needs::last_before(&self.store.connection, target, segment.first);
            behind[destination] = last.unwrap_or(segment.first);
        }
        match (segment::decode(segment), self.store.names(segment.epoch)) {
            (Ok(parcels), Ok(names)) => {
                let wishes = self.judge.wishes(&names);
                // Who is not told of is taken for one that needs it: nothing is let go in silence.
                let needed_by = self.needed_by(segment.first).unwrap_or(u64::MAX);
                let drop = Drop { only, reason, needed_by, behind };
                self.shared.lock().drop_segment(&parcels, &wishes, &drop, now);
            }
            _ => self.drop_damaged(segment, only),
        }
    }

    pub(super) fn needed_by(&self, first: u64) -> Result<u64, StoreError> {
        let needs = self.store.needs_of(first)?;
        Ok(needs.iter().enumerate().filter(|(_, need)| need.is_some()).fold(0, |mask, (i, _)| mask | bit(i)))
    }

    pub(super) fn drop_damaged(&self, segment: &Segment, only: Option<usize>) {
        let needed = self.store.needs_of(segment.first).unwrap_or_default();
        let needed: Vec<(usize, u64)> = needed
            .iter()
            .enumerate()
            .filter(|(i, _)| only.is_none_or(|only| only == *i))
            .filter_map(|(i, need)| need.map(|need| (i, need.readings)))
            .collect();
        self.shared.lock().drop_damaged(segment, &needed, Instant::now());
    }

    /// Why the first segment from there on must go, if so. A clock that stands before the readings was not set yet:
    /// it tells no age.
    fn reason_to_drop(&self, need: u64, freed: u64, from: u64) -> Option<Reason> {
        let too_old = |newest: Timestamp| {
            let age = Timestamp::now().0.saturating_sub(newest.0);
            u128::try_from(age).is_ok_and(|age| age > self.max_age.as_millis())
        };
        match self.store.shortage(need, freed) {
            Ok(Some(reason)) => Some(reason),
            Ok(None) => self.store.newest_of_segment(from).ok().flatten().filter(|t| too_old(*t)).map(|_| Reason::Age),
            Err(_) => None,
        }
    }

    /// Lets go of held readings that are older than the segments there are. Returns the bytes, `None` when there are none.
    fn drop_held_before(&mut self, before: u64, after: &mut (u64, i64), reason: Reason) -> Option<u64> {
        let names = self.store.names_of();
        let rows = self.store.oldest_held(&names, *after).ok()?;
        let mut freed = None;
        for row in rows.iter().take_while(|row| row.seq < before) {
            *after = (row.seq, row.id);
            *freed.get_or_insert(0) += row.bytes;
            self.shared.lock().drop_held(row, reason, Instant::now());
        }
        freed
    }

    /// Held readings that are too old, or too much for a destination with a quota of its own.
    fn drop_old_held(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        if !self.shared.lock().holds_anything() {
            return Ok(0);
        }
        let mut excess = Vec::new();
        for one in &self.destinations {
            let held = if one.quota_bytes.is_some() { self.store.held_bytes(&one.name)? } else { 0 };
            excess.push(held.saturating_sub(one.quota_bytes.unwrap_or(u64::MAX)));
        }
        let names = self.store.names_of();
        let mut freed = 0;
        for row in self.store.oldest_held(&names, (0, 0))? {
            let max_age = self.destinations[row.destination].max_age.unwrap_or(self.max_age);
            let age = u128::try_from(now.0.saturating_sub(row.newest.0)).unwrap_or(0);
            let too_much = excess[row.destination] > 0;
            let reason = if age > max_age.as_millis() { Reason::Age } else { Reason::Quota };
            if reason == Reason::Age || too_much {
                excess[row.destination] = excess[row.destination].saturating_sub(row.bytes);
                freed += row.bytes;
                self.shared.lock().drop_held(&row, reason, Instant::now());
            }
        }
        Ok(freed)
    }
}
