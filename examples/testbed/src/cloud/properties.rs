//! Attributes, tags, the model template and events of a device.

use super::model::Model;
use super::request::{Answer, Request};
use super::tag;
use super::world::{Event, Report, World};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// EnOS limits: attributes, or tags, in one request.
const MAX_KEYS: usize = 200;

impl World {
    /// `thing/attribute/*`
    pub fn attributes(&mut self, request: &Request<'_>) -> Answer {
        if let Some(Value::Object(attributes)) = request.params.get("attributes")
            && let Err(refused) = self.fitting_attributes(request.target, attributes.keys())
        {
            return refused;
        }
        let store = &mut self.registry.devices[request.target as usize].attributes;
        let keys = keys(&request.params, "attributes");
        match request.rest {
            "thing/attribute/update" => update(store, attribute_pairs(&request.params)),
            "thing/attribute/query" => query(store, keys),
            "thing/attribute/delete" => delete(store, keys),
            other => Answer::refused(1009, format!("{other} is not known")),
        }
    }

    /// `thing/tag/*`; the codes are those of attributes, as none of their own are documented.
    pub fn tags(&mut self, request: &Request<'_>) -> Answer {
        let store = &mut self.registry.devices[request.target as usize].tags;
        let keys = keys(&request.params, "tags");
        match request.rest {
            "thing/tag/update" => match tag::pairs(&request.params, store) {
                Ok(pairs) => update(store, Some(pairs)),
                Err(why) => Answer::refused(1207, why),
            },
            "thing/tag/query" => query(store, keys),
            "thing/tag/delete" => delete(store, keys),
            other => Answer::refused(1009, format!("{other} is not known")),
        }
    }

    /// `thing/tsltemplate/get`; a device without a model has four empty maps.
    pub fn tsl_template(&mut self, request: &Request<'_>) -> Answer {
        let model = self.registry.get(request.target).model.as_ref();
        Answer::ok(model.map_or_else(|| Model::new("", Vec::new()).template(), |model| model.template()))
    }

    /// `thing/event/{event}/post`
    pub fn event(&mut self, request: &Request<'_>) -> Answer {
        let event = request.rest.strip_prefix("thing/event/").and_then(|rest| rest.strip_suffix("/post"));
        let Some(event) = event.filter(|event| !event.is_empty() && !event.contains('/')) else {
            return Answer::refused(1009, format!("{} is not known", request.rest));
        };
        let outputs = request.params.get("events").unwrap_or(&Value::Null);
        let time = request.params.get("time").and_then(Value::as_i64);
        match self.event_of(request.target, event, outputs, time) {
            Ok(event) => {
                self.keep_event(event);
                Answer::ok(json!({}))
            }
            Err(refused) => refused,
        }
    }

    /// An event, if the model of its device knows it and what it puts out.
    pub fn event_of(&self, device: u32, event: &str, outputs: &Value, time: Option<i64>) -> Result<Event, Answer> {
        let known = self.registry.get(device);
        let fits = |outputs| known.model.as_ref().is_none_or(|model| model.takes_event(event, outputs));
        match outputs.as_object() {
            Some(outputs) if fits(outputs) => {}
            Some(_) => return Err(Answer::refused(1204, format!("event {event} does not fit the model"))),
            None => return Err(Answer::refused(1204, "events is no object")),
        }
        Ok(Event {
            product_key: known.triple.product_key.clone(),
            device_key: known.triple.device_key.clone(),
            event: event.to_owned(),
            outputs: outputs.clone(),
            time,
        })
    }

    /// Whether the model names all these attributes (1204).
    pub fn fitting_attributes<'a>(
        &self,
        device: u32,
        mut keys: impl Iterator<Item = &'a String>,
    ) -> Result<(), Answer> {
        let Some(model) = self.registry.get(device).model.as_ref() else { return Ok(()) };
        match keys.find(|key| !model.attributes.is_empty() && !model.attributes.contains(key)) {
            Some(unknown) => Err(Answer::refused(1204, format!("attribute {unknown} is not in the model"))),
            None => Ok(()),
        }
    }

    /// `thing/log/post`, `network/status/report`, `connection/state/post`
    pub fn report(&mut self, request: &Request<'_>) -> Answer {
        let good = match request.rest {
            "thing/log/post" => request.params.get("logs").is_some_and(Value::is_object),
            "connection/state/post" => is_connection_state(&request.params),
            _ => request.params.get("reportTime").is_some_and(Value::is_i64),
        };
        if !good {
            return Answer::refused(1220, format!("{} is malformed", request.rest));
        }
        let triple = &self.registry.get(request.target).triple;
        let report = Report {
            product_key: triple.product_key.clone(),
            device_key: triple.device_key.clone(),
            kind: request.rest.to_owned(),
            params: request.params.clone(),
        };
        self.keep_report(report);
        Answer::ok(json!({}))
    }
}

/// Nodes with an id and a state of 1 to 3; a full report also says who is under whom.
fn is_connection_state(params: &Value) -> bool {
    let node = |node: &Value| {
        node.get("nodeId").is_some_and(Value::is_string)
            && node.get("state").and_then(Value::as_i64).is_some_and(|state| (1..=3).contains(&state))
    };
    let full = params.get("isFull").and_then(Value::as_bool);
    full.is_some_and(|full| !full || params.get("relations").is_some_and(Value::is_object))
        && params.get("nodes").and_then(Value::as_array).is_some_and(|nodes| nodes.iter().all(node))
        && params.get("reportTime").is_some_and(Value::is_i64)
}

/// The keys of a query or a deletion.
fn keys<'a>(params: &'a Value, list: &str) -> Option<&'a Vec<Value>> {
    params.get(list).and_then(Value::as_array).filter(|keys| keys.len() <= MAX_KEYS)
}

fn attribute_pairs(params: &Value) -> Option<Vec<(String, Value)>> {
    let attributes = params.get("attributes")?.as_object()?;
    Some(attributes.clone().into_iter().collect())
}

fn update(store: &mut BTreeMap<String, Value>, pairs: Option<Vec<(String, Value)>>) -> Answer {
    let Some(pairs) = pairs.filter(|pairs| pairs.len() <= MAX_KEYS) else {
        return Answer::refused(1207, "update is malformed");
    };
    store.extend(pairs);
    Answer::ok(json!({}))
}

/// No keys ask for everything.
fn query(store: &BTreeMap<String, Value>, keys: Option<&Vec<Value>>) -> Answer {
    let Some(keys) = keys else { return Answer::refused(1208, "query is malformed") };
    let wanted = |key: &String| keys.is_empty() || keys.iter().any(|k| k.as_str() == Some(key));
    let found: Map<String, Value> =
        store.iter().filter(|(key, _)| wanted(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    Answer::ok(Value::Object(found))
}

/// No keys delete nothing.
fn delete(store: &mut BTreeMap<String, Value>, keys: Option<&Vec<Value>>) -> Answer {
    let Some(keys) = keys else { return Answer::refused(1209, "delete is malformed") };
    for key in keys.iter().filter_map(Value::as_str) {
        store.remove(key);
    }
    Answer::ok(json!({}))
}
