//! Readings come in, go to the destinations, and are acknowledged, refused or held.

use super::disk::names;
use super::{DESTINATIONS, World};
use crate::model::{Batch, BatchBuilder, Parcel, SetAside, Timestamp, Value};
use crate::outbox::gap::Reason;
use crate::outbox::tail::Tail;

impl World {
    pub(super) fn append(&mut self, readings: u32, devices: u32) {
        let mut builder = BatchBuilder::default();
        let devices: Vec<u32> = (0..3).filter(|d| devices & (1 << d) != 0).collect();
        for i in 0..readings {
            builder.begin(devices[i as usize % devices.len()], Timestamp(1));
            builder.push(i % 5, 0, &Value::Double(f64::from(i)));
        }
        let batch = builder.finish(names().epoch).unwrap();
        let seq = self.tail.next_seq;
        assert!(seq > self.highest, "a number repeats");
        assert!(seq < self.disk.seq_limit, "a number was used that is not reserved");
        self.highest = seq;
        let census = self.wishes.census(&batch);
        for (i, owed) in self.owed.iter_mut().enumerate().filter(|(i, _)| census.is_wanted_by(*i)) {
            owed.insert(seq, census.share(i).readings);
        }
        self.appended.insert(seq, batch.clone());
        if self.tail.append(batch, self.now) == Err(Reason::Memory) {
            self.forget_what_memory_lost();
        }
    }

    pub(super) fn forget_what_memory_lost(&mut self) {
        let gone = |seq: &u64| *seq > self.tail.taken_upto && self.tail.entry(*seq).is_none();
        let gone: Vec<u64> = self.appended.keys().copied().filter(gone).collect();
        gone.into_iter().for_each(|seq| self.dropped(seq, None));
    }

    /// For those it is not on its way to.
    pub(super) fn dropped(&mut self, seq: u64, only: Option<usize>) {
        for i in (0..DESTINATIONS.len()).filter(|i| only.is_none_or(|only| only == *i)) {
            if self.on_the_way[i].contains(&seq) {
                self.gone[i].insert(seq);
            } else {
                self.owed[i].remove(&seq);
            }
        }
    }

    pub(super) fn batch(&self, seq: u64) -> Batch {
        self.appended[&seq].clone()
    }

    pub(super) fn received(&mut self, to: usize, parcels: &[Parcel]) {
        assert!(parcels.is_sorted_by(|a, b| a.seq < b.seq));
        for parcel in parcels {
            assert!(self.on_the_way[to].insert(parcel.seq), "{} is handed out while it is on its way", parcel.seq);
            let owed = self.owed[to].get(&parcel.seq);
            assert_eq!(owed, Some(&parcel.batch.count), "{} is not owed to {to}", parcel.seq);
            let whole = self.batch(parcel.seq);
            assert_eq!(self.wishes.cut(&self.wishes.census(&whole), to, &whole), Some(parcel.batch.clone()));
            assert!(!self.strict || parcel.seq <= self.tail.stored_upto, "strict hands out what is not stored");
        }
    }

    pub(super) fn acknowledge(&mut self, from: usize, nth: usize) {
        let seqs: Vec<u64> = self.on_the_way[from].iter().copied().rev().step_by(nth).collect();
        let dropped = |tail: &Tail| tail.destination_status().iter().map(|d| d.readings.dropped).collect::<Vec<_>>();
        let before = dropped(&self.tail);
        self.tail.acknowledge(from, &seqs, self.now);
        // Only what is held and can not be written in time is lost here.
        let lost = dropped(&self.tail);
        let lost: Vec<u64> = lost.iter().zip(before).map(|(after, before)| after - before).collect();
        for seq in seqs {
            self.on_the_way[from].remove(&seq);
            self.gone[from].remove(&seq);
            self.owed[from].remove(&seq);
            self.held[from] += self.to_hold.remove(&(from, seq)).unwrap_or(0);
        }
        self.held.iter_mut().zip(lost).for_each(|(held, lost)| *held -= lost);
    }

    pub(super) fn set_aside(&mut self, at: usize) {
        let Some(seq) = self.on_the_way[at].first().copied() else { return };
        let mut builder = BatchBuilder::default();
        builder.begin(0, Timestamp(1));
        builder.push(0, 0, &Value::Bool(true));
        let batch = builder.finish(names().epoch).unwrap();
        let (code, reason, at_time) = (1204, "range".to_owned(), Timestamp(2));
        self.tail.set_aside(at, &SetAside { seq, names: names(), batch, code, reason, at: at_time }, self.now);
    }

    pub(super) fn hold(&mut self, at: usize, devices: u32) {
        let Some(seq) = self.on_the_way[at].iter().copied().find(|seq| !self.to_hold.contains_key(&(at, *seq))) else {
            return;
        };
        let whole = self.batch(seq);
        let Some(owed) = self.wishes.cut(&self.wishes.census(&whole), at, &whole) else { return };
        let Ok(Some(batch)) = owed.filter(|device, _, _| devices & (1 << device) != 0) else { return };
        let before = self.tail.destinations[at].flights[&seq].refused;
        if before + u64::from(batch.count) > u64::from(owed.count) {
            return;
        }
        let count = u64::from(batch.count);
        let refused =
            SetAside { seq, names: names(), batch, code: 705, reason: "disabled".to_owned(), at: Timestamp(2) };
        self.tail.hold(at, &refused);
        self.to_hold.insert((at, seq), count);
    }
}
