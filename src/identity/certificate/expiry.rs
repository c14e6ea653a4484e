//! PURE. When people are told that a certificate is about to expire: once at each mark.

use super::facts::Facts;

const DAY_MS: i64 = 86_400_000;

/// Days left at which people are told; 0: expired.
const MARKS: [i64; 5] = [30, 14, 7, 1, 0];

/// What has been told of which certificate.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    told: Option<(String, i64)>,
    /// Told at the second look, so that a clock that jumps for a moment alarms nobody.
    seen: Option<(String, i64)>,
}

impl Expiry {
    /// The mark that is reached, when it is to be told now. Renewal begins when `percent_left` of the life is left; a mark
    /// before that alarms nobody.
    pub fn look(&mut self, facts: &Facts, percent_left: u32, wall: i64) -> Option<i64> {
        let left = facts.not_after.saturating_sub(wall);
        let life = facts.not_after.saturating_sub(facts.not_before).max(0);
        let renewal = (i128::from(life) * i128::from(percent_left) / 100) as i64;
        let reached = |mark: &i64| left <= mark * DAY_MS && mark * DAY_MS < renewal.max(1);
        let mark = MARKS.iter().copied().filter(reached).min();
        let now = mark.map(|mark| (facts.serial.clone(), mark));
        let confirmed = now.is_some() && now == self.seen && now != self.told;
        self.seen = now;
        if confirmed {
            self.told.clone_from(&self.seen);
        }
        mark.filter(|_| confirmed)
    }
}

/// Whole seconds left, none after the end.
pub(super) fn seconds_left(facts: &Facts, wall: i64) -> u64 {
    u64::try_from(facts.not_after.saturating_sub(wall) / 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(life_days: i64) -> Facts {
        Facts {
            serial: "01".into(),
            subject: String::new(),
            issuer: String::new(),
            not_before: 0,
            not_after: life_days * DAY_MS,
            key_type: String::new(),
        }
    }

    fn story(facts: &Facts, hours: impl Iterator<Item = i64>) -> Vec<i64> {
        let mut expiry = Expiry::default();
        hours.filter_map(|hour| expiry.look(facts, 33, hour * DAY_MS / 24)).collect()
    }

    #[test]
    fn every_mark_is_told_once() {
        assert_eq!(story(&facts(730), 0..24 * 740), [30, 14, 7, 1, 0]);
        assert_eq!(story(&facts(60), 0..24 * 70), [14, 7, 1, 0], "30 days before the end nothing is late yet");
        assert_eq!(story(&facts(1), 0..48), [0]);
    }

    #[test]
    fn a_clock_that_jumps_for_a_moment_alarms_nobody() {
        let swinging = (0..100).map(|look| if look % 2 == 0 { 24 } else { 24 * 729 });
        assert!(story(&facts(730), swinging).is_empty());
    }

    #[test]
    fn nothing_is_left_after_the_end() {
        assert_eq!(seconds_left(&facts(1), 2 * DAY_MS), 0);
        assert_eq!(seconds_left(&facts(1), DAY_MS - 5000), 5);
        assert_eq!(seconds_left(&facts(1), i64::MAX), 0);
    }
}
