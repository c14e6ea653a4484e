//! `thing/device/register`: new devices, all of a request or none.

use super::registry::Triple;
use super::request::{Answer, Request};
use super::sub_devices::{field, named};
use super::world::World;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use tokio::time::Instant;

/// EnOS limits: devices in one request.
const MAX_DEVICES: usize = 1000;

impl World {
    /// `thing/device/register`
    pub fn register(&mut self, request: &Request<'_>) -> Answer {
        let entries = request.params.as_array().map(Vec::as_slice).unwrap_or_default();
        if entries.is_empty() || entries.len() > MAX_DEVICES {
            return Answer::refused(1220, "params must hold 1 to 1000 devices");
        }
        if let Err(refused) = self.may_register(entries) {
            return refused;
        }
        let registered = entries.iter().map(|entry| self.register_one(entry));
        Answer::ok(registered.collect())
    }

    fn may_register(&self, entries: &[Value]) -> Result<(), Answer> {
        let mut seen = HashSet::new();
        let mut more: HashMap<String, usize> = HashMap::new();
        for entry in entries {
            let (product_key, device_key) = (field(entry, "productKey"), field(entry, "deviceKey"));
            let refused = |code, why: &str| Err(Answer::refused(code, format!("{}: {why}", named(entry))));
            if self.registry.find_product(&product_key).is_none() && !self.registry.accept_all {
                // Of the family of codes for products; none is documented.
                return refused(600, "product does not exist");
            }
            if device_key.is_empty() && self.knobs.refuse_generated_keys {
                return refused(714, "device key could not be generated");
            }
            if !device_key.is_empty() && !is_key(&device_key) {
                return refused(1220, "device key is not allowed");
            }
            let known = self.registry.find(&product_key, &device_key).is_some();
            if known || !device_key.is_empty() && !seen.insert((product_key.clone(), device_key)) {
                return refused(702, "device key already exists");
            }
            *more.entry(product_key).or_default() += 1;
        }
        let full = |(key, more): &(&String, &usize)| {
            self.registry.find_product(key).is_some_and(|product| self.registry.get_product(product).is_full(**more))
        };
        match more.iter().find(full) {
            Some((key, _)) => Err(Answer::refused(739, format!("{key}: product has its maximum number of devices"))),
            None => Ok(()),
        }
    }

    fn register_one(&mut self, entry: &Value) -> Value {
        let random = |n| std::iter::repeat_with(fastrand::alphanumeric).take(n).collect::<String>();
        let product_key = field(entry, "productKey");
        let device_key = Some(field(entry, "deviceKey")).filter(|key| !key.is_empty()).unwrap_or_else(|| random(10));
        let model = self.registry.model_of_product(&product_key);
        let device = self.add_loose_device(Triple::new(&product_key, &device_key, &random(24)), model);
        let delay = self.knobs.visibility_delay;
        let known = &mut self.registry.devices[device as usize];
        known.visible_from = (!delay.is_zero()).then(|| Instant::now() + delay);
        if let Some(Value::Object(attributes)) = entry.get("deviceAttributes") {
            known.attributes.extend(attributes.clone());
        }
        json!({
            "assetId": known.asset_id, "productKey": product_key, "deviceKey": device_key,
            "deviceSecret": known.triple.secret,
        })
    }
}

/// 1-64 letters, digits, Chinese characters, `-`, `_`, `.`.
fn is_key(key: &str) -> bool {
    (1..=64).contains(&key.chars().count()) && key.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
}
