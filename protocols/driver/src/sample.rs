//! What a session hands out: one typed value or one reason why there is none.

use crate::Value;
use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z. Wall clock, for stamps only; timers are monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wall clock now.
    #[must_use]
    pub fn now() -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// One value of one point. `point` counts over all devices of the connection, in the order of
/// [`crate::DeviceText::first_point`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub point: u32,
    pub time: Timestamp,
    pub datum: Datum,
}

/// A value with its quality. Bad has no value, so a stale one can not be passed on by mistake.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Good(Value),
    Uncertain(Value, Reason),
    Bad(Reason),
}

/// Why a datum is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The device did not answer in time.
    NoAnswer,
    /// There is no conversation with the device.
    NotConnected,
    /// The device is left alone for a while after failures.
    BackingOff,
    /// Modbus exception code (Modbus Application Protocol 1.1b3, clause 7).
    ModbusException(u8),
    /// OPC UA status code (OPC 10000-4, clause 7.39).
    StatusCode(u32),
    /// The answer does not fit the type the point table states.
    TypeMismatch,
    /// The number is not finite or does not fit the target type.
    OutOfRange,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoAnswer => write!(f, "no answer"),
            Reason::NotConnected => write!(f, "not connected"),
            Reason::BackingOff => write!(f, "backing off"),
            Reason::ModbusException(code) => {
                write!(f, "modbus exception {code} ({})", modbus_exception(*code))
            }
            Reason::StatusCode(code) => match status_name(*code) {
                Some(name) => write!(f, "status 0x{code:08X} ({name})"),
                None => write!(f, "status 0x{code:08X}"),
            },
            Reason::TypeMismatch => write!(f, "type mismatch"),
            Reason::OutOfRange => write!(f, "out of range"),
        }
    }
}

/// Status codes people meet in the field, without the bits that say more (OPC 10000-6, annex A.2).
const STATUS_NAMES: &[(u16, &str)] = &[
    (0x800A, "BadTimeout"),
    (0x801F, "BadUserAccessDenied"),
    (0x8031, "BadNoCommunication"),
    (0x8032, "BadWaitingForInitialData"),
    (0x8033, "BadNodeIdInvalid"),
    (0x8034, "BadNodeIdUnknown"),
    (0x8035, "BadAttributeIdInvalid"),
    (0x803A, "BadNotReadable"),
    (0x803B, "BadNotWritable"),
    (0x803C, "BadOutOfRange"),
    (0x8074, "BadTypeMismatch"),
    (0x8089, "BadConfigurationError"),
    (0x808A, "BadNotConnected"),
    (0x808B, "BadDeviceFailure"),
    (0x808C, "BadSensorFailure"),
    (0x808D, "BadOutOfService"),
];

fn status_name(code: u32) -> Option<&'static str> {
    STATUS_NAMES.iter().find(|(high, _)| u32::from(*high) == code >> 16).map(|(_, name)| *name)
}

fn modbus_exception(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "server device failure",
        5 => "acknowledge",
        6 => "server device busy",
        8 => "memory parity error",
        10 => "gateway path unavailable",
        11 => "gateway target device failed to respond",
        _ => "unknown",
    }
}
