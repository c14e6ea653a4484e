//! PURE. Whether a start that takes long gets on: it is given more time as long as it uses the processor.

use std::time::{Duration, Instant};

/// More time is asked for in steps of this. As long is what a start may do nothing, as when the disk is slow.
pub const STEP: Duration = Duration::from_secs(30);
/// No package takes longer to load: 1,000,000 points take a minute on a small gateway.
const LONGEST: Duration = Duration::from_secs(1800);

pub struct Loading {
    begun: Instant,
    moved: Instant,
    used: u64,
}

impl Loading {
    #[must_use]
    pub fn new(now: Instant) -> Loading {
        Loading { begun: now, moved: now, used: 0 }
    }

    /// How much more time to ask for. `used`: processor time of the process so far, in any unit.
    pub fn look(&mut self, now: Instant, used: u64) -> Option<Duration> {
        if used != self.used {
            (self.used, self.moved) = (used, now);
        }
        let gets_on = now.saturating_duration_since(self.moved) < STEP;
        (gets_on && now.saturating_duration_since(self.begun) < LONGEST).then_some(STEP)
    }
}

/// Processor time in ticks out of a line of `/proc/self/stat` (proc(5): utime and stime are fields 14 and 15).
#[must_use]
pub fn used(stat: &str) -> u64 {
    // The name of the program is in brackets and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_load_gets_more_time_and_a_hung_one_does_not() {
        let begun = Instant::now();
        let mut loading = Loading::new(begun);
        let at = |seconds| begun + Duration::from_secs(seconds);
        for step in 1..60 {
            assert_eq!(loading.look(at(step * 10), step), Some(STEP), "it works at step {step}");
        }
        assert_eq!(loading.look(at(600), 59), Some(STEP), "the disk may be slow");
        assert_eq!(loading.look(at(625), 59), None, "it has hung");
        assert_eq!(loading.look(at(1900), 60), None, "there is an end to everything");
    }

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "4242 (a (b) c) S 1 4242 4242 0 -1 4194560 1300 0 0 0 17 25 3 4 20 0 7 0 100 1 2";
        assert_eq!(used(stat), 42);
        assert_eq!(used(""), 0);
    }
}
