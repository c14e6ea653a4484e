//! The status page's lines of destinations beside the cloud's link: brokers, and logic assets by REST.

use super::moments::relative;
use super::status::text;
use super::terminal::grouped;
use serde_json::Value as Json;

/// One broker beside the cloud; `kept` is what the outbox keeps for each.
pub(super) fn broker(one: &Json, kept: &Json, now: i64) -> Vec<String> {
    let [name, endpoint] = ["name", "endpoint"].map(|key| text(&one[key]));
    let until = relative(one["until"].as_i64().unwrap_or(0), now);
    let state = match one["state"].as_str().unwrap_or_default() {
        "online" => format!("connected to {endpoint}"),
        "connecting" => format!("connecting to {endpoint}"),
        "waiting" if until.is_empty() => format!("not connected to {endpoint}"),
        "waiting" => format!("not connected to {endpoint}; next try {until}"),
        other => format!("{other} · {endpoint}"),
    };
    let mut first = format!("{name}: {state} · {}", progress(one, kept));
    let received = &one["received"];
    if received["messages"].as_u64().unwrap_or(0) > 0 {
        let [messages, refused] = ["messages", "refused"].map(|key| grouped(received[key].as_u64().unwrap_or(0)));
        first.push_str(&format!(" · {messages} received, {refused} of them refused"));
    }
    let mut lines = vec![first];
    if let Some(error) = one["last_error"].as_str() {
        let label = if one["state"] == "online" { "last trouble" } else { "reason" };
        lines.push(format!("{name}: {label}: {error}"));
    }
    if let Some(refusal) = received["last_refusal"].as_str() {
        lines.push(format!("{name}: last refused message: {refusal}"));
    }
    lines
}

/// One door that the gateway opens from inside.
pub(super) fn door(one: &Json, now: i64) -> String {
    let [name, endpoint] = ["name", "endpoint"].map(|key| text(&one[key]));
    let requests = grouped(one["requests"].as_u64().unwrap_or(0));
    let refused = grouped(one["refused"].as_u64().unwrap_or(0));
    let state = match one["state"].as_str().unwrap_or_default() {
        "open" => format!("open to {endpoint}"),
        "connecting" => format!("connecting to {endpoint}"),
        _ => {
            let until = relative(one["until"].as_i64().unwrap_or(0), now);
            format!("not connected to {endpoint}; next try {until}")
        }
    };
    let why = one["last_error"].as_str().map_or_else(String::new, |why| format!(" · {why}"));
    format!("{name}: {state} · {requests} requests, {refused} refused{why}")
}

/// Logic assets; nothing when they go nowhere.
pub(super) fn integration(one: &Json, kept: &Json, now: i64) -> Vec<String> {
    if one.is_null() {
        return Vec::new();
    }
    let [endpoint, code] = ["endpoint", "code"].map(|key| text(&one[key]));
    let until = relative(one["until"].as_i64().unwrap_or(0), now);
    let next = if until.is_empty() { String::new() } else { format!("; next try {until}") };
    let state = match one["state"].as_str().unwrap_or_default() {
        "online" => format!("logic assets to {endpoint}"),
        "connecting" => format!("logic assets to {endpoint}; nothing sent yet"),
        "slowed" => format!("{endpoint} has too much to do{next}"),
        "waiting" => format!("{endpoint} is not reached{next}"),
        "not_authorised" => format!("{endpoint}: the service account may not post, code {code}{next}"),
        "refused" => format!("{endpoint} refuses everything, code {code}{next}"),
        other => format!("{other} · {endpoint}"),
    };
    let mut lines = vec![format!("{state} · {}", progress(one, kept))];
    if let Some(error) = one["last_error"].as_str() {
        lines.push(format!("{}: {error}", if one["state"] == "online" { "last trouble" } else { "reason" }));
    }
    lines
}

fn progress(one: &Json, kept: &Json) -> String {
    let of_outbox = kept.as_array().into_iter().flatten().find(|row| row["name"] == one["name"]);
    let waiting = of_outbox.and_then(|row| row["readings"]["waiting"].as_u64()).unwrap_or(0);
    let sent = grouped(one["messages_acknowledged"].as_u64().unwrap_or(0));
    format!("{} readings wait · {sent} messages confirmed", grouped(waiting))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_763_812_990_000;

    #[test]
    fn a_broker_is_told_with_what_waits_for_it() {
        let kept = json!([{"name": "scada", "readings": {"waiting": 1200}}]);
        let received = json!({"messages": 5, "refused": 1, "last_refusal": "in/x: no JSON"});
        let one = json!({"name": "scada", "endpoint": "ssl://b:8883", "state": "waiting", "until": NOW + 5000,
            "messages_acknowledged": 7, "last_error": "Connection refused", "received": received});
        assert_eq!(
            broker(&one, &kept, NOW),
            [
                "scada: not connected to ssl://b:8883; next try in 5 s · 1 200 readings wait · 7 messages confirmed · 5 received, 1 of them refused",
                "scada: reason: Connection refused",
                "scada: last refused message: in/x: no JSON",
            ]
        );
    }

    #[test]
    fn the_integration_is_told_in_words_in_each_of_its_states() {
        let kept = json!([{"name": "integration", "readings": {"waiting": 40}}]);
        let mut one = json!({"name": "integration", "endpoint": "https://rest", "messages_acknowledged": 3});
        let tail = "40 readings wait · 3 messages confirmed";
        for (state, words) in [
            ("online", "logic assets to https://rest"),
            ("connecting", "logic assets to https://rest; nothing sent yet"),
            ("slowed", "https://rest has too much to do; next try in 5 s"),
            ("waiting", "https://rest is not reached; next try in 5 s"),
            ("not_authorised", "https://rest: the service account may not post, code 403; next try in 5 s"),
            ("refused", "https://rest refuses everything, code 403; next try in 5 s"),
            ("stopped", "stopped · https://rest"),
        ] {
            (one["state"], one["until"], one["code"]) = (json!(state), json!(NOW + 5000), json!(403));
            assert_eq!(integration(&one, &kept, NOW), [format!("{words} · {tail}")]);
        }
        one["last_error"] = json!("HTTP 403");
        assert_eq!(integration(&one, &kept, NOW)[1], "reason: HTTP 403");
        assert!(integration(&Json::Null, &kept, NOW).is_empty());
    }
}
