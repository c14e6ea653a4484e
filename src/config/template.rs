//! PURE. Templates of topics and payloads: literal text and `{words}`, parsed once.

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::yaml::fields::Faults;
use driver::Text;

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The gateway's device key.
    Gateway,
    /// The package's name.
    Site,
    ProductKey,
    DeviceKey,
    Device,
    AssetId,
    Model,
    Point,
    /// A JSON value: texts stand in quotes.
    Value,
    /// The same without quotes.
    ValueText,
    /// Milliseconds since 1970.
    Time,
    /// `2026-01-31T12:00:00.000Z`.
    TimeIso,
    Quality,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Literal(String),
    Word(Word),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(pub Vec<Part>);

const TOPIC_WORDS: &[(&str, Word)] = &[
    ("gateway", Word::Gateway),
    ("site", Word::Site),
    ("product_key", Word::ProductKey),
    ("device_key", Word::DeviceKey),
    ("device", Word::Device),
    ("asset_id", Word::AssetId),
    ("model", Word::Model),
    ("point", Word::Point),
];

const PAYLOAD_WORDS: &[(&str, Word)] = &[
    ("gateway", Word::Gateway),
    ("site", Word::Site),
    ("product_key", Word::ProductKey),
    ("device_key", Word::DeviceKey),
    ("device", Word::Device),
    ("asset_id", Word::AssetId),
    ("model", Word::Model),
    ("point", Word::Point),
    ("value", Word::Value),
    ("value_text", Word::ValueText),
    ("time", Word::Time),
    ("time_iso", Word::TimeIso),
    ("quality", Word::Quality),
];

/// Names may bring a topic to three times their length; this leaves room below MQTT's 65535 bytes.
const LONGEST_LITERAL: usize = 1024;

impl Template {
    #[must_use]
    pub fn holds(&self, word: Word) -> bool {
        self.0.contains(&Part::Word(word))
    }

    /// The levels of the topics it makes; `None` for one that depends on names.
    #[must_use]
    pub fn shape(&self) -> Vec<Option<String>> {
        let mut levels = vec![Some(String::new())];
        for part in &self.0 {
            match part {
                Part::Word(_) => *levels.last_mut().expect("one level at least") = None,
                Part::Literal(text) => {
                    let mut pieces = text.split('/');
                    let first = pieces.next().unwrap_or_default();
                    if let Some(Some(level)) = levels.last_mut() {
                        level.push_str(first);
                    }
                    levels.extend(pieces.map(|piece| Some(piece.to_owned())));
                }
            }
        }
        levels
    }
}

/// A topic: no wildcards, no NUL, nothing of the broker's own.
pub(super) fn topic(text: &Text, faults: &mut Faults) -> Option<Template> {
    let template = parse("topic", text, TOPIC_WORDS, faults)?;
    let literals: String = template.0.iter().filter_map(literal).collect();
    let problem = if literals.contains(['+', '#']) {
        "holds a wildcard; + and # are for subscriptions"
    } else if literals.contains(char::is_control) {
        "holds a control character"
    } else if text.text.is_empty() {
        "is empty"
    } else if text.text.starts_with("$SYS") {
        "belongs to the broker"
    } else if literals.len() > LONGEST_LITERAL {
        "is longer than a topic should be"
    } else {
        return Some(template);
    };
    faults.push(
        Diagnostic::error(text.place.clone(), format!("topic \"{}\" {problem}", text.text))
            .help("write for example plant/{device}/{point}"),
    );
    None
}

pub(super) fn payload(text: &Text, faults: &mut Faults) -> Option<Template> {
    parse("payload", text, PAYLOAD_WORDS, faults)
}

fn literal(part: &Part) -> Option<&str> {
    match part {
        Part::Literal(text) => Some(text),
        Part::Word(_) => None,
    }
}

/// `{` and lower-case letters and `}` are a placeholder; every other brace stands for itself, as JSON has many.
fn parse(key: &str, text: &Text, words: &[(&str, Word)], faults: &mut Faults) -> Option<Template> {
    let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text.text.as_str());
    let mut whole = true;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        let Some(name) = placeholder(from) else {
            plain.push('{');
            rest = &from[1..];
            continue;
        };
        rest = &from[name.len() + 2..];
        if let Some((_, word)) = words.iter().find(|(known, _)| *known == name) {
            if !plain.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut plain)));
            }
            parts.push(Part::Word(*word));
        } else {
            whole = false;
            faults.push(
                Diagnostic::error(text.place.clone(), format!("{key}: placeholder {{{name}}} is not known"))
                    .help(did_you_mean(name, words.iter().map(|(word, _)| *word))),
            );
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Literal(plain));
    }
    whole.then_some(Template(parts))
}

/// The name at the beginning of `{name}…`.
fn placeholder(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    (!name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Place;

    fn read(text: &str, how: fn(&Text, &mut Faults) -> Option<Template>) -> Result<Template, String> {
        let mut faults = Faults::default();
        let text = Text { text: text.to_owned(), place: Place::new(&"edge.yaml".into(), 1, 1) };
        how(&text, &mut faults).ok_or_else(|| crate::diagnostic::joined(&faults.finish()))
    }

    #[test]
    fn words_and_braces_are_told_apart() {
        let literal = |text: &str| Part::Literal(text.to_owned());
        assert_eq!(
            read("{\"v\":{value},\"t\":{time}}", payload).unwrap().0,
            [literal("{\"v\":"), Part::Word(Word::Value), literal(",\"t\":"), Part::Word(Word::Time), literal("}")]
        );
        assert_eq!(read("a/{point}", topic).unwrap().0, [literal("a/"), Part::Word(Word::Point)]);
        assert_eq!(read("{ not one }{", payload).unwrap().0, [literal("{ not one }{")]);
    }

    #[test]
    fn wrong_topics_are_told_with_a_remedy() {
        for (text, words) in [
            ("a/+/b", "wildcard"),
            ("a/{devise}", "did you mean device?"),
            ("a/{value}", "placeholder {value}"),
            ("", "is empty"),
            ("$SYS/x", "belongs to the broker"),
            ("a\u{7}b", "control character"),
        ] {
            let fault = read(text, topic).unwrap_err();
            assert!(fault.contains(words), "{words} is missing in {fault}");
        }
    }

    #[test]
    fn a_shape_has_the_levels_that_are_certain() {
        let shape = |text| read(text, topic).unwrap().shape();
        assert_eq!(shape("a/{device}-x/b"), [Some("a".to_owned()), None, Some("b".to_owned())]);
        assert_eq!(shape("a"), [Some("a".to_owned())]);
    }
}
