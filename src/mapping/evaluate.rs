//! PURE. The arithmetic of the mapping formulas, over doubles.

use crate::model::Function;

/// The result, or `None` when it is not a finite number (a division by zero, an overflow) or the arguments do not
/// fit the function.
#[must_use]
pub(super) fn evaluate(function: Function, x: &[f64]) -> Option<f64> {
    let y = match (function, x) {
        (Function::Equal, [x]) => *x,
        (Function::Sum, [_, ..]) => x.iter().sum(),
        (Function::Subtraction, [x1, x2]) => x1 - x2,
        (Function::Product, [_, ..]) => x.iter().product(),
        (Function::Ratio, [x1, x2]) => x1 / x2,
        (Function::RatioAgainstSum, [x1, x2, x3]) => x1 / (x2 + x3),
        (Function::CrossProduct, [_, _, ..]) => cross_product(x),
        _ => return None,
    };
    y.is_finite().then_some(y)
}

/// a · (x1·x2 + x3·x4 + …): with an odd number of arguments the last one is a.
fn cross_product(x: &[f64]) -> f64 {
    let pairs = x.chunks_exact(2);
    let a = pairs.remainder().first().copied().unwrap_or(1.0);
    a * pairs.map(|pair| pair[0] * pair[1]).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_what_the_reference_says() {
        let table = [
            (Function::Equal, vec![4.0], Some(4.0)),
            (Function::Sum, vec![1.0, 2.0, 3.5], Some(6.5)),
            (Function::Subtraction, vec![1.0, 2.5], Some(-1.5)),
            (Function::Product, vec![2.0, 3.0, 0.5], Some(3.0)),
            (Function::Ratio, vec![1.0, 4.0], Some(0.25)),
            (Function::RatioAgainstSum, vec![3.0, 1.0, 2.0], Some(1.0)),
            (Function::CrossProduct, vec![1.0, 2.0, 3.0, 4.0], Some(14.0)),
            (Function::CrossProduct, vec![1.0, 2.0, 3.0, 4.0, 0.5], Some(7.0)),
        ];
        for (function, x, y) in table {
            assert_eq!(evaluate(function, &x), y, "{function:?} {x:?}");
        }
    }

    #[test]
    fn a_division_by_zero_has_no_result() {
        assert_eq!(evaluate(Function::Ratio, &[1.0, 0.0]), None);
        assert_eq!(evaluate(Function::Ratio, &[0.0, 0.0]), None);
        assert_eq!(evaluate(Function::RatioAgainstSum, &[1.0, 2.0, -2.0]), None);
        assert_eq!(evaluate(Function::Product, &[1e200, 1e200]), None);
    }
}
