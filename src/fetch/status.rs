//! What is known of a source, for `enos-edge status` and for whoever waits for an attempt.

use super::journal::{Done, Trouble};
use crate::config::{SourceConfig, When};
use crate::model::Timestamp;
use serde::Serialize;
use serde_json::{Value as Json, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The last attempt, or the one under way.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct State {
    pub attempts: u64,
    pub busy: bool,
    /// Milliseconds since 1970.
    pub last_attempt: Option<i64>,
    pub steps: Vec<Done>,
    /// Of the archive under way: what is here, and its length where that is known.
    pub bytes: u64,
    pub total: u64,
    pub trouble: Option<Trouble>,
    /// What the last good attempt brought, in words.
    pub outcome: Option<String>,
    /// Why the last archive was refused.
    pub refused: Option<Json>,
    /// Attempts in a row that brought nothing.
    pub failures: u32,
    pub next_attempt: Option<i64>,
}

pub(super) struct Status {
    pub source: SourceConfig,
    state: Mutex<State>,
}

impl Status {
    pub fn new(source: SourceConfig) -> Status {
        Status { source, state: Mutex::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole before the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn begin(&self) {
        let mut state = self.state();
        let kept = (state.attempts + 1, state.failures, state.outcome.take(), state.refused.take());
        let (attempts, failures, outcome, refused) = kept;
        *state = State {
            attempts,
            failures,
            outcome,
            refused,
            busy: true,
            last_attempt: Some(Timestamp::now().0),
            ..State::default()
        };
    }

    /// The last archive was refused and may be taken later.
    pub fn is_passing(&self) -> bool {
        self.state().refused.as_ref().is_some_and(|refused| refused["passing"] == true)
    }

    pub fn step(&self, done: &Done) {
        let mut state = self.state();
        if state.steps.len() < 64 {
            state.steps.push(done.clone());
        }
    }

    pub fn wait(&self, wait: Option<Duration>) {
        let next =
            wait.map(|wait| Timestamp::now().0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
        self.state().next_attempt = next;
    }

    pub fn snapshot(&self) -> Json {
        let state = self.state().clone();
        let when = match self.source.when {
            When::Every(period) => format!("every {} s", period.as_secs()),
            When::OnNotice => "on notice".to_owned(),
            When::Manual => "by hand".to_owned(),
        };
        let mut shown = json!(state);
        shown["name"] = json!(self.source.name);
        shown["url"] = json!(self.source.address.to_string());
        shown["when"] = json!(when);
        shown
    }
}
