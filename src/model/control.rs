//! PURE. What a model and a template say about commands: which values may be written, when, and what a service does.

use super::DataType;
use super::firmware::FirmwareRules;
use std::time::Duration;

/// Everything a template says about commands to its devices. The default allows every value its type can hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandRules {
    /// In the order of the model's measurement points; empty: nothing is said about any.
    pub limits: Vec<Limits>,
    pub interlocks: Vec<Interlock>,
    pub services: Vec<ServicePlan>,
    /// What a mapping row says about reading back, where it says something.
    pub read_backs: Vec<ReadBack>,
    /// How firmware gets to these devices, where it does.
    pub firmware: Option<FirmwareRules>,
}

/// Which values a measurement point, or an input of a service, takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// Values are whole multiples of it, counted from `min`, else from 0.
    pub step: Option<f64>,
    /// The only values there are. Empty: all.
    pub values: Vec<Constant>,
    /// False: commands may not write it, whatever the mapping says.
    pub writable: Option<bool>,
}

/// A value as a package writes it.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Bool(bool),
    Number(f64),
    Text(String),
}

/// Holds commands back while a state does not allow them.
#[derive(Clone, Debug, PartialEq)]
pub struct Interlock {
    /// Measurement points it guards, as indexes into the model; empty together with `services`: all commands.
    pub points: Vec<u32>,
    /// Services it guards, by id.
    pub services: Vec<String>,
    /// All of these must hold.
    pub only_when: Vec<Condition>,
    /// These must not all hold. Empty: forbids nothing.
    pub never_when: Vec<Condition>,
    /// For the caller.
    pub message: Option<String>,
}

/// `running == 1`, on a value that is no older than `max_age`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Index into the model.
    pub measurepoint: u32,
    pub operator: Comparison,
    pub value: Constant,
    /// `None`: a good value of any age will do.
    pub max_age: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

/// What a service of the model does on devices of the template.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePlan {
    pub id: String,
    pub inputs: Vec<Input>,
    pub steps: Vec<Step>,
    /// Name of the output and the measurement point that is read for it.
    pub outputs: Vec<(String, u32)>,
}

/// One input as the model defines it.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    pub id: String,
    /// `None`: the model does not say.
    pub data_type: Option<DataType>,
    pub limits: Limits,
    pub optional: bool,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub measurepoint: u32,
    pub value: StepValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum StepValue {
    Constant(Constant),
    /// The input of this name; the step is left out when an optional input is not given.
    Input(String),
}

/// How a written measurement point is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadBack {
    pub measurepoint: u32,
    /// False: the device's confirmation is enough.
    pub wanted: bool,
    /// How long a slow device may take until the value shows.
    pub within: Duration,
}

impl CommandRules {
    #[must_use]
    pub fn limits(&self, measurepoint: u32) -> Option<&Limits> {
        self.limits.get(measurepoint as usize)
    }

    #[must_use]
    pub fn read_back(&self, measurepoint: u32) -> ReadBack {
        let said = self.read_backs.iter().find(|said| said.measurepoint == measurepoint).copied();
        said.unwrap_or(ReadBack { measurepoint, wanted: true, within: Duration::ZERO })
    }
}
