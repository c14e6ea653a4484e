//! PURE. A command in words: what tells it from others, and what the audit shows of it.

use super::lines;
use crate::model::command::{Target, What};
use serde_json::{Value as Json, json};

/// What its topic says besides the device.
pub(super) fn kind(what: &What) -> String {
    match what {
        What::Set(_) => "set".to_owned(),
        What::Get(_) => "get".to_owned(),
        What::Service { id, .. } => format!("service {id:?}"),
        What::Raw(_) => "raw".to_owned(),
        What::Ota(_) => "ota".to_owned(),
        What::Unknown { method } => format!("unknown {method:?}"),
    }
}

/// Equal for equal wishes. Maps of JSON are sorted by key.
pub(super) fn contents(what: &What) -> String {
    match what {
        What::Set(points) => format!("set {}", Json::Object(points.clone())),
        What::Get(points) => format!("get {}", json!(points)),
        What::Service { id, input } => format!("service {id:?} {}", Json::Object(input.clone())),
        What::Raw(bytes) => format!("raw {}", lines::hex(bytes)),
        What::Ota(offer) => format!("ota {offer}"),
        What::Unknown { method } => format!("unknown {method:?}"),
    }
}

/// What is asked for, bounded whatever somebody sends.
pub(super) fn what(what: &What) -> Json {
    /// Bytes of a wish that the audit shows.
    const SHOWN: usize = 2000;
    match what {
        What::Set(points) => cut("set", &Json::Object(points.clone()), SHOWN),
        What::Get(points) => cut("get", &json!(points), SHOWN),
        What::Service { id, input } => {
            let mut service = cut("input", &Json::Object(input.clone()), SHOWN);
            service["service"] = json!(short(id));
            service
        }
        What::Raw(bytes) => json!({
            "raw": lines::hex(&bytes[..bytes.len().min(64)]), "bytes": bytes.len(), "sha256": lines::sha256(&[bytes]),
        }),
        What::Ota(offer) => json!({ "ota": { "version": offer["version"], "sign": offer["sign"] } }),
        What::Unknown { method } => json!({ "unknown": short(method) }),
    }
}

fn cut(key: &str, value: &Json, most: usize) -> Json {
    let text = value.to_string();
    if text.len() <= most {
        return json!({ key: value });
    }
    let start: String = text.chars().take(most / 4).collect();
    json!({ key: start, "bytes": text.len(), "sha256": lines::sha256(&[text.as_bytes()]) })
}

pub(super) fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

pub(super) fn shown(target: &Target) -> String {
    match target {
        Target::Edge => "the gateway".to_owned(),
        Target::Keys { product_key, device_key } => format!("{}/{}", short(product_key), short(device_key)),
        Target::Name(name) => format!("device \"{}\"", short(name)),
    }
}
