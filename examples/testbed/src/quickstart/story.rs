//! When the cloud is stopped and started again. Time is an argument.

use std::time::Duration;

/// Healthy this long before the first outage.
const FIRST_OUTAGE: Duration = Duration::from_secs(10);
const OUTAGE: Duration = Duration::from_secs(10);
/// From one outage to the next. The cloud takes 4 connects in 2 minutes and the gateway uses 3 of them.
const CYCLE: Duration = Duration::from_secs(90);
/// A run must be at least this long to hold an outage.
const SHORTEST_WITH_OUTAGE: Duration = Duration::from_secs(8);

/// What should be now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    CloudUp,
    CloudDown,
    /// Time is up: stop reading, let the outbox drain.
    End,
}

/// The plan of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Story {
    length: Option<Duration>,
}

impl Story {
    /// `None` runs until somebody stops it.
    #[must_use]
    pub fn new(length: Option<Duration>) -> Story {
        Story { length }
    }

    /// What should be, so long after the first live data.
    #[must_use]
    pub fn at(self, time: Duration) -> Act {
        match self.length {
            Some(length) if time >= length => Act::End,
            Some(length) if length < SHORTEST_WITH_OUTAGE => Act::CloudUp,
            // One outage in the middle half, so that there is time to catch up.
            Some(length) => down_between(time, length / 4, length / 2),
            None => {
                let after = time.saturating_sub(FIRST_OUTAGE).as_millis() % CYCLE.as_millis();
                if time >= FIRST_OUTAGE && after < OUTAGE.as_millis() { Act::CloudDown } else { Act::CloudUp }
            }
        }
    }
}

fn down_between(time: Duration, from: Duration, to: Duration) -> Act {
    if (from..to).contains(&time) { Act::CloudDown } else { Act::CloudUp }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acts(length: Option<u64>, seconds: u64) -> Vec<Act> {
        let story = Story::new(length.map(Duration::from_secs));
        let mut acts: Vec<Act> = (0..seconds).map(|s| story.at(Duration::from_secs(s))).collect();
        acts.dedup();
        acts
    }

    #[test]
    fn a_bounded_run_holds_one_outage_if_it_is_long_enough() {
        use Act::{CloudDown, CloudUp, End};
        assert_eq!(acts(Some(8), 10), [CloudUp, CloudDown, CloudUp, End]);
        assert_eq!(acts(Some(60), 70), [CloudUp, CloudDown, CloudUp, End]);
        assert_eq!(acts(Some(7), 10), [CloudUp, End]);
    }

    #[test]
    fn an_endless_run_never_exceeds_the_connects_the_cloud_takes() {
        let story = Story::new(None);
        let down = |s: u64| story.at(Duration::from_secs(s)) == Act::CloudDown;
        assert!(!down(9) && down(10) && down(19) && !down(20));
        let connects: Vec<u64> = std::iter::once(0).chain((1..2000).filter(|s| down(s - 1) && !down(*s))).collect();
        assert!(connects.windows(4).all(|four| four[3] - four[0] > 122));
    }
}
