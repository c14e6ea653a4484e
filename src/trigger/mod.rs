//! PURE. Event triggers: readings -> events.

mod engine;

pub use crate::model::event_rule::{Compare, Condition, EventRule, Match, Scope, Threshold};
pub use engine::{Engine, Raised};
