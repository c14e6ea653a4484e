//! Whether bytes come fast enough. Time is an argument, and its source one function, which tests can pause.

use std::time::{Duration, Instant};

/// Slower than any modem: a server that drips keeps a gateway for ever.
const LEAST_PER_SECOND: u64 = 100;

/// The runtime's clock.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Spans, in each of which something must come.
#[derive(Clone, Debug)]
pub struct Pace {
    span: Duration,
    until: Instant,
    came: u64,
}

impl Pace {
    #[must_use]
    pub fn new(now: Instant, span: Duration) -> Pace {
        Pace { span, until: now + span, came: 0 }
    }

    pub fn came(&mut self, bytes: usize) {
        self.came += bytes as u64;
    }

    /// When [`Pace::judge`] is to be asked.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Begins a new span when one is over. False when too little came in it.
    pub fn judge(&mut self, now: Instant) -> bool {
        if now < self.until {
            return true;
        }
        let enough = self.came >= (LEAST_PER_SECOND * self.span.as_secs()).max(1);
        self.came = 0;
        self.until = now + self.span;
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_a_second_is_too_slow_and_a_modem_is_not() {
        let begun = Instant::now();
        let second = Duration::from_secs(1);
        for (rate, expected) in [(1, false), (99, false), (100, true), (1000, true)] {
            let mut pace = Pace::new(begun, second * 30);
            let good = (1..=90).all(|at| {
                pace.came(rate);
                pace.judge(begun + second * at)
            });
            assert_eq!(good, expected, "{rate} bytes a second");
        }
    }
}
