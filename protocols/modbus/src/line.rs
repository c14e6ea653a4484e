//! A serial line's memory of requests nobody answered yet. It outlives sessions and packages.
//!
//! RTU answers carry no transaction number: an answer that comes late looks like the answer to the
//! next request. So a request leaves its mark here *before* it is sent and takes it away when it is
//! answered; whoever opens the line next waits until the mark has lost its meaning. A read future
//! that was dropped, a session that was dropped and a reloaded package all find the mark.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Requests whose answers may still come, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub unit: u8,
    pub function: u8,
    /// Length of the whole answer, CRC included.
    pub reply_len: usize,
    pub sent: Instant,
}

#[derive(Debug, Default)]
struct State {
    quiet_at: Option<Instant>,
    /// Longest time from a request to an answer that came too late.
    worst: Duration,
    suspects: Vec<Suspect>,
}

/// One serial line.
#[derive(Debug, Default)]
pub struct Line(Mutex<State>);

/// An answer that did not come within this time is not waited for any more.
const FORGET: Duration = Duration::from_secs(120);
/// Marks kept; a line with more is dead and its oldest marks are the least likely to matter.
const MOST_SUSPECTS: usize = 64;

impl Line {
    /// The line of this port, the same for every connection of the process. One entry a port name.
    #[must_use]
    pub fn of(port: &str) -> Arc<Line> {
        static LINES: Mutex<BTreeMap<String, Arc<Line>>> = Mutex::new(BTreeMap::new());
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lines.entry(port.to_owned()).or_default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a request that goes out now and has to be answered by `deadline`.
    pub fn sending(&self, suspect: Suspect, deadline: Instant, silence: Duration) {
        let mut state = self.state();
        let patience = deadline.duration_since(suspect.sent);
        // As late again as the dead-line, or half as much again as the latest answer seen.
        let late = patience.max((state.worst + state.worst / 2).saturating_sub(patience));
        state.quiet_at = Some(deadline + late + silence);
        if state.suspects.len() == MOST_SUSPECTS {
            state.suspects.remove(0);
        }
        state.suspects.push(suspect);
    }

    /// The request sent at `sent` got an answer. `ambiguous` says whether it may as well be the
    /// late answer to one of the older requests given to it.
    ///
    /// A unit answers in the order it was asked. So after a certain answer nothing older of this
    /// unit is on its way any more; after an ambiguous one, one answer is still due.
    pub fn answer(&self, unit: u8, sent: Instant, ambiguous: impl FnOnce(&[Suspect]) -> bool) {
        let mut state = self.state();
        state.quiet_at = None;
        let older: Vec<Suspect> = state.suspects.iter().filter(|s| s.unit == unit && s.sent < sent).copied().collect();
        if !older.is_empty() && ambiguous(&older) {
            let at = state.suspects.iter().position(|s| s.unit == unit).expect("invariant: one was just found");
            state.suspects.remove(at);
        } else {
            state.suspects.retain(|s| s.unit != unit);
        }
    }

    /// True when the unit left a request unanswered.
    #[must_use]
    pub fn suspects_any(&self, unit: u8) -> bool {
        self.state().suspects.iter().any(|s| s.unit == unit)
    }

    /// When the line will be quiet, if a request on it was given up.
    #[must_use]
    pub fn quiet_at(&self) -> Option<Instant> {
        self.state().quiet_at
    }

    /// The quarantine is over.
    pub fn is_quiet(&self) {
        self.state().quiet_at = None;
    }

    /// An answer to one of the suspects came `after` its request.
    pub fn came_late(&self, suspect: &Suspect, now: Instant) {
        let mut state = self.state();
        state.worst = state.worst.max(now.duration_since(suspect.sent));
        // In order again: what was asked of this unit before is answered or never will be.
        let unit = suspect.unit;
        state.suspects.retain(|s| s.unit != unit || s.sent > suspect.sent);
    }

    /// The unit's requests whose answers may still come.
    #[must_use]
    pub fn suspects(&self, unit: u8, now: Instant) -> Vec<Suspect> {
        let mut state = self.state();
        state.suspects.retain(|s| now.duration_since(s.sent) < FORGET);
        state.suspects.iter().filter(|s| s.unit == unit).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspect(unit: u8, sent: Instant) -> Suspect {
        Suspect { unit, function: 3, reply_len: 7, sent }
    }

    #[tokio::test(start_paused = true)]
    async fn a_mark_stays_until_it_is_answered_or_old() {
        let line = Line::default();
        let now = Instant::now();
        let deadline = now + Duration::from_secs(1);
        line.sending(suspect(7, now), deadline, Duration::from_millis(4));
        line.sending(suspect(8, now), deadline, Duration::from_millis(4));
        assert_eq!(line.quiet_at(), Some(now + Duration::from_millis(2004)));
        line.answer(8, now, |_| false);
        assert_eq!(line.suspects(7, now).len(), 1);
        assert!(line.suspects(8, now).is_empty());
        assert!(line.suspects(7, now + FORGET).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_answer_seen_lengthens_the_quarantine() {
        let line = Line::default();
        let sent = Instant::now();
        line.sending(suspect(7, sent), sent + Duration::from_secs(1), Duration::ZERO);
        line.came_late(&suspect(7, sent), sent + Duration::from_secs(4));
        assert!(line.suspects(7, sent).is_empty());
        line.sending(suspect(7, sent), sent + Duration::from_secs(1), Duration::ZERO);
        assert_eq!(line.quiet_at(), Some(sent + Duration::from_secs(6)));
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_ambiguous_answer_one_is_still_due() {
        let line = Line::default();
        let first = Instant::now();
        let second = first + Duration::from_secs(3);
        line.sending(suspect(7, first), first, Duration::ZERO);
        line.sending(suspect(7, second), second, Duration::ZERO);
        line.answer(7, second, |older| older.len() == 1);
        assert_eq!(line.suspects(7, second), [suspect(7, second)]);
    }

    #[tokio::test(start_paused = true)]
    async fn marks_are_bounded() {
        let line = Line::default();
        for _ in 0..1000 {
            line.sending(suspect(7, Instant::now()), Instant::now(), Duration::ZERO);
        }
        assert_eq!(line.suspects(7, Instant::now()).len(), MOST_SUSPECTS);
    }
}
