//! What became of one outward door, for `status`.

use driver::Timestamp;
use serde_json::{Value as Json, json};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Written by the door's task, read by whoever asks.
#[derive(Debug)]
pub struct Status {
    name: String,
    endpoint: String,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    state: &'static str,
    since: Timestamp,
    until: Option<i64>,
    visits: u64,
    requests: u64,
    refused: u64,
    last_error: Option<String>,
}

impl Status {
    #[must_use]
    pub fn new(name: &str, endpoint: String) -> Status {
        let now = Now {
            state: "connecting",
            since: Timestamp::now(),
            until: None,
            visits: 0,
            requests: 0,
            refused: 0,
            last_error: None,
        };
        Status { name: name.to_owned(), endpoint, now: Mutex::new(now) }
    }

    pub(super) fn open(&self) {
        let mut now = self.enter("open", None);
        now.visits += 1;
    }

    pub(super) fn waits(&self, why: Option<String>, until: i64) {
        let mut now = self.enter("waiting", Some(until));
        now.last_error = why.or(now.last_error.take());
    }

    pub(super) fn connecting(&self) {
        drop(self.enter("connecting", None));
    }

    pub(super) fn asked(&self) {
        self.lock().requests += 1;
    }

    pub(super) fn requests(&self) -> u64 {
        self.lock().requests
    }

    pub(super) fn refused(&self) {
        self.lock().refused += 1;
    }

    /// For `status`.
    #[must_use]
    pub fn snapshot(&self) -> Json {
        let now = self.lock();
        json!({
            "name": self.name, "endpoint": self.endpoint, "state": now.state, "since": now.since.0,
            "until": now.until, "visits": now.visits, "requests": now.requests, "refused": now.refused,
            "last_error": now.last_error,
        })
    }

    fn enter(&self, state: &'static str, until: Option<i64>) -> MutexGuard<'_, Now> {
        let mut now = self.lock();
        if now.state != state {
            now.state = state;
            now.since = Timestamp::now();
        }
        now.until = until;
        now
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        // Every change is whole before the lock is given back.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
