//! PURE. Models of things as the cloud knows them: points, events, attributes and services.

use enos_edge::model::{DataType, ThingModel};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// What a device of this model may post and be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub id: String,
    pub points: Vec<ModelPoint>,
    /// When empty, any event is taken: a package does not tell the stand-in which there are.
    pub events: Vec<Feature>,
    pub services: Vec<Feature>,
    /// When empty, any attribute is taken.
    pub attributes: Vec<String>,
    index: HashMap<String, u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPoint {
    pub id: String,
    pub data_type: DataType,
    pub has_quality: bool,
}

/// An event or a service, with the names of what it puts out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    pub id: String,
    pub outputs: Vec<String>,
}

impl Feature {
    #[must_use]
    pub fn of(id: &str, outputs: &[&str]) -> Feature {
        Feature { id: id.to_owned(), outputs: outputs.iter().map(|output| (*output).to_owned()).collect() }
    }
}

impl Model {
    #[must_use]
    pub fn new(id: &str, points: Vec<ModelPoint>) -> Model {
        let index = points.iter().zip(0..).map(|(point, number)| (point.id.clone(), number)).collect();
        let (events, services, attributes) = (Vec::new(), Vec::new(), Vec::new());
        Model { id: id.to_owned(), points, events, services, attributes, index }
    }

    /// A model of plain points, for tests.
    #[must_use]
    pub fn of(id: &str, points: &[(&str, DataType)]) -> Model {
        let point = |(id, data_type): &(&str, DataType)| ModelPoint {
            id: (*id).to_owned(),
            data_type: *data_type,
            has_quality: false,
        };
        Model::new(id, points.iter().map(point).collect())
    }

    pub(super) fn find(&self, id: &str) -> Option<u32> {
        self.index.get(id).copied()
    }

    /// Whether an event with these outputs may come from a device of this model.
    pub(super) fn takes_event(&self, event: &str, outputs: &Map<String, Value>) -> bool {
        let known = self.events.iter().find(|known| known.id == event);
        self.events.is_empty() || known.is_some_and(|known| outputs.keys().all(|output| known.outputs.contains(output)))
    }

    /// The four maps of `tsltemplate/get`. Their inner shape is not documented; here each feature is under its own id, with
    /// the words the rest of EnOS uses: `identifier`, `dataType`, `hasQuality`, `outputData`.
    #[must_use]
    pub(super) fn template(&self) -> Value {
        let points = self.points.iter().map(|point| {
            let (id, kind) = (&point.id, data_type(point.data_type));
            (id.clone(), json!({"identifier": id, "dataType": kind, "hasQuality": point.has_quality}))
        });
        let attributes = self.attributes.iter().map(|id| (id.clone(), json!({"identifier": id})));
        json!({
            "tslAttributeMap": attributes.collect::<Map<_, _>>(),
            "tslMeasurepointMap": points.collect::<Map<_, _>>(),
            "tslEventMap": features(&self.events),
            "tslServiceMap": features(&self.services),
        })
    }
}

fn features(features: &[Feature]) -> Map<String, Value> {
    let one = |feature: &Feature| {
        let outputs = feature.outputs.iter().map(|id| json!({"identifier": id})).collect::<Vec<_>>();
        (feature.id.clone(), json!({"identifier": feature.id, "outputData": outputs}))
    };
    features.iter().map(one).collect()
}

impl From<&ThingModel> for Model {
    fn from(model: &ThingModel) -> Model {
        let points = model.measurepoints.iter().map(|point| ModelPoint {
            id: point.id.clone(),
            data_type: point.data_type,
            has_quality: point.has_quality,
        });
        Model::new(&model.id, points.collect())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_or_an_output_the_model_does_not_name_is_not_taken() {
        let any = Model::of("M", &[]);
        let strict = Model { events: vec![Feature::of("alarm", &["level"])], ..any.clone() };
        let outputs = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), json!(1))).collect();
        assert!(any.takes_event("whatever", &outputs(&["x"])));
        assert!(strict.takes_event("alarm", &outputs(&["level"])));
        assert!(!strict.takes_event("alarm", &outputs(&["level", "x"])));
        assert!(!strict.takes_event("other", &outputs(&[])));
    }
}
