//! What holds after every step, and in the end.

use super::steps::Step;
use super::{DESTINATIONS, World};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    pub(super) fn check(&self) {
        for (destination, owed) in self.tail.destination_status().iter().zip(&self.owed) {
            let r = destination.readings;
            let all = r.acknowledged + r.set_aside + r.dropped + r.waiting + r.held;
            assert_eq!(r.waiting_at_open + r.held_at_open + r.produced, all, "{destination:?}");
            let held = &self.held[self.tail.destinations.iter().position(|d| d.name == destination.name).unwrap()];
            assert_eq!(r.held, *held, "{destination:?}");
            assert_eq!(r.waiting, owed.values().map(|n| u64::from(*n)).sum::<u64>(), "{destination:?}");
            let unwritten = self.tail.gaps.iter().filter(|gap| gap.destination == destination.name);
            let written = self.disk.gaps.get(&destination.name).copied().unwrap_or(0);
            assert_eq!(
                r.dropped,
                written + unwritten.map(|gap| gap.readings).sum::<u64>(),
                "what was dropped is a gap"
            );
        }
        let owed: BTreeSet<u64> = self.owed.iter().flat_map(BTreeMap::keys).copied().collect();
        let any = |seq: &u64| u64::from(self.wishes.census(&self.batch(*seq)).any);
        assert_eq!(self.tail.waiting, owed.iter().map(any).sum::<u64>());
        let (bytes, fresh) = self.tail.recount();
        assert_eq!((bytes, fresh), (self.tail.bytes, self.tail.fresh_bytes));
        assert!(self.tail.bytes <= self.tail.limits.memory_bytes + 1024, "{} bytes in memory", self.tail.bytes);
    }

    /// All links come up and everything is delivered: then nothing may be left.
    pub(super) fn finish(mut self) {
        for _ in 0..4000 {
            for to in 0..DESTINATIONS.len() {
                self.apply(&Step::Link { of: to, up: true });
                self.apply(&Step::Live { to });
                self.apply(&Step::Backlog { to });
                self.apply(&Step::Acknowledge { from: to, nth: 1 });
                (0..3).for_each(|device| self.apply(&Step::Release { of: to, device }));
            }
            self.apply(&Step::Work { wait_ms: 400, disk_works: true });
            if self.tail.waiting == 0
                && !self.tail.holds_anything()
                && self.tail.rows_since.is_none()
                && self.tail.next_fetch_is_idle()
            {
                break;
            }
        }
        assert_eq!((self.tail.waiting, self.tail.bytes), (0, 0));
        for (destination, owed) in self.tail.destination_status().iter().zip(&self.owed) {
            assert_eq!((destination.readings.waiting, owed.len()), (0, 0));
        }
        assert!(self.disk.held.is_empty(), "{:?} stay held on disk", self.disk.held.keys());
        assert!(self.disk.parcels.is_empty(), "{:?} stay on disk", self.disk.parcels.keys());
        for one in &self.tail.destinations {
            // What a destination never wanted must not tear its cursor to shreds.
            assert!(one.done.iter().count() < 40, "{} ranges", one.done.iter().count());
        }
    }
}
