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

/// A fault of one cell: problem and help.
pub type Fault = (String, String);

pub fn value_type(cell: &str) -> Result<ValueType, Fault> {
    if cell.is_empty() {
        return Err(("the value type is empty".to_owned(), did_you_mean("", ValueType::words())));
    }
    ValueType::parse(cell).ok_or_else(|| {
        let known = did_you_mean(cell, ValueType::words());
        let foreign = FOREIGN_TYPES.iter().find(|(word, _)| word.eq_ignore_ascii_case(cell));
        let help = foreign.map_or(known, |(_, ours)| format!("write {ours}"));
        (format!("value type \"{cell}\" is not known"), help)
    })
}

pub fn kind(cell: &str) -> Result<PointKind, Fault> {
    if cell.is_empty() {
        return Err(("the point type is empty".to_owned(), did_you_mean("", PointKind::words())));
    }
    PointKind::parse(cell)
        .ok_or_else(|| (format!("point type \"{cell}\" is not known"), did_you_mean(cell, PointKind::words())))
}

/// A number; empty means `default`. `comma` allows a decimal comma, where cells are not parted by commas.
pub fn number(what: &str, cell: &str, default: f64, comma: bool) -> Result<f64, Fault> {
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
        Ok(_) => Err((format!("{what} \"{cell}\" is not finite"), "write a number such as 0.1".to_owned())),
        Err(_) => {
            Err((format!("{what} \"{cell}\" is no number"), "write a number such as 0.1, without unit".to_owned()))
        }
    }
}

/// A text of at most `most` characters without line breaks.
pub fn text(what: &str, cell: &str, most: usize) -> Result<(), Fault> {
    if cell.len() > most && cell.chars().count() > most {
        return Err((format!("the {what} is longer than {most} characters"), "shorten it".to_owned()));
    }
    if cell.bytes().any(|b| b.is_ascii_control()) {
        let problem = format!("the {what} holds a line break or another control character");
        return Err((problem, "write it on one line".to_owned()));
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
    fn foreign_words_are_translated_in_the_help() {
        let (problem, help) = value_type("Float32").expect_err("refused");
        assert_eq!((problem.as_str(), help.as_str()), ("value type \"Float32\" is not known", "write float"));
        assert!(value_type("flaot").expect_err("refused").1.starts_with("did you mean float?"));
        assert_eq!(value_type("INTEGER"), Ok(ValueType::Int));
    }
}
