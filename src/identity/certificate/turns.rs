//! PURE. Which pair the next connection is made with, and what its outcome means.
//!
//! The candidate is tried first. One that is refused for what it is, is set aside at once. One whose connections fail for
//! reasons nobody can tell apart from a bad network rests after a few, so that the pair that works gets its turn; when the
//! one works three times where the other did not, the candidate is set aside too.

use crate::model::identity::Failed;
use std::time::{Duration, Instant};

/// Connections of the candidate that may fail without a reason before the other pair gets its turn.
const PATIENCE: u32 = 3;
/// So often the other pair must work where the candidate did not.
const ROUNDS: u32 = 3;
/// How long the candidate rests.
const REST: Duration = Duration::from_secs(600);
/// When every peer that was reached hung up without a reason for so long, another certificate is asked for; the next one
/// after twice that, up to [`LONGEST_SUSPICION`].
const SUSPICION: Duration = Duration::from_secs(24 * 3600);
const LONGEST_SUSPICION: Duration = Duration::from_secs(8 * 24 * 3600);
/// Refusals of the pair in use in a row, after which another is asked for.
const HOPELESS: u32 = 3;

/// The pairs by their numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns {
    pub candidate: Option<u32>,
    pub current: Option<u32>,
    /// What was in use before, until it expires.
    pub before: Option<u32>,
    /// Set aside; offered only when there is nothing else at all.
    pub refused: Option<u32>,
    /// With which the last connection stood.
    pub in_use: Option<u32>,
    failures: u32,
    rounds: u32,
    rest_until: Option<Instant>,
    blamed: u32,
    last_reason: String,
    /// Since when peers hang up without a reason, and no connection stands.
    suspected_since: Option<Instant>,
    /// Certificates that were issued meanwhile.
    suspected: u32,
}

/// What an outcome means for what lies on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    Promote(u32),
    SetAside(u32, String),
}

impl Turns {
    /// A pair was issued: it is tried next.
    pub fn issued(&mut self, number: u32) {
        self.candidate = Some(number);
        (self.failures, self.rounds, self.rest_until) = (0, 0, None);
        if self.suspected_since.take().is_some() {
            self.suspected = self.suspected.saturating_add(1);
        }
    }

    /// Nobody says that it is the certificate, and with what there is no connection comes about: without another one
    /// it might stay so until the end of a life of years.
    pub fn is_stuck(&self, now: Instant) -> bool {
        let patience = SUSPICION.saturating_mul(1 << self.suspected.min(8)).min(LONGEST_SUSPICION);
        self.suspected_since.is_some_and(|since| now >= since + patience)
    }

    pub fn offer(&self, now: Instant) -> Option<u32> {
        let rested = self.candidate.filter(|_| self.rest_until.is_none_or(|until| now >= until));
        // Two that were in use take turns when the newer one is refused.
        let used = if self.blamed % 2 == 1 { self.before.or(self.current) } else { self.current.or(self.before) };
        rested.or(used).or(self.candidate).or(self.refused)
    }

    pub fn tried(&mut self, number: u32, outcome: Result<(), Failed>, now: Instant) -> Effect {
        match outcome {
            Ok(()) => self.stood(number, now),
            Err(failed) => self.fell(number, failed, now),
        }
    }

    /// Of the pair in use: the cloud does not take it any more.
    pub fn is_hopeless(&self) -> bool {
        self.blamed >= HOPELESS
    }

    /// The cloud has refused what is in use.
    pub fn is_blamed(&self) -> bool {
        self.blamed > 0
    }

    /// When a new connection would be made with something better than the one that stands; `None`: not as things are.
    pub fn better_at(&self, now: Instant) -> Option<Instant> {
        let candidate = self.candidate.filter(|candidate| self.in_use != Some(*candidate))?;
        debug_assert!(Some(candidate) != self.current, "a candidate is not in use");
        Some(self.rest_until.map_or(now, |until| until.max(now)))
    }

    fn stood(&mut self, number: u32, now: Instant) -> Effect {
        self.in_use = Some(number);
        (self.suspected_since, self.suspected) = (None, 0);
        if self.candidate == Some(number) || (self.refused == Some(number) && self.current.is_none()) {
            if self.refused == Some(number) {
                self.refused = None;
            }
            if self.candidate == Some(number) {
                self.candidate = None;
            }
            self.before = self.current.take().or(self.before);
            self.current = Some(number);
            (self.failures, self.rounds, self.rest_until, self.blamed) = (0, 0, None, 0);
            return Effect::Promote(number);
        }
        if self.current == Some(number) {
            self.blamed = 0;
        }
        match self.candidate {
            Some(candidate) if self.failures >= PATIENCE => {
                self.rounds += 1;
                self.failures = 0;
                if self.rounds >= ROUNDS {
                    let reason =
                        format!("no connection stands with it, while one does with the other: {}", self.last_reason);
                    return self.set_aside(candidate, reason);
                }
                self.rest_until = Some(now + REST);
                Effect::Nothing
            }
            _ => Effect::Nothing,
        }
    }

    fn fell(&mut self, number: u32, failed: Failed, now: Instant) -> Effect {
        let to_blame = failed.certificate_to_blame;
        if failed.suspect {
            self.suspected_since.get_or_insert(now);
        }
        if self.candidate == Some(number) {
            if to_blame {
                return self.set_aside(number, failed.reason);
            }
            self.failures += 1;
            self.last_reason = failed.reason;
            if self.failures >= PATIENCE && self.current.or(self.before).is_some() {
                self.rest_until = Some(now + REST);
            }
        } else if to_blame && [self.current, self.before].contains(&Some(number)) {
            self.blamed = self.blamed.saturating_add(1);
        }
        Effect::Nothing
    }

    fn set_aside(&mut self, number: u32, reason: String) -> Effect {
        self.candidate = None;
        self.refused = Some(number);
        (self.failures, self.rounds, self.rest_until) = (0, 0, None);
        Effect::SetAside(number, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blame(reason: &str) -> Result<(), Failed> {
        Err(Failed { certificate_to_blame: true, suspect: false, reason: reason.to_owned() })
    }

    fn network() -> Result<(), Failed> {
        Err(Failed { certificate_to_blame: false, suspect: true, reason: "reset by peer".to_owned() })
    }

    fn both() -> Turns {
        let mut turns = Turns { current: Some(1), in_use: Some(1), ..Turns::default() };
        turns.issued(2);
        turns
    }

    #[test]
    fn peers_that_hang_up_for_a_day_make_it_ask_and_ever_less_often() {
        let begun = Instant::now();
        let mut turns = Turns { current: Some(1), in_use: Some(1), ..Turns::default() };
        turns.tried(1, network(), begun);
        assert!(!turns.is_stuck(begun + SUSPICION / 2) && turns.is_stuck(begun + SUSPICION));
        turns.issued(2);
        assert!(!turns.is_stuck(begun + 9 * SUSPICION), "the new one has not been tried");
        turns.tried(2, network(), begun);
        assert!(!turns.is_stuck(begun + SUSPICION) && turns.is_stuck(begun + 2 * SUSPICION));
        turns.tried(1, Ok(()), begun);
        assert!(!turns.is_stuck(begun + 99 * SUSPICION), "a connection stands");
    }

    #[test]
    fn a_candidate_that_works_is_promoted_and_the_old_one_stays() {
        let now = Instant::now();
        let mut turns = both();
        assert_eq!((turns.offer(now), turns.better_at(now)), (Some(2), Some(now)));
        assert_eq!(turns.tried(2, Ok(()), now), Effect::Promote(2));
        assert_eq!((turns.current, turns.before, turns.candidate), (Some(2), Some(1), None));
        assert_eq!((turns.offer(now), turns.better_at(now)), (Some(2), None));
    }

    #[test]
    fn a_candidate_that_is_refused_is_set_aside_and_the_old_one_goes_on() {
        let now = Instant::now();
        let mut turns = both();
        assert_eq!(turns.tried(2, blame("unknown ca"), now), Effect::SetAside(2, "unknown ca".into()));
        assert_eq!((turns.offer(now), turns.current, turns.better_at(now)), (Some(1), Some(1), None));
    }

    #[test]
    fn a_dead_network_blames_nobody() {
        let mut now = Instant::now();
        let mut turns = both();
        for _ in 0..50 {
            let number = turns.offer(now).unwrap();
            assert_eq!(turns.tried(number, network(), now), Effect::Nothing);
            now += Duration::from_secs(120);
        }
        now += REST;
        assert_eq!(turns.offer(now), Some(2), "the candidate is still wanted");
        assert_eq!(turns.tried(2, Ok(()), now), Effect::Promote(2));
    }

    #[test]
    fn a_candidate_that_fails_without_a_word_gives_the_old_one_its_turn_and_is_set_aside_in_the_end() {
        let mut now = Instant::now();
        let mut turns = both();
        let mut offered = Vec::new();
        for _ in 0..40 {
            let number = turns.offer(now).unwrap();
            offered.push(number);
            let outcome = if number == 2 { network() } else { Ok(()) };
            if let Effect::SetAside(number, reason) = turns.tried(number, outcome, now) {
                assert!(number == 2 && reason.contains("reset by peer"), "{reason}");
                assert_eq!(offered, [2, 2, 2, 1, 2, 2, 2, 1, 2, 2, 2, 1]);
                return;
            }
            // The link waits until a better connection can be made.
            if number == 1 {
                now = turns.better_at(now).expect("the candidate comes again");
            }
        }
        panic!("never set aside: {offered:?}");
    }

    #[test]
    fn a_pair_in_use_that_is_refused_takes_turns_with_the_one_before_and_another_is_asked_for() {
        let now = Instant::now();
        let mut turns = Turns { current: Some(2), before: Some(1), ..Turns::default() };
        assert_eq!(turns.offer(now), Some(2));
        turns.tried(2, blame("revoked"), now);
        assert_eq!(turns.offer(now), Some(1));
        turns.tried(1, blame("expired"), now);
        assert!(!turns.is_hopeless());
        turns.tried(turns.offer(now).unwrap(), blame("revoked"), now);
        assert!(turns.is_hopeless());
        turns.issued(3);
        assert_eq!(turns.tried(3, Ok(()), now), Effect::Promote(3));
        assert!(!turns.is_hopeless() && turns.before == Some(2));
    }

    #[test]
    fn without_any_other_even_a_refused_one_is_offered() {
        let now = Instant::now();
        let mut turns = Turns::default();
        assert_eq!(turns.offer(now), None);
        turns.issued(1);
        for _ in 0..9 {
            assert_eq!(turns.offer(now), Some(1), "nothing else to turn to");
            turns.tried(1, network(), now);
        }
        turns.tried(1, blame("not yet known"), now);
        assert_eq!(turns.offer(now), Some(1));
        assert_eq!(turns.tried(1, Ok(()), now), Effect::Promote(1));
        assert_eq!((turns.current, turns.refused), (Some(1), None));
    }
}
