//! The integration channel of a product: points, events and attributes of many devices over one connection.
//!
//! All or nothing, with the first error: 1257 for a device the product does not have.

use super::message::Message;
use super::request::Answer;
use super::topic;
use super::world::{Event, World};
use serde_json::{Value, json};

const NO_DEVICE: i64 = 1257;

impl World {
    /// A channel hears only its own product.
    pub fn channel_may_subscribe(&self, product: u32, filter: &str) -> bool {
        let key = &self.registry.get_product(product).key;
        let mut levels = filter.split('/').skip_while(|level| level.is_empty());
        let first = levels.next();
        first.is_some_and(|level| matches!(level, "+" | "#" | "sys"))
            && levels.next().is_none_or(|level| level == key || matches!(level, "+" | "#"))
    }

    /// One request of a channel, other than points.
    pub fn answer_channel(&mut self, product: u32, to: &str, payload: &[u8]) -> (String, Answer) {
        let Some(rest) = self.channel_topic(product, to) else { return no_permission(payload) };
        if matches!(rest, "model/up_raw" | "up_raw") {
            return ("null".to_owned(), Answer::ok(Value::Null));
        }
        let envelope = match super::request::envelope(payload) {
            Ok(envelope) => envelope,
            Err(answer) => return ("null".to_owned(), answer),
        };
        let id = envelope.get("id").unwrap_or(&Value::Null).to_string();
        let method = envelope.get("method").and_then(Value::as_str).unwrap_or_default();
        let answer = match (rest, method, envelope.get("params")) {
            // The documentation prints the plural.
            ("attribute/post" | "attributes/post", "integration.attribute.post", Some(params)) => {
                self.integrate_attributes(product, params)
            }
            ("event/post", "integration.event.post", Some(params)) => self.integrate_events(product, params),
            ("attribute/post" | "attributes/post" | "event/post", ..) => {
                Answer::refused(1260, format!("method {method} does not fit the topic"))
            }
            _ => return no_permission(payload),
        };
        (id, answer)
    }

    /// `integration/measurepoint/post`
    pub fn integrate_points(&mut self, product: u32, to: &str, message: &Message<'_>) -> Answer {
        if self.channel_topic(product, to).is_none() {
            return Answer::refused(1009, "no write permission for this topic");
        }
        if message.method != "integration.measurepoint.post" {
            return Answer::refused(1260, format!("method {} does not fit the topic", message.method));
        }
        if !message.is_batch {
            return Answer::refused(1206, "params is no array");
        }
        self.take_channel_points(product, message)
    }

    /// What follows `integration/`, when the topic is one of this product.
    fn channel_topic<'a>(&self, product: u32, to: &'a str) -> Option<&'a str> {
        let (key, rest) = topic::integration(to)?;
        (self.registry.get_product(product).key == key).then_some(rest)
    }

    /// A device of the product by its key.
    pub fn channel_device(&self, product: u32, device_key: &str) -> Result<u32, Answer> {
        let found = self.find(&self.registry.get_product(product).key, device_key);
        found.ok_or_else(|| Answer::refused(NO_DEVICE, format!("device {device_key} not found")))
    }

    fn integrate_attributes(&mut self, product: u32, params: &Value) -> Answer {
        let taken = self.each_item(product, params, |world, device, item| {
            let attributes = item.get("attributes").and_then(Value::as_object);
            let attributes = attributes.ok_or_else(|| Answer::refused(1207, "attributes is no object"))?;
            world.fitting_attributes(device, attributes.keys())?;
            Ok(attributes.clone())
        });
        match taken {
            Ok(items) => {
                for (device, attributes) in items {
                    self.registry.devices[device as usize].attributes.extend(attributes);
                }
                Answer::ok(json!({}))
            }
            Err(refused) => refused,
        }
    }

    fn integrate_events(&mut self, product: u32, params: &Value) -> Answer {
        let taken = self.each_item(product, params, |world, device, item| {
            let events = item.get("events").and_then(Value::as_object);
            let events = events.ok_or_else(|| Answer::refused(1204, "events is no object"))?;
            let time = item.get("time").and_then(Value::as_i64);
            events.iter().map(|(event, outputs)| world.event_of(device, event, outputs, time)).collect()
        });
        match taken {
            Ok(items) => {
                items.into_iter().flat_map(|(_, events): (u32, Vec<Event>)| events).for_each(|e| self.keep_event(e));
                Answer::ok(json!({}))
            }
            Err(refused) => refused,
        }
    }

    /// Looks at every item before any is taken.
    fn each_item<T>(
        &self,
        product: u32,
        params: &Value,
        look: impl Fn(&World, u32, &Value) -> Result<T, Answer>,
    ) -> Result<Vec<(u32, T)>, Answer> {
        let items = params.as_array().ok_or_else(|| Answer::refused(1220, "params is no array"))?;
        let one = |item: &Value| {
            let key = item.get("deviceKey").and_then(Value::as_str).unwrap_or_default();
            let device = self.channel_device(product, key)?;
            Ok((device, look(self, device, item)?))
        };
        items.iter().map(one).collect()
    }
}

fn no_permission(payload: &[u8]) -> (String, Answer) {
    (super::request::loose_id(payload), Answer::refused(1009, "no write permission for this topic"))
}
