//! PURE. One event rule as the package states it, checked.

use std::time::Duration;

/// When an event is raised, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRule {
    pub id: String,
    pub model: String,
    /// Index into the model's measurement points.
    pub measurepoint: u32,
    pub conditions: Vec<Condition>,
    pub matching: Match,
    /// The conditions must hold this long; zero raises the event at once.
    pub delay: Duration,
    pub severity: String,
    pub content: Option<String>,
    pub scope: Scope,
    /// While a site has this event, those below it keep silent.
    pub masking: bool,
    pub enabled: bool,
}

/// Operator and threshold; the value stands on the left.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub compare: Compare,
    pub threshold: Threshold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
    NotEqual,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Threshold {
    Number(f64),
    Text(String),
    /// An attribute of the device, so that each has a limit of its own.
    Attribute(String),
}

/// How several conditions combine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    All,
    Any,
}

/// Which devices of the model a rule is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Devices at these sites and at the sites below them.
    Sites(Vec<String>),
}
