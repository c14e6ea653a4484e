//! Dynamic activation: a device that logged in with its product's secret is sent its own.

use super::world::{Outbound, Peer, World};
use bytes::Bytes;
use serde_json::json;
use std::time::Duration;

impl World {
    /// What is pushed after CONNACK, and how much later. Whether EnOS sends a device its secret again is not documented;
    /// here it does, so that a device that lost power before it stored it is not lost (see [`super::Activation::once`]).
    pub fn activation(&mut self, link: u64) -> Vec<(Outbound, Duration)> {
        let activating = self.links.get(&link).is_some_and(|link| link.activating);
        let (true, Some(Peer::Device(device))) = (activating, self.peer(link)) else { return Vec::new() };
        let knob = self.knobs.activation.clone();
        let (topic, payload) = self.activation_message(device);
        self.stats.activations += 1;
        (0..knob.copies)
            .map(|_| {
                self.note_command(device, &topic, &payload);
                (Outbound::Publish { topic: topic.clone(), payload: payload.clone(), qos: 1 }, knob.delay)
            })
            .collect()
    }

    fn activation_message(&mut self, device: u32) -> (String, Bytes) {
        let id = self.next_command_id();
        let known = self.registry.get(device);
        let triple = &known.triple;
        let payload = json!({
            "id": id, "version": "1.0", "method": "thing.activate.info",
            "params": {
                "assetId": known.asset_id, "productKey": triple.product_key, "deviceKey": triple.device_key,
                "deviceSecret": triple.secret,
            },
        });
        let topic = format!("/ext/session/{}/{}/thing/activate/info", triple.product_key, triple.device_key);
        (topic, payload.to_string().into())
    }
}
