//! PURE. The envelope around a command, in every dialect: ids as texts, as numbers, or absent.

use crate::model::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// What an envelope says.
#[derive(Clone, Debug, Default)]
pub(super) struct Envelope {
    /// To be repeated in the answer; "0" when there is none.
    pub id: Value,
    /// The id as a text, when there is one.
    pub own_id: Option<String>,
    pub method: Option<String>,
    /// `None` when absent or null.
    pub params: Option<Value>,
    pub issued_at: Option<Timestamp>,
    pub time_to_live: Option<Duration>,
    /// What is wrong with it as a whole.
    pub fault: Option<String>,
}

/// An id is no novel; a longer one is refused.
const LONGEST_ID: usize = 256;
/// A refused one comes back whole, so that the caller knows it again, and beyond this its start.
const LONGEST_ANSWERED_ID: usize = 64 << 10;

impl Envelope {
    pub(super) fn read(payload: &[u8]) -> Envelope {
        let mut envelope = Envelope { id: json!("0"), ..Envelope::default() };
        match serde_json::from_slice::<Value>(payload) {
            Ok(Value::Object(fields)) => {
                if let Err(fault) = envelope.fill(fields) {
                    envelope.fault = Some(fault);
                }
            }
            Ok(_) => envelope.fault = Some("the payload is not an object".to_owned()),
            Err(error) => {
                envelope.fault = Some(format!("the payload is not JSON: {error}"));
                if let Some(id) = legible_id(payload) {
                    envelope.id = id;
                }
            }
        }
        envelope
    }

    fn fill(&mut self, mut fields: serde_json::Map<String, Value>) -> Result<(), String> {
        match fields.remove("id") {
            None | Some(Value::Null) => {}
            Some(Value::String(mut id)) if id.len() > LONGEST_ID => {
                id.truncate(id.floor_char_boundary(LONGEST_ANSWERED_ID));
                self.id = Value::String(id);
                return Err(format!("the id is longer than {LONGEST_ID} bytes"));
            }
            // An empty one tells nothing apart.
            Some(Value::String(id)) => {
                self.own_id = Some(id.clone()).filter(|id| !id.is_empty());
                self.id = Value::String(id);
            }
            Some(Value::Number(id)) => {
                self.own_id = Some(id.to_string());
                self.id = Value::Number(id);
            }
            Some(_) => return Err("the id is neither text nor number".to_owned()),
        }
        match fields.remove("method") {
            None | Some(Value::Null) => {}
            Some(Value::String(method)) => self.method = Some(method).filter(|method| !method.is_empty()),
            Some(_) => return Err("the method is not a text".to_owned()),
        }
        self.params = fields.remove("params").filter(|params| !params.is_null());
        if let Some(issued) = fields.remove("issuedAt").filter(|v| !v.is_null()) {
            let issued = millis(&issued).ok_or("issuedAt is not a time in milliseconds")?;
            self.issued_at = Some(Timestamp(issued));
        }
        if let Some(ttl) = fields.remove("ttl").filter(|v| !v.is_null()) {
            let ttl = millis(&ttl).and_then(|ttl| u64::try_from(ttl).ok());
            self.time_to_live = Some(Duration::from_millis(ttl.ok_or("ttl is not a number of milliseconds")?));
        }
        Ok(())
    }
}

fn millis(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// The id of a message that is no JSON, for example because it was cut off: what follows the first `"id":`.
fn legible_id(payload: &[u8]) -> Option<Value> {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(4096)]).into_owned();
    let rest = text.split_once("\"id\"")?.1.trim_start().strip_prefix(':')?.trim_start();
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    let id = values.next()?.ok()?;
    let fits = match &id {
        Value::String(id) => id.len() <= LONGEST_ID,
        Value::Number(_) => true,
        _ => false,
    };
    fits.then_some(id)
}
