//! PURE. Reads typed things out of a YAML tree and collects every fault on the way.

use super::{Key, Kind, Node};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use driver::Text;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// One map of a file, with the words it may hold.
pub struct Fields<'t, 'a> {
    pub file: &'t Arc<str>,
    /// What the map describes, for complaints: `device`.
    what: &'static str,
    entries: &'t [(Key<'a>, Node<'a>)],
    pub place: Place,
}

pub use super::faults::Faults;

impl<'t, 'a> Fields<'t, 'a> {
    /// Complains when the node is no map and of every key that is not `known`.
    pub fn open(
        file: &'t Arc<str>,
        node: &'t Node<'a>,
        what: &'static str,
        known: &[&str],
        faults: &mut Faults,
    ) -> Option<Fields<'t, 'a>> {
        let place = place(file, node);
        let Kind::Map(entries) = &node.kind else {
            let problem = format!("{what}: {} stands where keys and values should", shape(node));
            faults.push(Diagnostic::error(place, problem).help(format!("write `key: value`; {}", known_words(known))));
            return None;
        };
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&&*key.text)) {
            faults.push(
                Diagnostic::error(
                    key_place(file, key),
                    format!("key \"{}\" of a {what} is not known", shown(&key.text)),
                )
                .help(did_you_mean(&key.text, known.iter().copied())),
            );
        }
        Some(Fields { file, what, entries, place })
    }

    /// The value of a key; `None` when it is absent or empty.
    #[must_use]
    pub fn node(&self, key: &str) -> Option<&'t Node<'a>> {
        self.entries.iter().find(|(k, _)| k.text == key).map(|(_, n)| n).filter(|n| n.kind != Kind::Null)
    }

    /// A scalar; complains of lists and maps, `None` when it is absent or empty.
    pub fn text(&self, key: &str, faults: &mut Faults) -> Option<Text> {
        scalar(self.file, self.node(key)?, key, faults)
    }

    /// Complains when the key is absent or empty.
    pub fn required(&self, key: &str, faults: &mut Faults) -> Option<Text> {
        if self.node(key).is_none() {
            faults.push(
                Diagnostic::error(self.place.clone(), format!("{} has no {key}", self.what))
                    .help(format!("write `{key}: …`")),
            );
        }
        self.text(key, faults)
    }

    /// True or false, in any of the words YAML knows; complains of others and takes the default.
    pub fn flag(&self, key: &str, default: bool, faults: &mut Faults) -> bool {
        let Some(text) = self.text(key, faults) else { return default };
        match text.text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => true,
            "false" | "no" | "off" | "0" => false,
            _ => {
                faults.push(misfit(key, &text, "write true or false"));
                default
            }
        }
    }

    /// One word of a table; complains of others.
    pub fn word<T: Copy>(&self, key: &str, words: &[(&str, T)], faults: &mut Faults) -> Option<T> {
        word(key, &self.text(key, faults)?, words, faults)
    }

    /// A number; complains of other text with `shape`, the words for what would do.
    pub fn number<T: FromStr>(&self, key: &str, shape: &str, faults: &mut Faults) -> Option<T> {
        let text = self.text(key, faults)?;
        let number = text.text.trim().parse().ok();
        if number.is_none() {
            faults.push(misfit(key, &text, format!("write {shape}")));
        }
        number
    }

    /// The items of a list. One map where a list should stand counts as a list of one.
    pub fn list(&self, key: &str, faults: &mut Faults) -> &'t [Node<'a>] {
        let Some(node) = self.node(key) else { return &[] };
        match &node.kind {
            Kind::List(items) => items,
            Kind::Map(_) => std::slice::from_ref(node),
            Kind::Null | Kind::Text(_) => {
                let problem = format!("{key}: {} stands where a list should", shape(node));
                faults.push(Diagnostic::error(place(self.file, node), problem).help("write `- …` lines below the key"));
                &[]
            }
        }
    }

    /// Keys and scalar values of a free map, in the order of the file.
    pub fn pairs(&self, key: &str, faults: &mut Faults) -> Vec<(Text, Text)> {
        let Some(node) = self.node(key) else { return Vec::new() };
        pairs(self.file, node, key, faults)
    }

    /// Keys of a free map whose values may have any shape.
    pub fn complain_unless_map(&self, key: &str, faults: &mut Faults) {
        if let Some(node) = self.node(key)
            && !matches!(node.kind, Kind::Map(_))
        {
            let problem = format!("{key}: {} stands where keys and values should", shape(node));
            faults.push(Diagnostic::error(place(self.file, node), problem).help("write `key: value` lines below it"));
        }
    }
}

/// Keys and scalar values of a map.
pub fn pairs(file: &Arc<str>, node: &Node<'_>, what: &str, faults: &mut Faults) -> Vec<(Text, Text)> {
    let Kind::Map(entries) = &node.kind else {
        let problem = format!("{what}: {} stands where keys and values should", shape(node));
        faults.push(Diagnostic::error(place(file, node), problem).help("write `key: value` lines below it"));
        return Vec::new();
    };
    let pair = |(key, value): &(Key<'_>, Node<'_>)| {
        let name = Text { text: key.text.to_string(), place: key_place(file, key) };
        match &value.kind {
            Kind::Null => Some((name, Text { text: String::new(), place: place(file, value) })),
            _ => scalar(file, value, &key.text, faults).map(|text| (name, text)),
        }
    };
    entries.iter().filter_map(pair).collect()
}

/// The text of a scalar; complains of lists and maps.
pub fn scalar(file: &Arc<str>, node: &Node<'_>, key: &str, faults: &mut Faults) -> Option<Text> {
    if let Kind::Text(text) = &node.kind {
        return Some(Text { text: text.trim().to_owned(), place: place(file, node) });
    }
    let problem = format!("{key}: {} stands where one value should", shape(node));
    faults.push(Diagnostic::error(place(file, node), problem));
    None
}

/// One word of a table, whatever its letter case.
pub fn word<T: Copy>(key: &str, text: &Text, words: &[(&str, T)], faults: &mut Faults) -> Option<T> {
    let found = words.iter().find(|(w, _)| w.eq_ignore_ascii_case(&text.text)).map(|(_, meaning)| *meaning);
    if found.is_none() {
        faults.push(
            Diagnostic::error(text.place.clone(), format!("{key} \"{}\" is not known", shown(&text.text)))
                .help(did_you_mean(&text.text, words.iter().map(|(w, _)| *w))),
        );
    }
    found
}

/// A whole number of milliseconds, one at least and a month at most.
pub fn millis(key: &str, text: &Text, faults: &mut Faults) -> Option<Duration> {
    const MONTH_MS: u64 = 31 * 24 * 3600 * 1000;
    let ms = text.text.trim().parse::<u64>().ok().filter(|ms| (1..=MONTH_MS).contains(ms));
    if ms.is_none() {
        faults.push(misfit(key, text, format!("write milliseconds from 1 to {MONTH_MS}")));
    }
    ms.map(Duration::from_millis)
}

/// A text that is no value of this key.
pub fn misfit(key: &str, text: &Text, help: impl Into<String>) -> Diagnostic {
    Diagnostic::error(text.place.clone(), format!("{key}: \"{}\" does not fit", shown(&text.text))).help(help)
}

/// A stranger's text as a message may hold it: nothing that moves the reader's cursor, and not all of a long one.
#[must_use]
pub fn shown(text: &str) -> String {
    const MOST: usize = 120;
    let text = &without_account(text);
    let mut shown = String::new();
    for c in text.chars().take(MOST) {
        if c.is_control() || is_invisible(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// An address whose account has no place in messages.
fn without_account(text: &str) -> std::borrow::Cow<'_, str> {
    let account = text.split_once("://").and_then(|(scheme, rest)| {
        let host = rest.split('/').next()?;
        host.rfind('@').map(|at| format!("{scheme}://…{}", &rest[at..]))
    });
    account.map_or(text.into(), Into::into)
}

/// Marks of Unicode that turn the direction of writing or break lines, unseen.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Where a value stands.
#[must_use]
pub fn place(file: &Arc<str>, node: &Node<'_>) -> Place {
    Place::new(file, node.line, node.column)
}

/// Where a key stands.
#[must_use]
pub fn key_place(file: &Arc<str>, key: &Key<'_>) -> Place {
    Place::new(file, key.line, key.column)
}

fn shape(node: &Node<'_>) -> &'static str {
    match node.kind {
        Kind::Null => "nothing",
        Kind::Text(_) => "one value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a map",
    }
}

fn known_words(known: &[&str]) -> String {
    format!("known: {}", known.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_without_its_account_its_commands_and_its_length() {
        assert_eq!(shown("mqtt://me:secret@host:1883/x"), "mqtt://…@host:1883/x");
        assert_eq!(shown("http://a:b@c:d@host"), "http://…@host");
        assert_eq!(shown("http://host/a@b"), "http://host/a@b");
        assert_eq!(shown("电表 \u{1b}[2J\u{202e}"), "电表 \\u{1b}[2J\\u{202e}");
        assert_eq!(shown(&"x".repeat(100_000)).chars().count(), 121);
    }
}
