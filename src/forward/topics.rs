//! PURE. Topics of a destination, made once for each device of each epoch; only the point is put in for each message.

use crate::config::template::{Part, Template, Word};
use crate::model::{DeviceNames, Names};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

/// Where the gateway stands: what is the same for all readings.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// The gateway's device key.
    pub gateway: String,
    /// The package's name: that of the first which runs. A gateway that waits for a package has none yet.
    pub site: Arc<OnceLock<String>>,
}

/// Stands where the point goes; a topic can not hold it otherwise (MQTT 3.1.1, 1.5.3).
const HOLE: char = '\0';

/// The topics of one epoch.
#[derive(Debug)]
pub struct Topics {
    classes: Vec<Box<str>>,
    /// Class of each device: those with the same topic share messages.
    devices: Vec<u32>,
    by_point: bool,
}

impl Topics {
    #[must_use]
    pub fn new(template: &Template, place: &Place, names: &Names) -> Topics {
        let mut classes: Vec<Box<str>> = Vec::new();
        let mut known: HashMap<Box<str>, u32> = HashMap::new();
        let mut class_of = |device: &DeviceNames| {
            let text: Box<str> = device_topic(template, place, device).into();
            *known.entry(text).or_insert_with_key(|text| {
                classes.push(text.clone());
                u32::try_from(classes.len() - 1).expect("devices are counted in 32 bits")
            })
        };
        let devices = names.devices.iter().map(&mut class_of).collect();
        Topics { classes, devices, by_point: template.holds(Word::Point) }
    }

    /// Devices of one class share a topic but for the point.
    #[must_use]
    pub fn class(&self, device: u32) -> Option<u32> {
        self.devices.get(device as usize).copied()
    }

    /// Whether each point has a topic of its own.
    #[must_use]
    pub fn by_point(&self) -> bool {
        self.by_point
    }

    #[must_use]
    pub fn topic(&self, class: u32, point: &str) -> String {
        let pattern = &self.classes[class as usize];
        if !self.by_point {
            return pattern.to_string();
        }
        let mut topic = String::with_capacity(pattern.len() + point.len());
        for (n, piece) in pattern.split(HOLE).enumerate() {
            if n > 0 {
                put_name(&mut topic, point);
            }
            topic.push_str(piece);
        }
        topic
    }
}

fn device_topic(template: &Template, place: &Place, device: &DeviceNames) -> String {
    let mut topic = String::new();
    for part in &template.0 {
        match part {
            Part::Literal(text) => topic.push_str(text),
            Part::Word(Word::Point) => topic.push(HOLE),
            Part::Word(word) => put_name(&mut topic, name(*word, place, device).unwrap_or_default()),
        }
    }
    topic
}

/// What a word stands for that is the same for all readings of a device.
#[must_use]
pub fn name<'a>(word: Word, place: &'a Place, device: &'a DeviceNames) -> Option<&'a str> {
    Some(match word {
        Word::Gateway => &place.gateway,
        Word::Site => place.site.get().map_or("", String::as_str),
        Word::ProductKey => &device.product_key,
        Word::DeviceKey => &device.device_key,
        Word::Device => &device.name,
        Word::AssetId => device.asset_id.as_deref().unwrap_or_default(),
        Word::Model => &device.points.model,
        Word::Point | Word::Value | Word::ValueText | Word::Time | Word::TimeIso | Word::Quality => return None,
    })
}

/// What has a meaning in topics is written as in a web address, so that two names never become one topic; nothing is
/// written as `-`, since many tools lose empty levels.
fn put_name(topic: &mut String, name: &str) {
    if name.is_empty() {
        topic.push('-');
    }
    for c in name.chars() {
        let leading_dollar = c == '$' && topic.is_empty();
        if leading_dollar || matches!(c, '/' | '+' | '#' | '%') || c.is_control() {
            let mut utf8 = [0; 4];
            for byte in c.encode_utf8(&mut utf8).bytes() {
                // Writing to a String does not fail.
                let _ = write!(topic, "%{byte:02X}");
            }
        } else {
            topic.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PointName, PointNames};

    fn names(devices: &[&str]) -> Names {
        let points = vec![PointName { id: "p".to_owned(), has_quality: false }];
        let points = Arc::new(PointNames { model: "M".to_owned(), points });
        let device = |name: &&str| DeviceNames {
            name: (*name).to_owned(),
            product_key: "pk".to_owned(),
            device_key: (*name).to_owned(),
            asset_id: None,
            points: Arc::clone(&points),
        };
        Names::new(devices.iter().map(device).collect())
    }

    fn template(parts: &[(&str, Option<Word>)]) -> Template {
        let mut all = Vec::new();
        for (text, word) in parts {
            all.push(Part::Literal((*text).to_owned()));
            all.extend(word.map(Part::Word));
        }
        Template(all)
    }

    #[test]
    fn names_with_a_meaning_in_topics_are_escaped_and_stay_different() {
        let template = template(&[("site/", Some(Word::Device)), ("/", Some(Word::Point)), ("/", Some(Word::AssetId))]);
        let topics = Topics::new(&template, &Place::default(), &names(&["a/b", "a%2Fb", "#+", "中 文"]));
        let all: Vec<String> = (0..4).map(|d| topics.topic(topics.class(d).unwrap(), "U\0")).collect();
        assert_eq!(all, ["site/a%2Fb/U%00/-", "site/a%252Fb/U%00/-", "site/%23%2B/U%00/-", "site/中 文/U%00/-"]);
        assert_eq!(topics.class(4), None);
    }

    #[test]
    fn devices_that_share_a_topic_share_a_class() {
        let place = Place { gateway: "$gw".to_owned(), ..Place::default() };
        let topics = Topics::new(&template(&[("", Some(Word::Gateway))]), &place, &names(&["a", "b"]));
        assert_eq!((topics.class(0), topics.class(1)), (Some(0), Some(0)));
        assert_eq!(topics.topic(0, "p"), "%24gw");
    }
}
