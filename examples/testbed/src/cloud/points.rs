//! Measurement points: all or nothing unless told to skip, then straight into the ledger.

use super::message::{Item, Kind, Message, Posted};
use super::model::ModelPoint;
use super::registry::Triple;
use super::request::Answer;
use super::world::World;
use enos_edge::model::DataType;
use serde_json::json;
use std::time::{SystemTime, UNIX_EPOCH};

/// A point that is not taken but does not fail the request.
const SKIPPED: u32 = u32::MAX;

type Refused = Answer;

impl World {
    /// `measurepoint/post`, `resume` and their batch forms.
    pub fn take_points(&mut self, link: u64, me: u32, target: u32, rest: &str, message: &Message<'_>) -> Answer {
        let late = rest.contains("/resume");
        match self.check(link, me, target, rest, message) {
            Ok(devices) => {
                self.record(&devices, message, late);
                Answer::ok(json!({}))
            }
            Err(refused) => refused,
        }
    }

    /// The points of a product's integration channel.
    pub fn take_channel_points(&mut self, product: u32, message: &Message<'_>) -> Answer {
        self.resolved.clear();
        let mut devices = Vec::with_capacity(message.items.len());
        for item in &message.items {
            if !item.has_measurepoints {
                return Answer::refused(1206, "an item has no measurepoints");
            }
            let device = self.channel_device(product, item.device_key.as_deref().unwrap_or_default());
            match device.and_then(|device| self.check_values(device, message, item).map(|()| device)) {
                Ok(device) => devices.push(device),
                Err(refused) => return refused,
            }
        }
        self.record(&devices, message, false);
        Answer::ok(json!({}))
    }

    /// First everything is looked at: without `skipInvalidMeasurepoints` one bad item fails the whole request.
    fn check(
        &mut self,
        link: u64,
        me: u32,
        target: u32,
        rest: &str,
        message: &Message<'_>,
    ) -> Result<Vec<u32>, Refused> {
        if message.method.bytes().map(|b| if b == b'.' { b'/' } else { b }).ne(rest.bytes()) {
            return Err(Answer::refused(1260, format!("method {} does not fit the topic", message.method)));
        }
        if message.is_batch != rest.ends_with("/batch") || message.items.is_empty() && !message.is_batch {
            return Err(Answer::refused(1206, "params is malformed"));
        }
        self.resolved.clear();
        let mut devices = Vec::with_capacity(message.items.len());
        for item in &message.items {
            if !item.has_measurepoints {
                return Err(Answer::refused(1206, "an item has no measurepoints"));
            }
            let device = self.item_device(link, me, target, message, item)?;
            self.check_values(device, message, item)?;
            devices.push(device);
        }
        Ok(devices)
    }

    /// The device of an item: 1212 when it is offline or not under this gateway.
    fn item_device(
        &mut self,
        link: u64,
        me: u32,
        target: u32,
        message: &Message<'_>,
        item: &Item<'_>,
    ) -> Result<u32, Refused> {
        let (Some(product_key), Some(device_key)) = (&item.product_key, &item.device_key) else { return Ok(target) };
        let no_permission =
            || Answer::refused(1212, format!("no permission for the sub-device {product_key}&{device_key}"));
        let device = match self.find(product_key, device_key) {
            Some(device) => device,
            None if self.registry.accept_all => {
                self.add_device(Triple::new(product_key, device_key, ""), false, Some(me))
            }
            None => return Err(no_permission()),
        };
        let mine = device == me || self.registry.get(device).gateway == Some(me);
        if !mine || !message.allow_offline && !self.speaks_for(link, device) {
            return Err(no_permission());
        }
        match self.knobs.refused_device(product_key, device_key) {
            Some(code) if device != me => Err(Answer::refused(code, format!("{product_key}&{device_key}: refused"))),
            _ => Ok(device),
        }
    }

    fn check_values(&mut self, device: u32, message: &Message<'_>, item: &Item<'_>) -> Result<(), Refused> {
        for (id, value) in &message.values[item.values.clone()] {
            match self.check_value(device, id, *value) {
                Ok(point) => self.resolved.push(point),
                Err(_) if message.skip_invalid => {
                    self.stats.values_skipped += 1;
                    self.resolved.push(SKIPPED);
                }
                Err(code) => return Err(Answer::refused(code, format!("measurepoint {id} is not valid"))),
            }
        }
        Ok(())
    }

    fn check_value(&mut self, device: u32, id: &str, value: Posted) -> Result<u32, i64> {
        /// Does not fit the model.
        const MISFIT: i64 = 1204;
        let known = &self.registry.devices[device as usize];
        if !self.knobs.refusals.is_empty()
            && let Some(code) = self.knobs.refused_point(&known.triple.product_key, &known.triple.device_key, id)
        {
            return Err(code);
        }
        if let Some(model) = &known.model {
            let point = model.find(id).ok_or(MISFIT)?;
            return if fits(&model.points[point as usize], value) { Ok(point) } else { Err(MISFIT) };
        }
        // A device without a model, such as the gateway itself, may post any point.
        if let Some(point) = known.learned.get(id) {
            return Ok(*point);
        }
        let point = self.ledger.add_point(device, id);
        self.registry.devices[device as usize].learned.insert(id.to_owned(), point);
        Ok(point)
    }

    fn record(&mut self, devices: &[u32], message: &Message<'_>, late: bool) {
        if late {
            self.stats.late_messages += 1;
        } else {
            self.stats.live_messages += 1;
        }
        let now = now_ms();
        for (item, device) in message.items.iter().zip(devices) {
            let slot = self.ledger.begin(*device, item.time.unwrap_or(now), now);
            for at in item.values.clone() {
                let point = self.resolved[at];
                if point != SKIPPED {
                    self.ledger.record(slot, point, message.values[at].1.number, late);
                    self.stats.values += 1;
                }
            }
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Whether a JSON value can be of the point's data type.
fn fits(point: &ModelPoint, value: Posted) -> bool {
    if value.quality.is_some() && !point.has_quality {
        return point.data_type == DataType::Struct;
    }
    match point.data_type {
        DataType::Int | DataType::Enum => {
            value.kind == Kind::Int && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value.number)
        }
        DataType::Float | DataType::Double => matches!(value.kind, Kind::Int | Kind::Float),
        DataType::Bool => value.kind == Kind::Bool,
        DataType::String | DataType::Date | DataType::File => value.kind == Kind::Text,
        DataType::Timestamp => value.kind == Kind::Int,
        DataType::Struct => value.kind == Kind::Object,
        DataType::Array => value.kind == Kind::Array,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_must_be_of_its_points_type() {
        let posted = |kind, number| Posted { kind, number, quality: None };
        for (data_type, value, expected) in [
            (DataType::Int, posted(Kind::Int, 5.0), true),
            (DataType::Int, posted(Kind::Int, 3e9), false),
            (DataType::Int, posted(Kind::Float, 5.5), false),
            (DataType::Double, posted(Kind::Int, 5.0), true),
            (DataType::Float, posted(Kind::Text, f64::NAN), false),
            (DataType::Bool, posted(Kind::Int, 1.0), false),
            (DataType::Timestamp, posted(Kind::Int, 1.7e12), true),
            (DataType::Float, Posted { quality: Some(0), ..posted(Kind::Float, 1.0) }, false),
        ] {
            let point = ModelPoint { id: "p".into(), data_type, has_quality: false };
            assert_eq!(fits(&point, value), expected, "{data_type:?} {value:?}");
        }
    }
}
