//! PURE. What one client asked to hear: thousands of plain topics and a few with wildcards.

use super::topic;
use std::collections::HashMap;

/// Topics and filters with their QoS. An SDK subscribes to the reply topic of every message of every sub-device, so plain
/// topics are looked up, not searched.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    plain: HashMap<String, u8>,
    wild: Vec<(String, u8)>,
}

impl Subscriptions {
    pub fn add(&mut self, filter: String, qos: u8) {
        if filter.contains(['+', '#']) {
            self.wild.retain(|(known, _)| *known != filter);
            self.wild.push((filter, qos));
        } else {
            self.plain.insert(filter, qos);
        }
    }

    pub fn remove(&mut self, filter: &str) {
        self.plain.remove(filter);
        self.wild.retain(|(known, _)| known != filter);
    }

    /// The highest QoS asked for on this topic; `None` when nobody asked.
    pub fn qos(&self, to: &str) -> Option<u8> {
        let wild = self.wild.iter().filter(|(filter, _)| topic::matches(filter, to)).map(|(_, qos)| *qos).max();
        self.plain.get(to).copied().max(wild)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_qos_of_all_that_match_counts() {
        let mut asked = Subscriptions::default();
        asked.add("/a/b".to_owned(), 0);
        assert_eq!(asked.qos("/a/b"), Some(0));
        asked.add("/a/+".to_owned(), 1);
        assert_eq!((asked.qos("/a/b"), asked.qos("/a/c"), asked.qos("/b")), (Some(1), Some(1), None));
        asked.remove("/a/+");
        assert_eq!((asked.qos("/a/b"), asked.qos("/a/c")), (Some(0), None));
    }
}
