//! What a virtual point shows at a time. PURE: time and scan are arguments.

use driver::{Timestamp, Value, ValueType};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Sine,
    Ramp,
    Counter,
    Constant,
    Random,
}

const SHAPES: &[(&str, Shape)] = &[
    ("sine", Shape::Sine),
    ("ramp", Shape::Ramp),
    ("counter", Shape::Counter),
    ("constant", Shape::Constant),
    ("random", Shape::Random),
];

impl Shape {
    pub(crate) fn parse(word: &str) -> Option<Shape> {
        SHAPES.iter().find(|(w, _)| w.eq_ignore_ascii_case(word)).map(|(_, s)| *s)
    }

    pub(crate) fn words() -> impl Iterator<Item = &'static str> {
        SHAPES.iter().map(|(w, _)| *w)
    }
}

/// One computed point.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) shape: Shape,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) period_ms: f64,
    /// Makes random points differ from each other.
    pub(crate) seed: u64,
}

impl Source {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of today are far below 2^53")]
    pub(crate) fn value(&self, time: Timestamp, scan: u64) -> f64 {
        let span = self.high - self.low;
        let phase = (time.0 as f64).rem_euclid(self.period_ms) / self.period_ms;
        match self.shape {
            Shape::Sine => self.low + span * (0.5 + 0.5 * (phase * std::f64::consts::TAU).sin()),
            Shape::Ramp => self.low + span * phase,
            // From low to high, both included, then again from low.
            Shape::Counter => self.low + (scan as f64).rem_euclid(span.max(0.0).floor() + 1.0),
            Shape::Constant => self.high,
            Shape::Random => self.low + span * unit(self.seed ^ time.0.cast_unsigned().rotate_left(20)),
        }
    }
}

/// A number from 0 up to 1 out of a seed: the finaliser of splitmix64.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
fn unit(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// The number in the type of the point table; `None` when it does not fit.
pub(crate) fn fit(x: f64, value_type: ValueType) -> Option<Value> {
    let int = |low: f64, high: f64| {
        let whole = x.round();
        #[expect(clippy::cast_possible_truncation, reason = "within the range just checked")]
        (low..=high).contains(&whole).then_some(Value::Int(whole as i64))
    };
    match value_type {
        ValueType::Bool => Some(Value::Bool(x.round() != 0.0)),
        ValueType::Byte => int(0.0, u8::MAX.into()),
        ValueType::Short => int(i16::MIN.into(), i16::MAX.into()),
        ValueType::UShort => int(0.0, u16::MAX.into()),
        ValueType::Int => int(i32::MIN.into(), i32::MAX.into()),
        ValueType::UInt => int(0.0, u32::MAX.into()),
        ValueType::Long => int(-9e18, 9e18),
        #[expect(clippy::cast_possible_truncation, reason = "the table asked for 32 bits")]
        ValueType::Float => Some(Value::Float(x as f32)),
        ValueType::Double => Some(Value::Double(x)),
        ValueType::String => Some(Value::Text(x.to_string().into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(shape: Shape) -> Source {
        Source { shape, low: 0.0, high: 10.0, period_ms: 1000.0, seed: 1 }
    }

    #[test]
    fn shapes_follow_time_and_scans() {
        let at = |shape, ms| source(shape).value(Timestamp(ms), 0);
        assert!((at(Shape::Sine, 250) - 10.0).abs() < 1e-9 && at(Shape::Sine, 750).abs() < 1e-9);
        assert!((at(Shape::Ramp, 1_795_341_600_500) - 5.0).abs() < 1e-9);
        assert!((source(Shape::Counter).value(Timestamp(0), 12) - 1.0).abs() < 1e-9, "0 to 10, then again");
        let random: Vec<f64> = (0..100).map(|ms| at(Shape::Random, ms)).collect();
        assert!(random.iter().all(|x| (0.0..10.0).contains(x)));
        assert!(random.windows(2).all(|w| w[0] != w[1]));
    }

    #[test]
    fn a_value_that_does_not_fit_its_type_is_none() {
        assert_eq!(fit(300.0, ValueType::Byte), None);
        assert_eq!(fit(-1.0, ValueType::UInt), None);
        assert_eq!(fit(2.6, ValueType::Int), Some(Value::Int(3)));
    }
}
