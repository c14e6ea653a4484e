//! PURE. What the cloud sends on its own: notices about devices are obeyed, commands are understood and handed on, and
//! what is not meant for this gateway is left alone. Every command gets an answer, also one that makes no sense.

mod envelope;

use super::topics::{NOTICES, reply};
use crate::model::command::{Data, Target, What, code};
use crate::model::{Command, Outcome};
use envelope::Envelope;
use serde::Deserialize;
use serde_json::{Value, json};

/// Commands of this link are told from those of other doors by this name.
pub const DOOR: &str = "enos";

/// What to do about a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Answer { topic: String, payload: Vec<u8> },
    Command { command: Box<Command>, to: ReplyTo },
    Notice { notice: Notice, product_key: String, device_key: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    Enable,
    Disable,
    Delete,
}

/// Where and how a command is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyTo {
    topic: String,
    /// As the command had it.
    id: Value,
    form: Form,
}

#[derive(Clone, Debug, PartialEq)]
enum Form {
    Envelope,
    Bytes,
    /// A refusal is told as progress, too: on this topic, from this device.
    Ota {
        progress: String,
    },
}

impl ReplyTo {
    /// Topics and payloads, in order.
    #[must_use]
    pub fn messages(&self, outcome: &Outcome) -> Vec<(String, Vec<u8>)> {
        let enveloped = |data: &Value| envelope(&self.id, outcome.code, &outcome.message, data);
        let data = match &outcome.data {
            Data::Json(data) => data.clone(),
            Data::Nothing | Data::Raw(_) if outcome.code == code::DONE => json!({}),
            Data::Nothing | Data::Raw(_) => Value::Null,
        };
        let own = match (&self.form, &outcome.data) {
            (Form::Bytes, Data::Raw(bytes)) => bytes.clone(),
            // Bytes alone can not say what went wrong; words can.
            (Form::Bytes | Form::Envelope | Form::Ota { .. }, _) => enveloped(&data),
        };
        let mut messages = vec![(self.topic.clone(), own)];
        if let Form::Ota { progress } = &self.form
            && outcome.code != code::DONE
        {
            // -5: the device refuses the update.
            let params = json!({"step": "-5", "desc": outcome.message});
            let text = json!({
                "id": self.id, "version": "1.0", "method": "ota.device.progress", "params": params,
            });
            messages.push((progress.clone(), text.to_string().into_bytes()));
        }
        messages
    }
}

fn envelope(id: &Value, code: i64, message: &str, data: &Value) -> Vec<u8> {
    json!({ "id": id, "code": code, "data": data, "message": message }).to_string().into_bytes()
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
pub fn decide(topic: &str, payload: &[u8], retained: bool, ours: impl Fn(&str, &str) -> bool) -> Vec<Action> {
    let parts: Vec<&str> = topic.split('/').collect();
    match parts.as_slice() {
        // Our own answers come back from brokers whose wildcards match them.
        [.., last] if last.ends_with("_reply") => Vec::new(),
        ["", "sys", product, device, ..] if !ours(product, device) => Vec::new(),
        ["", "ext", "session", product, device, ..] if !ours(product, device) => Vec::new(),
        ["", "sys", product, device, "thing", word] if Notice::of(word).is_some() => {
            let notice = Notice::of(word).expect("the guard has just seen one");
            vec![notice_for(notice, product, device), done(topic, payload)]
        }
        ["", "ext", "session", _, _, "combine", word] if Notice::of(word).is_some() => {
            let notice = Notice::of(word).expect("the guard has just seen one");
            let mut actions: Vec<Action> =
                combined(payload).iter().map(|k| notice_for(notice, &k.product_key, &k.device_key)).collect();
            actions.push(done(topic, payload));
            actions
        }
        ["", "sys", product, device, rest @ ..] => {
            let about = About { topic, payload, retained, product, device };
            about.command(rest).into_iter().collect()
        }
        ["", "ext", "session", _, _, "thing", "activate", "info"] => {
            let id = Envelope::read(payload).id;
            let payload = envelope(&id, code::NOT_IMPLEMENTED, "not implemented by this gateway", &Value::Null);
            vec![Action::Answer { topic: reply(topic), payload }]
        }
        _ => Vec::new(),
    }
}

/// A message to one of our devices.
struct About<'a> {
    topic: &'a str,
    payload: &'a [u8],
    retained: bool,
    product: &'a str,
    device: &'a str,
}

/// Understands the params of a command, or says why not.
type Understand = fn(&str, Option<Value>) -> Result<What, String>;

impl About<'_> {
    fn command(&self, rest: &[&str]) -> Option<Action> {
        match rest {
            // `measurepoint` is reserved: it is never a service.
            ["thing", "service", "measurepoint", "set"] => Some(self.enveloped("thing.service.measurepoint.set", set)),
            ["thing", "service", "measurepoint", "get"] => Some(self.enveloped("thing.service.measurepoint.get", get)),
            ["thing", "service", service] if *service != "measurepoint" && !service.is_empty() => {
                Some(self.enveloped(&format!("thing.service.{service}"), service_of))
            }
            ["thing", "service", ..] | ["traffic", "control"] => Some(self.enveloped(&rest.join("."), unknown)),
            ["thing", "model", "down_raw"] => Some(self.raw()),
            ["ota", "device", "upgrade"] => Some(self.enveloped("ota.device.upgrade", ota)),
            ["rrpc", "request", id] if !id.is_empty() => Some(self.rrpc(id)),
            _ => None,
        }
    }

    fn enveloped(&self, method: &str, understand: Understand) -> Action {
        let mut envelope = Envelope::read(self.payload);
        let to = ReplyTo { topic: reply(self.topic), id: envelope.id.clone(), form: self.form(method) };
        let understood = match (&envelope.fault, &envelope.method) {
            (Some(fault), _) => Err(fault.clone()),
            (None, Some(other)) if other != method => Err(format!("method \"{other}\" on the topic of {method}")),
            (None, _) => understand(method, envelope.params.take()),
        };
        self.action(understood, envelope, to)
    }

    fn form(&self, method: &str) -> Form {
        match method {
            "ota.device.upgrade" => {
                Form::Ota { progress: format!("/sys/{}/{}/ota/device/progress", self.product, self.device) }
            }
            _ => Form::Envelope,
        }
    }

    /// Nowhere documented is what it carries; an envelope whose method says what is wanted is understood.
    fn rrpc(&self, id: &str) -> Action {
        let mut envelope = Envelope::read(self.payload);
        let topic = format!("/sys/{}/{}/rrpc/response/{id}", self.product, self.device);
        let to = ReplyTo { topic, id: envelope.id.clone(), form: Form::Envelope };
        let method = envelope.method.clone().unwrap_or_default();
        let params = envelope.params.take();
        let understood = match (&envelope.fault, method.as_str()) {
            (Some(fault), _) => Err(fault.clone()),
            (None, "thing.service.measurepoint.set") => set(&method, params),
            (None, "thing.service.measurepoint.get") => get(&method, params),
            (None, service) if is_service(service) => service_of(&method, params),
            (None, _) => unknown(if method.is_empty() { "rrpc" } else { &method }, params),
        };
        envelope.own_id = Some(format!("rrpc/{id}"));
        self.action(understood, envelope, to)
    }

    fn raw(&self) -> Action {
        let to = ReplyTo { topic: reply(self.topic), id: json!("0"), form: Form::Bytes };
        let what = What::Raw(self.payload.to_vec());
        self.action(Ok(what), Envelope::default(), to)
    }

    fn action(&self, understood: Result<What, String>, envelope: Envelope, to: ReplyTo) -> Action {
        match understood {
            Ok(what) => {
                let target = Target::Keys { product_key: self.product.to_owned(), device_key: self.device.to_owned() };
                let command = Command {
                    door: DOOR.to_owned(),
                    id: envelope.own_id,
                    target,
                    what,
                    issued_at: envelope.issued_at,
                    time_to_live: envelope.time_to_live,
                    retained: self.retained,
                    again: false,
                };
                Action::Command { command: Box::new(command), to }
            }
            Err(why) => {
                let mut messages = to.messages(&Outcome::refused(code::MALFORMED, why));
                let (topic, payload) = messages.remove(0);
                Action::Answer { topic, payload }
            }
        }
    }
}

fn is_service(method: &str) -> bool {
    method.strip_prefix("thing.service.").is_some_and(|service| {
        !service.is_empty() && service != "measurepoint" && !service.starts_with("measurepoint.")
    })
}

fn set(_method: &str, params: Option<Value>) -> Result<What, String> {
    match params {
        Some(Value::Object(points)) => Ok(What::Set(points)),
        Some(_) => Err("params is not an object of measurement points and values".to_owned()),
        None => Err("there are no params".to_owned()),
    }
}

fn get(_method: &str, params: Option<Value>) -> Result<What, String> {
    let wrong = || "params is not an array of measurement points".to_owned();
    let Some(Value::Array(ids)) = params else { return Err(wrong()) };
    let text = |id: Value| if let Value::String(id) = id { Ok(id) } else { Err(wrong()) };
    ids.into_iter().map(text).collect::<Result<_, _>>().map(What::Get)
}

fn service_of(method: &str, params: Option<Value>) -> Result<What, String> {
    let id = method.strip_prefix("thing.service.").unwrap_or(method).to_owned();
    match params {
        Some(Value::Object(input)) => Ok(What::Service { id, input }),
        None => Ok(What::Service { id, input: serde_json::Map::new() }),
        Some(_) => Err("params is not an object of inputs and values".to_owned()),
    }
}

fn ota(_method: &str, params: Option<Value>) -> Result<What, String> {
    Ok(What::Ota(params.unwrap_or(Value::Null)))
}

fn unknown(method: &str, _params: Option<Value>) -> Result<What, String> {
    Ok(What::Unknown { method: method.to_owned() })
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

fn done(topic: &str, payload: &[u8]) -> Action {
    let id = Envelope::read(payload).id;
    Action::Answer { topic: reply(topic), payload: envelope(&id, code::DONE, "", &json!({})) }
}

#[cfg(test)]
mod tests;
