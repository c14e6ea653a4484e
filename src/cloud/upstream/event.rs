//! PURE. `thing/event/{event}/post`: something happened, with the outputs the model names.

use super::{Message, Whose};
use crate::model::Timestamp;
use serde_json::{Map, Value, json};

/// An output the model does not know draws 1204.
#[must_use]
pub fn post(whose: Whose<'_>, event: &str, outputs: &Map<String, Value>, time: Timestamp) -> Message {
    Message::sys(whose, &format!("thing/event/{event}/post"), json!({ "events": outputs, "time": time.0 }))
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{GATEWAY, TIME, check};
    use super::*;

    #[test]
    fn an_event_equals_the_documented_one() {
        let outputs = json!({ "temp": 120.0, "desc": "too hot" });
        check(&post(GATEWAY, "highTemp", outputs.as_object().unwrap(), Timestamp(TIME)), "event post");
    }
}
