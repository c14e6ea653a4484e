//! PURE. What a person may ask of the cloud through the running link.

use driver::Answer;
use serde_json::Value as Json;

/// One question. A device is named as people name it, or by its device key; `None` is the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// All of them when none is named.
    Attributes {
        device: Option<String>,
        names: Vec<String>,
    },
    Tags {
        device: Option<String>,
        names: Vec<String>,
    },
    /// The model as the cloud has it.
    Template {
        device: Option<String>,
    },
    /// The sub-devices of this gateway as the cloud has them.
    Topology,
    /// The versions the cloud offers.
    Versions {
        device: Option<String>,
    },
}

/// The link, as those who ask see it.
pub trait CloudAsk: Send + Sync {
    /// The cloud's data.
    ///
    /// # Errors
    /// In words for a person: no link, no such device, the cloud's refusal.
    fn ask(&self, wish: Wish) -> Answer<'_, Result<Json, String>>;
}
