//! PURE. What may be asked of a device from afar, and what is said of it afterwards.
//!
//! Doors (the cloud's MQTT link, other brokers, the local socket) make a [`Command`], hand it to [`Commands`] and pass on
//! the [`Outcome`]. What is checked, written, remembered and noted down happens behind that trait, once for all doors.

use super::Timestamp;
use driver::Answer;
use serde_json::{Map, Value as Json};
use std::time::Duration;

/// One wish of one caller.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The door it came through: `enos`, `local`, the name of a broker.
    pub door: String,
    /// The caller's own id. It has one effect at most with these contents, also across a restart. `None`: the caller
    /// gave none, so a repetition can not be told from a second wish.
    pub id: Option<String>,
    pub target: Target,
    pub what: What,
    /// When the caller issued it, if it says so.
    pub issued_at: Option<Timestamp>,
    /// How long it is good for, counted from `issued_at`, else from when it arrived. `None`: the configured default.
    pub time_to_live: Option<Duration>,
    /// The broker kept it and nobody knows for how long (MQTT's retain flag): of unknown age, so never carried out.
    pub retained: bool,
    /// The broker may have brought it before (MQTT's DUP flag).
    pub again: bool,
}

/// Whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The gateway itself.
    Edge,
    /// A device asset by its keys.
    Keys { product_key: String, device_key: String },
    /// A device by the name people use.
    Name(String),
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Measurement points and the values they shall have.
    Set(Map<String, Json>),
    /// Measurement points whose values are wanted.
    Get(Vec<String>),
    /// A service of the model, with its inputs.
    Service { id: String, input: Map<String, Json> },
    /// Bytes for the device as they are.
    Raw(Vec<u8>),
    /// An update is offered to the device.
    Ota(Json),
    /// Something no part of this engine knows: it is answered, not ignored.
    Unknown { method: String },
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// 200, or one of [`code`].
    pub code: i64,
    /// For the caller, a person perhaps.
    pub message: String,
    pub data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Nothing,
    Json(Json),
    Raw(Vec<u8>),
}

impl Outcome {
    #[must_use]
    pub fn done(data: Data) -> Outcome {
        Outcome { code: code::DONE, message: String::new(), data }
    }

    #[must_use]
    pub fn refused(code: i64, message: impl Into<String>) -> Outcome {
        Outcome { code, message: message.into(), data: Data::Nothing }
    }
}

/// Codes of answers. EnOS leaves 2000 and above to devices.
pub mod code {
    pub const DONE: i64 = 200;
    /// The words of the command can not be understood.
    pub const MALFORMED: i64 = 2000;
    /// This engine does not know such a command.
    pub const NOT_IMPLEMENTED: i64 = 2001;
    pub const UNKNOWN_DEVICE: i64 = 2002;
    pub const UNKNOWN_POINT: i64 = 2003;
    pub const NOT_WRITABLE: i64 = 2004;
    /// Of the wrong type, or beyond the range of the model or of the wire.
    pub const OUT_OF_RANGE: i64 = 2005;
    /// A state that the model names forbids it now.
    pub const INTERLOCKED: i64 = 2006;
    /// Too old when it came, or before its turn came. Nothing was done.
    pub const EXPIRED: i64 = 2007;
    pub const DEVICE_OFFLINE: i64 = 2008;
    /// The device answered, and its answer is no.
    pub const DEVICE_REFUSED: i64 = 2009;
    /// Written, and no answer came: it may have had its effect.
    pub const UNCONFIRMED: i64 = 2010;
    /// Written, and read back as something else.
    pub const READ_BACK_DIFFERS: i64 = 2011;
    /// Too much is under way. Nothing was done.
    pub const BUSY: i64 = 2012;
    /// The same id came before with other contents. Nothing was done.
    pub const ID_REUSED: i64 = 2013;
    /// The gateway was stopped in the middle: the effect is not known.
    pub const INTERRUPTED: i64 = 2014;
    /// The disk that must remember the command takes nothing. Nothing was done.
    pub const NOT_RECORDED: i64 = 2015;
    /// Several points, some done and some not; the data tells which.
    pub const PARTLY: i64 = 2016;
    /// The configuration forbids it to this caller.
    pub const FORBIDDEN: i64 = 2017;
    /// An update that this gateway does not take. Nothing was done.
    pub const UPDATE_REFUSED: i64 = 2018;
}

/// Whoever carries commands out. The future runs to its end even if the door that asked has gone: the answer is kept for
/// whoever asks again with the same id.
pub trait Commands: Send + Sync {
    fn perform(&self, command: Command) -> Answer<'static, Outcome>;
}

/// Where no commands are taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCommands;

impl Commands for NoCommands {
    fn perform(&self, _command: Command) -> Answer<'static, Outcome> {
        Box::pin(async { Outcome::refused(code::NOT_IMPLEMENTED, "not implemented by this gateway") })
    }
}
