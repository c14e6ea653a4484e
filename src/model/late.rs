//! PURE. What becomes of readings that come too late to be live, and which points want something of their own.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// On which channel a late reading travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatePolicy {
    /// As if it were live: it may raise alerts.
    RealChannel,
    /// It fills the history and triggers nothing (`measurepoint/resume`).
    HisChannel,
    /// It is dropped on purpose, and counted.
    Remove,
}

/// Points whose policy their model states: model, index of the point, policy. All others follow the configuration.
pub type LateRules = BTreeMap<String, BTreeMap<u32, LatePolicy>>;
