//! PURE. How long to wait before a connection is tried again: at once, then 1 s to 30 s.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(30);
/// A conversation that lasted this long was a good one.
const STABLE: Duration = Duration::from_secs(10);

/// Counts the failures in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// No conversation could be opened. `jitter` in 0..1.
    pub fn failed(&mut self, jitter: f64) -> Duration {
        let wait = match self.failures {
            0 => Duration::ZERO,
            n => FIRST.saturating_mul(1 << (n - 1).min(5)).min(CAP),
        };
        self.failures = self.failures.saturating_add(1);
        super::jittered(wait, jitter)
    }

    /// The peer ended a conversation after `lasted`; a short one counts as a failure.
    pub fn broke(&mut self, lasted: Duration, jitter: f64) -> Duration {
        if lasted >= STABLE {
            self.failures = 0;
        }
        self.failed(jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_immediate_and_the_waits_end_at_half_a_minute() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.failed(1.0).as_secs()).collect();
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn only_a_conversation_that_lasted_clears_the_past() {
        let mut backoff = Backoff::default();
        backoff.failed(1.0);
        assert_eq!(backoff.broke(Duration::from_secs(1), 1.0), Duration::from_secs(1));
        assert_eq!(backoff.broke(Duration::from_secs(1), 1.0), Duration::from_secs(2));
        assert_eq!(backoff.broke(STABLE, 1.0), Duration::ZERO);
    }
}
