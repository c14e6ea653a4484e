//! PURE. Event rules: as the package states them, checked, and as the gateway runs them, by device.

use std::collections::HashMap;
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
    /// What it is called in the cloud: an event of the model.
    pub event: String,
    /// Outputs that the model gives this event; `None`: it does not say.
    pub outputs: Option<Vec<String>>,
    /// The measurement point's own name for itself.
    pub point: String,
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

/// All rules of a package with the devices they watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPlan {
    pub rules: Vec<EventRule>,
    /// By index into the names of devices.
    pub watched: HashMap<u32, Vec<Watched>>,
    /// The site of a watched device and those above it, the nearest first.
    pub sites: HashMap<u32, Vec<String>>,
}

/// One rule for one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// Index into the rules.
    pub rule: u32,
    /// One for each condition of the rule: its threshold with the device's attributes filled in.
    pub limits: Vec<Limit>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Limit {
    Number(f64),
    Text(String),
}
