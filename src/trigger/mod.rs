//! PURE. Event triggers: readings -> events.

pub mod rule;

pub use rule::{Compare, Condition, EventRule, Match, Scope, Threshold};
