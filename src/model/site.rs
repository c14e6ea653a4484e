//! PURE. A loaded package, interned: what the daemon runs. Texts are gone but for names people see.

use super::{CommandRules, EventPlan, Formula, Names, Secret, ThingModel, Upload};
use driver::{Plan, PointTable};
use serde_json::{Map, Value as Json};
use std::sync::Arc;

/// Everything a package configures.
#[derive(Clone)]
pub struct Site {
    pub package: PackageName,
    pub names: Arc<Names>,
    /// What the cloud login of each device needs, in the order of `names.devices`.
    pub credentials: Vec<Credential>,
    /// What else the package says of each device, in the order of `names.devices`.
    pub details: Vec<DeviceDetails>,
    pub connections: Vec<Connection>,
    /// What is told when values pass their limits.
    pub events: Arc<EventPlan>,
}

impl Site {
    /// That of a gateway that waits for its first package.
    #[must_use]
    pub fn empty() -> Site {
        Site {
            package: PackageName { name: String::new(), version: String::new() },
            names: Arc::new(Names::new(Vec::new())),
            credentials: Vec::new(),
            details: Vec::new(),
            connections: Vec::new(),
            events: Arc::default(),
        }
    }

    /// No package at all: one has a name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.package.name.is_empty()
    }

    /// The name of its package, if there is one.
    #[must_use]
    pub fn named(&self) -> Option<String> {
        (!self.package.name.is_empty()).then(|| self.package.name.clone())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageName {
    pub name: String,
    pub version: String,
}

/// How the cloud knows an asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A device asset: it is logged in as sub-device of the gateway.
    Device { secret: Secret },
    /// A device asset without a secret: the cloud is asked to register it.
    Register,
    /// A device asset that proves itself with its product's secret first and gets its own then.
    Product { secret: Secret },
    /// A logic asset: it has no triple and never gets an MQTT login.
    Logic,
}

/// What the package says of a device beside its points.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceDetails {
    pub attributes: Map<String, Json>,
    pub tags: Vec<(String, String)>,
    pub description: Option<String>,
    pub timezone: Option<String>,
    /// The name in other languages: `zh_CN` and the like, with the name.
    pub names: Vec<(String, String)>,
}

/// One configured link and the devices behind it.
#[derive(Clone)]
pub struct Connection {
    pub name: String,
    pub protocol: String,
    pub plan: Arc<dyn Plan>,
    /// Digest of all it is made of: with an equal one it goes on under a new package. Empty: nobody knows.
    pub inputs: String,
    pub devices: Vec<ConnectedDevice>,
}

impl Connection {
    /// Whether the task of `running` goes on as it is when this takes its place. The one rule of switching, and of what
    /// `package diff` foretells of it.
    #[must_use]
    pub fn continues(&self, running: &Running<'_>) -> bool {
        !running.inputs.is_empty() && running.inputs == self.inputs && running.devices == self.devices.len()
    }

    #[must_use]
    pub fn running(&self) -> Running<'_> {
        Running { inputs: &self.inputs, devices: self.devices.len() }
    }
}

/// What a running connection was started with.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    pub inputs: &'a str,
    pub devices: usize,
}

/// One device of a connection.
#[derive(Clone)]
pub struct ConnectedDevice {
    /// Index into `names.devices`.
    pub device: u32,
    /// The device's first point among those of the connection; row `i` of its table is `first_point + i`.
    pub first_point: u32,
    pub template: Arc<Template>,
}

/// What all devices of one make share.
#[derive(Clone, Debug)]
pub struct Template {
    pub name: String,
    pub model: Arc<ThingModel>,
    pub table: Arc<PointTable>,
    /// At most one rule a measurement point for collection, in the order of the model.
    pub rules: Vec<Rule>,
    /// Measurement point -> row of the table that is written.
    pub controls: Vec<Control>,
    /// What commands may do.
    pub commands: CommandRules,
}

/// How one measurement point is made from points.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Index into `model.measurepoints`.
    pub measurepoint: u32,
    pub formula: Formula,
    pub upload: Upload,
}

/// How one measurement point is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    pub measurepoint: u32,
    pub row: u32,
}
