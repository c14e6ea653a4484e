//! How many bytes a second a device may send.

use super::knobs::OverLimit;
use super::world::World;
use tokio::time::Instant;

/// A bucket that holds what may be sent in one second and fills steadily.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Bytes beyond what was free, and when that was so.
    owed: f64,
    at: Option<Instant>,
}

impl Pace {
    /// Counts a packet; false when it is too much. What is refused is not counted: it was not taken.
    pub fn admit(&mut self, bytes: usize, now: Instant, per_second: u64) -> bool {
        let passed = self.at.map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.owed = (self.owed - passed * per_second as f64).max(0.0);
        let fits = self.owed + bytes as f64 <= per_second as f64;
        if fits {
            self.owed += bytes as f64;
        }
        fits
    }
}

impl World {
    /// What to do with a packet that is more than the device may send; `None` when it may.
    pub fn over_limit(&mut self, link: u64, bytes: usize) -> Option<OverLimit> {
        let limit = self.knobs.rate_limit?;
        let pace = &mut self.links.get_mut(&link)?.pace;
        if pace.admit(bytes, Instant::now(), limit.bytes_per_second) {
            return None;
        }
        self.stats.over_limit += 1;
        Some(limit.answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_second_of_bytes_passes_at_once_and_then_no_more_than_flows_in() {
        let mut pace = Pace::default();
        let start = Instant::now();
        assert!(pace.admit(600, start, 1000));
        assert!(pace.admit(400, start, 1000));
        assert!(!pace.admit(1, start, 1000));
        let later = start + Duration::from_millis(100);
        assert!(pace.admit(100, later, 1000));
        assert!(!pace.admit(100, later, 1000));
    }
}
