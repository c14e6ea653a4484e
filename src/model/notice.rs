//! PURE. What the gateway has to tell the cloud of itself or of a sub-device: an event of its model, for example that a
//! certificate is about to expire. Whoever has one hands it to [`Notices`]; the cloud link posts it and keeps it until it is
//! acknowledged.

use super::Timestamp;
use serde_json::{Map, Value as Json};

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Identifier of the event in the model in the cloud, for example `certificateExpiring`.
    pub event: String,
    /// The event's outputs.
    pub fields: Map<String, Json>,
    pub at: Timestamp,
    /// Product and device key of the sub-device whose event it is; `None`: the gateway itself.
    pub device: Option<(String, String)>,
}

/// Where notices go. Never blocks: a bounded queue, in which a newer notice takes the place of the oldest.
pub trait Notices: Send + Sync {
    /// It is kept until the cloud has it.
    fn tell(&self, notice: Notice);

    /// As [`Notices::tell`], and the next of its kind takes its place while it waits: progress, for example.
    fn tell_in_passing(&self, notice: Notice) {
        self.tell(notice);
    }
}

/// Nobody to tell: no cloud is configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct NobodyListens;

impl Notices for NobodyListens {
    fn tell(&self, _notice: Notice) {}
}
