//! Between the server's variants and the values of the point table. PURE but for the stamp given.

use crate::settings::Stamp;
use driver::{Datum, Reason, Sample, Timestamp, Value, ValueType};
use opcua::types::{DataValue, DateTime, Variant, VariantScalarTypeId};

/// A string point holds 1 to 1024 bytes.
const LONGEST_TEXT: usize = 1024;

/// Whose clock counts, and what it says now.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) stamp: Stamp,
    pub(crate) now: Timestamp,
}

/// A sample from what the server said of a point.
pub(crate) fn sample(point: u32, value_type: ValueType, data: &DataValue, clock: Clock) -> Sample {
    Sample { point, time: time(data, clock), datum: datum(value_type, data) }
}

/// A sample without a value.
pub(crate) fn bad(point: u32, status: u32, now: Timestamp) -> Sample {
    Sample { point, time: now, datum: Datum::Bad(Reason::StatusCode(status)) }
}

fn time(data: &DataValue, clock: Clock) -> Timestamp {
    let server = data.server_timestamp.filter(|t| !t.is_null());
    let stamp = match clock.stamp {
        Stamp::Gateway => None,
        Stamp::Source => data.source_timestamp.filter(|t| !t.is_null()).or(server),
        Stamp::Server => server,
    };
    stamp.map_or(clock.now, |t| Timestamp(millis(&t)))
}

fn millis(time: &DateTime) -> i64 {
    time.as_chrono().timestamp_millis()
}

fn datum(value_type: ValueType, data: &DataValue) -> Datum {
    let status = data.status();
    if status.is_bad() {
        return Datum::Bad(Reason::StatusCode(status.bits()));
    }
    let value = match data.value.as_ref() {
        Some(variant) => from_variant(value_type, variant),
        None => Err(Reason::TypeMismatch),
    };
    match value {
        Err(reason) => Datum::Bad(reason),
        Ok(value) if status.is_uncertain() => Datum::Uncertain(value, Reason::StatusCode(status.bits())),
        Ok(value) => Datum::Good(value),
    }
}

/// A number of any width, before it is fitted into the table's type.
enum Number {
    Int(i128),
    Float(f32),
    Double(f64),
}

fn from_variant(value_type: ValueType, variant: &Variant) -> Result<Value, Reason> {
    if value_type == ValueType::String {
        return text(variant);
    }
    let number = number(variant).ok_or(Reason::TypeMismatch)?;
    match value_type {
        ValueType::Float => fit_float(&number),
        ValueType::Double => fit_double(&number),
        ValueType::Bool => match fit_int(&number, 0, 1)? {
            Value::Int(n) => Ok(Value::Bool(n == 1)),
            other => Ok(other),
        },
        ValueType::Byte => fit_int(&number, 0, u8::MAX.into()),
        ValueType::Short => fit_int(&number, i16::MIN.into(), i16::MAX.into()),
        ValueType::UShort => fit_int(&number, 0, u16::MAX.into()),
        ValueType::Int => fit_int(&number, i32::MIN.into(), i32::MAX.into()),
        ValueType::UInt => fit_int(&number, 0, u32::MAX.into()),
        ValueType::Long => fit_int(&number, i64::MIN, i64::MAX),
        ValueType::String => Err(Reason::TypeMismatch),
    }
}

fn number(variant: &Variant) -> Option<Number> {
    Some(match variant {
        Variant::Boolean(b) => Number::Int((*b).into()),
        Variant::SByte(n) => Number::Int((*n).into()),
        Variant::Byte(n) => Number::Int((*n).into()),
        Variant::Int16(n) => Number::Int((*n).into()),
        Variant::UInt16(n) => Number::Int((*n).into()),
        Variant::Int32(n) => Number::Int((*n).into()),
        Variant::UInt32(n) => Number::Int((*n).into()),
        Variant::Int64(n) => Number::Int((*n).into()),
        Variant::UInt64(n) => Number::Int((*n).into()),
        Variant::Float(x) => Number::Float(*x),
        Variant::Double(x) => Number::Double(*x),
        Variant::DateTime(t) => Number::Int(millis(t).into()),
        Variant::StatusCode(s) => Number::Int(s.bits().into()),
        _ => return None,
    })
}

/// Whole numbers only: a table that says `int` for 3.7 is mistaken, and rounding would hide it.
fn fit_int(number: &Number, low: i64, high: i64) -> Result<Value, Reason> {
    let whole = match number {
        Number::Int(n) => *n,
        Number::Float(x) => whole(f64::from(*x))?,
        Number::Double(x) => whole(*x)?,
    };
    match i64::try_from(whole) {
        Ok(n) if (low..=high).contains(&n) => Ok(Value::Int(n)),
        _ => Err(Reason::OutOfRange),
    }
}

fn whole(x: f64) -> Result<i128, Reason> {
    if !x.is_finite() {
        return Err(Reason::OutOfRange);
    }
    if x.fract() != 0.0 {
        return Err(Reason::TypeMismatch);
    }
    #[expect(clippy::cast_possible_truncation, reason = "saturates far beyond every type of the table")]
    Ok(x as i128)
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "the table asked for 32 bits")]
fn fit_float(number: &Number) -> Result<Value, Reason> {
    let x = match number {
        Number::Int(n) => *n as f32,
        Number::Float(x) => *x,
        Number::Double(x) => *x as f32,
    };
    if x.is_finite() { Ok(Value::Float(x)) } else { Err(Reason::OutOfRange) }
}

#[expect(clippy::cast_precision_loss, reason = "formulas are defined over doubles")]
fn fit_double(number: &Number) -> Result<Value, Reason> {
    let x = match number {
        Number::Int(n) => *n as f64,
        Number::Float(x) => f64::from(*x),
        Number::Double(x) => *x,
    };
    if x.is_finite() { Ok(Value::Double(x)) } else { Err(Reason::OutOfRange) }
}

fn text(variant: &Variant) -> Result<Value, Reason> {
    let text: std::borrow::Cow<'_, str> = match variant {
        Variant::String(s) => s.as_ref().into(),
        Variant::LocalizedText(t) => t.text.as_ref().into(),
        Variant::QualifiedName(n) => n.name.as_ref().into(),
        Variant::DateTime(t) => t.to_rfc3339().into(),
        Variant::Guid(g) => g.to_string().into(),
        Variant::Float(x) => x.to_string().into(),
        Variant::Double(x) => x.to_string().into(),
        Variant::Boolean(b) => b.to_string().into(),
        other => match number(other) {
            Some(Number::Int(n)) => n.to_string().into(),
            _ => return Err(Reason::TypeMismatch),
        },
    };
    if text.len() > LONGEST_TEXT {
        return Err(Reason::OutOfRange);
    }
    Ok(Value::Text(text.into()))
}

/// The type a node most likely has, from the table's word.
pub(crate) fn usual_type(value_type: ValueType) -> VariantScalarTypeId {
    match value_type {
        ValueType::Bool => VariantScalarTypeId::Boolean,
        ValueType::Byte => VariantScalarTypeId::Byte,
        ValueType::Short => VariantScalarTypeId::Int16,
        ValueType::UShort => VariantScalarTypeId::UInt16,
        ValueType::Int => VariantScalarTypeId::Int32,
        ValueType::UInt => VariantScalarTypeId::UInt32,
        ValueType::Long => VariantScalarTypeId::Int64,
        ValueType::Float => VariantScalarTypeId::Float,
        ValueType::Double => VariantScalarTypeId::Double,
        ValueType::String => VariantScalarTypeId::String,
    }
}

/// The value as the node's own type, if it fits exactly.
pub(crate) fn to_variant(value: &Value, wire: VariantScalarTypeId) -> Result<Variant, Reason> {
    use VariantScalarTypeId as Wire;
    fn int<T: TryFrom<i128>>(value: &Value) -> Result<T, Reason> {
        let n = match value {
            Value::Bool(b) => i128::from(*b),
            Value::Int(n) => i128::from(*n),
            Value::Float(x) => whole(f64::from(*x))?,
            Value::Double(x) => whole(*x)?,
            Value::Text(_) => return Err(Reason::TypeMismatch),
        };
        T::try_from(n).map_err(|_| Reason::OutOfRange)
    }
    let float = || value.as_f64().filter(|x| x.is_finite());
    Ok(match (wire, value) {
        (Wire::Boolean, Value::Bool(b)) => Variant::Boolean(*b),
        (Wire::Boolean, _) => Variant::Boolean(match int::<u8>(value)? {
            0 => false,
            1 => true,
            _ => return Err(Reason::OutOfRange),
        }),
        (Wire::SByte, _) => Variant::SByte(int(value)?),
        (Wire::Byte, _) => Variant::Byte(int(value)?),
        (Wire::Int16, _) => Variant::Int16(int(value)?),
        (Wire::UInt16, _) => Variant::UInt16(int(value)?),
        (Wire::Int32, _) => Variant::Int32(int(value)?),
        (Wire::UInt32, _) => Variant::UInt32(int(value)?),
        (Wire::Int64, _) => Variant::Int64(int(value)?),
        (Wire::UInt64, _) => Variant::UInt64(int(value)?),
        (Wire::Float, Value::Float(x)) if x.is_finite() => Variant::Float(*x),
        (Wire::Float, _) => {
            #[expect(clippy::cast_possible_truncation, reason = "the node holds 32 bits")]
            let x = float().ok_or(Reason::TypeMismatch)? as f32;
            if !x.is_finite() {
                return Err(Reason::OutOfRange);
            }
            Variant::Float(x)
        }
        (Wire::Double, _) => Variant::Double(float().ok_or(Reason::TypeMismatch)?),
        (Wire::String, Value::Text(s)) => Variant::String((&**s).into()),
        (Wire::LocalizedText, Value::Text(s)) => {
            Variant::LocalizedText(Box::new(opcua::types::LocalizedText::from(&**s)))
        }
        (Wire::DateTime, _) => {
            let ms: i64 = int(value)?;
            // 1601-01-01 to 9999-12-31, as OPC 10000-6, clause 5.2.2.5.
            if !(-11_644_473_600_000..=253_402_300_799_000).contains(&ms) {
                return Err(Reason::OutOfRange);
            }
            // Ticks of 100 ns since 1601.
            Variant::DateTime(Box::new(DateTime::from((ms + 11_644_473_600_000) * 10_000)))
        }
        _ => return Err(Reason::TypeMismatch),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use opcua::types::StatusCode;

    fn good(value_type: ValueType, variant: Variant) -> Datum {
        datum(value_type, &DataValue::value_only(variant))
    }

    #[test]
    fn numbers_fit_or_are_bad_with_the_reason() {
        assert_eq!(good(ValueType::Int, Variant::Int16(-7)), Datum::Good(Value::Int(-7)));
        assert_eq!(good(ValueType::Int, Variant::Double(3.0)), Datum::Good(Value::Int(3)));
        assert_eq!(good(ValueType::Int, Variant::Double(3.7)), Datum::Bad(Reason::TypeMismatch));
        assert_eq!(good(ValueType::Byte, Variant::Int32(256)), Datum::Bad(Reason::OutOfRange));
        assert_eq!(good(ValueType::Long, Variant::UInt64(u64::MAX)), Datum::Bad(Reason::OutOfRange));
        assert_eq!(good(ValueType::Double, Variant::Double(f64::NAN)), Datum::Bad(Reason::OutOfRange));
        assert_eq!(good(ValueType::Float, Variant::Float(0.1)), Datum::Good(Value::Float(0.1)));
        assert_eq!(good(ValueType::Bool, Variant::Byte(2)), Datum::Bad(Reason::OutOfRange));
        assert_eq!(good(ValueType::Bool, Variant::Boolean(true)), Datum::Good(Value::Bool(true)));
        assert_eq!(good(ValueType::Double, Variant::String("1".into())), Datum::Bad(Reason::TypeMismatch));
    }

    #[test]
    fn arrays_structures_and_nothing_are_a_type_mismatch() {
        for variant in [
            Variant::from(vec![1i32, 2]),
            Variant::ExtensionObject(opcua::types::ExtensionObject::null()),
            Variant::Empty,
        ] {
            assert_eq!(good(ValueType::Int, variant.clone()), Datum::Bad(Reason::TypeMismatch));
            assert_eq!(good(ValueType::String, variant), Datum::Bad(Reason::TypeMismatch));
        }
        assert_eq!(datum(ValueType::Int, &DataValue::null()), Datum::Bad(Reason::TypeMismatch));
    }

    #[test]
    fn text_and_time_are_read() {
        let text = |s: &str| Datum::Good(Value::Text(s.into()));
        assert_eq!(good(ValueType::String, Variant::LocalizedText(Box::new("läuft".into()))), text("läuft"));
        let time = Variant::DateTime(Box::new(DateTime::from((2026, 11, 22, 10, 0, 0))));
        assert_eq!(good(ValueType::Long, time.clone()), Datum::Good(Value::Int(1_795_341_600_000)));
        assert_eq!(good(ValueType::String, time), text("2026-11-22T10:00:00.000Z"));
        assert_eq!(good(ValueType::String, Variant::String("x".repeat(1025).into())), Datum::Bad(Reason::OutOfRange));
    }

    #[test]
    fn status_becomes_quality() {
        let with = |status| {
            let mut data = DataValue::value_only(Variant::Int32(1));
            data.status = Some(status);
            datum(ValueType::Int, &data)
        };
        assert_eq!(with(StatusCode::Good), Datum::Good(Value::Int(1)));
        assert_eq!(with(StatusCode::BadSensorFailure), Datum::Bad(Reason::StatusCode(0x808C_0000)));
        let uncertain = Datum::Uncertain(Value::Int(1), Reason::StatusCode(0x4090_0000));
        assert_eq!(with(StatusCode::UncertainLastUsableValue), uncertain);
    }

    #[test]
    fn what_is_written_comes_back() {
        use VariantScalarTypeId as Wire;
        let cases = [
            (Value::Int(-3), ValueType::Short, Wire::Double),
            (Value::Bool(true), ValueType::Bool, Wire::UInt16),
            (Value::Int(1_795_341_600_000), ValueType::Long, Wire::DateTime),
            (Value::Double(0.5), ValueType::Double, Wire::Float),
            (Value::Text("on".into()), ValueType::String, Wire::LocalizedText),
        ];
        for (value, value_type, wire) in cases {
            let variant = to_variant(&value, wire).expect("fits");
            assert_eq!(from_variant(value_type, &variant), Ok(value));
        }
        assert_eq!(to_variant(&Value::Int(300), Wire::Byte).err(), Some(Reason::OutOfRange));
        assert_eq!(to_variant(&Value::Double(0.5), Wire::Int32).err(), Some(Reason::TypeMismatch));
        assert_eq!(to_variant(&Value::Double(f64::NAN), Wire::Double).err(), Some(Reason::TypeMismatch));
    }

    #[test]
    fn the_clock_asked_for_stamps_the_sample() {
        let mut data = DataValue::value_only(Variant::Int32(1));
        data.source_timestamp = Some(DateTime::from((2000, 1, 1, 0, 0, 0)));
        data.server_timestamp = Some(DateTime::from((2026, 1, 1, 0, 0, 0)));
        let at = |stamp, data: &DataValue| time(data, Clock { stamp, now: Timestamp(5) }).0;
        assert_eq!(at(Stamp::Gateway, &data), 5);
        assert_eq!(at(Stamp::Source, &data), 946_684_800_000);
        assert_eq!(at(Stamp::Server, &data), 1_767_225_600_000);
        data.server_timestamp = None;
        assert_eq!(at(Stamp::Server, &data), 5, "no stamp at all: ours");
    }
}
