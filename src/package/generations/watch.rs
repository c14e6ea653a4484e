//! PURE. A switch under watch, as it is remembered with the pointer: a restart does not end the watch.

use super::judge::Look;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// What the generation that runs is held against, until its time is over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Milliseconds UTC.
    pub until: i64,
    /// Just before the switch, over the devices that both packages have.
    pub before: Look,
    /// Connections that went on.
    pub kept: BTreeSet<String>,
    /// Devices of the new package alone: nobody knows what they were.
    pub new: BTreeSet<String>,
}

impl Watch {
    /// How long to watch on from a start at `now`: what is left, but half of the window at least, for all connections
    /// start anew then; and never more than the window, whatever the clock did meanwhile.
    #[must_use]
    pub fn rest(&self, now: i64, window: Duration) -> Duration {
        let left = Duration::from_millis(u64::try_from(self.until.saturating_sub(now)).unwrap_or(0));
        left.clamp(window / 2, window)
    }

    /// Adds what a device shows now.
    pub fn count(&self, look: &mut Look, connection: &str, device: &str, (good, all): (u64, u64)) {
        if !self.new.contains(device) {
            let share = if self.kept.contains(connection) { &mut look.unchanged } else { &mut look.changed };
            share.add(good, all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::generations::Share;

    #[test]
    fn half_of_the_window_is_left_at_least_and_never_more_than_all_of_it() {
        let (watch, window) = (Watch { until: 100_000, ..Watch::default() }, Duration::from_secs(60));
        let rest = |now| watch.rest(now, window).as_secs();
        assert_eq!((rest(50_000), rest(90_000), rest(500_000), rest(-1_000_000)), (50, 30, 30, 60));
    }

    #[test]
    fn new_devices_count_nowhere_and_the_others_by_their_connections() {
        let set = |name: &str| BTreeSet::from([name.to_owned()]);
        let watch = Watch { kept: set("line"), new: set("new"), ..Watch::default() };
        let mut look = Look::default();
        for (connection, device) in [("line", "a"), ("other", "b"), ("other", "new")] {
            watch.count(&mut look, connection, device, (1, 2));
        }
        let one = Share { good: 1, all: 2 };
        assert_eq!((look.unchanged, look.changed), (one, one));
    }
}
