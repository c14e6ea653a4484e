//! PURE. Every topic the gateway speaks on.

/// Topics of the gateway itself, made once.
#[derive(Clone, Debug)]
pub struct Topics {
    pub post_batch: String,
    pub resume_batch: String,
    pub activation: String,
    system: String,
    session: String,
}

impl Topics {
    #[must_use]
    pub fn new(product_key: &str, device_key: &str) -> Topics {
        let system = format!("/sys/{product_key}/{device_key}");
        let session = format!("/ext/session/{product_key}/{device_key}");
        Topics {
            post_batch: format!("{system}/thing/measurepoint/post/batch"),
            resume_batch: format!("{system}/thing/measurepoint/resume/batch"),
            activation: format!("{session}/thing/activate/info"),
            system,
            session,
        }
    }

    /// What must be subscribed before anything is sent: the answers to data. Those of requests come with the first request.
    #[must_use]
    pub fn replies(&self) -> Vec<String> {
        [&self.post_batch, &self.resume_batch].map(|t| reply(t)).into()
    }

    /// Commands to the gateway and notices about its sub-devices.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let mut topics = device_commands(&self.system);
        topics.extend(NOTICES.iter().map(|word| format!("{}/combine/{word}", self.session)));
        topics
    }
}

/// Notices that come both for the device itself and combined for sub-devices.
pub const NOTICES: [&str; 3] = ["enable", "disable", "delete"];

/// Commands to one sub-device. The real cloud pushes them unasked; a plain broker needs the subscription.
#[must_use]
pub fn sub_device_commands(product_key: &str, device_key: &str) -> Vec<String> {
    device_commands(&format!("/sys/{product_key}/{device_key}"))
}

/// What a device is told to do, below its own topics.
const COMMANDS: [&str; 6] = [
    "thing/service/+",
    "thing/service/measurepoint/set",
    "thing/service/measurepoint/get",
    "thing/model/down_raw",
    "ota/device/upgrade",
    "rrpc/request/+",
];

fn device_commands(system: &str) -> Vec<String> {
    COMMANDS
        .iter()
        .map(|t| format!("{system}/{t}"))
        .chain(NOTICES.iter().map(|word| format!("{system}/thing/{word}")))
        .collect()
}

/// Where the answer to `topic` comes.
#[must_use]
pub fn reply(topic: &str) -> String {
    format!("{topic}_reply")
}
