//! Claims about messages from the cloud, in all their dialects.

use super::*;
use std::time::Duration;

fn ours(product: &str, device: &str) -> bool {
    product == "pk" && (device == "gw" || device == "m1")
}

fn all(topic: &str, payload: &[u8]) -> Vec<Action> {
    decide(topic, payload, false, ours)
}

fn answered(action: &Action) -> (String, Value) {
    match action {
        Action::Answer { topic, payload } => (topic.clone(), serde_json::from_slice(payload).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn command(topic: &str, payload: &Value) -> (Command, ReplyTo) {
    match all(topic, payload.to_string().as_bytes()).as_slice() {
        [Action::Command { command, to }] => ((**command).clone(), to.clone()),
        other => panic!("{other:?}"),
    }
}

fn replies(to: &ReplyTo, outcome: &Outcome) -> Vec<(String, Value)> {
    to.messages(outcome).into_iter().map(|(t, p)| (t, serde_json::from_slice(&p).unwrap())).collect()
}

const SET: &str = "/sys/pk/m1/thing/service/measurepoint/set";

#[test]
fn a_set_becomes_a_command_and_its_outcome_an_answer_with_its_id() {
    for (id, own) in [(json!("77"), Some("77")), (json!(77), Some("77")), (json!(""), None), (Value::Null, None)] {
        let payload =
            json!({"id": id, "version": "1.1", "method": "thing.service.measurepoint.set", "params": {"a": 1}});
        let (command, to) = command(SET, &payload);
        assert_eq!(command.id.as_deref(), own);
        assert_eq!(command.what, What::Set(json!({"a": 1}).as_object().unwrap().clone()));
        assert_eq!(command.target, Target::Keys { product_key: "pk".into(), device_key: "m1".into() });
        let expected_id = if id.is_null() { json!("0") } else { id };
        let done = replies(&to, &Outcome::done(Data::Nothing));
        let data = json!({"id": expected_id, "code": 200, "data": {}, "message": ""});
        assert_eq!(done, [(format!("{SET}_reply"), data)]);
    }
}

#[test]
fn issue_time_and_time_to_live_are_taken_along() {
    let (command, _) = command(SET, &json!({"params": {"a": 1}, "issuedAt": 1000, "ttl": "2500"}));
    assert_eq!(command.issued_at.map(|t| t.0), Some(1000));
    assert_eq!(command.time_to_live, Some(Duration::from_millis(2500)));
    assert!(!command.retained);
    let kept = decide(SET, br#"{"params":{"a":1}}"#, true, ours);
    assert!(matches!(&kept[..], [Action::Command { command, .. }] if command.retained));
}

#[test]
fn what_makes_no_sense_is_answered_as_malformed_with_its_id_if_that_is_legible() {
    for (payload, id) in [
        (r#"{"id":"7","params":[1]}"#, json!("7")),
        (r#"{"id":7}"#, json!(7)),
        (r#"{"id":"7","method":"thing.service.other","params":{"a":1}}"#, json!("7")),
        (r#"{"id":"7","method":5,"params":{"a":1}}"#, json!("7")),
        (r#"{"id":{},"params":{"a":1}}"#, json!("0")),
        (r#"{"id":"7","params":{"a":1},"ttl":-1}"#, json!("7")),
        (r#"{"id":"7","params":{"a":1},"issuedAt":"now"}"#, json!("7")),
        (r#"{"version":"1.0","id": "7","params":{"a":"#, json!("7")),
        (r#"{"id":12,"params":"#, json!(12)),
        ("[]", json!("0")),
        ("", json!("0")),
        ("\u{feff}{}", json!("0")),
    ] {
        let actions = all(SET, payload.as_bytes());
        let (topic, answer) = answered(&actions[0]);
        assert_eq!((topic, actions.len()), (format!("{SET}_reply"), 1), "{payload}");
        assert_eq!((&answer["id"], &answer["code"]), (&id, &json!(code::MALFORMED)), "{payload}");
        assert!(!answer["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(answered(&all(SET, b"\xff")[0]).1["code"], code::MALFORMED);
}

#[test]
fn an_id_that_is_too_long_comes_back_so_that_its_caller_knows_it_again() {
    for (sent, back) in [(300, 300), (10_000, 10_000), (1_000_000, 64 << 10)] {
        let payload = json!({"id": "x".repeat(sent), "params": {"a": 1}}).to_string();
        let (_, answer) = answered(&all(SET, payload.as_bytes())[0]);
        assert_eq!((&answer["code"], answer["id"].as_str().unwrap().len()), (&json!(code::MALFORMED), back));
    }
}

#[test]
fn gets_services_and_the_reserved_word_are_told_apart() {
    let get = "/sys/pk/m1/thing/service/measurepoint/get";
    assert_eq!(command(get, &json!({"params": ["a", "b"]})).0.what, What::Get(vec!["a".into(), "b".into()]));
    assert_eq!(answered(&all(get, br#"{"params":["a",1]}"#)[0]).1["code"], code::MALFORMED);
    let input = json!({"x": 1}).as_object().unwrap().clone();
    let reset = command("/sys/pk/gw/thing/service/reset", &json!({"method": "thing.service.reset", "params": input}));
    assert_eq!(reset.0.what, What::Service { id: "reset".into(), input });
    assert_eq!(
        command("/sys/pk/gw/thing/service/reset", &json!({})).0.what,
        What::Service { id: "reset".into(), input: serde_json::Map::new() }
    );
    for topic in ["measurepoint", "measurepoint/reset", "a/b"] {
        let what = command(&format!("/sys/pk/m1/thing/service/{topic}"), &json!({"params": {}})).0.what;
        assert!(matches!(what, What::Unknown { .. }), "{topic}");
    }
}

#[test]
fn raw_goes_and_comes_as_bytes_and_a_refusal_as_words() {
    let actions = all("/sys/pk/m1/thing/model/down_raw", b"\x03\x00");
    let [Action::Command { command, to }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((&command.what, &command.id), (&What::Raw(vec![3, 0]), &None));
    let topic = "/sys/pk/m1/thing/model/down_raw_reply".to_owned();
    assert_eq!(to.messages(&Outcome::done(Data::Raw(vec![3, 2]))), [(topic, vec![3, 2])]);
    assert_eq!(replies(to, &Outcome::refused(code::FORBIDDEN, "no"))[0].1["code"], code::FORBIDDEN);
}

#[test]
fn a_refused_update_is_told_as_progress_too() {
    let (command, to) = command("/sys/pk/m1/ota/device/upgrade", &json!({"id": "9", "params": {"version": "2"}}));
    assert_eq!(command.what, What::Ota(json!({"version": "2"})));
    let said = replies(&to, &Outcome::refused(code::NOT_IMPLEMENTED, "not here"));
    assert_eq!((said[0].0.as_str(), &said[0].1["code"]), ("/sys/pk/m1/ota/device/upgrade_reply", &json!(2001)));
    assert_eq!(said[1].0, "/sys/pk/m1/ota/device/progress");
    assert_eq!(said[1].1["params"], json!({"step": "-5", "desc": "not here"}));
}

#[test]
fn rrpc_is_answered_on_its_response_topic() {
    let payload = json!({"id": "1", "method": "thing.service.measurepoint.set", "params": {"a": 1}});
    let (set, to) = command("/sys/pk/m1/rrpc/request/55", &payload);
    assert_eq!((set.id.as_deref(), matches!(set.what, What::Set(_))), (Some("rrpc/55"), true));
    assert_eq!(replies(&to, &Outcome::done(Data::Nothing))[0].0, "/sys/pk/m1/rrpc/response/55");
    assert!(matches!(command("/sys/pk/m1/rrpc/request/56", &json!({})).0.what, What::Unknown { .. }));
    assert_eq!(answered(&all("/sys/pk/m1/rrpc/request/57", b"hello")[0]).0, "/sys/pk/m1/rrpc/response/57");
}

#[test]
fn notices_come_as_an_array_or_as_an_object() {
    let one = br#"{"id":"1","params":{"productKey":"pk","deviceKey":"m1"}}"#;
    let many = br#"{"id":1,"params":[{"productKey":"pk","deviceKey":"m1"}]}"#;
    for payload in [one.as_slice(), many] {
        let actions = all("/ext/session/pk/gw/combine/disable", payload);
        assert_eq!(actions[0], notice_for(Notice::Disable, "pk", "m1"));
        assert_eq!(answered(&actions[1]).1["code"], 200);
    }
    let actions = all("/sys/pk/m1/thing/delete", b"{}");
    assert_eq!(actions[0], notice_for(Notice::Delete, "pk", "m1"));
}

#[test]
fn others_and_our_own_messages_are_left_alone() {
    for topic in [
        "/sys/pk/x/thing/service/reset",
        "/sys/pk/m1/thing/service/reset_reply",
        "/sys/pk/gw/thing/measurepoint/post/batch",
        "/sys/pk/gw/ota/device/progress",
        "/sys/pk/gw/rrpc/response/1",
        "hello",
        "",
    ] {
        assert_eq!(all(topic, b"{}"), [], "{topic}");
    }
}
