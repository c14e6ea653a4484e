//! PURE. Leaves a silent device alone for a while that grows.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(60);

/// Open while the device is silent.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
}

impl Breaker {
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.failures > 0
    }

    /// Another failure; how long to leave the device alone. `jitter` in 0..1 keeps devices from being probed in step.
    pub fn open(&mut self, jitter: f64) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(6)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        super::jittered(step, jitter)
    }

    /// The device answered. True when it had been silent.
    pub fn close(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_begin_anew_after_an_answer() {
        let mut breaker = Breaker::default();
        let waits: Vec<u64> = (0..8).map(|_| breaker.open(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(breaker.close());
        assert!(!breaker.close());
        assert_eq!(breaker.open(0.0), Duration::from_millis(750));
    }
}
