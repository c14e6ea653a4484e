//! PURE. What the mapping formulas compute, over doubles.

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
        (Function::LogicalOr, [_, ..]) => truth(x.iter().any(|x| *x != 0.0)),
        (Function::LogicalAnd, [_, ..]) => truth(x.iter().all(|x| *x != 0.0)),
        (Function::BitN, [x, n]) => bits(*x, *n, *n)?,
        (Function::BitsMToN, [x, m, n]) => bits(*x, *m, *n)?,
        #[expect(clippy::float_cmp, reason = "what the package says is meant exactly")]
        (Function::IfEqual, [x, a, b, c]) => {
            if x == a {
                *b
            } else {
                *c
            }
        }
        (Function::IfRange, [x, a, b, c, d]) => match x {
            x if x >= b => *d,
            x if x > a => *c,
            x => *x,
        },
        _ => return None,
    };
    y.is_finite().then_some(y)
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// Bits m to n of a whole number, those of a negative one in two's complement. Beyond 53 bits a double has lost some.
fn bits(x: f64, m: f64, n: f64) -> Option<f64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let bit = |at: f64| (at.fract() == 0.0 && (0.0..=31.0).contains(&at)).then_some(at as u32);
    let (m, n) = (bit(m)?, bit(n)?);
    if x.fract() != 0.0 || x.abs() > EXACT || m < n {
        return None;
    }
    let width = m - n + 1;
    Some(((x as i64 >> n) & ((1i64 << width) - 1)) as f64)
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
            (Function::LogicalOr, vec![0.0, 0.0], Some(0.0)),
            (Function::LogicalOr, vec![0.0, 4.0], Some(1.0)),
            (Function::LogicalAnd, vec![2.0, 1.0], Some(1.0)),
            (Function::LogicalAnd, vec![2.0, 0.0], Some(0.0)),
            (Function::BitN, vec![5.0, 0.0], Some(1.0)),
            (Function::BitN, vec![5.0, 1.0], Some(0.0)),
            (Function::BitN, vec![4_294_967_295.0, 31.0], Some(1.0)),
            (Function::BitN, vec![-1.0, 15.0], Some(1.0)),
            (Function::BitN, vec![1.5, 0.0], None),
            (Function::BitN, vec![1e16, 0.0], None),
            (Function::BitsMToN, vec![513.0, 7.0, 0.0], Some(1.0)),
            (Function::BitsMToN, vec![513.0, 15.0, 8.0], Some(2.0)),
            (Function::BitsMToN, vec![-1.0, 31.0, 0.0], Some(4_294_967_295.0)),
            (Function::IfEqual, vec![3.0, 3.0, 10.0, 20.0], Some(10.0)),
            (Function::IfEqual, vec![3.1, 3.0, 10.0, 20.0], Some(20.0)),
            (Function::IfRange, vec![5.0, 10.0, 20.0, 1.0, 2.0], Some(5.0)),
            (Function::IfRange, vec![10.0, 10.0, 20.0, 1.0, 2.0], Some(10.0)),
            (Function::IfRange, vec![15.0, 10.0, 20.0, 1.0, 2.0], Some(1.0)),
            (Function::IfRange, vec![20.0, 10.0, 20.0, 1.0, 2.0], Some(2.0)),
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
