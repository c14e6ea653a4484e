//! The stand-in cloud as a foreign MQTT client sees it.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failed step is the failed test")]

mod activation;
mod certificates;
mod channels;
mod client;
mod commands;
mod devices;
mod files;
mod limits;
mod messages;
mod sessions;

use std::sync::Arc;
use testbed::cloud::{Cloud, Model, Options, Registry, Triple};

pub struct Site {
    pub cloud: Cloud,
    pub gateway: Triple,
    pub subs: Vec<Triple>,
}

/// A gateway with two sub-devices of one model, one loose device and a second gateway's sub-device.
pub async fn site(options: Options) -> Site {
    use enos_edge::model::DataType;
    let gateway = Triple::new("gwPK", "gwDK", "gwSecret");
    let subs: Vec<Triple> = (1..=2).map(|i| Triple::new("subPK", &format!("sub{i}"), &format!("secret{i}"))).collect();
    let model = Arc::new(Model::of("Meter", &[("reads", DataType::Double), ("name", DataType::String)]));
    let mut registry = Registry::default();
    let number = registry.gateway(gateway.clone());
    for sub in &subs {
        registry.sub_device(number, sub.clone(), Some(Arc::clone(&model)));
    }
    registry.loose_device(Triple::new("subPK", "loose", "looseSecret"), Some(Arc::clone(&model)));
    let other = registry.gateway(Triple::new("gwPK", "other", "otherSecret"));
    registry.sub_device(other, Triple::new("subPK", "foreign", "foreignSecret"), Some(model));
    Site { cloud: Cloud::start(options, registry).await.unwrap(), gateway, subs }
}
