//! How often a device may connect: 4 times in 2 minutes, then not for 5 minutes.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// EnOS limits, preview page: 4 connection requests of a device within this time.
const WINDOW: Duration = Duration::from_secs(120);
const ALLOWED: usize = 4;
/// And then it is refused for this long.
const BAN: Duration = Duration::from_secs(300);

/// The recent connection requests of one device.
#[derive(Debug, Default)]
pub struct ConnectHistory {
    recent: VecDeque<Instant>,
    banned_until: Option<Instant>,
}

impl ConnectHistory {
    /// Counts one request; false when it is one too many.
    pub fn admit(&mut self, now: Instant) -> bool {
        if self.banned_until.is_some_and(|until| now < until) {
            return false;
        }
        self.banned_until = None;
        while self.recent.front().is_some_and(|first| now.duration_since(*first) >= WINDOW) {
            self.recent.pop_front();
        }
        if self.recent.len() >= ALLOWED {
            self.recent.clear();
            self.banned_until = Some(now + BAN);
            return false;
        }
        self.recent.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_connect_within_two_minutes_bans_for_five() {
        let mut history = ConnectHistory::default();
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        assert!((0..4).all(|i| history.admit(at(i * 10))));
        assert!(!history.admit(at(40)));
        assert!(!history.admit(at(339)));
        assert!(history.admit(at(340)));
    }

    #[test]
    fn four_connects_in_two_minutes_for_ever_are_fine() {
        let mut history = ConnectHistory::default();
        let start = Instant::now();
        assert!((0..100).all(|i| history.admit(start + Duration::from_secs(30 * i))));
    }
}
