//! PURE. What the cloud sends on its own: notices about devices are obeyed, commands that nobody here can carry out yet
//! are answered so, and what is not meant for this gateway is left alone.

use super::topics::{NOTICES, reply};
use serde::Deserialize;
use serde_json::{Value, json};

/// Our own answer codes begin at 2000.
pub const NOT_IMPLEMENTED: i64 = 2001;

/// What to do about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Answer { topic: String, payload: Vec<u8> },
    Notice { notice: Notice, product_key: String, device_key: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Enable,
    Disable,
    Delete,
}

impl Notice {
    fn of(word: &str) -> Option<Notice> {
        let all = [Notice::Enable, Notice::Disable, Notice::Delete];
        NOTICES.iter().position(|w| *w == word).map(|at| all[at])
    }
}

/// A `{"productKey","deviceKey"}` of a notice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    product_key: String,
    device_key: String,
}

/// Decides about one message. `ours` tells whether a device (the gateway or a sub-device) belongs here.
#[must_use]
pub fn decide(topic: &str, payload: &[u8], ours: impl Fn(&str, &str) -> bool) -> Vec<Action> {
    let parts: Vec<&str> = topic.split('/').collect();
    match parts.as_slice() {
        // Our own answers come back from brokers whose wildcards match them.
        [.., last] if last.ends_with("_reply") => Vec::new(),
        ["", "sys", product, device, ..] if !ours(product, device) => Vec::new(),
        ["", "ext", "session", product, device, ..] if !ours(product, device) => Vec::new(),
        ["", "sys", product, device, "thing", word] if Notice::of(word).is_some() => {
            let notice = Notice::of(word).expect("the guard has just seen one");
            vec![notice_for(notice, product, device), answer(topic, payload, 200, "", &json!({}))]
        }
        ["", "ext", "session", _, _, "combine", word] if Notice::of(word).is_some() => {
            let notice = Notice::of(word).expect("the guard has just seen one");
            let mut actions: Vec<Action> =
                combined(payload).iter().map(|k| notice_for(notice, &k.product_key, &k.device_key)).collect();
            actions.push(answer(topic, payload, 200, "", &json!({})));
            actions
        }
        ["", "sys", _, _, "thing", "service", ..]
        | ["", "sys", _, _, "ota", "device", "upgrade"]
        | ["", "ext", "session", _, _, "thing", "activate", "info"] => {
            vec![answer(topic, payload, NOT_IMPLEMENTED, "not implemented by this gateway", &Value::Null)]
        }
        _ => Vec::new(),
    }
}

fn notice_for(notice: Notice, product_key: &str, device_key: &str) -> Action {
    Action::Notice { notice, product_key: product_key.to_owned(), device_key: device_key.to_owned() }
}

/// The English documentation shows an array, the Chinese one a single object.
fn combined(payload: &[u8]) -> Vec<Keys> {
    let params = serde_json::from_slice::<Value>(payload).ok().and_then(|mut m| m.get_mut("params").map(Value::take));
    let each = match params {
        Some(Value::Array(each)) => each,
        Some(one) => vec![one],
        None => Vec::new(),
    };
    each.into_iter().filter_map(|keys| serde_json::from_value(keys).ok()).collect()
}

fn answer(topic: &str, payload: &[u8], code: i64, message: &str, data: &Value) -> Action {
    let id = serde_json::from_slice::<Value>(payload).ok().and_then(|m| m.get("id").cloned());
    let id = id.unwrap_or_else(|| json!("0"));
    let payload = json!({ "id": id, "code": code, "data": data, "message": message });
    Action::Answer { topic: reply(topic), payload: payload.to_string().into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(product: &str, device: &str) -> bool {
        product == "pk" && (device == "gw" || device == "m1")
    }

    fn answered(action: &Action) -> (String, Value) {
        match action {
            Action::Answer { topic, payload } => (topic.clone(), serde_json::from_slice(payload).unwrap()),
            Action::Notice { .. } => panic!("{action:?}"),
        }
    }

    #[test]
    fn a_command_is_answered_with_a_code_of_our_own_and_its_id() {
        for topic in [
            "/sys/pk/m1/thing/service/measurepoint/set",
            "/sys/pk/m1/thing/service/reset",
            "/sys/pk/gw/ota/device/upgrade",
        ] {
            let actions = decide(topic, br#"{"id":"77","params":{"a":1}}"#, ours);
            let (to, payload) = answered(&actions[0]);
            assert_eq!((to, actions.len()), (format!("{topic}_reply"), 1));
            assert_eq!(payload["id"], "77");
            assert!(payload["code"].as_i64().unwrap() >= 2000);
        }
    }

    #[test]
    fn notices_come_as_an_array_or_as_an_object() {
        let one = br#"{"id":"1","params":{"productKey":"pk","deviceKey":"m1"}}"#;
        let many = br#"{"id":1,"params":[{"productKey":"pk","deviceKey":"m1"}]}"#;
        for payload in [one.as_slice(), many] {
            let actions = decide("/ext/session/pk/gw/combine/disable", payload, ours);
            assert_eq!(actions[0], notice_for(Notice::Disable, "pk", "m1"));
            assert_eq!(answered(&actions[1]).1["code"], 200);
        }
        let actions = decide("/sys/pk/m1/thing/delete", b"{}", ours);
        assert_eq!(actions[0], notice_for(Notice::Delete, "pk", "m1"));
    }

    #[test]
    fn others_and_our_own_answers_are_left_alone() {
        for topic in ["/sys/pk/x/thing/service/reset", "/sys/pk/m1/thing/service/reset_reply", "hello", ""] {
            assert_eq!(decide(topic, b"{}", ours), []);
        }
    }

    #[test]
    fn a_payload_that_is_no_json_is_answered_too() {
        let actions = decide("/sys/pk/m1/thing/service/reset", b"\xff", ours);
        assert_eq!(answered(&actions[0]).1["id"], "0");
    }
}
