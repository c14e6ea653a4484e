//! PURE. `measurepoint/post/batch` and `measurepoint/resume/batch`, written straight from batches.
//!
//! No value becomes an object on the way: a number goes from the batch into the text of the message.

use super::keys::{Device, Keys, PointKey, put_text};
use crate::model::{Batch, Block, Entry, ValueRef};

/// Live and late data travel on topics of their own: late data fills the history and triggers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    Post,
    Resume,
}

impl Route {
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Route::Post => "thing.measurepoint.post.batch",
            Route::Resume => "thing.measurepoint.resume.batch",
        }
    }
}

/// Data of sub-devices that are not logged in at the moment is wanted too; one bad value must be told to us and not
/// left out in silence, so that it can be set aside with its reason.
const CLOSING: &[u8] = b"],\"allowOfflineSubDevice\":true,\"skipInvalidMeasurepoints\":false}";

/// Why a batch was not added. The message is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdded {
    /// It does not fit behind what is there.
    Full,
    /// It holds something that can not be sent: see [`sendable`].
    Unfit,
}

/// A message under construction.
#[derive(Debug)]
pub struct Message {
    text: Vec<u8>,
    limit: usize,
    empty: bool,
}

impl Message {
    /// `room` is what the text will likely take; `limit` what it may take at most.
    #[must_use]
    pub fn begin(id: u16, route: Route, room: usize, limit: usize) -> Message {
        let mut text = Vec::with_capacity(room.min(limit));
        text.extend_from_slice(b"{\"id\":\"");
        text.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
        text.extend_from_slice(b"\",\"version\":\"1.0\",\"method\":\"");
        text.extend_from_slice(route.method().as_bytes());
        text.extend_from_slice(b"\",\"params\":[");
        Message { text, limit: limit.saturating_sub(CLOSING.len()), empty: true }
    }

    /// Adds all readings of a batch, or none.
    ///
    /// # Errors
    /// When it does not fit or can not be sent as it is.
    pub fn add(&mut self, keys: &Keys, batch: &Batch) -> Result<(), NotAdded> {
        let (before, was_empty) = (self.text.len(), self.empty);
        let added = self.add_blocks(keys, batch);
        if added.is_err() {
            self.text.truncate(before);
            self.empty = was_empty;
        }
        added
    }

    fn add_blocks(&mut self, keys: &Keys, batch: &Batch) -> Result<(), NotAdded> {
        for block in batch.blocks() {
            let block = block.map_err(|_| NotAdded::Unfit)?;
            let device = keys.device(block.device).ok_or(NotAdded::Unfit)?;
            if !self.empty {
                self.text.push(b',');
            }
            self.empty = false;
            put_item(&mut self.text, device, &block).ok_or(NotAdded::Unfit)?;
            if self.text.len() > self.limit {
                return Err(NotAdded::Full);
            }
        }
        Ok(())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// The finished text.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.text.extend_from_slice(CLOSING);
        self.text
    }
}

fn put_item(out: &mut Vec<u8>, device: Device<'_>, block: &Block<'_>) -> Option<()> {
    out.extend_from_slice(device.opening);
    let mut first = true;
    for entry in block.entries() {
        let entry = entry.ok()?;
        let key = device.point(entry.point)?;
        if !first {
            out.push(b',');
        }
        first = false;
        put_entry(out, key, &entry)?;
    }
    out.extend_from_slice(b"},\"time\":");
    out.extend_from_slice(itoa::Buffer::new().format(block.time.0).as_bytes());
    out.push(b'}');
    Some(())
}

fn put_entry(out: &mut Vec<u8>, key: PointKey<'_>, entry: &Entry<'_>) -> Option<()> {
    out.extend_from_slice(key.text);
    match entry.value {
        ValueRef::Bool(true) => out.extend_from_slice(b"true"),
        ValueRef::Bool(false) => out.extend_from_slice(b"false"),
        ValueRef::Int(i) => out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes()),
        ValueRef::Float(f) if f.is_finite() => out.extend_from_slice(ryu::Buffer::new().format_finite(f).as_bytes()),
        ValueRef::Double(d) if d.is_finite() => out.extend_from_slice(ryu::Buffer::new().format_finite(d).as_bytes()),
        ValueRef::Float(_) | ValueRef::Double(_) => return None,
        ValueRef::Text(text) => put_text(out, text),
    }
    if key.has_quality {
        out.extend_from_slice(b",\"quality\":");
        out.push(b'0' + entry.quality.min(9));
        out.push(b'}');
    }
    Some(())
}

/// Whether a reading can travel over MQTT.
///
/// # Errors
/// Why it can not.
pub fn sendable(keys: &Keys, device: u32, entry: &Entry<'_>) -> Result<(), &'static str> {
    let Some(device) = keys.device(device) else {
        return Err("a logic asset has no MQTT login; its readings need the REST integration");
    };
    if device.point(entry.point).is_none() {
        return Err("the point is not in the package that was loaded when it was read");
    }
    match entry.value {
        ValueRef::Float(f) if !f.is_finite() => Err("JSON has no form for a number that is not finite"),
        ValueRef::Double(d) if !d.is_finite() => Err("JSON has no form for a number that is not finite"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, DeviceNames, Names, PointName, PointNames, Timestamp, Value};
    use proptest::prelude::*;
    use serde_json::json;
    use std::sync::Arc;

    fn device(product_key: &str, device_key: &str, points: &[(&str, bool)]) -> DeviceNames {
        let points = points.iter().map(|(id, q)| PointName { id: (*id).to_owned(), has_quality: *q }).collect();
        DeviceNames {
            name: device_key.to_owned(),
            product_key: product_key.to_owned(),
            device_key: device_key.to_owned(),
            asset_id: None,
            points: Arc::new(PointNames { model: "m".to_owned(), points }),
        }
    }

    fn parse(message: Message) -> serde_json::Value {
        serde_json::from_slice(&message.finish()).unwrap()
    }

    /// The vendor's own batch of two devices, without the array no reading can hold.
    #[test]
    fn a_batch_equals_the_vendors_message() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../../testcases/sdk-vectors/requests.json")).unwrap();
        for (row, route) in [(0, Route::Post), (1, Route::Resume)] {
            let mut theirs = vectors["requests"][row]["payload"].clone();
            for item in theirs["params"].as_array_mut().unwrap() {
                item["measurepoints"].as_object_mut().unwrap().remove("arr");
            }
            theirs["skipInvalidMeasurepoints"] = json!(false);
            let points = [("temp", false), ("count", false), ("ok", false), ("name", false), ("Power", true)];
            let names = Names::new(vec![device("subPK01", "subDK01", &points), device("subPK02", "subDK02", &points)]);
            let mut builder = BatchBuilder::default();
            for (device, time) in [(0, 1_700_000_000_123), (1, 1_700_000_001_123)] {
                builder.begin(device, Timestamp(time));
                builder.push(0, 0, &Value::Float(1.02));
                builder.push(1, 0, &Value::Int(7));
                builder.push(2, 0, &Value::Bool(true));
                builder.push(3, 0, &Value::Text("a\"b中".into()));
                builder.push(4, 9, &Value::Int(1));
            }
            let id: u16 = theirs["id"].as_str().unwrap().parse().unwrap();
            let mut message = Message::begin(id, route, 0, 1 << 20);
            message.add(&Keys::new(&names), &builder.finish(names.epoch).unwrap()).unwrap();
            assert_eq!(parse(message), theirs);
        }
    }

    #[test]
    fn numbers_are_written_shortest() {
        let names = Names::new(vec![device("p", "d", &[("a", false), ("b", false), ("c", false)])]);
        let mut builder = BatchBuilder::default();
        builder.begin(0, Timestamp(5));
        builder.push(0, 0, &Value::Float(0.1));
        builder.push(1, 0, &Value::Double(0.1));
        builder.push(2, 0, &Value::Int(i64::MIN));
        let mut message = Message::begin(1, Route::Post, 0, 9999);
        message.add(&Keys::new(&names), &builder.finish(0).unwrap()).unwrap();
        let text = String::from_utf8(message.finish()).unwrap();
        assert!(text.contains(r#"{"a":0.1,"b":0.1,"c":-9223372036854775808},"time":5}"#), "{text}");
    }

    #[test]
    fn what_does_not_fit_or_can_not_be_sent_leaves_the_message_as_it_was() {
        let mut logic = device("", "", &[("a", false)]);
        logic.asset_id = Some("x".to_owned());
        let names = Names::new(vec![device("p", "d", &[("a", false)]), logic]);
        let keys = Keys::new(&names);
        let batch = |device, point, value: &Value| {
            let mut builder = BatchBuilder::default();
            builder.begin(device, Timestamp(5));
            builder.push(point, 0, value);
            builder.finish(0).unwrap()
        };
        let good = batch(0, 0, &Value::Int(1));
        let mut message = Message::begin(1, Route::Post, 0, 230);
        message.add(&keys, &good).unwrap();
        let len = message.len();
        assert_eq!(message.add(&keys, &good), Err(NotAdded::Full));
        for bad in [
            batch(0, 0, &Value::Float(f32::NAN)),
            batch(0, 0, &Value::Double(f64::INFINITY)),
            batch(0, 1, &Value::Int(1)),
            batch(1, 0, &Value::Int(1)),
            batch(2, 0, &Value::Int(1)),
        ] {
            assert_eq!(message.add(&keys, &bad), Err(NotAdded::Unfit));
            let block = bad.blocks().next().unwrap().unwrap();
            let entry = block.entries().next().unwrap().unwrap();
            assert!(sendable(&keys, block.device, &entry).is_err());
        }
        assert_eq!(message.len(), len);
        assert_eq!(parse(message)["params"].as_array().unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn a_message_is_valid_and_within_its_limit(
            texts in prop::collection::vec("[\\PC\u{0}-\u{1f}\"\\\\]{0,20}", 1..20),
            limit in 200usize..2000,
        ) {
            let names = Names::new(vec![device("p\"", "中\u{1}", &[("a", true)])]);
            let keys = Keys::new(&names);
            let mut message = Message::begin(65535, Route::Resume, 0, limit);
            let mut sent = Vec::new();
            for text in &texts {
                let mut builder = BatchBuilder::default();
                builder.begin(0, Timestamp(5));
                builder.push(0, 3, &Value::Text(text.as_str().into()));
                if message.add(&keys, &builder.finish(0).unwrap()).is_ok() {
                    sent.push(text.clone());
                }
            }
            let bytes = message.finish();
            prop_assert!(bytes.len() <= limit.max(180));
            let parsed: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let back: Vec<String> = parsed["params"].as_array().unwrap().iter()
                .map(|item| item["measurepoints"]["a"]["value"].as_str().unwrap().to_owned()).collect();
            prop_assert_eq!(back, sent);
        }
    }
}
