//! PURE. What one cell of a point table means.

use driver::{PointKind, ValueType, did_you_mean};

/// Words of other systems, and the word of the point table for them.
const FOREIGN_TYPES: &[(&str, &str)] = &[
    ("int8", "byte"),
    ("uint8", "byte"),
    ("int16", "short"),
    ("uint16", "ushort"),
    ("word", "ushort"),
    ("int32", "int"),
    ("uint32", "uint"),
    ("dword", "uint"),
    ("int64", "long"),
    ("float32", "float"),
    ("real", "float"),
    ("float64", "double"),
    ("number", "double"),
    ("text", "string"),
];

/// A fault of one cell. Put into words only when it is shown: a table may have a million of them.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault<'a> {
    ValueType(&'a str),
    Kind(&'a str),
    NoNumber(&'static str, &'a str),
    NotFinite(&'static str, &'a str),
    TooLong(&'static str, usize),
    Control(&'static str),
}

impl Fault<'_> {
    pub fn problem(&self) -> String {
        match self {
            Fault::ValueType("") => "the value type is empty".to_owned(),
            Fault::ValueType(cell) => format!("value type \"{}\" is not known", shortened(cell)),
            Fault::Kind("") => "the point type is empty".to_owned(),
            Fault::Kind(cell) => format!("point type \"{}\" is not known", shortened(cell)),
            Fault::NoNumber(what, cell) => format!("{what} \"{}\" is no number", shortened(cell)),
            Fault::NotFinite(what, cell) => format!("{what} \"{}\" is not finite", shortened(cell)),
            Fault::TooLong(what, most) => format!("the {what} is longer than {most} characters"),
            Fault::Control(what) => format!("the {what} holds a control character"),
        }
    }

    pub fn help(&self) -> String {
        match self {
            Fault::ValueType(cell) => {
                let foreign = FOREIGN_TYPES.iter().find(|(word, _)| word.eq_ignore_ascii_case(cell));
                foreign.map_or_else(|| nearest(cell, ValueType::words()), |(_, ours)| format!("write {ours}"))
            }
            Fault::Kind(cell) => nearest(cell, PointKind::words()),
            Fault::NoNumber(_, cell) if cell.contains([',', '，']) => {
                "write a decimal point and no thousands: 1000.5; a decimal comma is read in a table with semicolons"
                    .to_owned()
            }
            Fault::NoNumber(_, cell) if cell.contains(is_full_width) => {
                "these are full-width signs: type the number again with half-width ones".to_owned()
            }
            Fault::NoNumber(..) => "write a number such as 0.1, without unit".to_owned(),
            Fault::NotFinite(..) => "write a number such as 0.1".to_owned(),
            Fault::TooLong(..) => "shorten it".to_owned(),
            Fault::Control(_) => "write plain text on one line".to_owned(),
        }
    }
}

/// Digits and signs of a Chinese input method that look like those of a number.
fn is_full_width(c: char) -> bool {
    matches!(c, '０'..='９' | '．' | '－' | '＋')
}

/// Comparing words takes the square of their length; a long one is no slip of the finger.
fn nearest(cell: &str, words: impl Iterator<Item = &'static str>) -> String {
    did_you_mean(if cell.len() > 64 { "" } else { cell }, words)
}

/// Enough of a cell to recognise it.
pub fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(40).is_some() {
        short.push('…');
    }
    short
}

pub fn value_type(cell: &str) -> Result<ValueType, Fault<'_>> {
    ValueType::parse(cell).ok_or(Fault::ValueType(cell))
}

pub fn kind(cell: &str) -> Result<PointKind, Fault<'_>> {
    PointKind::parse(cell).ok_or(Fault::Kind(cell))
}

/// A number; empty means `default`. `comma` allows a decimal comma, where cells are not parted by commas.
pub fn number<'a>(what: &'static str, cell: &'a str, default: f64, comma: bool) -> Result<f64, Fault<'a>> {
    if cell.is_empty() {
        return Ok(default);
    }
    let parsed = match cell.split_once(',') {
        Some((whole, part)) if comma && !whole.contains('.') && !part.contains(['.', ',']) => {
            format!("{whole}.{part}").parse::<f64>()
        }
        _ => cell.parse::<f64>(),
    };
    match parsed {
        Ok(number) if number.is_finite() => Ok(number),
        Ok(_) => Err(Fault::NotFinite(what, cell)),
        Err(_) => Err(Fault::NoNumber(what, cell)),
    }
}

/// A text of at most `most` characters on one line.
pub fn text<'a>(what: &'static str, cell: &'a str, most: usize) -> Result<(), Fault<'a>> {
    if cell.len() > most && cell.chars().count() > most {
        return Err(Fault::TooLong(what, most));
    }
    if cell.bytes().any(|b| b.is_ascii_control()) {
        return Err(Fault::Control(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_finite_and_decimal() {
        for (cell, comma, value) in
            [("", false, 7.0), ("0.1", false, 0.1), ("-1e3", false, -1000.0), ("0,5", true, 0.5), ("+2", false, 2.0)]
        {
            assert_eq!(number("coefficient", cell, 7.0, comma), Ok(value), "{cell}");
        }
        for (cell, comma) in [
            ("abc", false),
            ("0,5", false),
            ("1.234,5", true),
            ("1,2,3", true),
            ("NaN", false),
            ("inf", false),
            ("1e999", false),
            ("5%", false),
            ("0x10", false),
        ] {
            assert!(number("coefficient", cell, 7.0, comma).is_err(), "{cell}");
        }
    }

    #[test]
    fn commas_and_full_width_digits_are_named_in_the_help() {
        let help = |cell| number("coefficient", cell, 1.0, false).expect_err("refused").help();
        assert!(help("1,5").starts_with("write a decimal point"));
        assert!(help("１.５").starts_with("these are full-width signs"));
        assert!(help("5 V").starts_with("write a number such as 0.1"));
    }

    #[test]
    fn foreign_words_are_translated_in_the_help() {
        let fault = value_type("Float32").expect_err("refused");
        assert_eq!(
            (fault.problem().as_str(), fault.help().as_str()),
            ("value type \"Float32\" is not known", "write float")
        );
        assert!(value_type("flaot").expect_err("refused").help().starts_with("did you mean float?"));
        assert_eq!(value_type("INTEGER"), Ok(ValueType::Int));
    }
}
