//! PURE. Leaves a silent device alone for a while that grows, from the second silence in a row on.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(60);
/// One silence says little: a libmodbus slave takes the request after one for an absent unit for that unit's answer
/// and swallows it.
const BELIEVED: u32 = 2;

/// Open while the device is silent.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
}

impl Breaker {
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.failures >= BELIEVED
    }

    /// Another failure; how long to leave the device alone, or when to ask again after the first. `jitter` in 0..1 keeps devices from being probed in step.
    pub fn failed(&mut self, jitter: f64) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.saturating_sub(BELIEVED - 1).min(6)).min(CAP);
        self.failures = self.failures.saturating_add(1);
        super::jittered(step, jitter)
    }

    /// The device answered. True when it had been silent.
    pub fn close(&mut self) -> bool {
        std::mem::take(&mut self.failures) >= BELIEVED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_begin_anew_after_an_answer() {
        let mut breaker = Breaker::default();
        let waits: Vec<u64> = (0..9).map(|_| breaker.failed(1.0).as_secs()).collect();
        assert_eq!(waits, [1, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(breaker.close());
        assert!(!breaker.close());
        assert_eq!(breaker.failed(0.0), Duration::from_millis(750));
    }

    #[test]
    fn one_silence_is_none_and_two_are() {
        let mut breaker = Breaker::default();
        breaker.failed(0.5);
        assert!(!breaker.is_open());
        assert!(!breaker.close());
        breaker.failed(0.5);
        breaker.failed(0.5);
        assert!(breaker.is_open());
    }
}
