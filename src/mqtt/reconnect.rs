//! PURE. When the next connection may be tried. Time and chance are arguments.
//!
//! EnOS refuses a device for five minutes after four connects within two minutes, so a client that hurries is
//! punished with silence. What never reached the cloud is not counted there and may be tried sooner.

use std::collections::VecDeque;
use std::time::Duration;

/// Connects the cloud may see within [`SPAN`]; one less than it allows.
const BUDGET: usize = 3;
/// What EnOS takes within [`SPAN`]. The first connect of a fresh daemon may be the last of these: a person who restarts
/// it three times in a row does not want to wait, and from then on it keeps to [`BUDGET`].
const ALLOWED: usize = BUDGET + 1;
const SPAN: Duration = Duration::from_secs(120);
/// A millisecond of drift between the two clocks must not cost five minutes.
const MARGIN: Duration = Duration::from_secs(2);

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(120);
const FIRST_REFUSED: Duration = Duration::from_secs(30);
const LONGEST_REFUSED: Duration = Duration::from_secs(3600);
/// A link that held this long was a good one.
pub const STABLE: Duration = Duration::from_secs(30);
/// While nobody answers, tries come no further apart than this part of the outage: a broker that was away for a
/// minute is found again within 1.5 s, one that was away for hours within 2 minutes.
const PART_OF_OUTAGE: u32 = 40;

/// How an attempt or a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The network did not carry us to the cloud: nothing it could count.
    Unreached,
    /// The cloud was reached and no connection came of it, or one that delivered nothing.
    Failed,
    /// CONNACK with a code that will not change by itself.
    Refused,
    /// We left it for a better one.
    Left,
    /// It was lost after it had delivered.
    Lost { held: Duration },
}

/// EnOS takes one connection a second of a device.
const APART: Duration = Duration::from_secs(1);

/// What is remembered of earlier attempts.
#[derive(Debug)]
pub struct Reconnect {
    budgeted: bool,
    /// The cloud has seen a connect of this daemon.
    begun: bool,
    /// When each connect that the cloud has seen counts no more.
    seen_until: VecDeque<Duration>,
    failed: u32,
    refused: u32,
    outage_since: Option<Duration>,
}

impl Reconnect {
    /// `budgeted`: the peer is EnOS and counts connects.
    #[must_use]
    pub fn new(budgeted: bool) -> Reconnect {
        Reconnect { budgeted, begun: false, seen_until: VecDeque::new(), failed: 0, refused: 0, outage_since: None }
    }

    /// The cloud has seen, or may have seen, a connect.
    pub fn reached(&mut self, now: Duration) {
        self.begun = true;
        self.seen_until.push_back(now + SPAN + MARGIN);
        if self.seen_until.len() > ALLOWED {
            self.seen_until.pop_front();
        }
    }

    /// What the cloud has seen before the daemon started: how long ago, the oldest first. Time begins now, at zero.
    pub fn before(&mut self, ages: &[Duration]) {
        let left = ages.iter().map(|age| (SPAN + MARGIN).saturating_sub(*age)).filter(|left| !left.is_zero());
        self.seen_until.extend(left);
        while self.seen_until.len() > ALLOWED {
            self.seen_until.pop_front();
        }
    }

    /// When a connect costs nothing but itself.
    #[must_use]
    pub fn free_at(&self) -> Duration {
        let most = if self.begun { BUDGET } else { ALLOWED };
        let full = self.seen_until.len().checked_sub(most).filter(|_| self.budgeted);
        full.map_or(Duration::ZERO, |oldest| self.seen_until[oldest])
    }

    /// How long to wait before the next attempt. `chance` is evenly spread over 0..1.
    pub fn wait(&mut self, now: Duration, ended: Ended, chance: f64) -> Duration {
        let outage = now.saturating_sub(*self.outage_since.get_or_insert(now));
        let wait = match ended {
            Ended::Unreached => (outage / PART_OF_OUTAGE).clamp(FIRST / 2, LONGEST).mul_f64(chance) + FIRST / 5,
            Ended::Failed => {
                self.failed += 1;
                doubled(FIRST, self.failed - 1, LONGEST).mul_f64(chance)
            }
            Ended::Refused => {
                self.refused += 1;
                doubled(FIRST_REFUSED, self.refused - 1, LONGEST_REFUSED).mul_f64(0.5 + chance / 2.0)
            }
            Ended::Left => APART,
            Ended::Lost { held } => {
                // A link that delivers is no failing link, even when it breaks often.
                self.failed = if held >= STABLE { 0 } else { (self.failed + 1).min(1) };
                self.refused = 0;
                self.outage_since = Some(now);
                doubled(FIRST, self.failed, LONGEST).mul_f64(chance)
            }
        };
        wait.max(self.free_at().saturating_sub(now))
    }

    /// A connection stands.
    pub fn connected(&mut self) {
        self.outage_since = None;
        self.refused = 0;
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn waits_after_failures_double_to_two_minutes() {
        let mut reconnect = Reconnect::new(false);
        let longest: Vec<u64> = (0..9).map(|_| reconnect.wait(S(0), Ended::Failed, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
    }

    #[test]
    fn waits_are_spread_over_their_whole_range() {
        let waits: Vec<Duration> = [0.0, 0.25, 0.5, 1.0]
            .map(|chance| {
                let mut reconnect = Reconnect::new(false);
                for _ in 0..4 {
                    reconnect.wait(S(0), Ended::Failed, 0.0);
                }
                reconnect.wait(S(0), Ended::Failed, chance)
            })
            .into();
        assert_eq!(waits, [S(0), S(4), S(8), S(16)]);
    }

    #[test]
    fn a_refused_login_waits_longer_and_up_to_an_hour() {
        let mut reconnect = Reconnect::new(true);
        let waits: Vec<u64> = (0..9).map(|_| reconnect.wait(S(0), Ended::Refused, 1.0).as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn a_broker_away_for_a_minute_is_found_within_two_seconds() {
        let mut reconnect = Reconnect::new(true);
        reconnect.wait(S(0), Ended::Lost { held: S(100) }, 1.0);
        assert!(reconnect.wait(S(60), Ended::Unreached, 1.0) <= S(2));
        assert!(reconnect.wait(S(36_000), Ended::Unreached, 1.0) > S(100));
    }

    #[test]
    fn a_stable_link_clears_the_past() {
        let mut reconnect = Reconnect::new(false);
        for _ in 0..8 {
            reconnect.wait(S(0), Ended::Failed, 1.0);
        }
        reconnect.connected();
        assert!(reconnect.wait(S(100), Ended::Lost { held: STABLE }, 1.0) <= S(1));
    }

    #[test]
    fn connects_before_a_restart_count_and_old_ones_do_not() {
        let mut reconnect = Reconnect::new(true);
        reconnect.before(&[S(200), S(100), S(50), S(10)]);
        assert_eq!(reconnect.free_at(), S(0), "a third quick restart waits for nothing");
        reconnect.reached(S(1));
        assert_eq!(reconnect.wait(S(1), Ended::Left, 0.0), S(71), "122 s after the one of 50 s before the start");
        let mut fifth = Reconnect::new(true);
        fifth.before(&[S(100), S(60), S(50), S(10)]);
        assert_eq!(fifth.free_at(), S(22), "EnOS has seen four");
        fifth.reached(S(22));
        assert_eq!(fifth.free_at(), S(72), "and from now on one less");
        assert_eq!(Reconnect::new(true).wait(S(0), Ended::Left, 0.0), S(1));
        let mut plain = Reconnect::new(false);
        plain.before(&[S(1), S(1), S(1)]);
        assert_eq!(plain.free_at(), S(0));
    }

    proptest! {
        #[test]
        fn restarts_never_make_it_see_five(story in prop::collection::vec((0u64..40, 1usize..4), 1..60)) {
            let mut now = S(0);
            let mut seen: Vec<Duration> = Vec::new();
            for (lives, connects) in story {
                let mut reconnect = Reconnect::new(true);
                let last = &seen[seen.len().saturating_sub(ALLOWED)..];
                reconnect.before(&last.iter().map(|at| now - *at).collect::<Vec<_>>());
                let begun = now;
                now = begun + reconnect.free_at().max(S(lives));
                for _ in 0..connects {
                    reconnect.reached(now - begun);
                    seen.push(now);
                    now += reconnect.wait(now - begun, Ended::Left, 0.0);
                }
                // Killed here: the wait is not served.
                now = *seen.last().unwrap() + S(lives);
            }
            for five in seen.windows(ALLOWED + 1) {
                prop_assert!(five[ALLOWED] - five[0] > SPAN);
            }
        }

        #[test]
        fn the_cloud_never_sees_four_connects_in_two_minutes(
            story in prop::collection::vec((0u8..5, 0.0f64..1.0, 0u64..90), 1..80),
        ) {
            let mut reconnect = Reconnect::new(true);
            let mut now = S(0);
            let mut seen: Vec<Duration> = Vec::new();
            for (how, chance, held) in story {
                if how != 0 {
                    reconnect.reached(now);
                    seen.push(now);
                }
                let ended = match how {
                    0 => Ended::Unreached,
                    1 => Ended::Failed,
                    2 => Ended::Refused,
                    3 => Ended::Left,
                    _ => { reconnect.connected(); now += S(held); Ended::Lost { held: S(held) } }
                };
                now += reconnect.wait(now, ended, chance);
            }
            for four in seen.windows(4) {
                prop_assert!(four[3] - four[0] > SPAN);
            }
        }
    }
}
