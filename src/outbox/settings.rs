//! PURE. What is configured of one destination.

use crate::model::Selection;
use std::time::Duration;

/// The most destinations an outbox serves: each is a bit of a number.
pub const MOST_DESTINATIONS: usize = 64;

/// One end of the outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationSettings {
    /// Under this name its cursor is kept: a new name is a new destination.
    pub name: String,
    /// Disk that may be taken by what is kept for this destination and for none without a quota of its own.
    /// `None`: it has no limit but the outbox's.
    pub quota_bytes: Option<u64>,
    /// Older readings are dropped for this destination. `None`: only the outbox's largest age counts.
    pub max_age: Option<Duration>,
    /// Which readings it wants at all.
    pub selection: Selection,
}

impl DestinationSettings {
    /// Takes everything, for as long as the outbox has room.
    #[must_use]
    pub fn new(name: &str) -> DestinationSettings {
        DestinationSettings { name: name.to_owned(), ..DestinationSettings::default() }
    }
}

impl From<&str> for DestinationSettings {
    fn from(name: &str) -> DestinationSettings {
        DestinationSettings::new(name)
    }
}
