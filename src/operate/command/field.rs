//! What a command needs of the devices in the field; `app` joins it with the connections.

use crate::model::Value;
use driver::Answer;
use tokio::time::Instant;

/// The field, by indexes of the site: device, measurement point of its model.
pub trait Field: Send + Sync {
    fn presence(&self, device: u32) -> Presence;
    /// The latest value of a measurement point, by its id; `None` when it is not known.
    fn latest(&self, device: u32, measurepoint: &str) -> Option<Latest>;
    fn is_collected(&self, device: u32, measurepoint: u32) -> bool;
    /// What would go over the wire. Nothing is done.
    ///
    /// # Errors
    /// When it can not be written, or the value does not fit the wire.
    fn plan(&self, device: u32, measurepoint: u32, value: &Value) -> Result<PlannedWrite, Failed>;
    /// Writes and waits for the device's confirmation.
    fn write<'a>(&'a self, device: u32, write: &'a PlannedWrite, by: By) -> Answer<'a, Result<(), Failed>>;
    /// Reads measurement points from the device, so that `latest` knows them.
    fn read<'a>(&'a self, device: u32, measurepoints: &'a [u32], by: By) -> Answer<'a, Result<(), Failed>>;
    /// Asks a silent device for anything.
    fn probe(&self, device: u32, by: By) -> Answer<'_, Result<(), Failed>>;
    fn raw(&self, device: u32, bytes: Vec<u8>, by: By) -> Answer<'_, Result<Vec<u8>, Failed>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Online,
    /// Nothing is known against it.
    Unknown,
    Silent,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Latest {
    /// `None`: there is no good one.
    pub value: Option<Value>,
    /// Why it is not good, else empty.
    pub why: String,
    /// Milliseconds since 1970.
    pub time: i64,
}

/// A write that fits.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedWrite {
    pub point: u32,
    pub raw: Value,
    /// What the point shows once it is written.
    pub expected: Value,
    /// How far a value read back may be from it.
    pub tolerance: f64,
}

/// When something must be begun and ended.
#[derive(Clone, Copy, Debug)]
pub struct By {
    pub start: Instant,
    pub end: Instant,
}

/// A code of `model::command::code` and words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub code: i64,
    pub message: String,
}
