//! PURE. Whether what a point or a formula yields can fill a measurement point.

use crate::model::{DataType, Function};
use crate::package::models::data_type_word;
use driver::{PointRow, ValueType};

/// What a mapping yields before it becomes the measurement point's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yield {
    Bool,
    /// Whole numbers that fit 32 bits with sign.
    Int,
    /// Whole numbers that may not.
    Wide,
    /// Numbers with a fraction.
    Fraction,
    Text,
}

/// How well it fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    Good,
    /// It works, and may lose something.
    Doubtful(&'static str),
    Never(&'static str),
}

/// What one point yields after a(x+b).
#[must_use]
pub fn of_point(row: &PointRow) -> Yield {
    let whole = row.coefficient.fract() == 0.0 && row.base_value.fract() == 0.0;
    let plain = row.coefficient == 1.0 && row.base_value == 0.0;
    match row.value_type {
        ValueType::String => Yield::Text,
        ValueType::Float | ValueType::Double => Yield::Fraction,
        ValueType::Bool if plain => Yield::Bool,
        _ if !whole && !scales_whole(row) => Yield::Fraction,
        ValueType::Bool | ValueType::Byte | ValueType::Short | ValueType::UShort if fits_32(row) => Yield::Int,
        ValueType::Int if plain => Yield::Int,
        _ => Yield::Wide,
    }
}

/// 0.5(x + 1) yields fractions, but 1(x + 0) and 10(x - 3) do not.
fn scales_whole(row: &PointRow) -> bool {
    row.coefficient.fract() == 0.0 && (row.coefficient * row.base_value).fract() == 0.0
}

fn fits_32(row: &PointRow) -> bool {
    let extremes = match row.value_type {
        ValueType::Short => [-32_768.0, 32_767.0],
        _ => [0.0, 65_535.0],
    };
    extremes.iter().all(|x| (row.coefficient * (x + row.base_value)).abs() <= f64::from(i32::MAX))
}

/// What a function of points yields.
#[must_use]
pub fn of_function(function: Function, operands: &[Yield]) -> Yield {
    match function {
        Function::Equal => operands.first().copied().unwrap_or(Yield::Fraction),
        _ if operands.contains(&Yield::Text) => Yield::Text,
        Function::Ratio | Function::RatioAgainstSum => Yield::Fraction,
        Function::LogicalOr | Function::LogicalAnd | Function::BitN => Yield::Bool,
        // As many as 32 bits, without a sign.
        Function::BitsMToN => Yield::Wide,
        // Only what it may be in the end counts, not what is compared.
        Function::IfEqual => either(operands.get(2..).unwrap_or_default()),
        Function::IfRange => {
            either(&[operands.get(..1).unwrap_or_default(), operands.get(3..).unwrap_or_default()].concat())
        }
        _ if operands.contains(&Yield::Fraction) => Yield::Fraction,
        Function::Product | Function::CrossProduct => Yield::Wide,
        Function::Sum | Function::Subtraction if operands.contains(&Yield::Wide) => Yield::Wide,
        Function::Sum | Function::Subtraction => Yield::Int,
    }
}

/// The widest of them.
fn either(yields: &[Yield]) -> Yield {
    let widest = [Yield::Fraction, Yield::Wide, Yield::Int].into_iter().find(|one| yields.contains(one));
    widest.unwrap_or(Yield::Bool)
}

const FRACTION_LOST: &str = "the fraction is cut off; choose float or double, or a point without one";
const MAY_NOT_FIT: &str = "values beyond 2147483647 do not fit 32 bits; choose double";
const NOT_A_STATE: &str = "every number but 0 becomes true; choose a point of type bool";

/// The table of what fits what.
#[must_use]
pub fn fit(yields: Yield, data_type: DataType) -> Fit {
    use Fit::{Doubtful, Good, Never};
    match (data_type, yields) {
        (DataType::Array, _) => Never("array points are filled by functions of a later version"),
        (DataType::String | DataType::Struct | DataType::Date | DataType::File | DataType::Enum, Yield::Text) => Good,
        (DataType::String | DataType::File, _) => Never("map a point of type string"),
        (DataType::Struct, _) => Never("map a point of type string that holds JSON text"),
        (DataType::Date, _) => Never("map a point of type string that holds yyyy-MM-dd HH:mm:ss"),
        (_, Yield::Text) => Never("map a point of a numeric type"),
        (DataType::Float | DataType::Double, _) => Good,
        (DataType::Int | DataType::Enum, Yield::Bool | Yield::Int) => Good,
        (DataType::Int, Yield::Wide) => Doubtful(MAY_NOT_FIT),
        (DataType::Int, Yield::Fraction) => Doubtful(FRACTION_LOST),
        (DataType::Enum, Yield::Wide) => Doubtful(MAY_NOT_FIT),
        (DataType::Enum, Yield::Fraction) => Never("map a point of a whole-numbered type"),
        (DataType::Bool, Yield::Bool) => Good,
        (DataType::Bool, Yield::Int | Yield::Wide) => Doubtful(NOT_A_STATE),
        (DataType::Bool, Yield::Fraction) => Never("map a point of type bool"),
        (DataType::Timestamp, Yield::Wide) => Good,
        (DataType::Timestamp, _) => Never("map a point of type long that holds milliseconds"),
    }
}

/// "float can not fill a measurement point of type string"
#[must_use]
pub fn problem(what: &str, data_type: DataType, fit: &Fit) -> String {
    let word = data_type_word(data_type);
    match fit {
        Fit::Doubtful(_) => format!("{what} may not fill a measurement point of type {word} exactly"),
        _ => format!("{what} can not fill a measurement point of type {word}"),
    }
}

/// Whether a commanded value of the measurement point can be written to the control point.
#[must_use]
pub fn fits_control(data_type: DataType, value_type: ValueType) -> bool {
    let text = matches!(data_type, DataType::String | DataType::Struct | DataType::Date | DataType::File);
    match data_type {
        DataType::Array => false,
        DataType::Enum => true,
        _ => text == (value_type == ValueType::String),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::{PointKind, PointTableBuilder};

    fn yields(value_type: ValueType, coefficient: f64, base_value: f64) -> Yield {
        let mut builder = PointTableBuilder::new(&"point.csv".into(), [1, 2, 3, 4, 5, 6, 7], Vec::new());
        builder.push(2, "x", "1", value_type, PointKind::Ai, coefficient, base_value, "", &[]);
        of_point(builder.finish().row(0).row())
    }

    #[test]
    fn scaling_decides_whether_a_whole_number_stays_one() {
        assert_eq!(yields(ValueType::Short, 1.0, 0.0), Yield::Int);
        assert_eq!(yields(ValueType::Short, 0.1, 0.0), Yield::Fraction);
        assert_eq!(yields(ValueType::UShort, 100_000.0, 0.0), Yield::Wide);
        assert_eq!(yields(ValueType::Short, 2.0, 0.5), Yield::Int);
        assert_eq!(yields(ValueType::Short, 1.0, 0.5), Yield::Fraction);
        assert_eq!(yields(ValueType::UInt, 1.0, 0.0), Yield::Wide);
        assert_eq!(yields(ValueType::Bool, 1.0, 0.0), Yield::Bool);
    }

    #[test]
    fn every_pair_of_types_has_an_answer() {
        let never = |y, d| matches!(fit(y, d), Fit::Never(_));
        let doubt = |y, d| matches!(fit(y, d), Fit::Doubtful(_));
        assert!(never(Yield::Text, DataType::Double) && never(Yield::Text, DataType::Int));
        assert!(never(Yield::Fraction, DataType::String) && never(Yield::Int, DataType::Struct));
        assert!(never(Yield::Fraction, DataType::Bool) && doubt(Yield::Int, DataType::Bool));
        assert!(doubt(Yield::Wide, DataType::Int) && doubt(Yield::Fraction, DataType::Int));
        assert!(never(Yield::Int, DataType::Timestamp) && fit(Yield::Wide, DataType::Timestamp) == Fit::Good);
        assert!(never(Yield::Text, DataType::Array));
        assert_eq!(fit(Yield::Bool, DataType::Double), Fit::Good);
    }

    #[test]
    fn a_ratio_has_a_fraction_and_a_sum_of_whole_numbers_has_none() {
        assert_eq!(of_function(Function::Ratio, &[Yield::Int, Yield::Int]), Yield::Fraction);
        assert_eq!(of_function(Function::Sum, &[Yield::Int, Yield::Bool]), Yield::Int);
        assert_eq!(of_function(Function::Sum, &[Yield::Int, Yield::Text]), Yield::Text);
    }
}
