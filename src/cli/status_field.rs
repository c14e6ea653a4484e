//! Of `enos-edge status`: the clock that is not set, and events that go on or wait.

use super::moments::span;
use super::terminal::grouped;
use serde_json::Value as Json;

/// Nothing while it is set.
pub(super) fn clock(clock: &Json) -> Vec<String> {
    if clock["set"] != false {
        return Vec::new();
    }
    let count = |key: &str| grouped(clock[key].as_u64().unwrap_or(0));
    let what = match (clock["wrong_times"] == true, clock["goes_on_in_s"].as_u64()) {
        (true, _) => "readings are sent with wrong times".to_owned(),
        (false, left) => {
            // What is a year away is the default, and no news.
            let left = left.filter(|left| *left < 30 * 86_400);
            let left = left.map_or_else(String::new, |left| format!("; in {} they go on with wrong times", span(left)));
            format!("{} readings wait in memory and are not sent{left}", count("waiting"))
        }
    };
    let lost = if clock["lost"] == 0 { String::new() } else { format!(" · {} lost", count("lost")) };
    vec![format!("not set: {what}{lost}"), "set it, or start a time service: timedatectl set-ntp true".to_owned()]
}

/// Nothing of a gateway that has none.
pub(super) fn events(events: &Json) -> Vec<String> {
    let number = |key: &str| events[key].as_u64().unwrap_or(0);
    let (going_on, waiting, dropped) = (number("going_on"), number("waiting"), number("dropped"));
    if going_on + waiting + dropped == 0 {
        return Vec::new();
    }
    let mut line = format!("{} go on · {} wait for the cloud", grouped(going_on), grouped(waiting));
    if dropped > 0 {
        line.push_str(&format!(" · {} dropped, too many waited", grouped(dropped)));
    }
    vec![line]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_clock_that_is_not_set_is_shown_with_what_it_costs_and_the_remedy() {
        assert!(clock(&json!({"set": true, "waiting": 0})).is_empty() && clock(&Json::Null).is_empty());
        let told = clock(&json!({"set": false, "waiting": 1200, "lost": 3, "goes_on_in_s": 600, "wrong_times": false}));
        assert!(
            told[0].contains("wait in memory") && told[0].contains("3 lost") && told[1].contains("set-ntp"),
            "{told:?}"
        );
        let told = clock(&json!({"set": false, "waiting": 0, "lost": 0, "goes_on_in_s": null, "wrong_times": true}));
        assert_eq!(told[0], "not set: readings are sent with wrong times");
    }

    #[test]
    fn events_that_were_dropped_are_shown() {
        assert!(events(&json!({"going_on": 0})).is_empty());
        let told = events(&json!({"going_on": 1, "waiting": 2, "dropped": 3}));
        assert_eq!(told, ["1 go on · 2 wait for the cloud · 3 dropped, too many waited"]);
    }
}
