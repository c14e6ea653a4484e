//! What people may know about a destination: shared, cheap to read, without secrets.

use crate::model::Timestamp;
use crate::model::accounting::{Accounting, Count, Kind, Shown};
use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One instance a destination, written by its task and read by whoever shows it. `S` is how it may stand, `M` what only its
/// kind has.
#[derive(Debug, Default)]
pub struct Status<S = State, M = OfBroker> {
    snapshot: Mutex<Snapshot<S, M>>,
    accounting: Mutex<Accounting>,
}

/// A destination at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot<S = State, M = OfBroker> {
    pub name: String,
    pub endpoint: String,
    #[serde(flatten)]
    pub state: S,
    /// Why it was last lost or refused, or what it did not grant.
    pub last_error: Option<String>,
    /// Messages sent and not yet acknowledged.
    pub in_flight: usize,
    /// Messages, their bytes and the readings in them, everything sent again counted again.
    pub messages: u64,
    pub message_bytes: u64,
    pub readings_sent: u64,
    pub messages_acknowledged: u64,
    /// Messages, bytes and readings by kind and day.
    pub accounting: Shown,
    #[serde(flatten)]
    pub more: M,
}

/// Of brokers alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfBroker {
    /// Connections that stood.
    pub connects: u64,
    pub received: Received,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    #[default]
    Connecting,
    Online,
    /// The next try comes at this time, in milliseconds UTC.
    Waiting {
        until: i64,
    },
    Stopped,
}

/// What came from the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Received {
    pub messages: u64,
    /// Readings made of them.
    pub readings: u64,
    /// Messages that could not become a reading, and why the last one could not.
    pub refused: u64,
    pub last_refusal: Option<String>,
}

impl<S: Clone + Default, M: Clone + Default> Status<S, M> {
    #[must_use]
    pub fn new(name: &str, endpoint: String) -> Status<S, M> {
        let snapshot = Snapshot { name: name.to_owned(), endpoint, ..Snapshot::default() };
        Status { snapshot: Mutex::new(snapshot), accounting: Mutex::default() }
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot<S, M> {
        let accounting = lock(&self.accounting).shown(Timestamp::now());
        Snapshot { accounting, ..lock(&self.snapshot).clone() }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Snapshot<S, M>)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_only_brokers_have_stands_beside_the_rest_and_is_not_shown_of_others() {
        let broker = Status::<State, OfBroker>::new("scada", "tcp://h:1883".to_owned());
        broker.sent(Kind::Post, 100, 7);
        let shown = serde_json::to_value(broker.snapshot()).unwrap();
        assert_eq!(
            (&shown["state"], &shown["connects"], &shown["readings_sent"]),
            (&json!("connecting"), &json!(0), &json!(7))
        );
        assert_eq!(shown["received"]["messages"], 0);
        let other = Status::<State, ()>::new("integration", "https://h".to_owned());
        let shown = serde_json::to_value(other.snapshot()).unwrap();
        assert!(shown.get("received").is_none() && shown.get("connects").is_none());
        assert_eq!((&shown["name"], &shown["state"]), (&json!("integration"), &json!("connecting")));
    }
}
