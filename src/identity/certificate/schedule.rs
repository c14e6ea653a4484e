//! PURE. When a certificate is asked for, and that no clock can make that a storm.
//!
//! The wall clock says what is due, the clock that never jumps says how often and how soon. What is due must still be due
//! at a second look, with no jump of the wall clock in between; and between two requests lies an hour, more when they
//! bring nothing. Only a gateway that has nothing to show asks sooner, and slower each time.

use super::facts::Facts;
use super::pace::Pace;
use std::time::{Duration, Instant};

/// Between two requests that nobody asked for by hand.
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// What is due must stay due for so long.
const CONFIRM: Duration = Duration::from_secs(600);
/// The wall clock may move by this much against the other between two looks before it counts as a jump.
const JUMP_MS: i64 = 5 * 60 * 1000;
/// The first wait of a gateway that has nothing to show.
const SOON: Duration = Duration::from_secs(60);
/// While something is due, or the clock is not set: one look at least in this time.
const LOOK: Duration = Duration::from_secs(60);
/// While nothing is: this soon a clock that was set is noticed.
const IDLE_LOOK: Duration = Duration::from_secs(600);
/// 2026-01-01: no clock that is right says less.
const FLOOR_MS: i64 = 1_767_225_600_000;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Milliseconds UTC, as far as anybody knows.
    pub wall: i64,
    pub steady: Instant,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen<'a> {
    /// In use.
    pub current: Option<&'a Facts>,
    /// Issued and not yet tried with success.
    pub candidate: Option<&'a Facts>,
    /// The cloud has refused what is in use.
    pub blamed: bool,
    /// It has done so often enough that another is needed whatever its dates say.
    pub hopeless: bool,
    /// Peers hang up without a word, on the candidate as well.
    pub stuck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// There is none, or it has expired.
    Apply,
    /// The one in use still counts.
    Renew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ask(How),
    Wait(Duration),
}

/// What a request brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Brought {
    Certificate,
    /// No answer, or an answer without a certificate.
    Nothing,
    /// One that must not be used.
    Unusable,
}

/// What was asked for when.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    percent_left: u32,
    last: Option<Reading>,
    due_since: Option<Instant>,
    /// Nobody asks before; by hand one may.
    quiet_until: Option<Instant>,
    failures: u32,
    unusable: u32,
}

impl Schedule {
    /// `since_asked`: how long ago the last request before this start was; `pace`: what was decided then, and how long
    /// ago. The daemon may be one that starts again and again.
    pub fn new(
        percent_left: u32,
        since_asked: Option<Duration>,
        pace: Option<(Pace, Duration)>,
        now: Instant,
    ) -> Schedule {
        let decided = pace.map(|(pace, ago)| now + pace.quiet.min(DAY * 2).saturating_sub(ago));
        let quiet_until = decided.or_else(|| since_asked.map(|since| now + SOON.saturating_sub(since)));
        let Pace { failures, unusable, .. } = pace.map(|(pace, _)| pace).unwrap_or_default();
        Schedule { percent_left, last: None, due_since: None, quiet_until, failures, unusable }
    }

    /// For the next start.
    pub fn pace(&self, now: Instant) -> Pace {
        Pace { quiet: self.quiet_for(now), failures: self.failures, unusable: self.unusable }
    }

    /// Before this no request goes out, whatever is due.
    pub fn quiet(&mut self, until: Instant) {
        self.quiet_until = Some(self.quiet_until.map_or(until, |quiet| quiet.max(until)));
    }

    pub fn look(&mut self, at: Reading, seen: Seen<'_>) -> Verdict {
        let measure = seen.current.or(seen.candidate).map_or(Measure::FULL, Measure::of);
        let jumped = self.jumped(at, measure);
        self.last = Some(at);
        if jumped {
            tracing::warn!(
                wall_ms = at.wall,
                "the clock has jumped; what it says of certificates counts after a second look"
            );
            self.due_since = None;
        }
        let Due::Now(how) = self.due(at, seen) else {
            self.due_since = None;
            return Verdict::Wait(self.until_due(at, seen, measure));
        };
        let since = *self.due_since.get_or_insert(at.steady);
        let certain = seen.current.is_none() && seen.candidate.is_none() || seen.hopeless;
        let confirmed = if certain { since } else { since + measure.confirm };
        let earliest = self.quiet_until.map_or(confirmed, |quiet| quiet.max(confirmed));
        match earliest.checked_duration_since(at.steady).filter(|wait| !wait.is_zero()) {
            Some(wait) => Verdict::Wait(wait.min(LOOK).min(measure.confirm)),
            None => Verdict::Ask(how),
        }
    }

    /// How to ask now, when somebody wants it.
    pub fn by_hand(at: Reading, seen: Seen<'_>) -> How {
        match seen.current {
            Some(current) if at.wall < current.not_after && !seen.hopeless => How::Renew,
            _ => How::Apply,
        }
    }

    /// `jitter` is from 0 to 1.
    pub fn brought(&mut self, brought: Brought, seen: Seen<'_>, now: Instant, jitter: f64) {
        let measure = seen.current.map_or(Measure::FULL, Measure::of);
        self.due_since = None;
        let wait = match brought {
            Brought::Certificate => {
                self.failures = 0;
                measure.hour
            }
            Brought::Unusable => {
                self.failures = 0;
                self.rejected(measure)
            }
            Brought::Nothing => {
                self.failures = self.failures.saturating_add(1);
                // Nothing to show, or nothing that is taken: only then is there a hurry.
                let urgent = seen.current.is_none() || seen.blamed;
                let first = if urgent { measure.soon } else { measure.hour };
                first.saturating_mul(1 << (self.failures - 1).min(10)).min(measure.hour.max(first))
            }
        };
        self.quiet_until = Some(now + wait.mul_f64(1.0 + 0.2 * jitter));
    }

    /// How long no request goes out.
    pub fn quiet_for(&self, now: Instant) -> Duration {
        self.quiet_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// The cloud refused the certificate that it had issued.
    pub fn set_aside(&mut self, seen: Seen<'_>, now: Instant) {
        let measure = seen.current.map_or(Measure::FULL, Measure::of);
        let wait = self.rejected(measure);
        self.quiet(now + wait);
    }

    /// A new one works; with a short life it sets the measure.
    pub fn promoted(&mut self, facts: Option<&Facts>, now: Instant) {
        (self.failures, self.unusable) = (0, 0);
        let hour = facts.map_or(Measure::FULL, Measure::of).hour;
        self.quiet_until = self.quiet_until.map(|until| until.min(now + hour));
    }

    fn rejected(&mut self, measure: Measure) -> Duration {
        self.unusable = self.unusable.saturating_add(1);
        measure.hour.saturating_mul(1 << (self.unusable - 1).min(10)).min(measure.day)
    }

    fn jumped(&self, at: Reading, measure: Measure) -> bool {
        self.last.is_some_and(|last| {
            let passed =
                i64::try_from(at.steady.saturating_duration_since(last.steady).as_millis()).unwrap_or(i64::MAX);
            let difference = at.wall.saturating_sub(last.wall.saturating_add(passed));
            difference.saturating_abs() > measure.jump_ms
        })
    }

    fn due(&self, at: Reading, seen: Seen<'_>) -> Due {
        let Some(newest) = seen.candidate.or(seen.current) else { return Due::Now(How::Apply) };
        if seen.stuck || seen.hopeless && seen.candidate.is_none() {
            return Due::Now(How::Apply);
        }
        if is_behind(at.wall, newest) {
            return Due::ClockBehind;
        }
        if at.wall < self.renewal(newest) {
            return Due::At(self.renewal(newest));
        }
        Due::Now(Schedule::by_hand(at, seen))
    }

    /// When this part of its life is left.
    fn renewal(&self, facts: &Facts) -> i64 {
        let life = facts.not_after.saturating_sub(facts.not_before).max(0);
        facts.not_after.saturating_sub((i128::from(life) * i128::from(self.percent_left) / 100) as i64)
    }

    fn until_due(&self, at: Reading, seen: Seen<'_>, measure: Measure) -> Duration {
        match self.due(at, seen) {
            Due::At(moment) => {
                let left = Duration::from_millis(u64::try_from(moment.saturating_sub(at.wall)).unwrap_or(0));
                left.clamp(Duration::from_millis(10), IDLE_LOOK.min(measure.hour))
            }
            Due::ClockBehind | Due::Now(_) => LOOK.min(measure.hour),
        }
    }
}

enum Due {
    Now(How),
    At(i64),
    /// The clock is not set: it says nothing of what is due.
    ClockBehind,
}

/// No certificate of ours was issued in our future.
fn is_behind(wall: i64, newest: &Facts) -> bool {
    const TOLERANCE_MS: i64 = 24 * 3600 * 1000;
    wall < FLOOR_MS || wall < newest.not_before.saturating_sub(TOLERANCE_MS)
}

/// Times, shorter for certificates with a short life.
#[derive(Clone, Copy, Debug)]
struct Measure {
    hour: Duration,
    day: Duration,
    confirm: Duration,
    soon: Duration,
    jump_ms: i64,
}

impl Measure {
    const FULL: Measure = Measure { hour: HOUR, day: DAY, confirm: CONFIRM, soon: SOON, jump_ms: JUMP_MS };

    fn of(facts: &Facts) -> Measure {
        let millis = u64::try_from(facts.not_after.saturating_sub(facts.not_before)).unwrap_or(0).max(1000);
        let life = Duration::from_millis(millis);
        Measure {
            hour: HOUR.min((life / 12).max(Duration::from_secs(1))),
            day: DAY.min(life / 4),
            confirm: CONFIRM.min(life / 60),
            soon: SOON.min(life / 60),
            jump_ms: JUMP_MS.min(i64::try_from(millis / 20).unwrap_or(i64::MAX)),
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
