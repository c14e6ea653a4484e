//! PURE. One value on its way from the point table to a measurement point: a(x+b), then the data type.

use crate::model::{DataType, Reason, Value, ValueRef};
use std::fmt::Write;

/// Longest text a measurement point takes, in bytes.
const TEXT_LIMIT: usize = 1024;

/// The conversion of one row of the point table, y = a·(x + b).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    pub coefficient: f64,
    pub base_value: f64,
}

/// A value after scaling. Untouched values keep their exact form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaled<'a> {
    Exact(&'a Value),
    Number(f64),
}

impl Scale {
    /// a = 1 and b = 0: the value passes unchanged.
    #[must_use]
    #[expect(clippy::float_cmp, reason = "only the very numbers 1 and 0 change nothing")]
    pub fn is_identity(self) -> bool {
        self.coefficient == 1.0 && self.base_value == 0.0
    }

    /// Applies a(x+b).
    ///
    /// # Errors
    /// `TypeMismatch` for a text that should be scaled, `OutOfRange` when the result is not finite.
    pub fn apply(self, value: &Value) -> Result<Scaled<'_>, Reason> {
        if self.is_identity() {
            return match value {
                Value::Float(x) if !x.is_finite() => Err(Reason::OutOfRange),
                Value::Double(x) if !x.is_finite() => Err(Reason::OutOfRange),
                _ => Ok(Scaled::Exact(value)),
            };
        }
        let x = value.as_f64().ok_or(Reason::TypeMismatch)?;
        finite(self.coefficient * (x + self.base_value)).map(Scaled::Number)
    }
}

impl<'a> Scaled<'a> {
    /// The value as a number for formulas.
    #[must_use]
    pub fn as_f64(self) -> Option<f64> {
        match self {
            Scaled::Exact(value) => value.as_f64(),
            Scaled::Number(x) => Some(x),
        }
    }

    /// The value as it stands, for people.
    #[must_use]
    pub fn to_value(self) -> Value {
        match self {
            Scaled::Exact(value) => value.clone(),
            Scaled::Number(x) => Value::Double(x),
        }
    }
}

/// The value in the form its measurement point has. `scratch` holds a number that becomes a text.
///
/// # Errors
/// `OutOfRange` when the number does not fit, `TypeMismatch` when no such conversion is defined.
pub fn convert<'a>(scaled: Scaled<'a>, to: DataType, scratch: &'a mut String) -> Result<ValueRef<'a>, Reason> {
    match to {
        DataType::Int => whole(scaled).and_then(|i| i32::try_from(i).map_err(|_| Reason::OutOfRange)).map(int),
        DataType::Timestamp => whole(scaled).map(ValueRef::Int),
        DataType::Float => single(scaled).map(ValueRef::Float),
        DataType::Double => double(scaled),
        DataType::Bool => bool_from(scaled).map(ValueRef::Bool),
        DataType::Enum => enumerator(scaled),
        DataType::String => text(scaled, scratch),
        DataType::Date | DataType::File => match scaled {
            Scaled::Exact(Value::Text(s)) => bounded(s),
            _ => Err(Reason::TypeMismatch),
        },
        DataType::Struct | DataType::Array => Err(Reason::TypeMismatch),
    }
}

fn int<'a>(i: i32) -> ValueRef<'a> {
    ValueRef::Int(i64::from(i))
}

fn finite(x: f64) -> Result<f64, Reason> {
    if x.is_finite() { Ok(x) } else { Err(Reason::OutOfRange) }
}

/// A whole number; fractions round half away from zero.
fn whole(scaled: Scaled<'_>) -> Result<i64, Reason> {
    match scaled {
        Scaled::Exact(Value::Int(i)) => Ok(*i),
        Scaled::Exact(Value::Bool(b)) => Ok(i64::from(*b)),
        other => round(other.as_f64().ok_or(Reason::TypeMismatch)?),
    }
}

/// Rounds half away from zero; what no 64-bit integer holds is out of range.
pub(super) fn round(x: f64) -> Result<i64, Reason> {
    /// 2^63, the first number above the range; its negative is the last one inside.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let rounded = x.round();
    if (-LIMIT..LIMIT).contains(&rounded) {
        #[expect(clippy::cast_possible_truncation, reason = "the range was just checked")]
        Ok(rounded as i64)
    } else {
        Err(Reason::OutOfRange)
    }
}

fn single(scaled: Scaled<'_>) -> Result<f32, Reason> {
    if let Scaled::Exact(Value::Float(f)) = scaled {
        return if f.is_finite() { Ok(*f) } else { Err(Reason::OutOfRange) };
    }
    #[expect(clippy::cast_possible_truncation, reason = "nearest 32-bit number; overflow is caught below")]
    let narrow = scaled.as_f64().ok_or(Reason::TypeMismatch)? as f32;
    if narrow.is_finite() { Ok(narrow) } else { Err(Reason::OutOfRange) }
}

/// A 32-bit number that was not scaled stays one, so that 0.1 is reported as 0.1.
fn double<'a>(scaled: Scaled<'a>) -> Result<ValueRef<'a>, Reason> {
    match scaled {
        Scaled::Exact(Value::Float(f)) if f.is_finite() => Ok(ValueRef::Float(*f)),
        other => finite(other.as_f64().ok_or(Reason::TypeMismatch)?).map(ValueRef::Double),
    }
}

/// Only 0 and 1 are states; any other number would be a guess.
fn bool_from(scaled: Scaled<'_>) -> Result<bool, Reason> {
    let x = scaled.as_f64().ok_or(Reason::TypeMismatch)?;
    match x {
        0.0 => Ok(false),
        1.0 => Ok(true),
        _ => Err(Reason::OutOfRange),
    }
}

/// The key of an enumeration: a whole number or a text.
fn enumerator(scaled: Scaled<'_>) -> Result<ValueRef<'_>, Reason> {
    if let Scaled::Exact(Value::Text(s)) = scaled {
        return bounded(s);
    }
    if scaled.as_f64().is_some_and(|x| x.fract() != 0.0) {
        return Err(Reason::OutOfRange);
    }
    whole(scaled).map(ValueRef::Int)
}

fn text<'a>(scaled: Scaled<'a>, scratch: &'a mut String) -> Result<ValueRef<'a>, Reason> {
    scratch.clear();
    let written = match scaled {
        Scaled::Exact(Value::Text(s)) => return bounded(s),
        Scaled::Exact(value) => write!(scratch, "{value}"),
        Scaled::Number(x) => write!(scratch, "{x}"),
    };
    written.expect("a string takes all text");
    bounded(scratch)
}

fn bounded(s: &str) -> Result<ValueRef<'_>, Reason> {
    if s.len() <= TEXT_LIMIT { Ok(ValueRef::Text(s)) } else { Err(Reason::OutOfRange) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DataType as D;

    fn mapped(a: f64, b: f64, value: &Value, to: DataType) -> Result<Value, Reason> {
        let mut scratch = String::new();
        let scaled = Scale { coefficient: a, base_value: b }.apply(value)?;
        convert(scaled, to, &mut scratch).map(ValueRef::to_value)
    }

    #[test]
    fn what_is_not_scaled_stays_exact() {
        let big = Value::Int(9_007_199_254_740_993);
        assert_eq!(mapped(1.0, 0.0, &big, D::Timestamp), Ok(big));
        assert_eq!(mapped(1.0, 0.0, &Value::Float(0.1), D::Float), Ok(Value::Float(0.1)));
        assert_eq!(mapped(1.0, 0.0, &Value::Float(0.1), D::Double).unwrap().to_string(), "0.1");
    }

    #[test]
    fn base_is_added_before_the_multiplication() {
        assert_eq!(mapped(0.5, 3.0, &Value::Int(7), D::Double), Ok(Value::Double(5.0)));
    }

    #[test]
    fn whole_numbers_round_half_away_from_zero_and_keep_their_range() {
        assert_eq!(mapped(1.0, 0.0, &Value::Double(2.5), D::Int), Ok(Value::Int(3)));
        assert_eq!(mapped(1.0, 0.0, &Value::Double(-2.5), D::Int), Ok(Value::Int(-3)));
        assert_eq!(mapped(1.0, 0.0, &Value::Int(i64::from(u32::MAX)), D::Int), Err(Reason::OutOfRange));
        assert_eq!(mapped(1e300, 0.0, &Value::Int(7), D::Timestamp), Err(Reason::OutOfRange));
    }

    #[test]
    fn nothing_that_is_not_finite_gets_through() {
        for value in [Value::Float(f32::NAN), Value::Double(f64::INFINITY), Value::Float(f32::NEG_INFINITY)] {
            for to in [D::Int, D::Float, D::Double, D::Bool, D::Enum, D::String, D::Timestamp] {
                assert_eq!(mapped(1.0, 0.0, &value, to), Err(Reason::OutOfRange), "{value} to {to:?}");
                assert_eq!(mapped(2.0, 0.0, &value, to), Err(Reason::OutOfRange), "{value} to {to:?}");
            }
        }
        assert_eq!(mapped(1e200, 0.0, &Value::Double(1e200), D::Double), Err(Reason::OutOfRange));
        assert_eq!(mapped(1.0, 0.0, &Value::Double(1e200), D::Float), Err(Reason::OutOfRange));
    }

    #[test]
    fn states_are_zero_and_one() {
        assert_eq!(mapped(1.0, 0.0, &Value::Int(1), D::Bool), Ok(Value::Bool(true)));
        assert_eq!(mapped(1.0, 0.0, &Value::Bool(false), D::Bool), Ok(Value::Bool(false)));
        assert_eq!(mapped(1.0, 0.0, &Value::Int(2), D::Bool), Err(Reason::OutOfRange));
        assert_eq!(mapped(1.0, 0.0, &Value::Bool(true), D::Int), Ok(Value::Int(1)));
    }

    #[test]
    fn texts_are_not_numbers_but_numbers_can_be_texts() {
        let text = Value::Text("on".into());
        assert_eq!(mapped(1.0, 0.0, &text, D::String), Ok(text.clone()));
        assert_eq!(mapped(1.0, 0.0, &text, D::Int), Err(Reason::TypeMismatch));
        assert_eq!(mapped(2.0, 0.0, &text, D::String), Err(Reason::TypeMismatch));
        assert_eq!(mapped(1.0, 0.0, &Value::Float(0.1), D::String), Ok(Value::Text("0.1".into())));
        let long = Value::Text("x".repeat(1025).as_str().into());
        assert_eq!(mapped(1.0, 0.0, &long, D::String), Err(Reason::OutOfRange));
    }
}
