//! PURE. Blanks what is a secret by its place: values of keys that name one, accounts in addresses, private keys.

mod lines;
mod names;
mod value;

pub(super) use lines::text;
pub(super) use names::is_secret;

use crate::yaml::{Kind, Node};
use lines::line;
use serde_json::Value as Json;

pub(super) const BLANK: &str = "(removed)";

/// A value as text, which may have many lines.
fn clean(value: &str) -> String {
    if value.contains('\n') { text(value).trim_end_matches('\n').to_owned() } else { line(value) }
}

/// A YAML tree as text. Comments are gone: nobody knows what they say.
pub(super) fn yaml(node: &Node<'_>) -> String {
    let mut text = String::new();
    block(node, 0, false, &mut text);
    text
}

/// `secret`: below a key that names one.
fn block(node: &Node<'_>, depth: usize, secret: bool, out: &mut String) {
    let indent = "  ".repeat(depth);
    match &node.kind {
        Kind::Map(pairs) => {
            for (key, value) in pairs {
                out.push_str(&format!("{indent}{}:", scalar(&key.text)));
                let secret = secret || is_secret(&key.text);
                if secret && !matches!(value.kind, Kind::Map(_)) {
                    out.push_str(&format!(" {BLANK}\n"));
                } else {
                    inline(value, depth, secret, out);
                }
            }
        }
        Kind::List(items) => {
            for item in items {
                out.push_str(&format!("{indent}-"));
                inline(item, depth, secret, out);
            }
        }
        Kind::Text(_) | Kind::Null => inline(node, depth, secret, out),
    }
}

fn inline(node: &Node<'_>, depth: usize, secret: bool, out: &mut String) {
    match &node.kind {
        Kind::Map(pairs) if pairs.is_empty() => out.push_str(" {}\n"),
        Kind::List(items) if items.is_empty() => out.push_str(" []\n"),
        Kind::Map(_) | Kind::List(_) => {
            out.push('\n');
            block(node, depth + 1, secret, out);
        }
        Kind::Text(_) if secret => out.push_str(&format!(" {BLANK}\n")),
        Kind::Text(text) => out.push_str(&format!(" {}\n", scalar(&clean(text)))),
        Kind::Null => out.push('\n'),
    }
}

/// Plain where that is no doubt, else in quotes.
fn scalar(text: &str) -> String {
    let plain =
        !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-./".contains(c)) && !text.starts_with('-');
    if plain { text.to_owned() } else { Json::from(text).to_string() }
}

/// Blanks the values of secret keys, and what is no secret by its key as text.
pub(super) fn json(value: &mut Json) {
    match value {
        Json::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                match is_secret(key) {
                    // Of the status, and says what kind of secret there is.
                    true if key != "device_secret" => all(value),
                    _ => json(value),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(json),
        Json::String(text) => *text = clean(text),
        _ => {}
    }
}

/// Texts below a key that names a secret; numbers tell how many there are.
fn all(value: &mut Json) {
    match value {
        Json::Object(fields) => fields.values_mut().for_each(all),
        Json::Array(_) | Json::String(_) => *value = BLANK.into(),
        _ => {}
    }
}

/// Leaves fields with these names out, wherever they are.
pub(super) fn leave_out(value: &mut Json, names: &[&str]) {
    match value {
        Json::Object(fields) => {
            fields.retain(|key, _| !names.contains(&key.as_str()));
            fields.values_mut().for_each(|value| leave_out(value, names));
        }
        Json::Array(items) => items.iter_mut().for_each(|item| leave_out(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_written_without_comments_and_secrets() {
        let source = "# hunter1\ncloud:\n  url: ssl://u:hunter2@h:1\n  device_secret: hunter3\n  device_secret_file: a/b\n  token: [hunter4]\n  secrets: {a: hunter6, b: [hunter7]}\nlist:\n  - {password: hunter5, name: x}\n  - 'y: z'\nempty: {}\n";
        let (node, _) = crate::yaml::parse(&"edge.yaml".into(), source);
        let shown = yaml(&node.unwrap());
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(
            shown.contains("device_secret_file: a/b") && shown.contains("name: x") && shown.contains("\"y: z\""),
            "{shown}"
        );
        let (again, faults) = crate::yaml::parse(&"again".into(), &shown);
        assert!(again.is_some() && faults.is_empty(), "{faults:?}\n{shown}");
    }

    #[test]
    fn json_keeps_the_kind_of_secret_and_loses_the_secret() {
        let mut value = serde_json::json!({ "device_secret": "activated", "password": "x", "a": [{ "token": "y", "n": 1 }],
            "secrets": { "meter": "z", "count": 2 }, "said": "a\n-----BEGIN PRIVATE KEY-----\nMIIE" });
        json(&mut value);
        assert_eq!(
            value,
            serde_json::json!({ "device_secret": "activated", "password": BLANK, "a": [{ "token": BLANK, "n": 1 }],
                "secrets": { "meter": BLANK, "count": 2 }, "said": "a\n(private key removed)" })
        );
    }
}
