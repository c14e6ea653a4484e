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

    /// The request just marked was answered in time; nothing of this unit is on its way any more,
    /// for a unit answers in the order it was asked.
    pub fn answered(&self, unit: u8) {
        let mut state = self.state();
        state.quiet_at = None;
        state.suspects.retain(|s| s.unit != unit);
    }

    /// Forgets the mark just made, for a request that was refused before it was sent.
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
        if let Some(at) = state.suspects.iter().position(|s| s == suspect) {
            let unit = suspect.unit;
            let mut index = 0;
            state.suspects.retain(|s| {
                index += 1;
                s.unit != unit || index - 1 > at
            });
        }
    }

    /// The unit's requests whose answers may still come.
    #[must_use]
    pub fn suspects(&self, unit: u8, now: Instant) -> Vec<Suspect> {
        let mut state = self.state();
        state.suspects.retain(|s| now.duration_since(s.sent) < FORGET);
        state.suspects.iter().filter(|s| s.unit == unit).copied().collect()
    }

    /// True when every request was answered; spares the search.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.state().suspects.is_empty()
    }
}
