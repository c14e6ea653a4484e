//! PURE. What the store thread is asked to do, and what it reports back. The other half of [`Tail`].

use super::destination::{Destination, Facts, Read};
use super::gap::{Gap, Reason};
use super::group::{Group, Job};
use super::ranges::Ranges;
use super::segment::{Numbered, Segment};
use super::status::DestinationStatus;
use super::tail::{Loaded, SEQ_BLOCK, Tail};
use super::wishes::Wishes;
use crate::model::{Names, Timestamp};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes of stored parcels whose acknowledgement is not on disk: no backlog is handed out beyond, which bounds what a
/// crash sends twice. What never was on disk does not count.
pub(super) const ACKNOWLEDGED_WINDOW: usize = 256 << 10;
/// The store is told at half of it, whatever the time, so that a commit is over before the other half is full.
const TOLD_AT: usize = ACKNOWLEDGED_WINDOW / 2;
/// A failed commit is tried again after this.
const RETRY: Duration = Duration::from_millis(500);
/// Housekeeping after a drain.
const SOON: Duration = Duration::from_secs(1);
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// How a segment is dropped.
#[derive(Clone, Debug)]
pub struct Drop {
    /// `None`: for all.
    pub only: Option<usize>,
    pub reason: Reason,
    /// Who needs something of the segment, a bit each.
    pub needed_by: u64,
    /// For each destination, the last number before the segment that the store keeps for it.
    pub behind: Vec<u64>,
}

impl Tail {
    /// What the store thread should do now.
    pub fn next_job(&mut self, now: Instant) -> Job {
        let commit = self.commit_due(now);
        if commit.is_some_and(|due| due <= now) {
            return Job::Commit { need: self.need() };
        }
        if self.closing && commit.is_none() {
            return Job::Exit;
        }
        if let Some(job) = self.fetch() {
            return job;
        }
        if let Some((destination, keys)) = self.next_release() {
            return Job::Release { destination, keys };
        }
        let housekeep = *self.housekeep_at.get_or_insert(now + HOUSEKEEPING);
        if housekeep <= now {
            self.housekeep_at = Some(now + HOUSEKEEPING);
            return Job::Housekeep;
        }
        let until = commit.map_or(housekeep, |due| due.min(housekeep));
        self.asleep_until = Some(until);
        Job::Wait(until)
    }

    /// The store thread sleeps and there is something to do earlier than it thinks.
    pub fn should_wake(&mut self, now: Instant) -> bool {
        let Some(asleep_until) = self.asleep_until else { return false };
        let early = self.closing
            || self.may_release()
            || self.destinations.iter().any(|d| d.wants_fetch())
            || self.commit_due(now).is_some_and(|due| due < asleep_until);
        if early {
            self.asleep_until = None;
        }
        early
    }

    /// There is something to write, whether or not there are readings.
    pub fn commit_soon(&mut self, now: Instant) {
        self.rows_since.get_or_insert(now);
    }

    fn commit_due(&mut self, now: Instant) -> Option<Instant> {
        let early = self.fresh_bytes >= self.limits.memory_bytes / 4
            || self.acknowledged_bytes >= TOLD_AT
            || self.seq_limit - self.next_seq.min(self.seq_limit) < SEQ_BLOCK / 2;
        let at_once = self.closing || self.limits.strict;
        let wait = if at_once { Duration::ZERO } else { self.limits.bound.saturating_sub(self.lead) };
        let fresh = self.first_fresh().and_then(|seq| self.entry(seq)).map(|entry| entry.born + wait);
        // Acknowledgements and rows need no more than the bound even when parcels are stored before they are sent.
        let wait = if self.closing { Duration::ZERO } else { self.limits.bound.saturating_sub(self.lead) };
        let rows = self.rows_since.map(|since| since + wait);
        let due = [fresh, rows, early.then_some(now)].into_iter().flatten().min()?;
        Some(self.retry_at.map_or(due, |retry| due.max(retry)))
    }

    fn need(&self) -> usize {
        self.fresh_bytes.min(self.limits.group_bytes) + self.shelf.pending_bytes
    }

    fn fetch(&mut self) -> Option<Job> {
        let count = self.destinations.len();
        let destination =
            (1..=count).map(|i| (self.last_fetched + i) % count).find(|i| self.destinations[*i].wants_fetch())?;
        self.last_fetched = destination;
        let one = &mut self.destinations[destination];
        one.fetching = true;
        Some(Job::Fetch { destination, generation: one.generation, from: one.scan_next, until: one.live_from })
    }

    /// Takes everything fresh that fits one transaction, and everything else the store must be told.
    pub fn take_group(&mut self) -> Group {
        let mut group = Group { seq_limit: self.seq_limit, ..Group::default() };
        let mut bytes = 0;
        while let Some(seq) = self.first_fresh() {
            let Some(entry) = self.entry(seq) else { break };
            let size = entry.batch.bytes.len();
            if bytes > 0 && bytes + size > self.limits.group_bytes {
                break;
            }
            bytes += size;
            if group.names.last().is_none_or(|names: &Arc<Names>| names.epoch != entry.batch.epoch) {
                group.names.push(entry.names.clone());
            }
            group.parcels.push(Numbered { seq, batch: entry.batch.clone() });
            group.wanted.push(entry.census.clone());
            self.taken_upto = seq;
        }
        if self.first_fresh().is_none() {
            self.taken_upto = self.next_seq - 1;
        }
        self.sum_fresh();
        if self.seq_limit.saturating_sub(self.next_seq) < SEQ_BLOCK / 2 {
            group.seq_limit = self.next_seq + SEQ_BLOCK;
        }
        self.take_rows(&mut group);
        group
    }

    fn take_rows(&mut self, group: &mut Group) {
        self.rows_since = None;
        self.telling_bytes = std::mem::take(&mut self.acknowledged_bytes);
        for (i, destination) in self.destinations.iter_mut().enumerate() {
            if destination.dirty || !group.parcels.is_empty() {
                destination.dirty = false;
                group.cursors.push((i, destination.done.clone()));
            }
        }
        group.gaps = std::mem::take(&mut self.gaps);
        group.set_aside = std::mem::take(&mut self.set_aside).into();
        self.take_held(group);
    }

    /// The group is on disk, safe from a power cut.
    pub fn committed(&mut self, group: &Group, took: Duration, now: Instant) {
        self.retry_at = None;
        self.telling_bytes = 0;
        self.seq_limit = group.seq_limit;
        // What begins this long before the bound is over before the bound.
        self.lead = (took * 2 + Duration::from_millis(5))
            .clamp(Duration::from_millis(20).min(self.limits.bound / 2), self.limits.bound / 2);
        self.stored_upto = self.taken_upto;
        self.held_stored(group);
        self.counters.outbox_commits.add(1);
        self.counters.outbox_stored.add(group.parcels.iter().map(|p| u64::from(p.batch.count)).sum());
        if self.waiting == 0 && !group.cursors.is_empty() {
            // A backlog was drained: its space is given back soon.
            self.housekeep_at = Some(now + SOON);
        }
        self.release_stored();
    }

    /// The group is not on disk: everything in it is fresh again.
    pub fn failed(&mut self, group: Group, now: Instant) {
        self.retry_at = Some(now + RETRY);
        self.acknowledged_bytes += std::mem::take(&mut self.telling_bytes);
        self.taken_upto = self.stored_upto;
        self.fresh_from = self.stored_upto + 1;
        self.sum_fresh();
        for (destination, _) in &group.cursors {
            self.destinations[*destination].dirty = true;
        }
        let newer = std::mem::replace(&mut self.gaps, group.gaps);
        for gap in newer {
            self.put_gap(gap);
        }
        for row in group.set_aside.into_iter().rev() {
            self.set_aside.push_front(row);
        }
        self.held_not_stored(group.held);
        self.rows_since.get_or_insert(now);
    }

    pub(super) fn put_gap(&mut self, gap: Gap) {
        let before = self.gaps.iter_mut().rev().find(|g| g.destination == gap.destination);
        if !before.is_some_and(|g| g.merge(&gap)) {
            self.gaps.push(gap);
        }
    }

    fn sum_fresh(&mut self) {
        let skip = usize::try_from((self.taken_upto + 1).saturating_sub(self.front)).unwrap_or(usize::MAX);
        self.fresh_bytes = self.entries.iter().skip(skip).flatten().map(super::tail::Entry::cost).sum();
    }

    /// What was read for a destination. `next` is where the next read begins.
    pub fn fetched(&mut self, to: usize, generation: u64, parcels: Vec<Read>, next: u64) {
        let one = &mut self.destinations[to];
        if one.generation == generation {
            one.fetching = false;
            one.fetched(parcels, next);
        }
    }

    /// The disk did not answer; the same will be read again.
    pub fn fetch_failed(&mut self, to: usize, generation: u64) {
        let one = &mut self.destinations[to];
        if one.generation == generation {
            one.fetching = false;
        }
    }

    /// Drops a stored segment. What lies between it and what is kept before it waits for nothing either.
    pub fn drop_segment(&mut self, parcels: &[Numbered], wishes: &Wishes, drop: &Drop, now: Instant) {
        for parcel in parcels {
            let census = wishes.census(&parcel.batch).among(drop.needed_by);
            self.drop_parcel(parcel.seq, &census, drop.only, drop.reason, now);
        }
        if let Some(last) = parcels.last() {
            self.settle(drop, last.seq);
        }
    }

    fn settle(&mut self, drop: &Drop, last: u64) {
        for (i, one) in self.destinations.iter_mut().enumerate().filter(|(i, _)| drop.only.is_none_or(|d| d == *i)) {
            one.settle(drop.behind[i].max(one.done.cursor()) + 1, last);
        }
    }

    /// Fresh readings that are in nobody's hands but ours.
    #[must_use]
    pub fn readings_in_memory(&self) -> u64 {
        let skip = usize::try_from((self.stored_upto + 1).saturating_sub(self.front)).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).flatten().map(|e| u64::from(e.census.any)).sum()
    }

    /// What every destination is done with.
    #[must_use]
    pub fn done(&self) -> Vec<Ranges> {
        self.destinations.iter().map(|d| d.done.clone()).collect()
    }

    /// A segment whose body is lost: only its rows tell what was in it, for all and for each destination.
    pub fn drop_damaged(&mut self, row: &Segment, needed: &[(usize, u64)], now: Instant) {
        let mut lost = 0;
        for (i, readings) in needed {
            let one = &mut self.destinations[*i];
            if one.done.covers(row.first, row.last) {
                continue;
            }
            // A part of it may have been acknowledged: which, nobody knows any more.
            let readings = (*readings).min(one.tally.waiting);
            lost = readings.max(lost);
            one.flights.retain(|seq, _| !(row.first..=row.last).contains(seq));
            let (oldest, newest) = (row.oldest, row.newest);
            let facts = Facts { seq: row.last, readings, any: readings, wanted_by: 0, bytes: 0, oldest, newest };
            self.lost_for(*i, facts, Reason::Damaged, now);
            self.destinations[*i].done.insert(row.first, row.last);
        }
        let lost = lost.min(self.waiting);
        self.counters.dropped.add(lost);
        self.wait(-(lost as i64));
    }

    /// Rows were lost under us. What waits now is what the store still has, for each destination and for any,
    /// and what was never stored.
    pub fn reconcile(&mut self, each: &[u64], all: u64, found: Timestamp, now: Instant) {
        let fresh = self.readings_in_memory();
        for (i, stored) in each.iter().enumerate() {
            let (cursor, stored_upto) = (self.destinations[i].done.cursor(), self.stored_upto);
            let unstored = self.unstored_for(i);
            let one = &mut self.destinations[i];
            // Read again from the start: what was on its way may not be on disk any more.
            one.flights.retain(|seq, _| *seq > stored_upto);
            one.forget_queue();
            (one.scan_next, one.generation, one.fetching) = (cursor + 1, one.generation + 1, false);
            let lost = one.tally.waiting.saturating_sub(stored + unstored);
            if lost > 0 {
                one.tally.dropped += lost;
                one.tally.waiting -= lost;
                let destination = one.name.clone();
                let (first, last) = (cursor + 1, stored_upto);
                self.put_gap(Gap {
                    destination,
                    reason: Reason::Damaged,
                    first,
                    last,
                    from: found.0,
                    to: found.0,
                    readings: lost,
                });
                self.rows_since.get_or_insert(now);
            }
        }
        let lost = self.waiting.saturating_sub(all + fresh);
        self.counters.dropped.add(lost);
        self.waiting -= lost;
        self.counters.outbox_readings.set(self.waiting);
    }

    /// The file was opened only now: what it holds, all of it below `first`, waits as well.
    pub fn join(&mut self, loaded: &Loaded, first: u64, now: Instant) {
        let here = self.destinations.iter_mut().zip(&loaded.destinations).enumerate();
        for (i, (one, (_, done, waiting))) in here {
            one.join(done, *waiting, first);
            one.join_held(i, &loaded.held);
        }
        self.shelf.join(&loaded.held);
        // The next commit tells that the trouble is over.
        self.commit_soon(now);
        self.wait(i64::try_from(loaded.waiting).unwrap_or(i64::MAX));
    }

    /// Readings that wait for a destination and were never on disk.
    fn unstored_for(&self, destination: usize) -> u64 {
        let one = &self.destinations[destination];
        let first = (self.stored_upto + 1).max(self.front);
        let in_memory = (first..self.next_seq).filter(|seq| !one.done.contains(*seq));
        let share = |seq| self.entry(seq).map(|e| u64::from(e.census.share(destination).readings));
        let in_memory: u64 = in_memory.filter_map(share).sum();
        let gone = one.flights.range(self.stored_upto + 1..).filter(|(_, flight)| flight.gone.is_some());
        in_memory + gone.map(|(_, flight)| flight.facts.readings).sum::<u64>()
    }

    #[must_use]
    pub fn current_epochs(&self) -> Vec<u64> {
        self.entries
            .iter()
            .flatten()
            .map(|e| e.batch.epoch)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// There is more space to give back.
    pub fn housekeep_again(&mut self, more: bool, now: Instant) {
        if more {
            self.housekeep_at = Some(now);
        }
    }

    #[must_use]
    pub fn destination_status(&self) -> Vec<DestinationStatus> {
        let status = |d: &Destination| DestinationStatus {
            name: d.name.clone(),
            up: d.up,
            cursor: d.done.cursor(),
            in_flight: d.flights.len(),
            readings: d.tally,
            last_acknowledged: None,
        };
        self.destinations.iter().map(status).collect()
    }

    #[must_use]
    pub fn oldest_in_memory(&self) -> Option<Timestamp> {
        self.entries.iter().flatten().map(|e| e.batch.oldest).min()
    }

    #[cfg(test)]
    pub(super) fn recount(&self) -> (usize, usize) {
        let cost = |from: u64| {
            let skip = usize::try_from(from.saturating_sub(self.front)).unwrap_or(usize::MAX);
            self.entries.iter().skip(skip).flatten().map(super::tail::Entry::cost).sum()
        };
        (cost(0), cost(self.taken_upto + 1))
    }

    #[cfg(test)]
    pub(super) fn next_fetch_is_idle(&self) -> bool {
        !self.destinations.iter().any(Destination::wants_fetch)
    }
}
