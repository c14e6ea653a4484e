//! Attributes, tags, the model template and events of a device.

use super::request::{Answer, Request};
use super::world::{Event, World};
use enos_edge::model::DataType;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// EnOS limits: attributes, or tags, in one request.
const MAX_KEYS: usize = 200;

impl World {
    /// `thing/attribute/*` and `thing/tag/*`.
    pub fn properties(&mut self, request: &Request<'_>) -> Answer {
        let device = &mut self.registry.devices[request.target as usize];
        let (store, action, list) = match request.rest.strip_prefix("thing/tag/") {
            Some(action) => (&mut device.tags, action, "tags"),
            None => (&mut device.attributes, request.rest.trim_start_matches("thing/attribute/"), "attributes"),
        };
        let keys = request.params.get(list).and_then(Value::as_array);
        match action {
            "update" => update(store, &request.params),
            "query" => keys.map_or_else(|| Answer::refused(1208, "query is malformed"), |keys| query(store, keys)),
            "delete" => keys.map_or_else(|| Answer::refused(1209, "delete is malformed"), |keys| delete(store, keys)),
            _ => Answer::refused(1009, format!("{} is not known", request.rest)),
        }
    }

    /// `thing/tsltemplate/get`; the inner shape is not documented.
    pub fn tsl_template(&mut self, request: &Request<'_>) -> Answer {
        let model = self.registry.get(request.target).model.as_ref();
        let points: Map<String, Value> = model
            .iter()
            .flat_map(|model| &model.points)
            .map(|point| {
                let shape = json!({
                    "identifier": point.id, "dataType": data_type(point.data_type), "hasQuality": point.has_quality,
                });
                (point.id.clone(), shape)
            })
            .collect();
        Answer::ok(json!({
            "tslAttributeMap": {}, "tslMeasurepointMap": points, "tslEventMap": {}, "tslServiceMap": {},
        }))
    }

    /// `thing/event/{event}/post`
    pub fn event(&mut self, request: &Request<'_>) -> Answer {
        let event = request.rest.strip_prefix("thing/event/").and_then(|rest| rest.strip_suffix("/post"));
        let Some(event) = event.filter(|event| !event.is_empty() && !event.contains('/')) else {
            return Answer::refused(1009, format!("{} is not known", request.rest));
        };
        let Some(outputs) = request.params.get("events").filter(|outputs| outputs.is_object()) else {
            return Answer::refused(1204, "events is no object");
        };
        let triple = &self.registry.get(request.target).triple;
        let event = Event {
            product_key: triple.product_key.clone(),
            device_key: triple.device_key.clone(),
            event: event.to_owned(),
            outputs: outputs.clone(),
            time: request.params.get("time").and_then(Value::as_i64),
        };
        self.keep_event(event);
        Answer::ok(json!({}))
    }
}

/// Attributes come as an object, tags as an array of key and value.
fn update(store: &mut BTreeMap<String, Value>, params: &Value) -> Answer {
    let pairs: Option<Vec<(String, Value)>> = match (params.get("attributes"), params.as_array()) {
        (Some(Value::Object(attributes)), _) => Some(attributes.clone().into_iter().collect()),
        (_, Some(tags)) => tags
            .iter()
            .map(|tag| Some((tag.get("tagKey")?.as_str()?.to_owned(), tag.get("tagValue")?.clone())))
            .collect(),
        _ => None,
    };
    let Some(pairs) = pairs.filter(|pairs| pairs.len() <= MAX_KEYS) else {
        return Answer::refused(1207, "update is malformed");
    };
    store.extend(pairs);
    Answer::ok(json!({}))
}

/// No keys ask for everything.
fn query(store: &BTreeMap<String, Value>, keys: &[Value]) -> Answer {
    let wanted = |key: &String| keys.is_empty() || keys.iter().any(|k| k.as_str() == Some(key));
    let found: Map<String, Value> =
        store.iter().filter(|(key, _)| wanted(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    Answer::ok(Value::Object(found))
}

/// No keys delete nothing.
fn delete(store: &mut BTreeMap<String, Value>, keys: &[Value]) -> Answer {
    for key in keys.iter().filter_map(Value::as_str) {
        store.remove(key);
    }
    Answer::ok(json!({}))
}

fn data_type(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Int => "int",
        DataType::Float => "float",
        DataType::Double => "double",
        DataType::Bool => "bool",
        DataType::Enum => "enum",
        DataType::String => "string",
        DataType::Timestamp => "timestamp",
        DataType::Date => "date",
        DataType::Struct => "struct",
        DataType::Array => "array",
        DataType::File => "file",
    }
}
