//! PURE. Sets the attributes and tags of the package in the cloud, of each device once it is online, once a run.

use super::reply::{OK, Reply};
use super::upstream::{MOST_PROPERTIES, Message, Whose, attribute, tag};
use crate::model::DeviceDetails;
use serde_json::Map;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

/// Requests under way at once: what a device is called can wait for what it measures.
const AT_ONCE: usize = 4;
/// The cloud had no time: all wait so long.
const PAUSE: Duration = Duration::from_secs(10);

/// What one request sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// So many hundreds of attributes come before these.
    Attributes(u16),
    Tags(u16),
}

/// One request: the device's position among the sub-devices, its index in the names, and what is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Setting {
    pub at: u32,
    pub index: u32,
    pub part: Part,
}

#[derive(Debug, Default)]
pub struct Properties {
    queue: VecDeque<Setting>,
    /// Acknowledged, or refused for good.
    done: HashSet<(u32, Part)>,
    under_way: usize,
    not_before: Duration,
}

impl Properties {
    /// A device came online. Only what the cloud does not have yet is set.
    pub fn came_online(&mut self, at: u32, index: u32, details: &DeviceDetails) {
        let attributes = parts(details.attributes.len()).map(Part::Attributes);
        let tags = parts(details.tags.len()).map(Part::Tags);
        for part in attributes.chain(tags) {
            let setting = Setting { at, index, part };
            if !self.done.contains(&(index, part)) && !self.queue.contains(&setting) {
                self.queue.push_back(setting);
            }
        }
    }

    /// The connection is gone: devices come online anew.
    pub fn lost(&mut self) {
        self.queue.clear();
        self.under_way = 0;
    }

    pub fn next(&mut self, now: Duration) -> Option<Setting> {
        if self.under_way >= AT_ONCE || now < self.not_before {
            return None;
        }
        let setting = self.queue.pop_front()?;
        self.under_way += 1;
        Some(setting)
    }

    /// The answer, or `None` when none came. Returns what a person should read.
    pub fn answered(&mut self, setting: Setting, reply: Option<&Reply>, now: Duration) -> Option<String> {
        self.under_way = self.under_way.saturating_sub(1);
        match reply {
            Some(reply) if reply.code == OK => {
                self.done.insert((setting.index, setting.part));
                None
            }
            // What the model or the request lacks does not come by asking again.
            Some(reply) if matches!(reply.code, 600..=999 | 1200..=1299) => {
                self.done.insert((setting.index, setting.part));
                let words = reply.message.chars().take(200).collect::<String>();
                Some(format!("the cloud refused attributes or tags: code {}: {words}", reply.code))
            }
            _ => {
                self.not_before = now + PAUSE;
                self.queue.push_back(setting);
                None
            }
        }
    }

    /// When something may go that may not now.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        (!self.queue.is_empty() && self.under_way < AT_ONCE).then_some(self.not_before)
    }
}

/// The message of a setting.
#[must_use]
pub fn message(part: Part, whose: Whose<'_>, details: &DeviceDetails) -> Message {
    let from = |part: u16| usize::from(part) * MOST_PROPERTIES;
    match part {
        Part::Attributes(number) => {
            let some = details.attributes.iter().skip(from(number)).take(MOST_PROPERTIES);
            attribute::update(whose, &some.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>())
        }
        Part::Tags(number) => {
            let some = details.tags.iter().skip(from(number)).take(MOST_PROPERTIES);
            tag::update(whose, some.map(|(key, value)| (key.as_str(), value.as_str())))
        }
    }
}

fn parts(count: usize) -> impl Iterator<Item = u16> {
    0..u16::try_from(count.div_ceil(MOST_PROPERTIES)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::upstream::Body;
    use super::*;
    use serde_json::{Value, json};

    fn details(attributes: usize) -> DeviceDetails {
        DeviceDetails {
            attributes: (0..attributes).map(|n| (format!("a{n:03}"), json!(n))).collect(),
            tags: vec![("k".to_owned(), "v".to_owned())],
            ..DeviceDetails::default()
        }
    }

    fn reply(code: i64) -> Reply {
        Reply { id: 1, code, data: Value::Null, message: "words".to_owned() }
    }

    #[test]
    fn each_is_set_once_two_hundred_at_a_time() {
        let details = details(250);
        let mut p = Properties::default();
        p.came_online(0, 7, &details);
        let whose = Whose { product_key: "p", device_key: "d" };
        let sizes: Vec<usize> = std::iter::from_fn(|| p.next(Duration::ZERO))
            .map(|setting| match message(setting.part, whose, &details).body {
                Body::Json { params: Value::Array(tags), .. } => tags.len(),
                Body::Json { params, .. } => params["attributes"].as_object().unwrap().len(),
                Body::Raw(_) => 0,
            })
            .collect();
        assert_eq!(sizes, [200, 50, 1]);
        for part in [Part::Attributes(0), Part::Attributes(1), Part::Tags(0)] {
            assert_eq!(p.answered(Setting { at: 0, index: 7, part }, Some(&reply(200)), Duration::ZERO), None);
        }
        p.lost();
        p.came_online(0, 7, &details);
        assert_eq!(p.next(Duration::ZERO), None, "the cloud has them");
    }

    #[test]
    fn what_is_refused_is_told_and_left_and_what_was_not_answered_comes_again() {
        let mut p = Properties::default();
        p.came_online(0, 0, &details(1));
        let (one, two) = (p.next(Duration::ZERO).unwrap(), p.next(Duration::ZERO).unwrap());
        assert!(p.answered(one, Some(&reply(1207)), Duration::ZERO).unwrap().contains("1207"));
        assert_eq!(p.answered(two, None, Duration::ZERO), None);
        assert_eq!((p.next(Duration::from_secs(9)), p.wake()), (None, Some(Duration::from_secs(10))));
        assert_eq!(p.next(Duration::from_secs(10)), Some(two));
    }
}
