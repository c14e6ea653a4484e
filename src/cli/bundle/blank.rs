//! PURE. Blanks what is a secret by its place: values of keys that name one, accounts in addresses, private keys.

use crate::yaml::{Kind, Node};
use serde_json::Value as Json;

pub(super) const BLANK: &str = "(removed)";

/// Parts of names of keys whose value is a secret.
const SECRET: &[&str] = &[
    "secret",
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "token",
    "private",
    "authorization",
    "cookie",
    "credential",
    "api_key",
    "api-key",
    "apikey",
    "access_key",
    "access-key",
    "accesskey",
];
/// Headers whose value goes to the end of the line.
const WHOLE: &[&str] = &["authorization", "cookie"];
/// Such a key names a place, not the secret itself.
const PLACE: &[&str] = &["_file", "_credential", "_dir", "_folder"];

/// Whether the value of such a key is a secret.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    !PLACE.iter().any(|end| key.ends_with(end)) && (SECRET.iter().any(|part| key.contains(part)) || key == "key")
}

/// A YAML tree as text. Comments are gone: nobody knows what they say.
pub(super) fn yaml(node: &Node<'_>) -> String {
    let mut text = String::new();
    block(node, 0, &mut text);
    text
}

fn block(node: &Node<'_>, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match &node.kind {
        Kind::Map(pairs) => {
            for (key, value) in pairs {
                out.push_str(&format!("{indent}{}:", scalar(&key.text)));
                if is_secret(&key.text) && !matches!(value.kind, Kind::Map(_)) {
                    out.push_str(&format!(" {BLANK}\n"));
                } else {
                    inline(value, depth, out);
                }
            }
        }
        Kind::List(items) => {
            for item in items {
                out.push_str(&format!("{indent}-"));
                inline(item, depth, out);
            }
        }
        Kind::Text(_) | Kind::Null => inline(node, depth, out),
    }
}

fn inline(node: &Node<'_>, depth: usize, out: &mut String) {
    match &node.kind {
        Kind::Map(pairs) if pairs.is_empty() => out.push_str(" {}\n"),
        Kind::List(items) if items.is_empty() => out.push_str(" []\n"),
        Kind::Map(_) | Kind::List(_) => {
            out.push('\n');
            block(node, depth + 1, out);
        }
        Kind::Text(text) => out.push_str(&format!(" {}\n", scalar(&line(text)))),
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
                if is_secret(key) && (value.is_string() && key != "device_secret" || value.is_array()) {
                    *value = BLANK.into();
                } else {
                    json(value);
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(json),
        Json::String(text) => *text = line(text),
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

/// A text of many lines: private keys are gone as a whole.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_key = false;
    for each in text.lines() {
        if each.contains("-----BEGIN") && each.contains("PRIVATE KEY") {
            in_key = !each.contains("-----END");
            out.push_str("(private key removed)\n");
            continue;
        }
        if in_key {
            in_key = !each.contains("-----END");
            continue;
        }
        out.push_str(&line(each));
        out.push('\n');
    }
    out
}

/// One line, without accounts and queries of addresses and without what follows a word for a secret.
pub(super) fn line(line: &str) -> String {
    assigned(&addresses(line))
}

/// `scheme://user:password@host/path?query` keeps scheme, host and path.
fn addresses(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        out.push_str(before);
        let end = address.find(|c: char| c.is_whitespace() || "\"'<>".contains(c)).unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        let authority = address.find(['/', '?', '#']).unwrap_or(address.len());
        // A password may hold what ends an authority: the last @ of the whole counts when it comes with a colon.
        let account = match address[..authority].rfind('@') {
            Some(at) => Some(at),
            None => address.rfind('@').filter(|at| address[..*at].contains(':')),
        };
        let host = account.map_or(address, |at| &address[at + 1..]);
        if account.is_some() {
            out.push_str(BLANK);
            out.push('@');
        }
        match host.split_once('?') {
            Some((path, _)) => out.push_str(&format!("{path}?{BLANK}")),
            None => out.push_str(host),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `password=x`, `"token": "x"`, `Authorization: Basic x`.
fn assigned(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let mut out = String::with_capacity(line.len());
    let mut at = 0;
    while let Some((found, word)) = next(&lower, at) {
        let name = found + word.len();
        let name_end = name
            + lower[name..]
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
                .unwrap_or(lower.len() - name);
        out.push_str(&line[at..name_end]);
        at = name_end;
        if PLACE.iter().any(|end| lower[..name_end].ends_with(end)) {
            continue;
        }
        let Some((value, end)) = value(&lower, name_end, WHOLE.contains(&word)) else { continue };
        out.push_str(&line[at..value]);
        out.push_str(BLANK);
        at = end;
    }
    out.push_str(&line[at..]);
    out
}

fn next(lower: &str, from: usize) -> Option<(usize, &'static str)> {
    SECRET.iter().filter_map(|word| Some((lower[from..].find(word)? + from, *word))).min_by_key(|(at, _)| *at)
}

/// Where the value begins and ends that is given to the name before.
fn value(lower: &str, from: usize, whole: bool) -> Option<(usize, usize)> {
    let skip =
        |at: usize, blanks: &str| at + lower[at..].find(|c: char| !blanks.contains(c)).unwrap_or(lower.len() - at);
    let sign = skip(from, "\"'\\ ");
    if !lower[sign..].starts_with([':', '=']) {
        return None;
    }
    let begin = skip(sign + 1, " \t\\");
    let quote = lower[begin..].chars().next()?;
    if whole {
        return Some((begin, lower.len()));
    }
    if quote == '"' || quote == '\'' {
        let inside = begin + 1;
        let end = lower[inside..].find(quote).map_or(lower.len(), |at| inside + at);
        return Some((inside, end));
    }
    let end = lower[begin..]
        .find(|c: char| c.is_whitespace() || ",;)}]&\"'".contains(c))
        .map_or(lower.len(), |at| begin + at);
    (end > begin).then_some((begin, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_what_is_secret_and_keep_the_rest() {
        for (text, clean) in [
            ("GET http://u:p@ss@h:80/a?sign=1 done", "GET http://(removed)@h:80/a?(removed) done"),
            ("fetch https://h/a/b", "fetch https://h/a/b"),
            ("password=abc next", "password=(removed) next"),
            (r#"{"deviceSecret":"abc","x":1}"#, r#"{"deviceSecret":"(removed)","x":1}"#),
            ("Authorization: Basic abc def", "Authorization: (removed)"),
            ("proxy-authorization: Basic abc def", "proxy-authorization: (removed)"),
            ("Set-Cookie: session=abc; path=/", "Set-Cookie: (removed)"),
            ("x-api-key: abc", "x-api-key: (removed)"),
            (r#"{"api_key": "abc","accessKey":"d"}"#, r#"{"api_key": "(removed)","accessKey":"(removed)"}"#),
            ("pwd='a b' next", "pwd='(removed)' next"),
            ("api_key_file: /a/b", "api_key_file: /a/b"),
            ("secret_file: /a/b", "secret_file: /a/b"),
            ("the secret of a device", "the secret of a device"),
            ("device_secret: abc # more", "device_secret: (removed) # more"),
            ("密码 token=密", "密码 token=(removed)"),
        ] {
            assert_eq!(line(text), clean);
        }
    }

    #[test]
    fn a_private_key_goes_as_a_whole() {
        let pem = "a\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb\n";
        assert_eq!(text(pem), "a\n(private key removed)\nb\n");
        let torn = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nMIIF\n";
        assert_eq!(text(torn), "(private key removed)\n");
    }

    #[test]
    fn a_tree_is_written_without_comments_and_secrets() {
        let source = "# hunter1\ncloud:\n  url: ssl://u:hunter2@h:1\n  device_secret: hunter3\n  device_secret_file: a/b\n  token: [hunter4]\nlist:\n  - {password: hunter5, name: x}\n  - 'y: z'\nempty: {}\n";
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
        let mut value =
            serde_json::json!({ "device_secret": "activated", "password": "x", "a": [{ "token": "y", "n": 1 }] });
        json(&mut value);
        assert_eq!(
            value,
            serde_json::json!({ "device_secret": "activated", "password": BLANK, "a": [{ "token": BLANK, "n": 1 }] })
        );
    }
}
