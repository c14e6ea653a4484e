//! PURE. The functions of the mapping table: their names and what they take.

use super::{FormulaError, Operand, OperandText, error};

/// The functions of the mapping table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// y = x1
    Equal,
    /// y = x1 + … + xn
    Sum,
    /// y = x1 - x2
    Subtraction,
    /// y = a · x1 · … · xn
    Product,
    /// y = x1 / x2
    Ratio,
    /// y = x1 / (x2 + x3)
    RatioAgainstSum,
    /// y = a · (x1·x2 + x3·x4 + …)
    CrossProduct,
    /// y = 1 if any x is not 0, else 0
    LogicalOr,
    /// y = 0 if any x is 0, else 1
    LogicalAnd,
    /// y = bit n of x, 0 the lowest
    BitN,
    /// y = bits m (high) to n (low) of x, moved to the right
    BitsMToN,
    /// y = b if x = a, else c
    IfEqual,
    /// y = d if x >= b, c if a < x < b, else x
    IfRange,
}

impl Function {
    /// As it is written in a mapping.
    #[must_use]
    pub fn word(self) -> &'static str {
        FUNCTIONS.iter().find(|shape| shape.function == self).map_or("equal", |shape| shape.word)
    }
}

/// What a function takes, in words.
pub(super) struct Shape {
    pub word: &'static str,
    pub function: Function,
    pub takes: &'static str,
    fits: fn(points: usize, constants: usize) -> bool,
}

pub(super) const FUNCTIONS: &[Shape] = &[
    Shape {
        word: "sum",
        function: Function::Sum,
        takes: "sum(x1,x2,…) takes one point or more",
        fits: |points, _| points >= 1,
    },
    Shape {
        word: "subtraction",
        function: Function::Subtraction,
        takes: "subtraction(x1,x2) takes two, and is x1 - x2",
        fits: |points, constants| points >= 1 && points + constants == 2,
    },
    Shape {
        word: "product",
        function: Function::Product,
        takes: "product(x1,x2,…,a) takes one point or more, and a constant if you like",
        fits: |points, constants| points >= 1 && constants <= 1,
    },
    Shape {
        word: "ratio",
        function: Function::Ratio,
        takes: "ratio(x1,x2) takes two, and is x1 / x2",
        fits: |points, constants| points >= 1 && points + constants == 2,
    },
    Shape {
        word: "ratio_against_sum",
        function: Function::RatioAgainstSum,
        takes: "ratio_against_sum(x1,x2,x3) takes three, and is x1 / (x2 + x3)",
        fits: |points, constants| points >= 1 && points + constants == 3,
    },
    Shape {
        word: "cross_product",
        function: Function::CrossProduct,
        takes: "cross_product(x1,x2,x3,x4,…,a) takes pairs of points, and a constant at the end if you like",
        fits: |points, constants| points >= 2 && points % 2 == 0 && constants <= 1,
    },
    Shape {
        word: "logical_or",
        function: Function::LogicalOr,
        takes: "logical_or(x1,x2,…) takes one point or more, and is 1 when any of them is not 0",
        fits: |points, constants| points >= 1 && constants == 0,
    },
    Shape {
        word: "logical_and",
        function: Function::LogicalAnd,
        takes: "logical_and(x1,x2,…) takes one point or more, and is 1 when none of them is 0",
        fits: |points, constants| points >= 1 && constants == 0,
    },
    Shape {
        word: "bit_n",
        function: Function::BitN,
        takes: "bit_n(x,n) takes a point and the number of a bit, 0 (the lowest) to 31",
        fits: |points, constants| points == 1 && constants == 1,
    },
    Shape {
        word: "bits_m_to_n",
        function: Function::BitsMToN,
        takes: "bits_m_to_n(x,m,n) takes a point and the numbers of two bits, 31 >= m >= n >= 0: bits_m_to_n(ai.1,7,0) is the low byte",
        fits: |points, constants| points == 1 && constants == 2,
    },
    Shape {
        word: "if_equal",
        function: Function::IfEqual,
        takes: "if_equal(x,a,b,c) takes four, and is b when x equals a, else c",
        fits: |points, constants| points >= 1 && points + constants == 4,
    },
    Shape {
        word: "if_range",
        function: Function::IfRange,
        takes: "if_range(x,a,b,c,d) takes five, and is d from b on, c between a and b, else x",
        fits: |points, constants| points >= 1 && points + constants == 5,
    },
];

const ARRAYS: &str = "no point fills an array";
const UNSAID: &str = "how it is written is said nowhere";

/// Functions of EnOS that this version does not compute, and why.
pub(super) const LATER: &[(&str, &str)] = &[
    ("xor", "its documentation says 1 for equal points, its name says the opposite; use if_equal"),
    ("enum_n", UNSAID),
    ("multichannel", ARRAYS),
    ("multibit", ARRAYS),
    ("multichannel_shorttoint", ARRAYS),
    ("connect_state", UNSAID),
    ("event_equal", UNSAID),
];

/// Counts and kinds of arguments.
pub(super) fn check(shape: &Shape, operands: &[Operand], offset: usize) -> Result<(), FormulaError> {
    let constant = |operand: &&Operand| matches!(operand.text, OperandText::Constant(_));
    let constants = operands.iter().filter(constant).count();
    if !(shape.fits)(operands.len() - constants, constants) {
        let problem = format!("the arguments of {} do not fit", shape.word);
        return Err(error(offset, problem, shape.takes));
    }
    match shape.function {
        Function::CrossProduct => match operands[..operands.len() - 1].iter().find(constant) {
            Some(early) => Err(error(early.offset, "the constant stands before points", shape.takes)),
            None => Ok(()),
        },
        Function::BitN | Function::BitsMToN => check_bits(shape, operands),
        Function::IfEqual | Function::IfRange if matches!(operands[0].text, OperandText::Constant(_)) => {
            Err(error(operands[0].offset, "a constant is no point", shape.takes))
        }
        Function::Ratio if operands[1].text == OperandText::Constant(0.0) => {
            Err(error(operands[1].offset, "division by zero", shape.takes))
        }
        _ => Ok(()),
    }
}

/// Point first, then bits from the highest to the lowest.
fn check_bits(shape: &Shape, operands: &[Operand]) -> Result<(), FormulaError> {
    let mut highest = 31.0;
    for (at, operand) in operands.iter().enumerate() {
        match (at, &operand.text) {
            (0, OperandText::Constant(_)) => return Err(error(operand.offset, "a constant is no point", shape.takes)),
            (0, _) => {}
            (_, OperandText::Constant(bit)) if bit.fract() == 0.0 && (0.0..=highest).contains(bit) => highest = *bit,
            _ => return Err(error(operand.offset, "this is no number of a bit that fits", shape.takes)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::model::formula::parse;

    #[test]
    fn bits_are_whole_numbers_from_high_to_low_and_the_point_comes_first() {
        for text in ["bit_n(ai.1,0)", "BIT_N(ai.1,31)", "bits_m_to_n(ai.1,7,0)", "bits_m_to_n(ai.1,3,3)"] {
            assert!(parse(text).is_ok(), "{text}");
        }
        for (text, offset) in [
            ("bit_n(ai.1,32)", 11),
            ("bit_n(ai.1,-1)", 11),
            ("bit_n(ai.1,1.5)", 11),
            ("bit_n(3,ai.1)", 6),
            ("bits_m_to_n(ai.1,0,7)", 19),
            ("if_equal(1,ai.1,2,3)", 9),
        ] {
            assert_eq!(parse(text).unwrap_err().offset, offset, "{text}");
        }
    }

    #[test]
    fn what_is_not_computed_says_why() {
        for (text, word) in
            [("Xor(di.1,di.2)", "the opposite"), ("multichannel(ai.1)", "an array"), ("if_equal(ai.1,1,2)", "four")]
        {
            let told = parse(text).unwrap_err();
            assert!(format!("{} {}", told.problem, told.help).contains(word), "{told:?}");
        }
    }
}
