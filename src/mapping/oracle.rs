//! The mapping against plain arithmetic over doubles, one value at a time.

use super::apply::tests::{device, mapped, template};
use crate::model::{Argument, DataType, Datum, Formula, Function, Reason, Sample, Timestamp, Upload, Value};
use proptest::prelude::*;

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (-1_000_000i64..1_000_000).prop_map(Value::Int),
        any::<f32>().prop_map(Value::Float),
        any::<f64>().prop_map(Value::Double),
    ]
}

fn any_function() -> impl Strategy<Value = (Function, usize)> {
    prop_oneof![
        Just((Function::Equal, 1)),
        (1usize..6).prop_map(|n| (Function::Sum, n)),
        Just((Function::Subtraction, 2)),
        (1usize..5).prop_map(|n| (Function::Product, n)),
        Just((Function::Ratio, 2)),
        Just((Function::RatioAgainstSum, 3)),
        (2usize..7).prop_map(|n| (Function::CrossProduct, n)),
        (1usize..6).prop_map(|n| (Function::LogicalOr, n)),
        (1usize..6).prop_map(|n| (Function::LogicalAnd, n)),
    ]
}

/// What a person with a calculator would say.
fn by_hand(function: Function, x: &[f64]) -> f64 {
    match function {
        Function::Equal => x[0],
        Function::Sum => x.iter().sum(),
        Function::Subtraction => x[0] - x[1],
        Function::Product => x.iter().product(),
        Function::Ratio => x[0] / x[1],
        Function::RatioAgainstSum => x[0] / (x[1] + x[2]),
        Function::CrossProduct => {
            let (mut y, mut i) = (0.0, 0);
            while i + 1 < x.len() {
                y += x[i] * x[i + 1];
                i += 2;
            }
            if i < x.len() { y * x[i] } else { y }
        }
        Function::LogicalOr => f64::from(u8::from(!x.iter().all(|x| *x == 0.0))),
        Function::LogicalAnd => f64::from(u8::from(!x.contains(&0.0))),
        // Their arguments are constants; the table beside them has the cases.
        Function::BitN | Function::BitsMToN | Function::IfEqual | Function::IfRange => f64::NAN,
    }
}

proptest! {
    #[test]
    fn mapping_agrees_with_arithmetic_over_doubles(
        (function, n) in any_function(),
        values in prop::collection::vec(any_value(), 6),
        scales in prop::collection::vec((-8.0f64..8.0, -100.0f64..100.0), 6),
        bad in prop::option::of(0usize..6),
    ) {
        let rows: Vec<_> = scales.iter().map(|(a, b)| (*a, *b)).collect();
        let arguments = (0..n as u32).map(Argument::Point).collect();
        let template = template(&rows, &[(DataType::Double, Formula { function, arguments }, Upload::Realtime)]);
        let samples: Vec<Sample> = (0..6)
            .map(|i| Sample {
                point: i as u32,
                time: Timestamp(i as i64),
                datum: if bad == Some(i) { Datum::Bad(Reason::NoAnswer) } else { Datum::Good(values[i].clone()) },
            })
            .collect();
        let got = mapped(&mut device(&template), &samples, 0);

        let x: Vec<f64> = (0..n).map(|i| rows[i].0 * (values[i].as_f64().unwrap() + rows[i].1)).collect();
        let y = by_hand(function, &x);
        let whole = bad.is_none_or(|i| i >= n) && x.iter().all(|x| x.is_finite()) && y.is_finite();
        let expected: Vec<_> =
            whole.then(|| (n as i64 - 1, 0u32, 0u8, Value::Double(y))).into_iter().collect();
        prop_assert_eq!(got, expected);
    }
}
