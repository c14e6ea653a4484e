//! PURE. Messages of a broker that become readings of local points: which, of what type, of what time.

use crate::config::{Pick, Subscription};
use crate::model::{DataType, Names, ThingModel, Timestamp, Value};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Longest text a measurement point takes, in bytes, as for values of devices.
const TEXT_LIMIT: usize = 1024;
/// A time may be this much ahead of our clock, in milliseconds: clocks differ.
const AHEAD: i64 = 24 * 3_600_000;

/// The points that may be fed.
#[derive(Debug)]
pub struct Feed {
    names: Arc<Names>,
    devices: HashMap<String, u32>,
    /// In the order of `names.devices`; `None` where nothing is known of the model.
    models: Vec<Option<Arc<ThingModel>>>,
}

/// The points of the package that runs now.
#[derive(Debug)]
pub struct FeedDesk(RwLock<Arc<Feed>>);

impl FeedDesk {
    #[must_use]
    pub fn new(feed: Feed) -> FeedDesk {
        FeedDesk(RwLock::new(Arc::new(feed)))
    }

    #[must_use]
    pub fn now(&self) -> Arc<Feed> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Another package.
    pub fn put(&self, feed: Feed) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(feed);
    }
}

/// A value for a local point.
#[derive(Clone, Debug, PartialEq)]
pub struct Fed {
    pub device: u32,
    pub point: u32,
    pub time: Timestamp,
    pub value: Value,
}

impl Feed {
    /// `models` in the order of `names.devices`; points have the order of the model.
    #[must_use]
    pub fn new(names: Arc<Names>, models: Vec<Option<Arc<ThingModel>>>) -> Feed {
        let indexed = names.devices.iter().enumerate();
        let devices =
            indexed.map(|(at, device)| (device.name.clone(), u32::try_from(at).unwrap_or(u32::MAX))).collect();
        Feed { names, devices, models }
    }

    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.names.epoch
    }

    /// Names in subscriptions that can never be fed.
    #[must_use]
    pub fn unknown(&self, subscriptions: &[Subscription]) -> Vec<String> {
        let mut wrong = Vec::new();
        for one in subscriptions {
            let Pick::Fixed(device) = &one.device else { continue };
            let filter = one.filter.as_str();
            match (self.devices.get(device), &one.point) {
                (None, _) => wrong.push(format!("filter {filter}: device \"{device}\" is not in the package")),
                (Some(at), Pick::Fixed(point)) if self.point(*at, point).is_none() => {
                    wrong.push(format!("filter {filter}: device \"{device}\" has no measurement point \"{point}\""));
                }
                _ => {}
            }
        }
        wrong
    }

    /// All that a message says; an error for each subscription that covers it and can make nothing of it.
    pub fn read(
        &self,
        subscriptions: &[Subscription],
        topic: &str,
        payload: &[u8],
        retained: bool,
        now: Timestamp,
    ) -> Vec<Result<Fed, String>> {
        let covered = subscriptions.iter().filter_map(|one| Some((one, one.filter.matches(topic)?)));
        let mut read: Vec<Result<Fed, String>> =
            covered.map(|(one, captured)| self.one(one, &captured, payload, retained, now)).collect();
        if read.is_empty() {
            read.push(Err("no subscription covers its topic".to_owned()));
        }
        read
    }

    fn one(
        &self,
        subscription: &Subscription,
        captured: &[&str],
        payload: &[u8],
        retained: bool,
        now: Timestamp,
    ) -> Result<Fed, String> {
        let device_name = picked(&subscription.device, captured);
        let point_name = picked(&subscription.point, captured);
        let device = *self
            .devices
            .get(device_name)
            .ok_or_else(|| format!("device \"{}\" is not in the package", shortened(device_name)))?;
        let (point, data_type) = self.point(device, point_name).ok_or_else(|| {
            format!("device \"{device_name}\" has no measurement point \"{}\"", shortened(point_name))
        })?;
        if retained && subscription.time.is_none() {
            return Err("a retained message is of unknown age; give it a time of its own with `time: /…`".to_owned());
        }
        let text = std::str::from_utf8(payload).map_err(|_| "the payload is no UTF-8".to_owned())?;
        let document = serde_json::from_str::<Json>(text);
        let time = match &subscription.time {
            None => now,
            Some(pointer) => time(document.as_ref().ok().and_then(|json| json.pointer(pointer)), pointer, now)?,
        };
        let json = match (&subscription.value, document) {
            (Some(_), Err(_)) => return Err("the payload is no JSON".to_owned()),
            (Some(pointer), Ok(json)) => {
                let found = json.pointer(pointer).cloned();
                found.ok_or_else(|| format!("the payload holds nothing at {pointer}"))?
            }
            (None, Ok(json)) if data_type != DataType::String || json.is_string() => json,
            // A bare word, or a number that is meant as a text.
            (None, _) => Json::String(text.to_owned()),
        };
        let value = typed(&json, data_type)
            .map_err(|why| format!("point \"{point_name}\" of device \"{device_name}\": {why}"))?;
        Ok(Fed { device, point, time, value })
    }

    fn point(&self, device: u32, id: &str) -> Option<(u32, DataType)> {
        let model = self.models.get(device as usize)?.as_ref()?;
        let at = model.measurepoints.iter().position(|point| point.id == id)?;
        Some((u32::try_from(at).ok()?, model.measurepoints[at].data_type))
    }
}

fn picked<'a>(pick: &'a Pick, captured: &[&'a str]) -> &'a str {
    match pick {
        Pick::Fixed(name) => name,
        Pick::Wildcard(at) => captured.get(*at).copied().unwrap_or_default(),
    }
}

/// Names of strangers are not repeated at length.
fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}

fn time(found: Option<&Json>, pointer: &str, now: Timestamp) -> Result<Timestamp, String> {
    let ms = found.and_then(Json::as_i64).ok_or_else(|| format!("no whole number of milliseconds at {pointer}"))?;
    if ms <= 0 || ms > now.0.saturating_add(AHEAD) {
        return Err(format!("the time at {pointer} is before 1970 or more than a day ahead"));
    }
    Ok(Timestamp(ms))
}

/// The value in the form its measurement point has. A reason never repeats what was sent: it goes to the log, once for
/// each reason.
fn typed(json: &Json, to: DataType) -> Result<Value, String> {
    let misfit = || format!("{} does not fit {to:?}", kind(json));
    let number = || json.as_f64().or_else(|| json.as_bool().map(f64::from)).or_else(|| parsed(json));
    match to {
        DataType::Int | DataType::Enum => {
            let whole = whole(json).and_then(|i| i32::try_from(i).ok());
            whole.map(|i| Value::Int(i64::from(i))).ok_or_else(misfit)
        }
        DataType::Timestamp => whole(json).map(Value::Int).ok_or_else(misfit),
        #[expect(clippy::cast_possible_truncation, reason = "what is infinite afterwards is refused")]
        DataType::Float => number().map(|x| x as f32).filter(|x| x.is_finite()).map(Value::Float).ok_or_else(misfit),
        DataType::Double => number().filter(|x| x.is_finite()).map(Value::Double).ok_or_else(misfit),
        DataType::Bool => match (json, whole(json)) {
            (Json::Bool(b), _) => Ok(Value::Bool(*b)),
            (_, Some(bit @ (0 | 1))) => Ok(Value::Bool(bit == 1)),
            _ => Err(misfit()),
        },
        DataType::String | DataType::Date => match json {
            Json::String(text) if text.len() > TEXT_LIMIT => Err(format!("a text of more than {TEXT_LIMIT} bytes")),
            Json::String(text) => Ok(Value::Text(text.as_str().into())),
            Json::Number(number) => Ok(Value::Text(number.to_string().as_str().into())),
            _ => Err(misfit()),
        },
        DataType::Struct | DataType::Array | DataType::File => Err(format!("points of type {to:?} are not fed")),
    }
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "this number",
        Json::String(_) => "this text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// A whole number, also when written with a point or as a text.
fn whole(json: &Json) -> Option<i64> {
    if let Some(i) = json.as_i64() {
        return Some(i);
    }
    if let Json::String(text) = json
        && let Ok(i) = text.trim().parse()
    {
        return Some(i);
    }
    // Beyond 2^53 a number with a point is no exact one.
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    json.as_f64()
        .or_else(|| parsed(json))
        .filter(|x| x.fract() == 0.0 && x.abs() <= 9_007_199_254_740_992.0)
        .map(|x| x as i64)
}

fn parsed(json: &Json) -> Option<f64> {
    json.as_str()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceNames, Measurepoint, PointName, PointNames, Signal, TopicFilter, Upload};
    use serde_json::json;

    fn feed() -> Feed {
        let points = [("P", DataType::Double), ("n", DataType::Int), ("on", DataType::Bool), ("s", DataType::String)];
        let measurepoints = points
            .iter()
            .map(|(id, data_type)| Measurepoint {
                id: (*id).to_owned(),
                name: String::new(),
                data_type: *data_type,
                signal: Signal::Ai,
                unit: None,
                has_quality: false,
                mandatory: false,
                upload: Upload::Realtime,
                late: None,
            })
            .collect();
        let model = Arc::new(ThingModel { id: "M".to_owned(), name: String::new(), parent: None, measurepoints });
        let names = points.iter().map(|(id, _)| PointName { id: (*id).to_owned(), has_quality: false }).collect();
        let names = Arc::new(PointNames { model: "M".to_owned(), points: names });
        let device = |name: &str| DeviceNames {
            name: name.to_owned(),
            product_key: "pk".to_owned(),
            device_key: name.to_owned(),
            asset_id: None,
            points: Arc::clone(&names),
        };
        Feed::new(Arc::new(Names::new(vec![device("m1"), device("m2")])), vec![Some(model), None])
    }

    fn subscription(filter: &str, point: Pick, value: Option<&str>, time: Option<&str>) -> Subscription {
        Subscription {
            filter: TopicFilter::parse(filter).unwrap(),
            device: Pick::Wildcard(0),
            point,
            value: value.map(str::to_owned),
            time: time.map(str::to_owned),
        }
    }

    const NOW: Timestamp = Timestamp(1_763_812_990_000);

    fn read(one: &Subscription, topic: &str, payload: &str) -> Result<Fed, String> {
        feed().read(std::slice::from_ref(one), topic, payload.as_bytes(), false, NOW).remove(0)
    }

    #[test]
    fn a_message_becomes_a_reading_of_the_point_its_topic_names() {
        let one = subscription("plant/+/set/#", Pick::Wildcard(1), Some("/v"), Some("/t"));
        let fed = read(&one, "plant/m1/set/n", "{\"v\": 7, \"t\": 1763812980000}").unwrap();
        assert_eq!(fed, Fed { device: 0, point: 1, time: Timestamp(1_763_812_980_000), value: Value::Int(7) });
        let bare = subscription("in/+", Pick::Fixed("P".to_owned()), None, None);
        assert_eq!(read(&bare, "in/m1", "1.5").unwrap().value, Value::Double(1.5));
        assert_eq!(read(&bare, "in/m1", " 2 ").unwrap().time, NOW);
        let text = subscription("in/+", Pick::Fixed("s".to_owned()), None, None);
        for (payload, value) in [("hello", "hello"), ("\"quoted\"", "quoted"), ("12", "12"), ("true", "true")] {
            assert_eq!(read(&text, "in/m1", payload).unwrap().value, Value::Text(value.into()));
        }
    }

    #[test]
    fn what_can_not_be_read_is_refused_in_words() {
        let one = subscription("in/+/#", Pick::Wildcard(1), Some("/v"), Some("/t"));
        for (topic, payload, words) in [
            ("in/m9/P", "{\"v\":1,\"t\":5}", "device \"m9\" is not"),
            ("in/m1/Q", "{\"v\":1,\"t\":5}", "no measurement point \"Q\""),
            ("in/m2/P", "{\"v\":1,\"t\":5}", "no measurement point"),
            ("in/m1/P", "{\"t\":5}", "nothing at /v"),
            ("in/m1/P", "{\"v\":1}", "no whole number of milliseconds at /t"),
            ("in/m1/P", "{\"v\":1,\"t\":99999999999999}", "more than a day ahead"),
            ("in/m1/P", "not json", "/t"),
            ("in/m1/n", "{\"v\":3000000000,\"t\":5}", "does not fit Int"),
            ("in/m1/n", "{\"v\":1.5,\"t\":5}", "does not fit Int"),
            ("in/m1/on", "{\"v\":2,\"t\":5}", "does not fit Bool"),
            ("in/m1/P", "{\"v\":[1],\"t\":5}", "does not fit Double"),
            ("in/m1/P", "{\"v\":\"NaN\",\"t\":5}", "does not fit Double"),
            ("elsewhere", "1", "no subscription covers"),
        ] {
            let refused = read(&one, topic, payload).unwrap_err();
            assert!(refused.contains(words), "{topic} {payload}: {refused}");
        }
    }

    #[test]
    fn a_reason_is_the_same_for_equal_mistakes_and_repeats_nothing_that_was_sent() {
        let one = subscription("in/+/#", Pick::Wildcard(1), Some("/v"), Some("/t"));
        let why = |topic: &str, value: &str, time: i64| {
            read(&one, topic, &format!("{{\"v\":{value},\"t\":{time}}}")).unwrap_err()
        };
        let long = |letter: &str| format!("\"{}\"", letter.repeat(1025));
        for (topic, values) in [
            ("in/m1/n", ["\"secret\"".to_owned(), "\"word\"".to_owned()]),
            ("in/m1/n", ["1.5".to_owned(), "2.5".to_owned()]),
            ("in/m1/s", [long("a"), long("b")]),
        ] {
            let reasons = values.map(|value| why(topic, &value, 5));
            assert_eq!(reasons[0], reasons[1]);
            assert!(!reasons[0].contains("secret") && reasons[0].len() < 100, "{}", reasons[0]);
        }
        assert_eq!(why("in/m1/n", "1", -1), why("in/m1/n", "1", i64::MAX));
    }

    #[test]
    fn a_retained_message_without_a_time_is_of_unknown_age() {
        let bare = subscription("in/+", Pick::Fixed("P".to_owned()), None, None);
        let read = feed().read(&[bare], "in/m1", b"1", true, NOW).remove(0);
        assert!(read.unwrap_err().contains("unknown age"));
    }

    #[test]
    fn types_are_taken_as_generously_as_they_are_certain() {
        for (json, to, value) in [
            (json!(1), DataType::Bool, Value::Bool(true)),
            (json!(true), DataType::Double, Value::Double(1.0)),
            (json!("3.5"), DataType::Float, Value::Float(3.5)),
            (json!(4.0), DataType::Int, Value::Int(4)),
            (json!("4"), DataType::Enum, Value::Int(4)),
            (json!(5), DataType::String, Value::Text("5".into())),
        ] {
            assert_eq!(typed(&json, to).unwrap(), value);
        }
        assert!(typed(&json!(1e300), DataType::Float).is_err());
        assert!(typed(&json!("x".repeat(2000)), DataType::String).is_err());
    }

    #[test]
    fn fixed_names_that_do_not_exist_are_found_at_once() {
        let mut one = subscription("a", Pick::Fixed("Q".to_owned()), None, None);
        one.device = Pick::Fixed("m1".to_owned());
        let mut two = one.clone();
        two.device = Pick::Fixed("m7".to_owned());
        assert_eq!(feed().unknown(&[one, two]).len(), 2);
    }
}
