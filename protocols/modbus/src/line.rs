//! A serial line's memory of requests nobody answered yet. It outlives sessions and packages.
//!
//! RTU answers carry no transaction number: an answer that comes late looks like the answer to the
//! next request. So a request leaves its mark here *before* it is sent and takes it away when it is
//! answered; whoever opens the line next waits until the mark has lost its meaning. A read future
//! that was dropped, a session that was dropped and a reloaded package all find the mark.

use crate::rtu;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A kind of answer that may still come, by what an answer shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    pub unit: u8,
    pub function: u8,
    /// Length of the whole answer, CRC included.
    pub reply_len: usize,
    /// When it was last asked for.
    pub sent: Instant,
    /// How often it was asked for; with 1 its answer is known to be the one to `sent`.
    pub times: u32,
    /// When it is not waited for any more.
    pub expires: Instant,
}

#[derive(Debug, Default)]
struct State {
    quiet_at: Option<Instant>,
    /// Longest time from a request to an answer that came too late.
    worst: Duration,
    /// One entry a kind, so that their number is bounded by the requests the plan knows.
    suspects: Vec<Suspect>,
}

/// One serial line.
#[derive(Debug, Default)]
pub struct Line(Mutex<State>);

/// After its quarantine an answer is still reckoned with for this many times the dead-line: gateways queue requests.
const FORGET_AFTER: u32 = 10;
/// And for at least this long.
const LEAST_MEMORY: Duration = Duration::from_secs(1);

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

    /// Marks a request that goes out now and has to be answered by `deadline`. Gives back what
    /// the unit still owes from before.
    pub fn sending(
        &self,
        request: (u8, u8, usize),
        sent: Instant,
        deadline: Instant,
        silence: Duration,
    ) -> Vec<Suspect> {
        let (unit, function, reply_len) = request;
        let mut state = self.state();
        let patience = deadline.duration_since(sent);
        // As late again as the dead-line, or half as much again as the latest answer seen.
        let late = patience.max((state.worst + state.worst / 2).saturating_sub(patience));
        let quiet_at = deadline + late + silence;
        state.quiet_at = Some(quiet_at);
        let older = state.of_unit(unit, sent);
        let same = |s: &Suspect| (s.unit, s.function, s.reply_len) == request;
        let times = state.suspects.iter().find(|s| same(s)).map_or(0, |s| s.times) + 1;
        state.suspects.retain(|s| !same(s));
        let expires = quiet_at + (patience * FORGET_AFTER).max(state.worst * 3).max(LEAST_MEMORY);
        state.suspects.push(Suspect { unit, function, reply_len, sent, times, expires });
        older
    }

    /// The request just marked got an answer. A unit answers in the order it was asked; so after
    /// an answer that can be no older one, nothing older of this unit is on its way any more.
    pub fn answered(&self, unit: u8, certain: bool) {
        let mut state = self.state();
        state.quiet_at = None;
        if certain {
            state.suspects.retain(|s| s.unit != unit);
        }
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

    /// Looks for late answers in what the line carries and strikes out what they settle. True when
    /// nothing is owed any more.
    pub fn observe(&self, received: &mut Vec<u8>, now: Instant) -> bool {
        let mut state = self.state();
        state.suspects.retain(|s| now < s.expires);
        let mut start = 0;
        while start + 4 < received.len() {
            match state.late_answer(&received[start..], now) {
                Some(len) => {
                    received.drain(..start + len);
                    start = 0;
                }
                None => start += 1,
            }
        }
        state.suspects.is_empty()
    }

    /// What the unit still owes.
    #[must_use]
    pub fn suspects(&self, unit: u8, now: Instant) -> Vec<Suspect> {
        self.state().of_unit(unit, now)
    }
}

impl State {
    /// The length of the late answer `rest` starts with.
    fn late_answer(&mut self, rest: &[u8], now: Instant) -> Option<usize> {
        let [unit, function, ..] = *rest else { return None };
        let exception = function & 0x80 != 0;
        let fits = |s: &Suspect| {
            let len = if exception { 5 } else { s.reply_len };
            s.unit == unit && s.function == function & 0x7F && rest.get(..len).is_some_and(rtu::is_sound)
        };
        let mut found = self.suspects.iter().filter(|s| fits(s));
        let (suspect, more) = (*found.next()?, found.next().is_some());
        self.worst = self.worst.max(now.duration_since(suspect.sent));
        if suspect.times == 1 && !more {
            // Units answer in order: what was asked of this one before is settled, too.
            self.suspects.retain(|s| s.unit != unit || s.sent > suspect.sent);
        }
        Some(if exception { 5 } else { suspect.reply_len })
    }

    fn of_unit(&mut self, unit: u8, now: Instant) -> Vec<Suspect> {
        self.suspects.retain(|s| now < s.expires);
        self.suspects.iter().filter(|s| s.unit == unit).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: (u8, u8, usize) = (7, 3, 7);

    #[tokio::test(start_paused = true)]
    async fn a_mark_stays_until_it_is_answered_or_old() {
        let line = Line::default();
        let now = Instant::now();
        let deadline = now + Duration::from_secs(1);
        assert!(line.sending(READ, now, deadline, Duration::from_millis(4)).is_empty());
        assert!(line.sending((8, 3, 7), now, deadline, Duration::from_millis(4)).is_empty());
        assert_eq!(line.quiet_at(), Some(now + Duration::from_millis(2004)));
        line.answered(8, true);
        assert_eq!(line.suspects(7, now).len(), 1);
        assert!(line.suspects(8, now).is_empty());
        assert!(line.suspects(7, now + Duration::from_secs(13)).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_answer_seen_lengthens_the_quarantine() {
        let line = Line::default();
        let sent = Instant::now();
        line.sending(READ, sent, sent + Duration::from_secs(1), Duration::ZERO);
        let mut received = vec![0xFF, 7, 3, 2, 0, 9];
        let sum = rtu::crc(&received[1..]);
        received.extend_from_slice(&sum.to_le_bytes());
        assert!(line.observe(&mut received, sent + Duration::from_secs(4)));
        assert!(line.suspects(7, sent).is_empty());
        line.sending(READ, sent, sent + Duration::from_secs(1), Duration::ZERO);
        assert_eq!(line.quiet_at(), Some(sent + Duration::from_secs(6)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_may_be_an_older_one_clears_nothing() {
        let line = Line::default();
        let now = Instant::now();
        line.sending(READ, now, now, Duration::ZERO);
        assert_eq!(line.sending(READ, now, now, Duration::ZERO).len(), 1);
        line.answered(7, false);
        assert_eq!(line.suspects(7, now).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_asked_for_twice_settles_nothing() {
        let line = Line::default();
        let now = Instant::now();
        line.sending(READ, now, now, Duration::ZERO);
        line.sending(READ, now, now, Duration::ZERO);
        let mut received = vec![7, 3, 2, 0, 9];
        rtu::finish(&mut received);
        assert!(!line.observe(&mut received, now));
        assert!(received.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn marks_of_one_kind_are_one_mark() {
        let line = Line::default();
        for _ in 0..1000 {
            line.sending(READ, Instant::now(), Instant::now(), Duration::ZERO);
        }
        assert_eq!(line.suspects(7, Instant::now()).len(), 1);
    }
}
