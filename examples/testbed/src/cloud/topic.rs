//! PURE. Topics: whose they are, what they ask for, and which filters they match.

/// A topic below `/sys/{pk}/{dk}/` or `/ext/session/{pk}/{dk}/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnosTopic<'a> {
    pub space: Space,
    pub product_key: &'a str,
    pub device_key: &'a str,
    /// What follows the device, without a leading slash.
    pub rest: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Sys,
    Session,
}

/// Takes a topic (or a filter) apart; `None` when it is not of EnOS.
#[must_use]
pub fn parse(topic: &str) -> Option<EnosTopic<'_>> {
    let (space, path) = match topic.strip_prefix("/sys/") {
        Some(path) => (Space::Sys, path),
        None => (Space::Session, topic.strip_prefix("/ext/session/")?),
    };
    let (product_key, path) = path.split_once('/')?;
    let (device_key, rest) = path.split_once('/').unwrap_or((path, ""));
    Some(EnosTopic { space, product_key, device_key, rest })
}

/// Product key and the rest of an integration topic. The documentation prints them without the leading slash.
#[must_use]
pub fn integration(topic: &str) -> Option<(&str, &str)> {
    let path = topic.strip_prefix('/').unwrap_or(topic).strip_prefix("sys/")?;
    let (product_key, rest) = path.split_once('/')?;
    Some((product_key, rest.strip_prefix("integration/")?))
}

/// MQTT 3.1.1 4.7: `+` is one level, `#` is all that follow.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    let mut filter = filter.split('/');
    let mut topic = topic.split('/');
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(f), Some(t)) if f == t => {}
            _ => return false,
        }
    }
}

/// MQTT 3.1.1 4.7.1: a wildcard stands alone in its level and `#` only at the end.
#[must_use]
pub fn is_valid_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wild = level.contains(['+', '#']);
        if wild && level.len() != 1 || level == "#" && levels.peek().is_some() {
            return false;
        }
    }
    !filter.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in [
            ("/a/+/c", "/a/b/c", true),
            ("/a/+/c", "/a/b/d", false),
            ("/a/#", "/a/b/c", true),
            ("/a/#", "/a", true),
            ("#", "/a/b", true),
            ("/a/+", "/a/b/c", false),
            ("/a/b/c", "/a/b", false),
            ("+/+", "/a", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
        assert!(is_valid_filter("/a/+/#"));
        for bad in ["", "/a/b+", "/#/a", "a#"] {
            assert!(!is_valid_filter(bad), "{bad}");
        }
    }

    #[test]
    fn an_enos_topic_names_its_device() {
        let got = parse("/sys/pk/dk/thing/measurepoint/post/batch").unwrap();
        assert_eq!((got.space, got.product_key, got.device_key), (Space::Sys, "pk", "dk"));
        assert_eq!(got.rest, "thing/measurepoint/post/batch");
        assert_eq!(parse("/ext/session/pk/dk/combine/login").unwrap().space, Space::Session);
        assert_eq!(parse("sys/pk/dk/x"), None);
        for topic in ["/sys/pk/integration/event/post", "sys/pk/integration/event/post"] {
            assert_eq!(integration(topic), Some(("pk", "event/post")));
        }
        assert_eq!(integration("/sys/pk/dk/event/post"), None);
    }
}
