//! Bytes of an answer to a typed value and back, through one table of orders. PURE.

use crate::point::Spec;
use driver::{Datum, Reason, Value, ValueType};
use std::sync::Arc;

/// The value of a point out of the registers it covers (two bytes each, as received).
#[must_use]
pub fn decode_registers(spec: &Spec, wire: &[u8]) -> Datum {
    let value = match spec.value_type {
        ValueType::String => return text(spec, wire),
        _ if spec.bit.is_some() => single_bit(spec, wire),
        ValueType::Bool => word(spec, wire).map(|w| Value::Bool(w != 0)),
        ValueType::Byte => word(spec, wire).map(|w| Value::Int(i64::from(w & 0xFF))),
        ValueType::Short => word(spec, wire).map(|w| Value::Int(i64::from(w.cast_signed()))),
        ValueType::UShort => word(spec, wire).map(|w| Value::Int(i64::from(w))),
        ValueType::Int => ordered(spec, wire).map(|b| Value::Int(i64::from(i32::from_be_bytes(b)))),
        ValueType::UInt => ordered(spec, wire).map(|b| Value::Int(i64::from(u32::from_be_bytes(b)))),
        ValueType::Long => ordered(spec, wire).map(|b| Value::Int(i64::from_be_bytes(b))),
        ValueType::Float => ordered(spec, wire).map(|b| Value::Float(f32::from_be_bytes(b))),
        ValueType::Double => ordered(spec, wire).map(|b| Value::Double(f64::from_be_bytes(b))),
    };
    match value {
        Some(Value::Float(x)) if !x.is_finite() => Datum::Bad(Reason::OutOfRange),
        Some(Value::Double(x)) if !x.is_finite() => Datum::Bad(Reason::OutOfRange),
        Some(value) => Datum::Good(value),
        None => Datum::Bad(Reason::TypeMismatch),
    }
}

/// The value of a coil or discrete input.
#[must_use]
pub fn decode_bit(spec: &Spec, on: bool) -> Datum {
    Datum::Good(truth(spec, on))
}

fn truth(spec: &Spec, on: bool) -> Value {
    if spec.value_type == ValueType::Bool { Value::Bool(on) } else { Value::Int(i64::from(on)) }
}

fn ordered<const N: usize>(spec: &Spec, wire: &[u8]) -> Option<[u8; N]> {
    Some(spec.order.apply(*wire.first_chunk::<N>()?))
}

fn word(spec: &Spec, wire: &[u8]) -> Option<u16> {
    ordered(spec, wire).map(u16::from_be_bytes)
}

fn single_bit(spec: &Spec, wire: &[u8]) -> Option<Value> {
    let bit = spec.bit?;
    word(spec, wire).map(|w| truth(spec, w >> bit & 1 == 1))
}

fn text(spec: &Spec, wire: &[u8]) -> Datum {
    let bytes = usize::from(spec.bytes);
    if wire.len() < bytes.next_multiple_of(2) {
        return Datum::Bad(Reason::TypeMismatch);
    }
    let mask = spec.order.mask(2);
    let mut buffer = [0u8; 256];
    let Some(letters) = buffer.get_mut(..bytes) else {
        return Datum::Bad(Reason::OutOfRange);
    };
    for (i, letter) in letters.iter_mut().enumerate() {
        *letter = wire[i ^ mask];
    }
    let end = letters.iter().position(|b| *b == 0).unwrap_or(letters.len());
    let letters = letters[..end].trim_ascii_end();
    let text: Arc<str> = match std::str::from_utf8(letters) {
        Ok(text) => text.into(),
        // Old devices write Latin-1, whose bytes are the first 256 code points.
        Err(_) => letters.iter().map(|b| char::from(*b)).collect::<String>().into(),
    };
    Datum::Good(Value::Text(text))
}

/// What is written for a value.
#[expect(clippy::large_enum_variant, reason = "lives on the stack for one write")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// A coil.
    Coil(bool),
    /// One bit of a register.
    Bit { bit: u8, on: bool },
    /// Whole registers, as they go over the wire.
    Registers { bytes: [u8; 250], len: usize },
}

impl Written {
    fn registers(wire: &[u8]) -> Written {
        let mut bytes = [0; 250];
        bytes[..wire.len()].copy_from_slice(wire);
        Written::Registers { bytes, len: wire.len() }
    }
}

/// The bytes of `value` for this point.
///
/// # Errors
/// `TypeMismatch` for a text where a number is due, `OutOfRange` for what does not fit.
pub fn encode(spec: &Spec, value: &Value) -> Result<Written, Reason> {
    if spec.area.is_bits() {
        return Ok(Written::Coil(state(value)?));
    }
    if let Some(bit) = spec.bit {
        return Ok(Written::Bit { bit, on: state(value)? });
    }
    let order = spec.order;
    Ok(match spec.value_type {
        ValueType::Bool => Written::registers(&order.apply(u16::from(state(value)?).to_be_bytes())),
        ValueType::Byte => Written::registers(&order.apply(u16::from(whole::<u8>(value)?).to_be_bytes())),
        ValueType::Short => Written::registers(&order.apply(whole::<i16>(value)?.to_be_bytes())),
        ValueType::UShort => Written::registers(&order.apply(whole::<u16>(value)?.to_be_bytes())),
        ValueType::Int => Written::registers(&order.apply(whole::<i32>(value)?.to_be_bytes())),
        ValueType::UInt => Written::registers(&order.apply(whole::<u32>(value)?.to_be_bytes())),
        ValueType::Long => Written::registers(&order.apply(whole::<i64>(value)?.to_be_bytes())),
        ValueType::Float => Written::registers(&order.apply(float(value)?.to_be_bytes())),
        ValueType::Double => Written::registers(&order.apply(number(value)?.to_be_bytes())),
        ValueType::String => return letters(spec, value),
    })
}

fn number(value: &Value) -> Result<f64, Reason> {
    let number = value.as_f64().ok_or(Reason::TypeMismatch)?;
    if number.is_finite() { Ok(number) } else { Err(Reason::OutOfRange) }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a double beyond the range of float becomes infinite and is refused"
)]
fn float(value: &Value) -> Result<f32, Reason> {
    let float = number(value)? as f32;
    if float.is_finite() { Ok(float) } else { Err(Reason::OutOfRange) }
}

/// The nearest whole number: the way back through a(x+b) leaves 229.99999 where 230 was meant.
fn whole<T: TryFrom<i64>>(value: &Value) -> Result<T, Reason> {
    let whole = match value {
        Value::Int(i) => *i,
        other => {
            let rounded = number(other)?.round();
            // The first double beyond i64.
            let beyond = 2f64.powi(63);
            if !(-beyond..beyond).contains(&rounded) {
                return Err(Reason::OutOfRange);
            }
            #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
            let whole = rounded as i64;
            whole
        }
    };
    T::try_from(whole).map_err(|_| Reason::OutOfRange)
}

fn state(value: &Value) -> Result<bool, Reason> {
    match number(value)? {
        0.0 => Ok(false),
        1.0 => Ok(true),
        _ => Err(Reason::OutOfRange),
    }
}

fn letters(spec: &Spec, value: &Value) -> Result<Written, Reason> {
    let Value::Text(text) = value else {
        return Err(Reason::TypeMismatch);
    };
    let len = usize::from(spec.len) * 2;
    let mut bytes = [0u8; 250];
    if text.len() > usize::from(spec.bytes) || len > bytes.len() {
        return Err(Reason::OutOfRange);
    }
    let mask = spec.order.mask(2);
    for (i, letter) in text.bytes().enumerate() {
        bytes[i ^ mask] = letter;
    }
    Ok(Written::Registers { bytes, len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::area::Area;
    use crate::order::ByteOrder;
    use proptest::prelude::*;

    fn spec(value_type: ValueType, order: &str) -> Spec {
        let len = match value_type {
            ValueType::Int | ValueType::UInt | ValueType::Float => 2,
            ValueType::Long | ValueType::Double => 4,
            _ => 1,
        };
        let order = ByteOrder::parse(order, len).unwrap();
        Spec { area: Area::Holding, address: 0, len, value_type, order, bit: None, bytes: 0 }
    }

    fn good(value: Value) -> Datum {
        Datum::Good(value)
    }

    #[test]
    fn each_order_reads_the_same_number_from_its_own_bytes() {
        // 123456.0 is 0x47F12000.
        for (order, wire) in [
            ("ABCD", [0x47, 0xF1, 0x20, 0x00]),
            ("CDAB", [0x20, 0x00, 0x47, 0xF1]),
            ("BADC", [0xF1, 0x47, 0x00, 0x20]),
            ("DCBA", [0x00, 0x20, 0xF1, 0x47]),
        ] {
            assert_eq!(
                decode_registers(&spec(ValueType::Float, order), &wire),
                good(Value::Float(123_456.0)),
                "{order}"
            );
        }
        let wire = [0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02];
        assert_eq!(decode_registers(&spec(ValueType::Long, "ABCDEFGH"), &wire), good(Value::Int((1 << 32) + 2)));
        assert_eq!(decode_registers(&spec(ValueType::Long, "EFGHABCD"), &wire), good(Value::Int((2 << 32) + 1)));
    }

    #[test]
    fn small_types_read_their_own_width_and_sign() {
        let wire = [0xFF, 0xFE];
        assert_eq!(decode_registers(&spec(ValueType::Short, "AB"), &wire), good(Value::Int(-2)));
        assert_eq!(decode_registers(&spec(ValueType::UShort, "AB"), &wire), good(Value::Int(65_534)));
        assert_eq!(decode_registers(&spec(ValueType::UShort, "BA"), &wire), good(Value::Int(65_279)));
        assert_eq!(decode_registers(&spec(ValueType::Byte, "AB"), &wire), good(Value::Int(254)));
        assert_eq!(decode_registers(&spec(ValueType::Byte, "BA"), &wire), good(Value::Int(255)));
        assert_eq!(decode_registers(&spec(ValueType::Bool, "AB"), &wire), good(Value::Bool(true)));
        let mut bit = spec(ValueType::Bool, "AB");
        bit.bit = Some(0);
        assert_eq!(decode_registers(&bit, &wire), good(Value::Bool(false)));
        bit.value_type = ValueType::UShort;
        bit.bit = Some(15);
        assert_eq!(decode_registers(&bit, &wire), good(Value::Int(1)));
    }

    #[test]
    fn what_is_no_number_is_bad() {
        let nan = f32::NAN.to_be_bytes();
        assert_eq!(decode_registers(&spec(ValueType::Float, "ABCD"), &nan), Datum::Bad(Reason::OutOfRange));
        let infinite = f64::INFINITY.to_be_bytes();
        assert_eq!(decode_registers(&spec(ValueType::Double, "ABCD"), &infinite), Datum::Bad(Reason::OutOfRange));
    }

    #[test]
    fn strings_end_at_their_first_zero_and_lose_trailing_blanks() {
        let mut spec = spec(ValueType::String, "AB");
        (spec.len, spec.bytes) = (4, 7);
        assert_eq!(decode_registers(&spec, b"PM5340  "), good(Value::Text("PM5340".into())));
        assert_eq!(decode_registers(&spec, b"PM\0junk!"), good(Value::Text("PM".into())));
        assert_eq!(decode_registers(&spec, b"\xB0C\0\0\0\0\0\0"), good(Value::Text("°C".into())));
        spec.order = ByteOrder::parse("BA", 1).unwrap();
        assert_eq!(decode_registers(&spec, b"MP3504  "), good(Value::Text("PM5340".into())));
        assert_eq!(decode_registers(&spec, b"MP"), Datum::Bad(Reason::TypeMismatch));
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_sent() {
        assert_eq!(encode(&spec(ValueType::UShort, "AB"), &Value::Int(-1)), Err(Reason::OutOfRange));
        assert_eq!(encode(&spec(ValueType::Short, "AB"), &Value::Double(40_000.0)), Err(Reason::OutOfRange));
        assert_eq!(encode(&spec(ValueType::Short, "AB"), &Value::Double(f64::NAN)), Err(Reason::OutOfRange));
        assert_eq!(encode(&spec(ValueType::Float, "ABCD"), &Value::Double(1e300)), Err(Reason::OutOfRange));
        assert_eq!(encode(&spec(ValueType::Long, "ABCD"), &Value::Double(9.3e18)), Err(Reason::OutOfRange));
        assert_eq!(encode(&spec(ValueType::Float, "ABCD"), &Value::Text("1".into())), Err(Reason::TypeMismatch));
        assert_eq!(encode(&spec(ValueType::Bool, "AB"), &Value::Int(2)), Err(Reason::OutOfRange));
        let rounded = encode(&spec(ValueType::UShort, "AB"), &Value::Double(229.999_999));
        assert_eq!(rounded, Ok(Written::registers(&230u16.to_be_bytes())));
    }

    fn value_for(value_type: ValueType, bits: u64) -> Value {
        #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
        match value_type {
            ValueType::Bool => Value::Bool(bits & 1 == 1),
            ValueType::Byte => Value::Int(i64::from(bits as u8)),
            ValueType::Short => Value::Int(i64::from(bits as i16)),
            ValueType::UShort => Value::Int(i64::from(bits as u16)),
            ValueType::Int => Value::Int(i64::from(bits as i32)),
            ValueType::UInt => Value::Int(i64::from(bits as u32)),
            ValueType::Long => Value::Int(bits.cast_signed()),
            ValueType::Float => Value::Float(f32::from_bits(bits as u32)),
            ValueType::Double => Value::Double(f64::from_bits(bits)),
            ValueType::String => Value::Text(format!("{bits:x}").into()),
        }
    }

    const TYPES: [ValueType; 10] = [
        ValueType::Bool,
        ValueType::Byte,
        ValueType::Short,
        ValueType::UShort,
        ValueType::Int,
        ValueType::UInt,
        ValueType::Long,
        ValueType::Float,
        ValueType::Double,
        ValueType::String,
    ];

    proptest! {
        #[test]
        fn what_is_written_is_read_back_in_every_order(at in 0..10usize, bits: u64, b: bool, w: bool, h: bool) {
            let mut spec = spec(TYPES[at], "ABCD");
            spec.order = ByteOrder { bytes: b, words: w, halves: h };
            if TYPES[at] == ValueType::String {
                (spec.len, spec.bytes) = (8, 16);
            }
            let value = value_for(TYPES[at], bits);
            match encode(&spec, &value) {
                Ok(Written::Registers { bytes, len }) => {
                    prop_assert_eq!(len, usize::from(spec.len) * 2);
                    prop_assert_eq!(decode_registers(&spec, &bytes[..len]), Datum::Good(value));
                }
                Err(Reason::OutOfRange) => prop_assert!(!value.as_f64().unwrap().is_finite()),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn decoding_never_panics(at in 0..10usize, wire: Vec<u8>, bytes in 0..600u16, bit in proptest::option::of(0..16u8)) {
            let mut spec = spec(TYPES[at], "DCBA");
            (spec.bytes, spec.bit) = (bytes, bit);
            let _ = decode_registers(&spec, &wire);
        }
    }
}
