//! PURE. The way back: an engineering value becomes what is written to a control point, x = y/a − b.

use super::convert::round;
use crate::model::{Reason, Value};
use driver::{PointRow, ValueType};

/// The raw value for a row, in the row's value type.
///
/// # Errors
/// `OutOfRange` when it does not fit the type on the wire, `TypeMismatch` for a text where a number belongs.
#[expect(clippy::float_cmp, reason = "only the very numbers 1 and 0 change nothing")]
pub fn raw(row: &PointRow, value: &Value) -> Result<Value, Reason> {
    if row.coefficient == 1.0 && row.base_value == 0.0 {
        return typed(row.value_type, value);
    }
    let y = value.as_f64().ok_or(Reason::TypeMismatch)?;
    typed(row.value_type, &Value::Double(y / row.coefficient - row.base_value))
}

fn typed(to: ValueType, value: &Value) -> Result<Value, Reason> {
    match to {
        ValueType::Bool => match number(value)? {
            0.0 => Ok(Value::Bool(false)),
            1.0 => Ok(Value::Bool(true)),
            _ => Err(Reason::OutOfRange),
        },
        ValueType::Byte => int(value, 0, i64::from(u8::MAX)),
        ValueType::Short => int(value, i64::from(i16::MIN), i64::from(i16::MAX)),
        ValueType::UShort => int(value, 0, i64::from(u16::MAX)),
        ValueType::Int => int(value, i64::from(i32::MIN), i64::from(i32::MAX)),
        ValueType::UInt => int(value, 0, i64::from(u32::MAX)),
        ValueType::Long => int(value, i64::MIN, i64::MAX),
        ValueType::Float => {
            #[expect(clippy::cast_possible_truncation, reason = "nearest 32-bit number; overflow is caught below")]
            let narrow = number(value)? as f32;
            if narrow.is_finite() { Ok(Value::Float(narrow)) } else { Err(Reason::OutOfRange) }
        }
        ValueType::Double => number(value).map(Value::Double),
        ValueType::String => match value {
            Value::Text(_) => Ok(value.clone()),
            _ => Err(Reason::TypeMismatch),
        },
    }
}

fn number(value: &Value) -> Result<f64, Reason> {
    let x = value.as_f64().ok_or(Reason::TypeMismatch)?;
    if x.is_finite() { Ok(x) } else { Err(Reason::OutOfRange) }
}

fn int(value: &Value, min: i64, max: i64) -> Result<Value, Reason> {
    let i = match value {
        Value::Int(i) => *i,
        other => round(number(other)?)?,
    };
    if (min..=max).contains(&i) { Ok(Value::Int(i)) } else { Err(Reason::OutOfRange) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::Scale;
    use driver::{PointKind, PointTable, PointTableBuilder};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn table(value_type: ValueType, a: f64, b: f64) -> PointTable {
        let file: Arc<str> = "point.csv".into();
        let mut builder = PointTableBuilder::new(&file, [1, 2, 3, 4, 5, 6, 7], vec![]);
        builder.push(2, "set-point", "5000", value_type, PointKind::Ao, a, b, "", &[]);
        builder.finish()
    }

    fn written(value_type: ValueType, a: f64, b: f64, value: &Value) -> Result<Value, Reason> {
        raw(table(value_type, a, b).row(0).row(), value)
    }

    #[test]
    fn a_written_value_fits_the_wire_or_is_refused() {
        assert_eq!(written(ValueType::Short, 0.1, 0.0, &Value::Double(23.4)), Ok(Value::Int(234)));
        assert_eq!(written(ValueType::Short, 0.1, 0.0, &Value::Double(4000.0)), Err(Reason::OutOfRange));
        assert_eq!(written(ValueType::UShort, 1.0, 0.0, &Value::Int(-1)), Err(Reason::OutOfRange));
        assert_eq!(written(ValueType::Long, 1.0, 0.0, &Value::Int(i64::MAX)), Ok(Value::Int(i64::MAX)));
        assert_eq!(written(ValueType::Bool, 1.0, 0.0, &Value::Int(1)), Ok(Value::Bool(true)));
        assert_eq!(written(ValueType::Bool, 1.0, 0.0, &Value::Int(2)), Err(Reason::OutOfRange));
        assert_eq!(written(ValueType::Int, 0.0, 0.0, &Value::Int(5)), Err(Reason::OutOfRange), "no inverse");
        assert_eq!(written(ValueType::Float, 1.0, 0.0, &Value::Double(f64::NAN)), Err(Reason::OutOfRange));
    }

    proptest! {
        #[test]
        fn the_way_back_undoes_the_way_there(x in -30_000i64..30_000, a in 0.001f64..1000.0, b in -1000.0f64..1000.0) {
            let scaled = Scale { coefficient: a, base_value: b }.apply(&Value::Int(x)).unwrap().to_value();
            prop_assert_eq!(written(ValueType::Short, a, b, &scaled), Ok(Value::Int(x)));
        }
    }
}
