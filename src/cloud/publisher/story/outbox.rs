//! The outbox of the story: it hands out parcels and holds the publisher to what it acknowledges.

use super::*;

impl World {
    pub(super) fn append(&mut self, mut readings: Vec<(u32, u32)>, age: i64) {
        readings.sort_unstable();
        readings.dedup();
        self.parcels.insert(self.next_seq, (self.clock().wall.0 - age, readings));
        self.waiting.insert(self.next_seq);
        self.next_seq += 1;
    }

    pub(super) fn batch(&self, seq: u64) -> Batch {
        let (time, readings) = &self.parcels[&seq];
        let mut builder = BatchBuilder::default();
        for (device, point) in readings {
            builder.begin(*device, Timestamp(*time));
            // The value tells the parcel, so that the cloud knows what it got.
            builder.push(*point, 0, &Value::Int(i64::try_from(seq).unwrap()));
        }
        builder.finish(self.names.epoch).unwrap()
    }

    pub(super) fn hand_out(&mut self, lane: Lane, bytes: usize) -> Vec<Parcel> {
        let mine = |seq: &u64| self.setup.order == Order::Fifo || (*seq >= self.live_from) == (lane == Lane::Live);
        let seqs: Vec<u64> = self.waiting.difference(&self.handed_out).copied().filter(mine).collect();
        let (mut parcels, mut taken) = (Vec::new(), 0);
        for seq in seqs {
            let batch = self.batch(seq);
            taken += batch.bytes.len();
            if !parcels.is_empty() && taken > bytes {
                break;
            }
            self.handed_out.insert(seq);
            let lane = if seq >= self.live_from { Lane::Live } else { Lane::Backlog };
            parcels.push(Parcel { seq, lane, names: Arc::clone(&self.names), batch });
        }
        parcels
    }

    /// What the session does with the publisher's decisions, and what the outbox must be able to rely on.
    pub(super) fn settle(&mut self) {
        let effects = self.publisher.effects();
        for aside in effects.set_aside {
            assert!(self.handed_out.contains(&aside.seq), "only what is under way is set aside");
            assert!(aside.code != 0 && !aside.reason.is_empty());
            for block in aside.batch.blocks().flatten() {
                let points = block.entries().flatten().map(|entry| (aside.seq, block.device, entry.point));
                self.aside.extend(points);
            }
        }
        // Held from the moment their parcel is acknowledged; until then the parcel itself comes again.
        for waits in effects.hold {
            assert!(self.handed_out.contains(&waits.seq), "only what is under way is held");
            for block in waits.batch.blocks().flatten() {
                let points = block.entries().flatten().map(|entry| (waits.seq, block.device, entry.point));
                self.to_hold.extend(points);
            }
        }
        for keys in effects.release {
            assert!(!self.shut.contains(&device_of(&keys)), "a device that is shut gets nothing handed out");
            self.release(&keys);
        }
        for seq in effects.acknowledge {
            assert!(self.handed_out.remove(&seq), "{seq} is acknowledged and was not handed out");
            assert!(self.waiting.remove(&seq));
            let (time, readings) = &self.parcels[&seq];
            let waits: Vec<Reading> = self.to_hold.iter().filter(|r| r.0 == seq).copied().collect();
            self.held.extend(&waits);
            self.to_hold.retain(|r| r.0 != seq);
            let late = *time < self.clock().wall.0 - 30_000;
            for (device, point) in readings {
                let reading = (seq, *device, *point);
                let removable = late && (*point == REMOVED_POINT || self.setup.policy == LatePolicy::Remove);
                self.removable += u64::from(removable);
                assert!(
                    self.arrived.contains(&reading)
                        || self.aside.contains(&reading)
                        || waits.contains(&reading)
                        || removable,
                    "{reading:?} is acknowledged and did not arrive"
                );
            }
        }
        self.removed += effects.late_removed;
        assert!(self.removed <= self.removable, "{} removed of at most {}", self.removed, self.removable);
    }

    pub(super) fn held_devices(&self) -> Vec<(String, String)> {
        let devices: BTreeSet<u32> = self.held.iter().map(|reading| reading.1).collect();
        devices.into_iter().map(|device| ("pk".to_owned(), format!("d{device}"))).collect()
    }

    /// As the outbox: the first few of a device become a parcel of their own, with the time they had.
    pub(super) fn release(&mut self, keys: &(String, String)) {
        let some: Vec<Reading> = self.held.iter().filter(|r| r.1 == device_of(keys)).take(3).copied().collect();
        if some.is_empty() && !self.to_hold.iter().any(|r| r.1 == device_of(keys)) {
            return self.publisher.is_free(keys);
        }
        for reading in some {
            self.held.remove(&reading);
            let (time, _) = self.parcels[&reading.0];
            self.parcels.insert(self.next_seq, (time, vec![(reading.1, reading.2)]));
            self.waiting.insert(self.next_seq);
            let origin = self.origin.get(&reading).copied().unwrap_or(reading);
            self.origin.insert((self.next_seq, reading.1, reading.2), origin);
            self.next_seq += 1;
        }
    }
}

fn device_of(keys: &(String, String)) -> u32 {
    keys.1[1..].parse().unwrap()
}
