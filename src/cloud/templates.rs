//! PURE. Compares the models of the package with those of the cloud, one device of each model, and names what differs.
//! The cloud's inner shape is documented nowhere, so only what is clear is held against it.

use super::reply::{OK, Reply};
use crate::model::{DataType, ThingModel};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Differences that are listed; a wrong product differs in all of them.
const LISTED: usize = 20;

const WORDS: &[(&str, DataType)] = &[
    ("int", DataType::Int),
    ("float", DataType::Float),
    ("double", DataType::Double),
    ("bool", DataType::Bool),
    ("boolean", DataType::Bool),
    ("enum", DataType::Enum),
    ("string", DataType::String),
    ("timestamp", DataType::Timestamp),
    ("date", DataType::Date),
    ("struct", DataType::Struct),
    ("array", DataType::Array),
    ("file", DataType::File),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unasked,
    Asked,
    Done,
}

#[derive(Debug, Default)]
pub struct Templates {
    models: HashMap<String, (Arc<ThingModel>, State)>,
    under_way: bool,
    /// Position of a device that is online, by model.
    ready: Vec<(String, u32)>,
    found: Vec<String>,
}

impl Templates {
    #[must_use]
    pub fn new(models: &[Arc<ThingModel>]) -> Templates {
        let models = models.iter().map(|model| (model.id.clone(), (Arc::clone(model), State::Unasked))).collect();
        Templates { models, ..Templates::default() }
    }

    /// A device of this model came online.
    pub fn came_online(&mut self, at: u32, model: &str) {
        let wanted = self.models.get(model).is_some_and(|(_, state)| *state == State::Unasked);
        if wanted && !self.ready.iter().any(|(each, _)| each == model) {
            self.ready.push((model.to_owned(), at));
        }
    }

    /// The connection is gone.
    pub fn lost(&mut self) {
        self.ready.clear();
        self.under_way = false;
        for (_, state) in self.models.values_mut().filter(|(_, state)| *state == State::Asked) {
            *state = State::Unasked;
        }
    }

    /// The device whose model is asked for next; one at a time.
    pub fn next(&mut self) -> Option<(String, u32)> {
        if self.under_way {
            return None;
        }
        let (model, at) = self.ready.pop()?;
        self.models.get_mut(&model)?.1 = State::Asked;
        self.under_way = true;
        Some((model, at))
    }

    /// The answer. Without one the model is asked for with the next device that comes online. Returns what was found.
    pub fn answered(&mut self, model: &str, reply: Option<&Reply>) -> &[String] {
        self.under_way = false;
        let before = self.found.len();
        if let Some((known, state)) = self.models.get_mut(model) {
            *state = if reply.is_some() { State::Done } else { State::Unasked };
            match reply {
                Some(reply) if reply.code == OK => self.found.extend(differences(known, &reply.data)),
                Some(reply) => self.found.push(format!("model {model} could not be checked: code {}", reply.code)),
                None => {}
            }
        }
        &self.found[before..]
    }

    /// All differences so far.
    #[must_use]
    pub fn found(&self) -> &[String] {
        &self.found
    }
}

fn differences(model: &ThingModel, data: &Value) -> Vec<String> {
    let Some(points) = data.get("tslMeasurepointMap").and_then(Value::as_object) else {
        return vec![format!("model {} could not be checked: the cloud tells no measurement points", model.id)];
    };
    let mut found = Vec::new();
    for point in &model.measurepoints {
        match points.get(&point.id) {
            None => found.push(format!("model {}: the cloud does not know point {}", model.id, point.id)),
            Some(theirs) => {
                if let Some(word) = data_type(theirs).filter(|word| differs(word, point.data_type)) {
                    let ours = WORDS.iter().find(|(_, kind)| *kind == point.data_type).map_or("?", |(word, _)| word);
                    found
                        .push(format!("model {}: point {} is {ours} here and {word} in the cloud", model.id, point.id));
                }
            }
        }
    }
    let more = found.len().saturating_sub(LISTED);
    if more > 0 {
        found.truncate(LISTED);
        found.push(format!("model {}: {more} more points differ", model.id));
    }
    found
}

/// The word for the type, wherever it stands.
fn data_type(point: &Value) -> Option<String> {
    let places = [&point["dataType"], &point["dataType"]["type"], &point["dataDefinition"]["dataType"], &point["type"]];
    places.iter().find_map(|place| place.as_str()).map(str::to_lowercase)
}

/// A word that is not known differs from nothing.
fn differs(word: &str, ours: DataType) -> bool {
    WORDS.iter().find(|(each, _)| *each == word).is_some_and(|(_, theirs)| *theirs != ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Measurepoint, Signal, Upload};
    use serde_json::json;

    fn model(points: usize) -> Arc<ThingModel> {
        let point = |n: usize| Measurepoint {
            id: format!("p{n}"),
            name: String::new(),
            data_type: DataType::Float,
            signal: Signal::Ai,
            unit: None,
            has_quality: false,
            mandatory: false,
            upload: Upload::Realtime,
            late: None,
        };
        let measurepoints = (0..points).map(point).collect();
        Arc::new(ThingModel { id: "m".to_owned(), name: String::new(), parent: None, measurepoints })
    }

    fn reply(data: Value) -> Reply {
        Reply { id: 1, code: OK, data, message: String::new() }
    }

    #[test]
    fn missing_points_and_wrong_types_are_named() {
        let mut t = Templates::new(&[model(4)]);
        t.came_online(5, "m");
        t.came_online(6, "m");
        assert_eq!(t.next(), Some(("m".to_owned(), 5)));
        assert_eq!(t.next(), None);
        let points = json!({
            "p0": { "dataType": "FLOAT" }, "p1": { "dataType": { "type": "string" } }, "p2": { "identifier": "p2" },
        });
        let found = t.answered("m", Some(&reply(json!({ "tslMeasurepointMap": points }))));
        assert_eq!(
            found,
            ["model m: point p1 is float here and string in the cloud", "model m: the cloud does not know point p3"]
        );
        t.came_online(7, "m");
        assert_eq!(t.next(), None, "once is enough");
    }

    #[test]
    fn an_answer_that_does_not_come_is_asked_for_again_and_a_wrong_product_is_one_short_list() {
        let mut t = Templates::new(&[model(100)]);
        t.came_online(5, "m");
        t.next();
        assert!(t.answered("m", None).is_empty());
        t.came_online(5, "m");
        t.next();
        assert_eq!(t.answered("m", Some(&reply(json!({ "tslMeasurepointMap": {} })))).len(), LISTED + 1);
        assert_eq!(t.found().len(), LISTED + 1);
    }
}
