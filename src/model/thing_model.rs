//! PURE. Thing models as the package states them, flattened over their ancestors.

use super::late::LatePolicy;
use std::time::Duration;

/// A model with all inherited measurement points, the most basic model's first.
#[derive(Clone, Debug, PartialEq)]
pub struct ThingModel {
    pub id: String,
    pub name: String,
    pub parent: Option<String>,
    pub measurepoints: Vec<Measurepoint>,
}

/// One measurement point of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurepoint {
    pub id: String,
    pub name: String,
    pub data_type: DataType,
    pub signal: Signal,
    pub unit: Option<String>,
    /// Values travel with a quality.
    pub has_quality: bool,
    /// A template that does not map it is faulty.
    pub mandatory: bool,
    pub upload: Upload,
    /// What becomes of its late readings; `None`: what the configuration says.
    pub late: Option<LatePolicy>,
}

/// The data types of a measurement point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// 32 bit, signed.
    Int,
    Float,
    Double,
    Bool,
    Enum,
    String,
    /// Milliseconds, UTC.
    Timestamp,
    Date,
    Struct,
    Array,
    File,
}

/// The measurement-point type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    Ai,
    Di,
    Pi,
    Generic,
}

/// When a collected value is worth sending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Upload {
    /// Every collected value.
    Realtime,
    /// The current value once an interval; nothing when no new value came.
    Timer(Duration),
    /// When it differs from the last one sent by more than the dead-band.
    Change { deadband: f64 },
    /// Every change, and the current value once an interval.
    ChangeTimer { deadband: f64, interval: Duration },
    /// Never.
    Never,
}
