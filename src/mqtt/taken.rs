//! PURE. What went out within the last second, and what was taken within the last few. Time is an argument.

use std::time::Duration;

/// Parts of a second.
const SLOTS: u64 = 100;
/// One more: the hundredth before the first one is still partly within the second.
const RING: u64 = SLOTS + 1;
const SLOT: Duration = Duration::from_millis(10);
/// Seconds that deliveries are remembered for.
const SECONDS: usize = 8;

/// Bytes sent in each hundredth of the last second.
#[derive(Debug)]
pub(super) struct Slots {
    newest: u64,
    bytes: [u64; RING as usize],
}

impl Default for Slots {
    fn default() -> Slots {
        Slots { newest: 0, bytes: [0; RING as usize] }
    }
}

fn slot(now: Duration) -> u64 {
    u64::try_from(now.as_millis() / SLOT.as_millis()).unwrap_or(u64::MAX)
}

impl Slots {
    pub(super) fn add(&mut self, bytes: u64, now: Duration) {
        let now = slot(now).max(self.newest);
        for passed in 1..=(now - self.newest).min(RING) {
            self.bytes[((self.newest + passed) % RING) as usize] = 0;
        }
        self.newest = now;
        self.bytes[(now % RING) as usize] += bytes;
    }

    /// Bytes of the second that ends now.
    pub(super) fn sum(&self, now: Duration) -> u64 {
        let passed = slot(now).saturating_sub(self.newest).min(RING);
        (0..RING - passed).map(|back| self.bytes[((self.newest + RING - back) % RING) as usize]).sum()
    }

    /// From when on the second that ends there holds less than this.
    pub(super) fn below(&self, limit: u64) -> Duration {
        let mut sum = 0;
        for back in 0..RING.min(self.newest + 1) {
            sum += self.bytes[((self.newest - back) % RING) as usize];
            if sum >= limit {
                return SLOT * u32::try_from(self.newest - back + RING).unwrap_or(u32::MAX);
            }
        }
        Duration::ZERO
    }
}

/// Bytes the cloud took in each of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Taken {
    second: u64,
    /// The first whole second that counts.
    from: u64,
    bytes: [u64; SECONDS],
}

impl Taken {
    pub(super) fn add(&mut self, bytes: u64, now: Duration) {
        self.turn(now.as_secs());
        if now.as_secs() >= self.from {
            self.bytes[0] += bytes;
        }
    }

    fn turn(&mut self, second: u64) {
        let steps = usize::try_from(second.saturating_sub(self.second)).unwrap_or(SECONDS).min(SECONDS);
        self.bytes.rotate_right(steps % SECONDS);
        self.bytes[..steps].fill(0);
        self.second = self.second.max(second);
    }

    /// What was taken until now says nothing of what comes.
    pub(super) fn forget(&mut self, now: Duration) {
        self.bytes.fill(0);
        self.from = now.as_secs() + 1;
    }

    /// Bytes of the best whole second, of those remembered; `None` when nothing was taken.
    #[expect(clippy::cast_precision_loss, reason = "bytes of a second are far below 2^52")]
    pub(super) fn best(&mut self, now: Duration) -> Option<f64> {
        self.turn(now.as_secs());
        self.bytes[1..].iter().max().filter(|bytes| **bytes > 0).map(|bytes| *bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_second_that_is_full_says_when_it_will_have_room() {
        let mut slots = Slots::default();
        slots.add(40, MS(5));
        slots.add(60, MS(507));
        assert_eq!(slots.below(101), MS(0));
        assert_eq!(slots.below(100), MS(1010), "the first leaves");
        assert_eq!(slots.below(60), MS(1510));
        assert_eq!([999, 1009, 1010, 1509, 1510].map(|at| slots.sum(MS(at))), [100, 100, 60, 60, 0]);
        slots.add(1, MS(9999));
        assert_eq!((slots.below(1), slots.below(2)), (MS(11_000), MS(0)));
    }

    #[test]
    fn the_best_whole_second_counts_until_it_is_forgotten() {
        let mut taken = Taken::default();
        assert_eq!(taken.best(MS(0)), None);
        taken.add(100, MS(500));
        taken.add(300, MS(3500));
        assert_eq!(taken.best(MS(3900)), Some(100.0), "the running second is not over");
        assert_eq!(taken.best(MS(4100)), Some(300.0));
        taken.forget(MS(4500));
        taken.add(900, MS(4600));
        assert_eq!(taken.best(MS(5100)), None, "a second that began before says too little");
        taken.add(200, MS(5200));
        assert_eq!(taken.best(MS(6000)), Some(200.0));
        assert_eq!(taken.best(MS(90_000)), None);
    }
}
