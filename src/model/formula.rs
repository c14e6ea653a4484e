//! PURE. Mapping formulas: what makes a measurement point out of points. A bounded, total language; nothing is evaluated as code.

mod functions;

pub use functions::Function;

use driver::{PointKind, did_you_mean};
use functions::{FUNCTIONS, LATER, check};

/// A formula whose points are rows of the template's point table.
#[derive(Clone, Debug, PartialEq)]
pub struct Formula {
    pub function: Function,
    pub arguments: Vec<Argument>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// Row of the point table, from 0.
    Point(u32),
    Constant(f64),
}

/// A formula as written: its points are not yet found in a table.
#[derive(Clone, Debug, PartialEq)]
pub struct FormulaText {
    pub function: Function,
    pub operands: Vec<Operand>,
}

/// One argument and the character it starts at, from 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    pub offset: usize,
    pub text: OperandText,
}

#[derive(Clone, Debug, PartialEq)]
pub enum OperandText {
    /// `ai.3000`
    Point(PointKind, String),
    /// A point's name or alias.
    Named(String),
    Constant(f64),
}

/// What is wrong with a formula, and at which character of it, from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct FormulaError {
    pub offset: usize,
    pub problem: String,
    pub help: String,
}

/// More arguments than any device has phases, strings or cells; keeps one scan's work bounded.
const MAX_OPERANDS: usize = 1024;

/// Reads a formula. `None`: the point is deliberately not mapped (`no_mapping`, `invalid` or nothing).
///
/// # Errors
/// The first thing that is wrong, with its place in the text.
pub fn parse(text: &str) -> Result<Option<FormulaText>, FormulaError> {
    let chars: Vec<char> = text.chars().collect();
    let mut at = Cursor { chars: &chars, at: 0 };
    at.skip_blanks();
    let rest = at.rest();
    if rest.is_empty() || rest.eq_ignore_ascii_case("no_mapping") || rest.eq_ignore_ascii_case("invalid") {
        return Ok(None);
    }
    let function = match at.call() {
        Some((offset, word)) => call(&mut at, offset, &word)?,
        None => FormulaText { function: Function::Equal, operands: vec![bare(&mut at)?] },
    };
    Ok(Some(function))
}

/// A point alone: everything up to the end belongs to it.
fn bare(at: &mut Cursor<'_>) -> Result<Operand, FormulaError> {
    let operand = at.operand(|_| false)?;
    at.skip_blanks();
    if at.at < at.chars.len() {
        return Err(error(
            at.at,
            format!("\"{}\" is left over", at.rest()),
            "write one point, or a function of points",
        ));
    }
    if matches!(operand.text, OperandText::Constant(_)) {
        return Err(error(operand.offset, "a constant is no point", "name a point as ai.3000"));
    }
    Ok(operand)
}

fn call(at: &mut Cursor<'_>, offset: usize, word: &str) -> Result<FormulaText, FormulaError> {
    let lower = word.to_ascii_lowercase();
    let Some(shape) = FUNCTIONS.iter().find(|shape| shape.word == lower) else {
        return Err(unknown_function(offset, word, &lower));
    };
    let operands = operands(at)?;
    check(shape, &operands, offset)?;
    Ok(FormulaText { function: shape.function, operands })
}

fn unknown_function(offset: usize, word: &str, lower: &str) -> FormulaError {
    let ours = FUNCTIONS.iter().map(|shape| shape.word);
    if let Some((_, why)) = LATER.iter().find(|(word, _)| *word == lower) {
        let problem = format!("function {lower} is not computed by this version: {why}");
        return error(offset, problem, format!("known: {}", ours.collect::<Vec<_>>().join(" ")));
    }
    let help = did_you_mean(word, ours.chain(LATER.iter().map(|(word, _)| *word)));
    error(offset, format!("function \"{word}\" is not known"), help)
}

fn operands(at: &mut Cursor<'_>) -> Result<Vec<Operand>, FormulaError> {
    let mut all = Vec::new();
    loop {
        at.skip_blanks();
        if all.is_empty() && at.take_if(is_close) {
            break;
        }
        if all.len() == MAX_OPERANDS {
            return Err(error(at.at, format!("more than {MAX_OPERANDS} arguments"), "use fewer points"));
        }
        if let Some((offset, word)) = at.call() {
            let problem = format!("{word} stands within another function");
            return Err(error(offset, problem, "functions can not be nested; name points and constants only"));
        }
        all.push(at.operand(|c| is_comma(c) || is_close(c))?);
        at.skip_blanks();
        if at.take_if(is_close) {
            break;
        }
        if !at.take_if(is_comma) {
            return Err(error(at.at, "the closing ) is missing", "write a comma between arguments and ) at the end"));
        }
    }
    at.skip_blanks();
    match at.rest() {
        rest if rest.is_empty() => Ok(all),
        rest => Err(error(at.at, format!("\"{rest}\" is left over"), "remove what follows the closing )")),
    }
}

fn error(offset: usize, problem: impl Into<String>, help: impl Into<String>) -> FormulaError {
    FormulaError { offset, problem: problem.into(), help: help.into() }
}

/// A comma, also as a Chinese keyboard types it.
fn is_comma(c: char) -> bool {
    matches!(c, ',' | '，')
}

fn is_open(c: char) -> bool {
    matches!(c, '(' | '（')
}

fn is_close(c: char) -> bool {
    matches!(c, ')' | '）')
}

struct Cursor<'c> {
    chars: &'c [char],
    at: usize,
}

impl Cursor<'_> {
    fn rest(&self) -> String {
        let rest: String = self.chars[self.at..].iter().collect();
        rest.trim_end().to_owned()
    }

    fn skip_blanks(&mut self) {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
    }

    fn take_if(&mut self, fits: impl Fn(char) -> bool) -> bool {
        let taken = self.chars.get(self.at).is_some_and(|c| fits(*c));
        self.at += usize::from(taken);
        taken
    }

    /// `word (`: moves behind the bracket, or not at all.
    fn call(&mut self) -> Option<(usize, String)> {
        let start = self.at;
        let word = |c: &&char| c.is_ascii_alphanumeric() || **c == '_';
        let text: String = self.chars[start..].iter().take_while(word).collect();
        if text.is_empty() || text.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.at += text.len();
        self.skip_blanks();
        if self.take_if(is_open) {
            return Some((start, text));
        }
        self.at = start;
        None
    }

    /// A point, a quoted name or a constant, up to a character that `ends` it.
    fn operand(&mut self, ends: impl Fn(char) -> bool) -> Result<Operand, FormulaError> {
        let offset = self.at;
        if self.chars.get(offset) == Some(&'"') {
            let name = self.quoted()?;
            return Ok(Operand { offset, text: point(&name).unwrap_or(OperandText::Named(name)) });
        }
        if let Some(kind) = self.kind_before_quote() {
            let number = self.quoted()?;
            return Ok(Operand { offset, text: OperandText::Point(kind, number) });
        }
        while self.chars.get(self.at).is_some_and(|c| !ends(*c)) {
            self.at += 1;
        }
        let text: String = self.chars[offset..self.at].iter().collect();
        let text = text.trim();
        if text.is_empty() {
            return Err(error(offset, "an argument is missing", "name a point as ai.3000, or a constant"));
        }
        let text = match (point(text), constant(text)) {
            (Some(point), _) => point,
            (None, Some(number)) => OperandText::Constant(number),
            (None, None) => OperandText::Named(text.to_owned()),
        };
        Ok(Operand { offset, text })
    }

    /// `ai."`: moves to the quote.
    fn kind_before_quote(&mut self) -> Option<PointKind> {
        let head: String = self.chars[self.at..].iter().take(4).collect();
        let kind = PointKind::parse(head.get(..2)?)?;
        if head.get(2..) != Some(".\"") {
            return None;
        }
        self.at += 3;
        Some(kind)
    }

    /// Text in quotes; a doubled quote stands for one.
    fn quoted(&mut self) -> Result<String, FormulaError> {
        let start = self.at;
        let mut text = String::new();
        self.at += 1;
        loop {
            match (self.chars.get(self.at), self.chars.get(self.at + 1)) {
                (Some('"'), Some('"')) => {
                    text.push('"');
                    self.at += 2;
                }
                (Some('"'), _) => {
                    self.at += 1;
                    return Ok(text);
                }
                (Some(c), _) => {
                    text.push(*c);
                    self.at += 1;
                }
                (None, _) => {
                    return Err(error(start, "the closing quote is missing", "write \" at the end of the name"));
                }
            }
        }
    }
}

/// `kind.number`: the kind ends at the first dot, the number may hold more of them.
fn point(text: &str) -> Option<OperandText> {
    let (kind, number) = text.split_once('.')?;
    let number = number.trim();
    let kind = PointKind::parse(kind.trim()).filter(|_| !number.is_empty())?;
    Some(OperandText::Point(kind, number.to_owned()))
}

fn constant(text: &str) -> Option<f64> {
    let decimal = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    text.parse::<f64>().ok().filter(|number| decimal && number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ai(offset: usize, number: &str) -> Operand {
        Operand { offset, text: OperandText::Point(PointKind::Ai, number.to_owned()) }
    }

    fn constant(offset: usize, number: f64) -> Operand {
        Operand { offset, text: OperandText::Constant(number) }
    }

    fn parsed(text: &str) -> (Function, Vec<Operand>) {
        let formula = parse(text).expect("is well formed").expect("maps something");
        (formula.function, formula.operands)
    }

    fn fault(text: &str) -> FormulaError {
        parse(text).expect_err("is faulty")
    }

    #[test]
    fn a_bare_point_is_equal() {
        assert_eq!(parsed("ai.3000"), (Function::Equal, vec![ai(0, "3000")]));
        assert_eq!(parsed(" AI.ns=2;s=Machine.Var(1),x "), (Function::Equal, vec![ai(1, "ns=2;s=Machine.Var(1),x")]));
    }

    #[test]
    fn nothing_is_mapped_by_three_words() {
        for text in ["", "  ", "no_mapping", "NO_MAPPING ", "Invalid"] {
            assert_eq!(parse(text), Ok(None), "{text}");
        }
    }

    #[test]
    fn letter_case_and_blanks_are_free() {
        let want = (Function::Sum, vec![ai(6, "1"), ai(13, "2")]);
        assert_eq!(parsed("SUM ( ai.1 , AI.2 ) "), want);
        assert_eq!(parsed("sum（ai.1，ai.2）").1.len(), 2, "brackets and commas of a Chinese keyboard");
    }

    #[test]
    fn constants_are_decimal_and_go_where_they_may() {
        assert_eq!(parsed("product(ai.1,-0.5)").1, [ai(8, "1"), constant(13, -0.5)]);
        assert_eq!(parsed("cross_product(ai.1,ai.2,1e3)").1[2], constant(24, 1000.0));
        assert_eq!(fault("cross_product(2,ai.1,ai.2)").offset, 14);
        assert_eq!(fault("product(ai.1,2,3)").help, FUNCTIONS[2].takes);
        assert_eq!(fault("5").problem, "a constant is no point");
        assert_eq!(fault("ratio(ai.1,0)").problem, "division by zero");
    }

    #[test]
    fn numbers_with_commas_are_quoted_and_names_too() {
        let (_, operands) = parsed("sum(ai.\"ns=2;s=a,b)\",\"总 \"\"功率\"\"\",Power)");
        assert_eq!(operands[0], ai(4, "ns=2;s=a,b)"));
        assert_eq!(operands[1].text, OperandText::Named("总 \"功率\"".to_owned()));
        assert_eq!(operands[2].text, OperandText::Named("Power".to_owned()));
    }

    #[test]
    fn a_wrong_count_says_what_the_function_takes() {
        for (text, word) in [
            ("sum()", "sum"),
            ("subtraction(ai.1)", "subtraction"),
            ("ratio(ai.1,ai.2,ai.3)", "ratio("),
            ("ratio_against_sum(ai.1,ai.2)", "ratio_against_sum"),
            ("cross_product(ai.1,ai.2,ai.3)", "cross_product"),
            ("product(3)", "product"),
        ] {
            let fault = fault(text);
            assert!(fault.help.starts_with(word), "{text}: {}", fault.help);
        }
    }

    #[test]
    fn unknown_functions_are_guessed_and_later_ones_named() {
        assert!(fault("summ(ai.1)").help.starts_with("did you mean sum?"));
        assert!(fault("multibit(ai.1,ai.2)").problem.contains("not computed by this version"));
    }

    #[test]
    fn faults_point_at_the_character() {
        assert_eq!(fault("sum(ai.1,)").offset, 9);
        assert_eq!(fault("sum(ai.1").offset, 8);
        assert_eq!(fault("sum(ai.1) x").offset, 10);
        assert_eq!(fault("sum(ai.1,sum(ai.2))").offset, 9);
        assert_eq!(fault("sum(\"ai.1)").offset, 4);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_almost_formula_panics(text in "(sum|ratio|product|\"|,|\\(|\\)|ai\\.|1|。|，|\\.| ){0,20}") {
            let _ = parse(&text);
        }
    }
}
