//! Typed values as they come from a device, and the words the point table has for their types.

use std::fmt;
use std::sync::Arc;

/// A value read from or written to a device.
///
/// Integers of every width travel as `Int`; the point table knows the width on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    /// 32-bit IEEE 754, kept apart from `Double` so that 0.1 is reported as 0.1.
    Float(f32),
    Double(f64),
    Text(Arc<str>),
}

impl Value {
    /// The value as a number, if it is one. Booleans count as 0 and 1.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Bool(b) => Some(f64::from(u8::from(*b))),
            #[expect(clippy::cast_precision_loss, reason = "formulas are defined over doubles")]
            Value::Int(i) => Some(*i as f64),
            Value::Float(f) => Some(f64::from(*f)),
            Value::Double(d) => Some(*d),
            Value::Text(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(i) => write!(f, "{i}"),
            Value::Float(x) => write!(f, "{x}"),
            Value::Double(x) => write!(f, "{x}"),
            Value::Text(s) => write!(f, "{s}"),
        }
    }
}

/// The third column of the point table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    Bool,
    /// 8 bit, unsigned.
    Byte,
    /// 16 bit, signed.
    Short,
    /// 16 bit, unsigned.
    UShort,
    /// 32 bit, signed.
    Int,
    /// 32 bit, unsigned.
    UInt,
    /// 64 bit, signed.
    Long,
    Float,
    Double,
    /// 1 to 1024 bytes.
    String,
}

/// Words accepted for each value type, the preferred one first.
const WORDS: &[(&str, ValueType)] = &[
    ("bool", ValueType::Bool),
    ("byte", ValueType::Byte),
    ("short", ValueType::Short),
    ("ushort", ValueType::UShort),
    ("int", ValueType::Int),
    ("uint", ValueType::UInt),
    ("long", ValueType::Long),
    ("float", ValueType::Float),
    ("double", ValueType::Double),
    ("string", ValueType::String),
    ("boolean", ValueType::Bool),
    ("bit", ValueType::Bool),
    ("integer", ValueType::Int),
];

impl ValueType {
    /// Reads the word of a point table, whatever its letter case.
    #[must_use]
    pub fn parse(word: &str) -> Option<ValueType> {
        WORDS.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)).map(|(_, t)| *t)
    }

    /// The preferred word.
    #[must_use]
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(_, t)| *t == self).map_or("?", |(w, _)| w)
    }

    /// Every word a point table may use.
    pub fn words() -> impl Iterator<Item = &'static str> {
        WORDS.iter().map(|(w, _)| *w)
    }
}
