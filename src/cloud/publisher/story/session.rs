//! The session of the story: it takes what it wants from the outbox and sends what it may.

use super::cloud::readings;
use super::*;

impl World {
    pub(super) fn work(&mut self) {
        let now = self.clock();
        if self.publisher.time_out(now) {
            return self.lose();
        }
        for lane in [Lane::Live, Lane::Backlog] {
            if let Some(bytes) = self.publisher.wants(lane, now) {
                let parcels = self.hand_out(lane, bytes);
                self.publisher.take(parcels, now);
            }
        }
        self.publish(now);
    }

    pub(super) fn publish(&mut self, now: Now) {
        loop {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            while self.publisher.awaits(self.next_id) || self.with_cloud.contains_key(&self.next_id) {
                self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            }
            let Some(outgoing) = self.publisher.next_message(self.next_id, now) else { return };
            let readings = readings(&outgoing.text);
            assert_eq!(readings.len(), outgoing.readings);
            let late = |(seq, ..): &Reading| self.parcels[seq].0 < now.wall.0 - 30_000;
            let routes = |route| if route == Route::Resume { readings.iter().all(late) } else { true };
            assert!(routes(outgoing.route), "what is not late does not travel as history");
            if self.setup.policy == LatePolicy::HisChannel && outgoing.route == Route::Post {
                assert!(!readings.iter().any(late), "what is late does not travel as live");
            }
            assert!(!readings.iter().any(|r| late(r) && r.2 == REMOVED_POINT), "what is to be removed does not travel");
            self.with_cloud.insert(self.next_id, readings);
        }
    }
}
