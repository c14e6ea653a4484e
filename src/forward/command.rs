//! PURE. Commands of a plain broker: topics and JSON there, [`Command`] and [`Outcome`] here.
//!
//! `PREFIX/DEVICE/set`, `PREFIX/DEVICE/get` and `PREFIX/DEVICE/service/NAME` ask; the same topic with `/reply` answers.

use crate::model::command::{Data, Target, What, code};
use crate::model::{Command, Outcome, Timestamp};
use serde_json::{Map, Value as Json, json};
use std::time::Duration;

/// What a topic asks, before the payload is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish<'t> {
    Set,
    Get,
    Service(&'t str),
}

/// A message on a topic for commands.
#[derive(Debug)]
pub struct Asked {
    pub reply_topic: String,
    /// The caller's id as it stood, for the answer.
    pub id: Option<Json>,
    /// Or why it can not be understood.
    pub command: Result<Command, Outcome>,
}

/// The filters to subscribe to.
#[must_use]
pub fn filters(prefix: &str) -> Vec<String> {
    ["set", "get", "service/+"].iter().map(|kind| format!("{prefix}/+/{kind}")).collect()
}

/// `None` when the topic is not one of commands.
#[must_use]
pub fn read(door: &str, prefix: &str, topic: &str, payload: &[u8], retained: bool) -> Option<Asked> {
    let (device, wish) = parse_topic(prefix, topic)?;
    let reply_topic = format!("{topic}/reply");
    let Ok(Json::Object(body)) = serde_json::from_slice::<Json>(payload) else {
        let command = Err(Outcome::refused(code::MALFORMED, "the payload is no JSON object"));
        return Some(Asked { reply_topic, id: None, command });
    };
    let id = body.get("id").cloned();
    let command = understand(door, device, &wish, body, retained).map_err(|why| Outcome::refused(code::MALFORMED, why));
    Some(Asked { reply_topic, id, command })
}

fn parse_topic<'t>(prefix: &str, topic: &'t str) -> Option<(String, Wish<'t>)> {
    let (device, kind) = topic.strip_prefix(prefix)?.strip_prefix('/')?.split_once('/')?;
    let wish = match kind.split_once('/') {
        None if kind == "set" => Wish::Set,
        None if kind == "get" => Wish::Get,
        Some(("service", name)) if !name.is_empty() && !name.contains('/') => Wish::Service(name),
        _ => return None,
    };
    Some((unescaped(device), wish))
}

/// Names stand in topics as this gateway writes them: `%2F` for `/`.
fn unescaped(level: &str) -> String {
    let mut bytes = Vec::with_capacity(level.len());
    let mut rest = level.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| level.to_owned())
}

fn understand(
    door: &str,
    device: String,
    wish: &Wish<'_>,
    mut body: Map<String, Json>,
    retained: bool,
) -> Result<Command, String> {
    let id = match body.get("id") {
        None | Some(Json::Null) => None,
        // An empty one tells nothing apart.
        Some(Json::String(id)) => Some(id.clone()).filter(|id| !id.is_empty()),
        Some(Json::Number(id)) => Some(id.to_string()),
        Some(_) => return Err("id is neither a text nor a number".to_owned()),
    };
    let issued_at = number(&body, "issued_at")?.map(Timestamp);
    let time_to_live = match number(&body, "ttl_ms")? {
        None => None,
        Some(ms) => Some(Duration::from_millis(u64::try_from(ms).map_err(|_| "ttl_ms is negative".to_owned())?)),
    };
    let what = match wish {
        Wish::Set => What::Set(object(&mut body, "values")?.ok_or("values is missing: points and what they shall be")?),
        Wish::Get => What::Get(points(&body)?),
        Wish::Service(name) => {
            What::Service { id: (*name).to_owned(), input: object(&mut body, "input")?.unwrap_or_default() }
        }
    };
    let target = Target::Name(device);
    Ok(Command { door: door.to_owned(), id, target, what, issued_at, time_to_live, retained, again: false })
}

fn number(body: &Map<String, Json>, key: &str) -> Result<Option<i64>, String> {
    match body.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| format!("{key} is no whole number of milliseconds")),
    }
}

fn object(body: &mut Map<String, Json>, key: &str) -> Result<Option<Map<String, Json>>, String> {
    match body.remove(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(object)) => Ok(Some(object)),
        Some(_) => Err(format!("{key} is no object")),
    }
}

fn points(body: &Map<String, Json>) -> Result<Vec<String>, String> {
    let wrong = || "points is no list of texts".to_owned();
    let list = body.get("points").and_then(Json::as_array).ok_or_else(wrong)?;
    list.iter().map(|point| point.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

/// What the caller gets.
#[must_use]
pub fn answer(id: Option<&Json>, outcome: &Outcome) -> Vec<u8> {
    let data = match &outcome.data {
        Data::Nothing => Json::Null,
        Data::Json(json) => json.clone(),
        Data::Raw(bytes) => json!(bytes),
    };
    json!({ "id": id, "code": outcome.code, "message": outcome.message, "data": data }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(topic: &str, payload: &str) -> Option<Asked> {
        read("scada", "cmd/g1", topic, payload.as_bytes(), false)
    }

    #[test]
    fn topics_and_json_become_commands() {
        let set = asked("cmd/g1/a%2Fb/set", r#"{"id":7,"values":{"P":1.5},"issued_at":1000,"ttl_ms":500}"#).unwrap();
        assert_eq!(set.reply_topic, "cmd/g1/a%2Fb/set/reply");
        let command = set.command.unwrap();
        assert_eq!(command.target, Target::Name("a/b".to_owned()));
        assert_eq!((command.door.as_str(), command.id.as_deref()), ("scada", Some("7")));
        assert_eq!(command.what, What::Set(json!({"P": 1.5}).as_object().unwrap().clone()));
        assert_eq!(
            (command.issued_at, command.time_to_live),
            (Some(Timestamp(1000)), Some(Duration::from_millis(500)))
        );
        let get = asked("cmd/g1/m/get", r#"{"points":["P","Q"]}"#).unwrap().command.unwrap();
        assert_eq!((get.what, get.id), (What::Get(vec!["P".to_owned(), "Q".to_owned()]), None));
        let service = asked("cmd/g1/m/service/reset", "{}").unwrap().command.unwrap();
        assert_eq!(service.what, What::Service { id: "reset".to_owned(), input: Map::new() });
    }

    #[test]
    fn what_can_not_be_understood_is_answered_and_other_topics_are_not_ours() {
        for (topic, payload, words) in [
            ("cmd/g1/m/set", "no json", "no JSON object"),
            ("cmd/g1/m/set", "{}", "values is missing"),
            ("cmd/g1/m/set", r#"{"values":[1]}"#, "values is no object"),
            ("cmd/g1/m/get", r#"{"points":[1]}"#, "no list of texts"),
            ("cmd/g1/m/get", r#"{"id":{},"points":[]}"#, "neither a text nor a number"),
            ("cmd/g1/m/set", r#"{"ttl_ms":-1,"values":{}}"#, "negative"),
        ] {
            let outcome = asked(topic, payload).unwrap().command.unwrap_err();
            assert_eq!(outcome.code, code::MALFORMED);
            assert!(outcome.message.contains(words), "{words} is missing in {}", outcome.message);
        }
        for topic in ["cmd/g1/m/set/reply", "cmd/g1/m", "cmd/g10/m/set", "cmd/g1/m/service/a/b", "cmd/g1/m/else"] {
            assert!(asked(topic, "{}").is_none(), "{topic}");
        }
    }

    #[test]
    fn an_answer_holds_the_callers_id_as_it_was() {
        let answer = answer(Some(&json!(7)), &Outcome::done(Data::Json(json!({"P": 1}))));
        let answer: Json = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer, json!({"id": 7, "code": 200, "message": "", "data": {"P": 1}}));
    }
}
