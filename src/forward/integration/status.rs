//! What people may know about the REST integration: shared, cheap to read, without secrets.

use crate::model::Timestamp;
use crate::model::accounting::{Accounting, Count, Kind, Shown};
use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct Status {
    snapshot: Mutex<Snapshot>,
    accounting: Mutex<Accounting>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    pub name: String,
    pub endpoint: String,
    #[serde(flatten)]
    pub state: State,
    pub last_error: Option<String>,
    /// Messages sent and not yet answered.
    pub in_flight: usize,
    /// Messages, their bytes and the readings in them, everything sent again counted again.
    pub messages: u64,
    pub message_bytes: u64,
    pub readings_sent: u64,
    pub messages_acknowledged: u64,
    /// Messages, bytes and readings by kind and day.
    pub accounting: Shown,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Nothing was sent yet, or the next message will tell.
    #[default]
    Connecting,
    Online,
    /// The cloud has too much to do; the next message goes at this time, in milliseconds UTC.
    Slowed {
        until: i64,
    },
    /// Not reached; the next try comes at this time.
    Waiting {
        until: i64,
    },
    /// The service account may not post points: somebody has to authorise it. Tried again at this time.
    NotAuthorised {
        code: i64,
        until: i64,
    },
    /// Everything is refused with this code: the values are not to blame, and they wait. Tried again at this time.
    Refused {
        code: i64,
        until: i64,
    },
    Stopped,
}

impl Status {
    #[must_use]
    pub fn new(name: &str, endpoint: String) -> Status {
        let snapshot = Snapshot { name: name.to_owned(), endpoint, ..Snapshot::default() };
        Status { snapshot: Mutex::new(snapshot), accounting: Mutex::default() }
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let accounting = lock(&self.accounting).shown(Timestamp::now());
        Snapshot { accounting, ..lock(&self.snapshot).clone() }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut lock(&self.snapshot));
    }

    /// A message went out, in this lane's kind.
    pub(super) fn sent(&self, kind: Kind, bytes: usize, readings: u64) {
        let bytes = bytes as u64;
        lock(&self.accounting).sent(kind, Count { messages: 1, bytes, readings }, Timestamp::now());
        self.update(|s| {
            s.messages += 1;
            s.message_bytes += bytes;
            s.readings_sent += readings;
        });
    }
}

/// What is counted is whole whatever happened to the thread that held it.
fn lock<T>(counted: &Mutex<T>) -> MutexGuard<'_, T> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}
