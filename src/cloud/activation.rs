//! PURE. Dynamic activation: what the cloud sends with the device's own secret, and what it is answered.

use super::topics::reply;
use crate::model::Secret;
use crate::model::identity::Activation;
use serde::Deserialize;
use serde_json::{Value, json};

/// Our own answer codes begin at 2000.
const UNREADABLE: i64 = 2010;
const OTHER_DEVICE: i64 = 2011;
const NOT_TAKEN: i64 = 2012;

/// A message on `…/thing/activate/info`.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// To be stored before it is answered.
    Secret { id: Value, activation: Activation },
    /// Nothing to store; the answer is ready.
    Unfit { answer: Vec<u8>, problem: String },
    /// The cloud does not activate.
    Refused { code: i64, problem: String },
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    code: Value,
    #[serde(default)]
    message: Value,
    params: Option<Params>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    product_key: Option<String>,
    device_key: Option<String>,
    device_secret: Option<String>,
    asset_id: Option<String>,
}

/// As much as a secret of a file may have.
const SECRET_CHARS: usize = 1024;

/// Reads a message. No text of it that could be a secret is repeated.
#[must_use]
pub fn read(payload: &[u8], product_key: &str, device_key: &str) -> Message {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(payload) else {
        return unfit(&json!("0"), UNREADABLE, "the activation message can not be read");
    };
    let id = if envelope.id.is_null() { json!("0") } else { envelope.id };
    if let Some(code) = number(&envelope.code).filter(|code| *code != 200) {
        let message: String = envelope.message.as_str().unwrap_or_default().chars().take(200).collect();
        return Message::Refused {
            code,
            problem: format!("the cloud does not activate: {}", in_words(code, &message)),
        };
    }
    let Some(params) = envelope.params else {
        return unfit(&id, UNREADABLE, "the activation message has no params");
    };
    let foreign = |told: &Option<String>, ours: &str| told.as_ref().is_some_and(|told| told != ours);
    if foreign(&params.product_key, product_key) || foreign(&params.device_key, device_key) {
        return unfit(&id, OTHER_DEVICE, "the activation message is for another device");
    }
    let secret = params.device_secret.unwrap_or_default();
    let fits = |c: char| !c.is_whitespace() && !c.is_control();
    if secret.is_empty() || secret.chars().count() > SECRET_CHARS || !secret.chars().all(fits) {
        return unfit(&id, UNREADABLE, "the activation message holds no device secret");
    }
    Message::Secret { id, activation: Activation { secret: Secret::new(secret), asset_id: params.asset_id } }
}

/// The answer to [`Message::Secret`] once it is stored, or that it could not be.
#[must_use]
pub fn answer(id: &Value, stored: &Result<(), String>) -> Vec<u8> {
    let (code, message) = match stored {
        Ok(()) => (200, ""),
        Err(problem) => (NOT_TAKEN, problem.as_str()),
    };
    json!({ "id": id, "code": code, "data": null, "message": message }).to_string().into_bytes()
}

/// Where answers go.
#[must_use]
pub fn answers(topic: &str) -> String {
    reply(topic)
}

/// Codes that concern the gateway itself, and what to do about them (enos-wire: login).
#[must_use]
pub fn in_words(code: i64, message: &str) -> String {
    let advice = match code {
        742 => "the sign is wrong: does the secret belong to these keys?",
        746 => "this product logs in with a client certificate: set client_cert_file and client_key_file",
        770 => "dynamic activation is not allowed for the product: enable it there, or configure a device_secret",
        771 => "this device is a sub-device in the cloud and may not connect by itself",
        _ => "",
    };
    let parts: Vec<&str> = [message, advice].into_iter().filter(|part| !part.is_empty()).collect();
    format!("code {code}: {}", parts.join("; "))
}

fn unfit(id: &Value, code: i64, problem: &str) -> Message {
    let answer = json!({ "id": id, "code": code, "data": null, "message": problem }).to_string().into_bytes();
    Message::Unfit { answer, problem: problem.to_owned() }
}

/// A code as a number or as text.
fn number(code: &Value) -> Option<i64> {
    code.as_i64().or_else(|| code.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(params: &Value) -> Vec<u8> {
        json!({ "id": "7", "version": "1.0", "method": "thing.activate.info", "params": params })
            .to_string()
            .into_bytes()
    }

    fn unfit_code(payload: &[u8]) -> i64 {
        match read(payload, "产品", "网关-1") {
            Message::Unfit { answer, .. } => {
                serde_json::from_slice::<Value>(&answer).unwrap()["code"].as_i64().unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_documented_message_gives_the_secret_and_the_asset() {
        let payload = message(&json!({
            "assetId": "a1", "productKey": "产品", "deviceKey": "网关-1", "deviceSecret": "s3cret" }));
        let Message::Secret { id, activation } = read(&payload, "产品", "网关-1") else { panic!() };
        assert_eq!(
            (id, activation.secret.reveal(), activation.asset_id.as_deref()),
            (json!("7"), "s3cret", Some("a1"))
        );
        assert!(!format!("{:?}", read(&payload, "产品", "网关-1")).contains("s3cret"));
    }

    #[test]
    fn a_message_for_others_or_without_a_secret_is_answered_and_not_taken() {
        let of = |device: &str, secret: Value| {
            message(&json!({ "productKey": "产品", "deviceKey": device, "deviceSecret": secret }))
        };
        assert_eq!(unfit_code(&of("网关-2", json!("s"))), OTHER_DEVICE);
        for secret in [json!(""), json!("a b"), json!(null), json!("x".repeat(2000))] {
            assert_eq!(unfit_code(&of("网关-1", secret)), UNREADABLE);
        }
        for payload in [&b"\xff"[..], b"[]", b"{}", br#"{"id":1,"params":{"deviceSecret":5}}"#] {
            assert_eq!(unfit_code(payload), UNREADABLE);
        }
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let Message::Refused { problem, .. } = read(br#"{"id":"1","code":770,"message":"no"}"#, "p", "d") else {
            panic!()
        };
        assert!(problem.contains("code 770: no; dynamic activation is not allowed"), "{problem}");
        assert!(in_words(746, "").contains("client_cert_file"));
    }

    #[test]
    fn the_answer_carries_the_same_id() {
        let ok: Value = serde_json::from_slice(&answer(&json!(9), &Ok(()))).unwrap();
        assert_eq!(ok, json!({ "id": 9, "code": 200, "data": null, "message": "" }));
        let not: Value = serde_json::from_slice(&answer(&json!("9"), &Err("disk full".to_owned()))).unwrap();
        assert_eq!((not["code"].as_i64(), &not["message"]), (Some(NOT_TAKEN), &json!("disk full")));
    }
}
