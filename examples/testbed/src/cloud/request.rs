//! One request in, at most one reply out: which message it is and whether its sender may send it.

use super::Knobs;
use super::codec::Publish;
use super::knobs::OverLimit;
use super::message::{self, Message};
use super::topic::{self, EnosTopic, Space};
use super::world::{Peer, World};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::Duration;

/// EnOS limits: 512 KB a PUBLISH.
const MAX_PUBLISH: usize = 512 * 1024;

/// A reply on its way.
#[derive(Debug)]
pub(super) struct Reply {
    pub topic: String,
    pub payload: Bytes,
    pub qos: u8,
    pub delay: Option<Duration>,
}

/// What a request is answered with.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub code: i64,
    pub data: Value,
    pub message: String,
}

/// A request other than measurement points, taken apart.
pub(super) struct Request<'a> {
    pub link: u64,
    /// The device that holds the connection.
    pub me: u32,
    /// The device the topic names.
    pub target: u32,
    /// The topic below the device.
    pub rest: &'a str,
    pub params: Value,
}

impl Answer {
    pub fn ok(data: Value) -> Answer {
        Answer { code: 200, data, message: String::new() }
    }

    pub fn refused(code: i64, message: impl Into<String>) -> Answer {
        Answer { code, data: json!({}), message: message.into() }
    }

    fn encode(&self, id: &str) -> Bytes {
        let message = Value::String(self.message.clone());
        format!(r#"{{"id":{id},"code":{},"data":{},"message":{message}}}"#, self.code, self.data).into()
    }
}

/// A message of measurement points, read or not to be read.
type Points<'a> = Option<Result<Message<'a>, serde_json::Error>>;

/// Handles one PUBLISH of a client.
pub(super) fn handle(world: &Mutex<World>, link: u64, publish: &Publish) -> Option<Reply> {
    // Measurement points are read before the lock is taken: that is where the work is.
    let points = holds_points(&publish.topic).then(|| message::parse(&publish.payload));
    let world = &mut *world.lock().expect("the cloud's lock is not poisoned");
    world.stats.messages += 1;
    world.stats.message_bytes += publish.packet_len as u64;
    world.journal(&publish.topic, &publish.payload);
    let peer = world.peer(link)?;
    if peer == Peer::Monitor || world.has_monitors() {
        world.watch(link, peer, publish);
    }
    if peer == Peer::Monitor {
        return None;
    }
    if publish.topic.ends_with("_reply") || publish.topic.contains("/rrpc/response/") {
        world.take_reply(&publish.topic, &publish.payload);
        return None;
    }
    if Knobs::spend(&mut world.knobs.lose_requests) {
        return None;
    }
    let (id, answer) = match world.over_limit(link, publish.packet_len) {
        Some(OverLimit::Close) => {
            world.links.get(&link)?.kick.notify_one();
            return None;
        }
        Some(OverLimit::Code(code)) => {
            (loose_id(&publish.payload), Answer::refused(code, "too many bytes in a second"))
        }
        None => world.answer(link, peer, publish, points),
    };
    world.stats.refused += u64::from(answer.code != 200);
    if Knobs::spend(&mut world.knobs.forget_replies) {
        return None;
    }
    world.reply(link, publish, &id, &answer)
}

fn holds_points(to: &str) -> bool {
    topic::parse(to).is_some_and(|parts| is_points(parts.rest)) || is_channel_points(to)
}

fn is_channel_points(to: &str) -> bool {
    topic::integration(to).is_some_and(|(_, rest)| rest == "measurepoint/post")
}

fn is_points(rest: &str) -> bool {
    matches!(
        rest,
        "thing/measurepoint/post"
            | "thing/measurepoint/post/batch"
            | "thing/measurepoint/resume"
            | "thing/measurepoint/resume/batch"
    )
}

impl World {
    /// The reply, if the client asked to hear it.
    fn reply(&self, link: u64, publish: &Publish, id: &str, answer: &Answer) -> Option<Reply> {
        let topic = format!("{}_reply", publish.topic);
        let qos = self.granted(link, &topic)?;
        let raw = publish.topic.ends_with("/up_raw") && answer.code == 200;
        let payload = if raw { publish.payload.clone() } else { answer.encode(id) };
        Some(Reply { topic, payload, qos, delay: self.knobs.reply_delay.draw() })
    }

    /// Shows a message to the monitors; what a monitor sends to a device is a command.
    fn watch(&mut self, link: u64, peer: Peer, publish: &Publish) {
        if peer == Peer::Monitor
            && World::is_command_topic(&publish.topic)
            && let Some(parts) = topic::parse(&publish.topic)
            && let Some(device) = self.registry.find(parts.product_key, parts.device_key)
            && self.link_of(device).is_some()
        {
            self.note_command(device, &publish.topic, &publish.payload);
        }
        self.route(link, &publish.topic, &publish.payload);
    }

    fn answer(&mut self, link: u64, peer: Peer, publish: &Publish, points: Points<'_>) -> (String, Answer) {
        if publish.packet_len > MAX_PUBLISH {
            let id = loose_id(&publish.payload);
            return (id, Answer::refused(1008, format!("message of {} bytes is too large", publish.packet_len)));
        }
        match (peer, points) {
            (Peer::Device(me), points) => self.answer_device(link, me, publish, points),
            (Peer::Channel(_), Some(Err(error))) => ("null".to_owned(), no_json(&publish.payload, &error)),
            (Peer::Channel(product), Some(Ok(message))) => {
                (message.id.to_string(), self.integrate_points(product, &publish.topic, &message))
            }
            (Peer::Channel(product), None) => self.answer_channel(product, &publish.topic, &publish.payload),
            (Peer::Monitor, _) => unreachable!("a monitor's messages are not answered"),
        }
    }

    fn answer_device(&mut self, link: u64, me: u32, publish: &Publish, points: Points<'_>) -> (String, Answer) {
        let topic = topic::parse(&publish.topic).filter(|_| !is_channel_points(&publish.topic));
        let Some((topic, target)) = topic.and_then(|topic| Some((topic, self.target(link, me, topic)?))) else {
            return (loose_id(&publish.payload), Answer::refused(1009, "no write permission for this topic"));
        };
        if let Some(code) = self.knobs.refused_device(topic.product_key, topic.device_key) {
            return (loose_id(&publish.payload), Answer::refused(code, "refused"));
        }
        if let Some(points) = points {
            return match points {
                Ok(message) => (message.id.to_string(), self.take_points(link, me, target, topic.rest, &message)),
                Err(error) => ("null".to_owned(), no_json(&publish.payload, &error)),
            };
        }
        if topic.rest == "thing/model/up_raw" {
            return ("null".to_owned(), Answer::ok(Value::Null));
        }
        let envelope = match envelope(&publish.payload) {
            Ok(envelope) => envelope,
            Err(answer) => return ("null".to_owned(), answer),
        };
        let id = envelope.get("id").unwrap_or(&Value::Null).to_string();
        (id, self.answer_envelope(link, me, target, topic.rest, envelope))
    }

    /// The device of the topic, if this link may write for it.
    fn target(&self, link: u64, me: u32, topic: EnosTopic<'_>) -> Option<u32> {
        let target = self.find(topic.product_key, topic.device_key)?;
        match topic.space {
            Space::Session => (target == me).then_some(target),
            Space::Sys => self.speaks_for(link, target).then_some(target),
        }
    }

    fn answer_envelope(&mut self, link: u64, me: u32, target: u32, rest: &str, mut envelope: Value) -> Answer {
        let method = envelope.get("method").and_then(Value::as_str).unwrap_or_default();
        if method != rest.replace('/', ".") && !self.is_misspelt(method, rest) {
            return Answer::refused(1260, format!("method {method} does not fit the topic"));
        }
        let params = envelope.get_mut("params").map_or(Value::Null, Value::take);
        let request = Request { link, me, target, rest, params };
        match rest {
            "combine/login" => self.login(&request),
            "combine/login/batch" => self.login_batch(&request),
            "combine/logout" => self.logout(&request),
            "thing/topo/add" => self.topo_add(&request),
            "thing/topo/delete" => self.topo_delete(&request),
            "thing/topo/get" => self.topo_get(&request),
            "thing/device/register" => self.register(&request),
            _ if rest.starts_with("thing/attribute/") => self.attributes(&request),
            _ if rest.starts_with("thing/tag/") => self.tags(&request),
            "thing/tsltemplate/get" => self.tsl_template(&request),
            _ if rest.starts_with("thing/event/") => self.event(&request),
            _ if rest.starts_with("ota/device/") => self.ota(&request),
            "connection/state/post" | "network/status/report" | "thing/log/post" => self.report(&request),
            _ => Answer::refused(1009, format!("{rest} is not known")),
        }
    }
}

impl World {
    /// The vendor's Python SDK misspells some methods. A real cloud may answer 1260; this one counts them.
    fn is_misspelt(&mut self, method: &str, rest: &str) -> bool {
        const OTA: &[(&str, &str)] = &[
            ("ota/device/inform", "ota.inform"),
            ("ota/device/progress", "ota.progress"),
            ("ota/device/getversion", "Ota.device.getversion"),
        ];
        let event = rest.strip_prefix("thing/event/").and_then(|rest| rest.strip_suffix("/post"));
        let misspelt = OTA.contains(&(rest, method))
            || event.is_some_and(|event| method.strip_prefix("thing.event.%s.post") == Some(event));
        self.stats.misspelt_methods += u64::from(misspelt);
        misspelt && !self.knobs.strict_methods
    }
}

/// A JSON object, or the answer to what is none.
pub(super) fn envelope(payload: &[u8]) -> Result<Value, Answer> {
    match serde_json::from_slice(payload) {
        Ok(envelope @ Value::Object(_)) => Ok(envelope),
        Ok(_) => Err(Answer::refused(1220, "payload is no object")),
        Err(error) => Err(no_json(payload, &error)),
    }
}

fn no_json(payload: &[u8], error: &serde_json::Error) -> Answer {
    if payload.is_empty() {
        Answer::refused(1251, "payload is empty")
    } else {
        Answer::refused(1220, format!("payload is not valid: {error}"))
    }
}

/// The id of a request that is refused before it is read.
pub(super) fn loose_id(payload: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct OnlyId {
        #[serde(default)]
        id: Value,
    }
    serde_json::from_slice::<OnlyId>(payload).map_or_else(|_| "null".to_owned(), |only| only.id.to_string())
}
