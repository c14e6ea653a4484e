//! PURE. A site in words: devices, points and connections of a resource package, written as an engineer would.
//!
//! Quickstart, benches and crash tests describe their site here; [`Site::files`] gives the package.

mod shapes;
mod yaml;

pub use shapes::{Address, Shape, machine_site, meter_site};

use crate::cloud::{Model, ModelPoint, Registry, Triple};
use enos_edge::model::DataType;
use std::sync::Arc;

/// A whole package.
#[derive(Debug, Clone)]
pub struct Site {
    pub name: String,
    pub version: String,
    pub gateway: Triple,
    pub connections: Vec<Connection>,
    pub devices: Vec<Device>,
    pub templates: Vec<Template>,
}

/// One `connections/*.yaml`.
#[derive(Debug, Clone)]
pub struct Connection {
    pub name: String,
    pub protocol: &'static str,
    pub parameters: Vec<(&'static str, String)>,
}

/// One device asset.
#[derive(Debug, Clone)]
pub struct Device {
    pub name: String,
    pub triple: Triple,
    pub template: String,
    pub connection: String,
    pub address: Option<String>,
}

/// One folder of `templates/`, and the model it fills.
#[derive(Debug, Clone)]
pub struct Template {
    pub name: String,
    pub model: String,
    pub points: Vec<Point>,
}

/// A row of point.csv, its mapping and its measurement point, which all have one name.
#[derive(Debug, Clone)]
pub struct Point {
    pub id: String,
    /// `ai`, `di`, `pi`; `ao`, `do`, `po` is written and never read.
    pub kind: &'static str,
    /// The point number, in the protocol's notation.
    pub number: String,
    /// Type on the wire, as point.csv says it.
    pub value_type: &'static str,
    pub coefficient: f64,
    /// Type in the model.
    pub data_type: &'static str,
    pub unit: &'static str,
    /// Its source counts its own readings, from 0 to this less 1: the ledger can tell what is missing.
    pub counts: Option<u32>,
}

impl Site {
    /// Path and text of every file of the package.
    #[must_use]
    pub fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![
            ("package.yaml".to_owned(), yaml::manifest(self)),
            ("assets.yaml".to_owned(), yaml::assets(self)),
            ("models/models.yaml".to_owned(), yaml::models(self)),
        ];
        for connection in &self.connections {
            files.push((format!("connections/{}.yaml", connection.name), yaml::connection(connection)));
        }
        for template in &self.templates {
            let folder = format!("templates/{}", template.name);
            files.push((format!("{folder}/template.yaml"), format!("model: {}\n", template.model)));
            files.push((format!("{folder}/point.csv"), yaml::points(template)));
            files.push((format!("{folder}/mapping.yaml"), yaml::mapping(template)));
        }
        files
    }

    /// The same assets as the cloud knows them, from these words and not from the package the gateway loads.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        let gateway = registry.gateway(self.gateway.clone());
        let models: Vec<Arc<Model>> = self.templates.iter().map(|template| Arc::new(model_of(template))).collect();
        for device in &self.devices {
            let model = self.templates.iter().position(|template| template.name == device.template);
            registry.sub_device(gateway, device.triple.clone(), model.map(|at| Arc::clone(&models[at])));
        }
        registry
    }

    /// What the cloud thinks a template's devices are like.
    #[must_use]
    pub fn model(&self, template: &str) -> Option<Arc<Model>> {
        self.templates.iter().find(|one| one.name == template).map(|template| Arc::new(model_of(template)))
    }

    /// Every counting point: device as the ledger names it, point, span.
    pub fn counting_points(&self) -> impl Iterator<Item = (String, &str, u32)> {
        self.devices.iter().flat_map(|device| {
            let template = self.templates.iter().find(|template| template.name == device.template);
            let points = template.into_iter().flat_map(|template| &template.points);
            points.filter_map(|point| {
                let name = format!("{}/{}", device.triple.product_key, device.triple.device_key);
                Some((name, point.id.as_str(), point.counts?))
            })
        })
    }
}

fn model_of(template: &Template) -> Model {
    let point = |point: &Point| ModelPoint {
        id: point.id.clone(),
        data_type: if point.data_type == "int" { DataType::Int } else { DataType::Double },
        has_quality: false,
    };
    Model::new(&template.model, template.points.iter().map(point).collect())
}
