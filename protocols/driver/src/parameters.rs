//! The `protocol.sys` parameters of a connection: text that still knows its place in the file.

use crate::{Diagnostic, Place, did_you_mean};
use std::str::FromStr;
use std::time::Duration;

/// A piece of text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    pub place: Place,
}

/// Key and value pairs in the order of the file. Getters add their complaint to `faults` and
/// answer the default, so that one pass reports everything.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    pub entries: Vec<(Text, Text)>,
}

impl Parameters {
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Text> {
        self.entries.iter().find(|(k, _)| k.text == key).map(|(_, v)| v)
    }

    /// Complains of every key that is not in `known`.
    pub fn refuse_unknown(&self, known: &[&str], faults: &mut Vec<Diagnostic>) {
        for (key, _) in self.entries.iter().filter(|(k, _)| !known.contains(&k.text.as_str())) {
            faults.push(
                Diagnostic::error(key.place.clone(), format!("parameter \"{}\" is not known", key.text))
                    .help(did_you_mean(&key.text, known.iter().copied())),
            );
        }
    }

    /// The parameter as a `T`, or `default` when absent. `shape` says in words what fits.
    pub fn parse_or<T: FromStr>(&self, key: &str, default: T, shape: &str, faults: &mut Vec<Diagnostic>) -> T {
        let Some(value) = self.get(key) else {
            return default;
        };
        value.text.trim().parse().unwrap_or_else(|_| {
            faults.push(
                Diagnostic::error(value.place.clone(), format!("{key}: \"{}\" does not fit", value.text))
                    .help(format!("write {shape}")),
            );
            default
        })
    }

    /// A number of milliseconds (the key ends in `_ms`) within `range`.
    pub fn millis_or(
        &self,
        key: &str,
        default: Duration,
        range: std::ops::RangeInclusive<u64>,
        faults: &mut Vec<Diagnostic>,
    ) -> Duration {
        let Some(value) = self.get(key) else {
            return default;
        };
        match value.text.trim().parse::<u64>() {
            Ok(ms) if range.contains(&ms) => Duration::from_millis(ms),
            _ => {
                faults.push(
                    Diagnostic::error(value.place.clone(), format!("{key}: \"{}\" does not fit", value.text))
                        .help(format!("write milliseconds from {} to {}", range.start(), range.end())),
                );
                default
            }
        }
    }

    /// One word of a table.
    pub fn word_or<T: Copy>(&self, key: &str, default: T, words: &[(&str, T)], faults: &mut Vec<Diagnostic>) -> T {
        let Some(value) = self.get(key) else {
            return default;
        };
        if let Some((_, meaning)) = words.iter().find(|(w, _)| w.eq_ignore_ascii_case(value.text.trim())) {
            return *meaning;
        }
        faults.push(
            Diagnostic::error(value.place.clone(), format!("{key}: \"{}\" is not known", value.text))
                .help(did_you_mean(value.text.trim(), words.iter().map(|(w, _)| *w))),
        );
        default
    }
}
