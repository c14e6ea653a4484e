//! PURE. Versions as devices show them: `2.1`, `V2.1.0`, or three numbers in three registers.

use crate::model::Value;
use semver::Version;

/// A version from the values of its measurement points; `None` when one of them is neither text nor number.
#[must_use]
pub fn shown(values: &[Value]) -> Option<String> {
    let part = |value: &Value| match value {
        Value::Text(text) => Some(text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) if number.is_finite() => Some(number.to_string()),
        Value::Double(number) if number.is_finite() => Some(number.to_string()),
        Value::Bool(_) | Value::Float(_) | Value::Double(_) => None,
    };
    let parts: Vec<String> = values.iter().map(part).collect::<Option<_>>()?;
    (!parts.is_empty()).then(|| parts.join("."))
}

/// With three numbers, where it can be read: 2.1.0 for `v2.1`.
#[must_use]
pub fn whole(text: &str) -> String {
    parsed(text).map_or_else(|| text.to_owned(), |version| version.to_string())
}

/// The version with three numbers that a text stands for.
fn parsed(text: &str) -> Option<Version> {
    let text = text.trim().trim_start_matches(['v', 'V']).trim_start();
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (core, rest) = text.split_at(end);
    let numbers: Vec<u64> = core
        .split('.')
        .map(|part| part.bytes().all(|digit| digit.is_ascii_digit()).then(|| part.parse().ok()).flatten())
        .collect::<Option<_>>()?;
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
    if numbers.len() > 3 {
        return None;
    }
    Version::parse(&format!("{}.{}.{}{rest}", at(0), at(1), at(2))).ok()
}

/// Two texts of one version.
#[must_use]
pub fn same(one: &str, other: &str) -> bool {
    one.trim() == other.trim() || matches!((parsed(one), parsed(other)), (Some(one), Some(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_one_however_they_are_written() {
        for (one, other) in
            [("2.1", "2.1.0"), ("V2.01", "2.1.0"), ("2", "2.0.0"), ("v2.1.0-rc.1", "2.1.0-rc.1"), ("x7", "x7 ")]
        {
            assert!(same(one, other), "{one} {other}");
        }
        for (one, other) in
            [("2.1", "2.10.0"), ("", "0.0.0"), ("2.1.0.4", "2.1.0"), ("2.1.0-rc.1", "2.1.0"), ("2..1", "2.0.1")]
        {
            assert!(!same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn numbers_of_registers_and_texts_become_a_version() {
        assert_eq!(shown(&[Value::Int(2), Value::Double(1.0), Value::Int(0)]).as_deref(), Some("2.1.0"));
        assert_eq!(shown(&[Value::Float(2.1)]).as_deref(), Some("2.1"));
        assert_eq!(shown(&[Value::Text("2.1.0\0\0 ".into())]).as_deref(), Some("2.1.0"));
        assert_eq!((shown(&[Value::Bool(true)]), shown(&[])), (None, None));
    }
}
