//! What people may know about the REST integration: shared, cheap to read, without secrets.

use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct Status(Mutex<Snapshot>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
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
        Status(Mutex::new(Snapshot { name: name.to_owned(), endpoint, ..Snapshot::default() }))
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // A snapshot is whole whatever happened to the thread that held it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
