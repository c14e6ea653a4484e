//! PURE. What an asset says beside its points: attributes, tags, names in other languages.

use super::fields::{Faults, Fields, misfit};
use crate::diagnostic::Diagnostic;
use crate::model::DeviceDetails;
use driver::Text;
use serde_json::{Map, Value as Json};

/// EnOS takes so many tags of a device, a key of so many characters and a value of so many.
const MOST_TAGS: usize = 100;
const TAG_KEY: usize = 50;
const TAG_VALUE: usize = 200;

/// What was read already.
pub(super) struct Common {
    pub description: Option<Text>,
    pub timezone: Option<Text>,
}

pub(super) fn read(
    fields: &Fields<'_, '_>,
    common: Common,
    attributes: &[(Text, Text)],
    faults: &mut Faults,
) -> DeviceDetails {
    DeviceDetails {
        attributes: values(attributes),
        tags: tags(fields.pairs("tags", faults), faults),
        description: common.description.map(|text| text.text),
        // An offset is all that a registration takes.
        timezone: common.timezone.map(|text| text.text).filter(|zone| zone.starts_with(['+', '-'])),
        names: names(fields.pairs("names", faults), faults),
    }
}

/// A number or a truth value is one in the cloud as well; the model there has the last word.
fn values(pairs: &[(Text, Text)]) -> Map<String, Json> {
    let value = |text: &str| match serde_json::from_str::<Json>(text) {
        Ok(json @ (Json::Number(_) | Json::Bool(_))) => json,
        _ => Json::String(text.to_owned()),
    };
    pairs.iter().map(|(name, text)| (name.text.clone(), value(&text.text))).collect()
}

fn tags(pairs: Vec<(Text, Text)>, faults: &mut Faults) -> Vec<(String, String)> {
    if let Some((key, _)) = pairs.get(MOST_TAGS) {
        let problem = format!("{} tags are more than the cloud takes", pairs.len());
        faults.push(Diagnostic::error(key.place.clone(), problem).help(format!("keep {MOST_TAGS} at most")));
    }
    for (key, value) in &pairs {
        let letters = key.text.chars().all(|c| c.is_ascii_alphanumeric() || "_-/".contains(c));
        if !letters || key.text.is_empty() || key.text.len() > TAG_KEY {
            faults.push(misfit("tag", key, format!("write up to {TAG_KEY} letters, digits, _ - /")));
        }
        let count = value.text.chars().count();
        if count > TAG_VALUE || value.text.trim() != value.text {
            faults.push(misfit(
                "tag value",
                value,
                format!("write up to {TAG_VALUE} characters without blanks around"),
            ));
        }
    }
    pairs.into_iter().map(|(key, value)| (key.text, value.text)).collect()
}

fn names(pairs: Vec<(Text, Text)>, faults: &mut Faults) -> Vec<(String, String)> {
    for (language, _) in &pairs {
        let fits = language.text.split_once('_').is_some_and(|(a, b)| {
            a.len() == 2
                && b.len() == 2
                && a.bytes().all(|c| c.is_ascii_lowercase())
                && b.bytes().all(|c| c.is_ascii_uppercase())
        });
        if !fits {
            faults.push(misfit("language", language, "write en_US, zh_CN or the like"));
        }
    }
    pairs.into_iter().map(|(language, name)| (language.text, name.text)).collect()
}
