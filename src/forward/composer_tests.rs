//! Tests of the composer: whatever is put in comes out once, in valid form and within the limits.

use super::composer::{Composer, Message, TopicCache};
use super::ledger::Ledger;
use super::payload::Form;
use super::suspicion::Suspicion;
use super::topics::Place;
use crate::config::template::{Part, Template, Word};
use crate::config::{Join, Payload};
use crate::model::{
    Batch, BatchBuilder, DeviceNames, Lane, Names, Parcel, PointName, PointNames, SetAside, Timestamp, Value,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

const DEVICES: u32 = 4;
const POINTS: u32 = 5;

fn names() -> Arc<Names> {
    let point = |n| PointName { id: format!("p\"{n}/中"), has_quality: n % 2 == 1 };
    let points = Arc::new(PointNames { model: "M".to_owned(), points: (0..POINTS).map(point).collect() });
    let device = |n| DeviceNames {
        name: format!("Dev{n}"),
        product_key: "pk\\".to_owned(),
        device_key: format!("Dev{n}"),
        asset_id: None,
        points: Arc::clone(&points),
    };
    Arc::new(Names::new((0..DEVICES).map(device).collect()))
}

fn topic(words: &[Word]) -> Template {
    let mut parts = vec![Part::Literal("a".to_owned())];
    for word in words {
        parts.extend([Part::Literal("/".to_owned()), Part::Word(*word)]);
    }
    Template(parts)
}

fn custom() -> Payload {
    let literal = |text: &str| Part::Literal(text.to_owned());
    Payload::Template(Template(vec![
        literal("{\"d\":\""),
        Part::Word(Word::Device),
        literal("\",\"p\":\""),
        Part::Word(Word::Point),
        literal("\",\"t\":"),
        Part::Word(Word::Time),
        literal(",\"v\":"),
        Part::Word(Word::Value),
        literal("}"),
    ]))
}

struct Bench {
    composer: Composer,
    topics: TopicCache,
    ledger: Ledger,
    names: Arc<Names>,
}

impl Bench {
    fn new(payload: Payload, join: Join, topic: Template, gzip: bool, hard_limit: usize) -> Bench {
        let place = Place { gateway: "gw".to_owned(), site: Arc::new("s".to_owned().into()) };
        let form = Arc::new(Form::new(payload, join, place.clone()));
        Bench {
            composer: Composer::new(Lane::Live, form, gzip, hard_limit),
            topics: TopicCache::new(topic, place),
            ledger: Ledger::default(),
            names: names(),
        }
    }

    fn take(&mut self, seq: u64, batch: Batch, limit: usize) -> Vec<SetAside> {
        let parcel = Parcel { seq, lane: Lane::Live, names: Arc::clone(&self.names), batch };
        self.composer.take(&parcel, &mut self.topics, &mut self.ledger, &Suspicion::new(limit), limit, Timestamp(0))
    }

    fn messages(&mut self) -> Vec<Message> {
        self.composer.flush();
        std::iter::from_fn(|| self.composer.next()).collect()
    }
}

/// Device, point, time and value, and how often.
type Count = BTreeMap<(String, String, i64, String), i64>;

fn count(all: &mut Count, device: &str, point: &str, time: i64, value: &Json, by: i64) {
    let key = (device.to_owned(), point.to_owned(), time, value.to_string());
    *all.entry(key).or_default() += by;
}

fn unwrapped(value: &Json) -> &Json {
    value.get("value").unwrap_or(value)
}

/// Takes a document apart, whatever its form.
fn read(all: &mut Count, document: &Json) {
    if let Some(several) = document.as_array() {
        several.iter().for_each(|one| read(all, one));
    } else if let Some(params) = document.get("params") {
        read(all, params);
    } else if let Some(points) = document.get("measurepoints").or_else(|| document.get("values")) {
        let device = document.get("deviceKey").or_else(|| document.get("device")).unwrap().as_str().unwrap();
        for (point, value) in points.as_object().unwrap() {
            count(all, device, point, document["time"].as_i64().unwrap(), unwrapped(value), 1);
        }
    } else {
        let field = |short: &str, long: &str| document.get(short).or_else(|| document.get(long)).unwrap().clone();
        let (device, point, time) = (field("d", "device"), field("p", "point"), field("t", "time"));
        let value = field("v", "value");
        count(all, device.as_str().unwrap(), point.as_str().unwrap(), time.as_i64().unwrap(), &value, 1);
    }
}

fn as_json(value: &Value) -> Json {
    match value {
        Value::Bool(b) => json!(b),
        Value::Int(i) => json!(i),
        Value::Double(d) => json!(d),
        Value::Text(text) => json!(&**text),
        Value::Float(_) => unreachable!("not made here: JSON has doubles only"),
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-1e9f64..1e9).prop_map(|x| Value::Double(x.round() / 8.0)),
        Just(Value::Double(f64::NAN)),
        "[a-z\"\\\\\n中]{0,40}".prop_map(|s| Value::Text(s.as_str().into())),
    ]
}

fn forms() -> Vec<(Payload, Join)> {
    vec![
        (Payload::Enos, Join::None),
        (Payload::Json, Join::None),
        (Payload::JsonDevice, Join::None),
        (Payload::JsonDevice, Join::Lines),
        (Payload::JsonDevice, Join::Array),
        (custom(), Join::None),
        (custom(), Join::Lines),
        (custom(), Join::Array),
    ]
}

fn topics() -> Vec<Template> {
    vec![
        topic(&[]),
        topic(&[Word::Model]),
        topic(&[Word::Device]),
        topic(&[Word::Device, Word::Point]),
        topic(&[Word::Point]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_reading_is_lost_or_doubled_and_every_message_is_valid(
        parcels in prop::collection::vec(
            prop::collection::vec((0..DEVICES + 1, 0i64..3, 0..POINTS + 1, any_value()), 1..30), 1..4),
        form in prop::sample::select(forms()),
        topic in prop::sample::select(topics()),
        gzip in any::<bool>(),
        limit in 1usize..3000,
        hard in 120usize..3000,
    ) {
        let (payload, join) = form;
        let mut bench = Bench::new(payload, join, topic, gzip, hard);
        let mut all = Count::new();
        let (mut put_in, mut set_aside) = (0, 0);
        for (seq, parcel) in (1u64..).zip(&parcels) {
            let mut builder = BatchBuilder::default();
            for (device, time, point, value) in parcel {
                builder.begin(*device, Timestamp(*time));
                builder.push(*point, 9, value);
            }
            let batch = builder.finish(bench.names.epoch).unwrap();
            put_in += batch.count;
            for aside in bench.take(seq, batch.clone(), limit) {
                prop_assert_eq!(aside.seq, seq);
                set_aside += aside.batch.count;
                for block in aside.batch.blocks().flatten() {
                    for entry in block.entries().flatten() {
                        let value = entry.value.to_value();
                        let known = block.device < DEVICES && entry.point < POINTS;
                        if known && !matches!(value, Value::Double(x) if x.is_nan()) {
                            let device = &bench.names.devices[block.device as usize];
                            let point = &device.points.points[entry.point as usize].id;
                            count(&mut all, &device.name, point, block.time.0, &as_json(&value), 1);
                        }
                    }
                }
            }
            for (device, time, point, value) in parcel {
                if *device < DEVICES && *point < POINTS && !matches!(value, Value::Double(x) if x.is_nan()) {
                    let device = &bench.names.devices[*device as usize];
                    let point = &device.points.points[*point as usize].id;
                    count(&mut all, &device.name, point, *time, &as_json(value), -1);
                }
            }
        }
        prop_assert!(bench.ledger.finished().len() <= parcels.len());
        let messages = bench.messages();
        let sent: u32 = messages.iter().map(|m| m.readings).sum();
        prop_assert_eq!(put_in, sent + set_aside);
        for message in &messages {
            let mut text = String::new();
            if gzip {
                flate2::read::GzDecoder::new(&message.payload[..]).read_to_string(&mut text).unwrap();
            } else {
                text = String::from_utf8(message.payload.clone()).unwrap();
            }
            prop_assert!(text.len() <= hard, "{} bytes", text.len());
            prop_assert!(text.len() <= limit || message.readings == 1, "{} over {}", text.len(), limit);
            for document in serde_json::Deserializer::from_str(&text).into_iter::<Json>() {
                let document = document.unwrap_or_else(|e| panic!("{e} in {text}"));
                read(&mut all, &document);
            }
            bench.ledger.done(&message.seqs);
        }
        prop_assert!(all.values().all(|n| *n == 0), "{:?}", all);
        prop_assert!(bench.ledger.is_empty(), "every parcel comes to its end");
    }
}

fn two_devices() -> Batch {
    let mut builder = BatchBuilder::default();
    for device in 0..2 {
        builder.begin(device, Timestamp(1000));
        builder.push(0, 0, &Value::Int(7));
        builder.push(1, 9, &Value::Double(1.5));
    }
    builder.finish(names().epoch).unwrap()
}

fn texts(payload: Payload, join: Join, topic: Template) -> Vec<(String, String)> {
    let mut bench = Bench::new(payload, join, topic, false, 9999);
    assert!(bench.take(1, two_devices(), 9999).is_empty());
    let text = |m: Message| (m.topic, String::from_utf8(m.payload).unwrap());
    let mut all: Vec<_> = bench.messages().into_iter().map(text).collect();
    all.sort();
    all
}

#[test]
fn readings_of_one_topic_share_a_message() {
    let all = texts(Payload::Json, Join::None, topic(&[Word::Model]));
    assert_eq!(all.len(), 1);
    let array: Json = serde_json::from_str(&all[0].1).unwrap();
    assert_eq!(array[1], json!({"device":"Dev0","point":"p\"1/中","time":1000,"value":1.5,"quality":9}));
    assert_eq!(array.as_array().unwrap().len(), 4);
    assert_eq!(texts(Payload::Json, Join::None, topic(&[Word::Device])).len(), 2);
    let by_point = texts(Payload::Json, Join::None, topic(&[Word::Point]));
    assert_eq!(by_point.iter().map(|(topic, _)| topic.as_str()).collect::<Vec<_>>(), ["a/p\"0%2F中", "a/p\"1%2F中"]);
}

#[test]
fn objects_hold_the_points_of_a_device_and_a_time() {
    let all = texts(Payload::JsonDevice, Join::None, topic(&[]));
    let first: Json = serde_json::from_str(&all[0].1).unwrap();
    assert_eq!(all.len(), 2);
    let values = json!({"p\"0/中": 7, "p\"1/中": {"value": 1.5, "quality": 9}});
    assert_eq!(first, json!({"device": "Dev0", "time": 1000, "values": values}));
    let lines = texts(Payload::JsonDevice, Join::Lines, topic(&[]));
    assert_eq!((lines.len(), lines[0].1.lines().count()), (1, 2));
}

#[test]
fn the_enos_form_is_the_clouds_batch() {
    let all = texts(Payload::Enos, Join::None, topic(&[]));
    let message: Json = serde_json::from_str(&all[0].1).unwrap();
    assert_eq!(message["method"], "thing.measurepoint.post.batch");
    assert_eq!(message["id"], "1");
    assert_eq!(message["params"][1]["deviceKey"], "Dev1");
    assert_eq!(message["params"][1]["time"], 1000);
    assert_eq!(message["params"][0]["measurepoints"]["p\"1/中"], json!({"value": 1.5, "quality": 9}));
}

#[test]
fn a_bare_value_is_a_message() {
    let all = texts(Payload::Value, Join::None, topic(&[Word::Device, Word::Point]));
    assert_eq!(all[0], ("a/Dev0/p\"0%2F中".to_owned(), "7".to_owned()));
    assert_eq!((all.len(), all[1].1.as_str()), (4, "1.5"));
}

#[test]
fn a_value_larger_than_any_message_is_set_aside_alone() {
    let mut bench = Bench::new(Payload::Json, Join::None, topic(&[]), false, 500);
    let mut builder = BatchBuilder::default();
    builder.begin(0, Timestamp(1));
    builder.push(0, 0, &Value::Int(1));
    builder.push(1, 0, &Value::Text("x".repeat(600).as_str().into()));
    builder.push(2, 0, &Value::Int(2));
    let aside = bench.take(5, builder.finish(bench.names.epoch).unwrap(), 500);
    assert_eq!((aside.len(), aside[0].batch.count, aside[0].code), (1, 1, 2100));
    assert!(aside[0].reason.contains("larger than the largest message"));
    let messages = bench.messages();
    assert_eq!(messages.iter().map(|m| m.readings).sum::<u32>(), 2);
    for message in messages {
        bench.ledger.done(&message.seqs);
    }
    assert_eq!(bench.ledger.finished(), [5]);
}

#[test]
fn a_damaged_parcel_is_set_aside_whole_and_let_go() {
    let mut bench = Bench::new(Payload::Json, Join::None, topic(&[]), false, 500);
    let batch = Batch { bytes: [255u8; 9].as_slice().into(), ..two_devices() };
    let aside = bench.take(6, batch, 500);
    assert_eq!((aside.len(), bench.ledger.finished()), (1, vec![6]));
}
