//! What people may know about the REST integration: as of every destination, with states of its own.

use serde::Serialize;

/// Shared by its task and whoever shows it.
pub type Status = crate::forward::status::Status<State, ()>;
/// The integration at one moment.
pub type Snapshot = crate::forward::status::Snapshot<State, ()>;

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
