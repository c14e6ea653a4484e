//! What the store thread does for the tail, with a disk that works or not, and a power cut.

use super::disk::{boot, names};
use super::{DESTINATIONS, World};
use crate::outbox::destination::Read;
use crate::outbox::gap::Reason;
use crate::outbox::group::Job;
use crate::outbox::held::{Held, Keys};
use crate::outbox::segment::Numbered;
use crate::outbox::work::Drop;
use std::collections::BTreeSet;
use std::time::Duration;

impl World {
    /// As the store thread: all rows of the device.
    pub(super) fn release(&mut self, destination: usize, keys: &Keys) {
        let rows = self.disk.held.iter().filter(|(_, row)| row.destination == destination && row.keys == *keys);
        let rows: Vec<(i64, Held)> = rows.map(|(id, row)| (*id, row.clone())).collect();
        for (id, row) in rows {
            let (seq, waiting) = (self.tail.next_seq, self.tail.destinations[destination].tally.waiting);
            if self.tail.shelf.has_left(id) {
                continue;
            }
            let count = row.batch.count;
            self.held[destination] -= u64::from(count);
            let wanted = self.wishes.cut(&self.wishes.census(&row.batch), destination, &row.batch);
            self.tail.put_back(id, row, self.now);
            if let Some(batch) = wanted {
                assert_eq!(self.tail.destinations[destination].tally.waiting, waiting + u64::from(batch.count));
                self.highest = seq;
                self.owed[destination].insert(seq, batch.count);
                self.appended.insert(seq, batch);
            }
            self.forget_what_memory_lost();
        }
    }

    pub(super) fn drop_held(&mut self, disk_works: bool) {
        let Some(row) = self.disk.held_facts().into_iter().find(|row| !self.tail.shelf.has_left(row.id)) else {
            return;
        };
        self.tail.drop_held(&row, Reason::Age, self.now);
        self.held[row.destination] -= row.readings;
        self.commit(Vec::new(), disk_works);
    }

    pub(super) fn work(&mut self, disk_works: bool) {
        match self.tail.next_job(self.now) {
            Job::Release { destination, keys } if disk_works => self.release(destination, &keys),
            Job::Release { .. } => {}
            Job::Commit { .. } => self.commit(Vec::new(), disk_works),
            Job::Fetch { destination, generation, from, until } if disk_works => {
                let read = |seq: &u64| {
                    let (batch, names) = (&self.disk.parcels[seq], names());
                    let census = self.wishes.census(batch).among(self.disk.needed_by(*seq));
                    let batch = self.wishes.cut(&census, destination, batch)?;
                    Some(Read { facts: census.facts(*seq, destination), batch, names })
                };
                let found: Vec<Read> =
                    self.disk.needs[destination].range(from..until).take(3).filter_map(read).collect();
                let next = if found.len() == 3 { found[2].facts.seq + 1 } else { until };
                self.tail.fetched(destination, generation, found, next);
            }
            Job::Fetch { destination, generation, .. } => self.tail.fetch_failed(destination, generation),
            Job::Wait(until) => assert!(until > self.now),
            Job::Housekeep | Job::Exit => {}
        }
    }

    pub(super) fn commit(&mut self, drops: Vec<(Option<usize>, u64)>, disk_works: bool) {
        let mut group = self.tail.take_group();
        group.drops = drops;
        if disk_works {
            self.disk.write(&group);
            self.tail.committed(&group, Duration::from_millis(5), self.now);
        } else {
            self.tail.failed(group, self.now);
        }
    }

    /// As the store thread makes room: for all the oldest of all, for one the oldest that it needs.
    pub(super) fn drop_oldest(&mut self, only: Option<usize>, disk_works: bool) {
        let oldest = match only {
            None => self.disk.parcels.keys().next(),
            Some(only) => self.disk.needs[only].first(),
        };
        let Some(seq) = oldest.copied() else { return };
        let needed_by = self.disk.needed_by(seq);
        let drop = Drop { only, reason: Reason::Quota, needed_by, behind: vec![0; DESTINATIONS.len()] };
        let parcel = Numbered { seq, batch: self.disk.parcels[&seq].clone() };
        self.tail.drop_segment(&[parcel], &self.wishes, &drop, self.now);
        self.dropped(seq, only);
        self.commit(vec![(only, seq)], disk_works);
    }

    /// Only the disk is left. What it did not have was younger than the bound, or acknowledged.
    pub(super) fn power_cut(&mut self, which: usize) {
        for (i, owed) in self.owed.iter().enumerate() {
            let kept = |seq: &&u64| **seq <= self.tail.stored_upto && !self.gone[i].contains(seq);
            let on_disk: u64 =
                self.disk.held.values().filter(|h| h.destination == i).map(|h| u64::from(h.batch.count)).sum();
            let pending = self.tail.shelf.pending.iter().filter(|h| h.destination == i);
            let pending: u64 = pending.map(|h| u64::from(h.batch.count)).sum();
            assert!(on_disk + pending >= self.held[i], "what is held is promised to be on disk for {i}");
            for seq in owed.keys().filter(kept) {
                assert!(self.disk.needs[i].contains(seq), "{seq} is promised to be on disk for {i}");
            }
        }
        (self.tail, self.wishes) = boot(&mut self.disk, which, self.strict, &self.counters);
        self.on_the_way.iter_mut().for_each(BTreeSet::clear);
        self.gone.iter_mut().for_each(BTreeSet::clear);
        self.to_hold.clear();
        for (i, held) in self.held.iter_mut().enumerate() {
            *held = self.disk.held.values().filter(|h| h.destination == i).map(|h| u64::from(h.batch.count)).sum();
        }
        // The stated window: an acknowledgement or a drop the disk was not told of happens again.
        for (i, owed) in self.owed.iter_mut().enumerate() {
            let share = |seq: &u64| self.wishes.census(&self.disk.parcels[seq]).share(i).readings;
            *owed = self.disk.needs[i].iter().map(|seq| (*seq, share(seq))).collect();
        }
    }
}
