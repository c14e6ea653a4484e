//! PURE. Messages toward the cloud, one file each. Adding one touches its file and its `mod` line here.

pub mod attribute;
pub mod connection_state;
pub mod event;
pub mod keys;
pub mod log;
pub mod login;
pub mod measurepoints;
pub mod network_status;
pub mod ota;
pub mod register;
pub mod tag;
pub mod topology;
pub mod tsl_template;
pub mod up_raw;

use crate::model::Names;
use keys::Keys;
use serde_json::{Value, json};
use std::sync::Arc;

/// Attributes, or tags, in one request (EnOS limit).
pub const MOST_PROPERTIES: usize = 200;

/// Whose topic a message travels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whose<'a> {
    pub product_key: &'a str,
    pub device_key: &'a str,
}

/// A request, complete but for its id.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub topic: String,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Json {
        method: String,
        params: Value,
    },
    /// Bytes as they are: such a message has no id, so one at a time is under way on a topic.
    Raw(Vec<u8>),
}

impl Message {
    /// On `/sys/{product key}/{device key}/{path}`. The method is the path with dots (1260 when it is not).
    #[must_use]
    pub fn sys(whose: Whose<'_>, path: &str, params: Value) -> Message {
        Message {
            topic: format!("/sys/{}/{}/{path}", whose.product_key, whose.device_key),
            body: Body::Json { method: path.replace('/', "."), params },
        }
    }

    /// On the gateway's session, `/ext/session/{product key}/{device key}/{path}`.
    #[must_use]
    pub fn session(gateway: Whose<'_>, path: &str, params: Value) -> Message {
        Message {
            topic: format!("/ext/session/{}/{}/{path}", gateway.product_key, gateway.device_key),
            body: Body::Json { method: path.replace('/', "."), params },
        }
    }

    /// Where the answer comes.
    #[must_use]
    pub fn reply_topic(&self) -> String {
        super::topics::reply(&self.topic)
    }

    /// What is published under this id.
    #[must_use]
    pub fn encode(self, id: u16) -> Vec<u8> {
        match self.body {
            Body::Raw(bytes) => bytes,
            Body::Json { method, params } => {
                json!({ "id": id.to_string(), "version": "1.0", "method": method, "params": params })
                    .to_string()
                    .into_bytes()
            }
        }
    }
}

/// Packages whose names are kept escaped: the running one and those stored batches still speak of.
const EPOCHS: usize = 4;

/// Escaped names, made when an epoch is first seen.
#[derive(Debug, Default)]
pub struct KeyCache {
    keys: Vec<(u64, Arc<Keys>)>,
}

impl KeyCache {
    pub fn of(&mut self, names: &Names) -> Arc<Keys> {
        if let Some(at) = self.keys.iter().position(|(epoch, _)| *epoch == names.epoch) {
            // The one used last comes first, so the oldest is the one that goes.
            self.keys[..=at].rotate_right(1);
        } else {
            self.keys.truncate(EPOCHS - 1);
            self.keys.insert(0, (names.epoch, Arc::new(Keys::new(names))));
        }
        Arc::clone(&self.keys[0].1)
    }
}

/// The vendor's own messages, for the tests of each file.
#[cfg(test)]
pub(crate) mod vectors {
    use super::{Body, Message, Whose};
    use serde_json::{Value, json};

    pub const GATEWAY: Whose<'static> = Whose { product_key: "gwPK01", device_key: "gwDK01" };
    /// The time at which the vectors were made.
    pub const TIME: i64 = 1_700_000_000_123;

    pub fn row(name: &str) -> Value {
        let file = include_str!("../../../testcases/sdk-vectors/requests.json");
        let vectors: Value = serde_json::from_str(file).unwrap();
        let rows = vectors["requests"].as_array().unwrap();
        let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no vector {name}"));
        let mut row = row.clone();
        row["params"] = row["payload"]["params"].take();
        row
    }

    /// Holds a message to the vector, but for a fault of the client that the vector names.
    pub fn check(ours: &Message, name: &str) {
        let theirs = row(name);
        assert_eq!(ours.topic, theirs["topic"], "{name}");
        let Body::Json { method, params } = &ours.body else { panic!("{name} is no json") };
        // A fault of that client is its method: ours is the path of the topic then, as documented.
        let bug = theirs["sdk_bug"].as_str().is_some_and(|bug| ["event-method", "ota-methods"].contains(&bug));
        let path = ours.topic.splitn(5, '/').last().unwrap_or_default().replace('/', ".");
        assert_eq!(method, if bug { &path } else { theirs["method"].as_str().unwrap() }, "{name}");
        assert_eq!(params, &theirs["params"], "{name}");
        let sent: Value = serde_json::from_slice(&ours.clone().encode(7)).unwrap();
        assert_eq!(sent["id"], json!("7"));
        assert_eq!(sent["version"], json!("1.0"));
    }
}
