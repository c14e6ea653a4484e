//! PURE. Tags: what a key and a value may be (EnOS limits, preview page).

use serde_json::Value;
use std::collections::BTreeMap;

/// Tags of one device.
const PER_DEVICE: usize = 100;
const KEY: usize = 50;
const VALUE: usize = 200;

/// Reads `[{"tagKey","tagValue"}…]` for a device that has these tags already.
///
/// # Errors
/// When it is malformed, a key or value is not allowed, or there would be too many.
pub(super) fn pairs(params: &Value, known: &BTreeMap<String, Value>) -> Result<Vec<(String, Value)>, String> {
    let tags = params.as_array().ok_or("params is no array")?;
    let pairs = tags.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    let new = pairs.iter().filter(|(key, _)| !known.contains_key(key)).count();
    if known.len() + new > PER_DEVICE {
        return Err(format!("more than {PER_DEVICE} tags"));
    }
    Ok(pairs)
}

fn pair(tag: &Value) -> Result<(String, Value), String> {
    let text = |name: &str| tag.get(name).and_then(Value::as_str).ok_or_else(|| format!("{name} is no text"));
    let (key, value) = (text("tagKey")?, text("tagValue")?);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_/".contains(c);
    if key.is_empty() || key.len() > KEY || !key.chars().all(allowed) {
        return Err(format!("tag key {key:?} is not allowed"));
    }
    if value.chars().count() > VALUE || value.trim() != value {
        return Err(format!("value of tag {key} is not allowed"));
    }
    Ok((key.to_owned(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_and_values_keep_to_the_limits() {
        let none = BTreeMap::new();
        let one = |key: &str, value: &str| pairs(&json!([{"tagKey": key, "tagValue": value}]), &none);
        assert!(one("site/north-1_a", "Halle 3 中").is_ok());
        assert!(one(&"k".repeat(50), &"中".repeat(200)).is_ok());
        for (key, value) in [("", "v"), ("a b", "v"), ("中", "v"), ("k", " v"), ("k", "v\n")] {
            assert!(one(key, value).is_err(), "{key:?} {value:?}");
        }
        assert!(one(&"k".repeat(51), "v").is_err() && one("k", &"v".repeat(201)).is_err());
        assert!(pairs(&json!({}), &none).is_err() && pairs(&json!([{"tagKey": "k"}]), &none).is_err());
        let full: BTreeMap<_, _> = (0..100).map(|i| (format!("k{i}"), json!("v"))).collect();
        assert!(pairs(&json!([{"tagKey": "k0", "tagValue": "w"}]), &full).is_ok());
        assert!(pairs(&json!([{"tagKey": "new", "tagValue": "w"}]), &full).is_err());
    }
}
