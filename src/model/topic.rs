//! PURE. Topic filters of MQTT 3.1.1, section 4.7: what a subscription covers, and what its wildcards stood for.

/// A checked filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFilter(String);

/// MQTT 3.1.1, 4.7.3: a topic is at most this many bytes of UTF-8.
pub const LONGEST_TOPIC: usize = 65_535;

impl TopicFilter {
    /// # Errors
    /// What the standard has against it.
    pub fn parse(text: &str) -> Result<TopicFilter, &'static str> {
        if text.is_empty() {
            return Err("a filter has one character at least");
        }
        if text.len() > LONGEST_TOPIC {
            return Err("a filter has 65535 bytes at most");
        }
        if text.contains('\0') {
            return Err("a filter holds no NUL");
        }
        if text.starts_with("$share/") {
            return Err("shared subscriptions are not supported");
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err("# stands alone as the last level");
            }
            if level.contains('+') && level != "+" {
                return Err("+ stands alone between slashes");
            }
        }
        Ok(TopicFilter(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Wildcards in it.
    #[must_use]
    pub fn wildcards(&self) -> usize {
        self.0.bytes().filter(|b| matches!(b, b'+' | b'#')).count()
    }

    /// What each wildcard stands for in this topic, in order; `None` when the filter does not cover it.
    #[must_use]
    pub fn matches<'t>(&self, topic: &'t str) -> Option<Vec<&'t str>> {
        // 4.7.2: a leading wildcard does not cover topics that begin with $.
        if topic.is_empty() || topic.starts_with('$') && self.0.starts_with(['+', '#']) {
            return None;
        }
        let mut captured = Vec::new();
        let mut rest = Some(topic);
        for level in self.0.split('/') {
            if level == "#" {
                // Also the parent level itself: `a/#` covers `a`.
                captured.push(rest.unwrap_or_default());
                return Some(captured);
            }
            let (own, after) = split(rest?);
            match level {
                "+" => captured.push(own),
                literal if literal != own => return None,
                _ => {}
            }
            rest = after;
        }
        rest.is_none().then_some(captured)
    }

    /// Whether it covers any topic of this shape; `None` is a level that may be anything.
    #[must_use]
    pub fn may_cover(&self, shape: &[Option<String>]) -> bool {
        let mut left = shape.iter();
        for level in self.0.split('/') {
            match (level, left.next()) {
                ("#", _) => return true,
                (_, None) => return false,
                (literal, Some(Some(own))) if literal != "+" && literal != own => return false,
                _ => {}
            }
        }
        left.next().is_none()
    }
}

/// The first level, and what follows its slash.
fn split(topic: &str) -> (&str, Option<&str>) {
    topic.split_once('/').map_or((topic, None), |(own, after)| (own, Some(after)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    #[test]
    fn the_examples_of_the_standard() {
        // MQTT 3.1.1, 4.7.1.2, 4.7.1.3 and 4.7.2.1.
        for (text, topic, covered) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "anything/at/all", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/broker", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/broker", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a", "A", false),
            ("a", "a/", false),
        ] {
            assert_eq!(filter(text).matches(topic).is_some(), covered, "{text} over {topic}");
        }
        for wrong in ["", "sport/tennis#", "sport/tennis/#/ranking", "sport+", "a/+b/c", "a\0", "$share/g/a"] {
            assert!(TopicFilter::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn wildcards_tell_what_they_stood_for() {
        assert_eq!(filter("plant/+/set/#").matches("plant/m1/set/a/b"), Some(vec!["m1", "a/b"]));
        assert_eq!(filter("plant/+/set/#").matches("plant/m1/set"), Some(vec!["m1", ""]));
        assert_eq!(filter("plant/+/set/#").wildcards(), 2);
    }

    #[test]
    fn a_filter_that_covers_what_a_template_makes_is_found() {
        let shape = [Some("site".to_owned()), None, Some("out".to_owned())];
        for (text, may) in [
            ("#", true),
            ("site/#", true),
            ("site/m1/out", true),
            ("site/+/out", true),
            ("site/m1/in", false),
            ("site/m1/out/more", false),
            ("site/+", false),
            ("site/m1/out/#", true),
        ] {
            assert_eq!(filter(text).may_cover(&shape), may, "{text}");
        }
    }

    /// The standard's words, read slowly.
    fn reference(filter: &[&str], topic: &[&str], first: bool) -> bool {
        match (filter, topic) {
            ([], []) => true,
            (["#"], [head, ..]) => !(first && head.starts_with('$')),
            (["#"], []) => true,
            (["+", f @ ..], [head, t @ ..]) => !(first && head.starts_with('$')) && reference(f, t, false),
            ([f, fs @ ..], [t, ts @ ..]) => f == t && reference(fs, ts, false),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_naive_reading_of_the_standard(
            levels in prop::collection::vec(prop::sample::select(vec!["a", "b", "", "+", "$x"]), 1..5),
            many in any::<bool>(),
            topic in prop::collection::vec(prop::sample::select(vec!["a", "b", "", "$x"]), 1..6),
        ) {
            let mut levels = levels;
            if many { levels.push("#"); }
            let (text, name) = (levels.join("/"), topic.join("/"));
            prop_assume!(!text.is_empty() && !name.is_empty());
            let found = filter(&text).matches(&name);
            prop_assert_eq!(found.is_some(), reference(&levels, &topic, true), "{} over {}", text, name);
            if let Some(captured) = found {
                prop_assert_eq!(captured.len(), filter(&text).wildcards());
                let shape: Vec<_> = topic.iter().map(|level| Some((*level).to_owned())).collect();
                prop_assert!(filter(&text).may_cover(&shape));
            }
        }
    }
}
