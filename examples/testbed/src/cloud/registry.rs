//! PURE. What the cloud knows beforehand: gateways, sub-devices and their models.

use enos_edge::model::{Credential, DataType, Site, ThingModel};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The assets of one organisation.
#[derive(Debug, Default)]
pub struct Registry {
    pub(super) devices: Vec<Device>,
    by_key: HashMap<String, HashMap<String, u32>>,
    /// Unknown devices and points are taken as they come. For demonstrations with foreign clients.
    pub(super) accept_all: bool,
}

/// What a device needs to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triple {
    pub product_key: String,
    pub device_key: String,
    pub secret: String,
}

#[derive(Debug)]
pub(super) struct Device {
    pub triple: Triple,
    pub asset_id: String,
    pub is_gateway: bool,
    /// The gateway this sub-device is in the topology of.
    pub gateway: Option<u32>,
    pub enabled: bool,
    pub model: Option<Arc<Model>>,
    /// Points of a device without a model, as they came.
    pub learned: HashMap<String, u32>,
    pub attributes: BTreeMap<String, Value>,
    pub tags: BTreeMap<String, Value>,
    pub ota: super::ota::OtaState,
}

/// The measurement points a device may post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub id: String,
    pub points: Vec<ModelPoint>,
    index: HashMap<String, u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPoint {
    pub id: String,
    pub data_type: DataType,
    pub has_quality: bool,
}

impl Triple {
    #[must_use]
    pub fn new(product_key: &str, device_key: &str, secret: &str) -> Triple {
        Triple { product_key: product_key.into(), device_key: device_key.into(), secret: secret.into() }
    }
}

impl Model {
    #[must_use]
    pub fn new(id: &str, points: Vec<ModelPoint>) -> Model {
        let index = points.iter().zip(0..).map(|(point, number)| (point.id.clone(), number)).collect();
        Model { id: id.to_owned(), points, index }
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

impl Registry {
    /// Knows the gateway and every device asset of a package, topology included.
    #[must_use]
    pub fn from_site(site: &Site, gateway: Triple) -> Registry {
        let mut registry = Registry::default();
        let gateway = registry.gateway(gateway);
        let mut models: HashMap<*const ThingModel, Arc<Model>> = HashMap::new();
        for connected in site.connections.iter().flat_map(|connection| &connection.devices) {
            let Credential::Device { secret } = &site.credentials[connected.device as usize] else { continue };
            let names = &site.names.devices[connected.device as usize];
            let thing_model = &connected.template.model;
            let model =
                models.entry(Arc::as_ptr(thing_model)).or_insert_with(|| Arc::new(Model::from(thing_model.as_ref())));
            let triple = Triple::new(&names.product_key, &names.device_key, secret.reveal());
            let device = registry.sub_device(gateway, triple, Some(Arc::clone(model)));
            if let Some(asset_id) = &names.asset_id {
                registry.devices[device as usize].asset_id.clone_from(asset_id);
            }
        }
        registry
    }

    /// Takes unknown devices and points as they come; signs of unknown devices are not checked.
    #[must_use]
    pub fn accept_all() -> Registry {
        Registry { accept_all: true, ..Registry::default() }
    }

    /// Adds a gateway.
    pub fn gateway(&mut self, triple: Triple) -> u32 {
        self.add(triple, true, None, None)
    }

    /// Adds a sub-device to the gateway's topology; without a model it may post any point.
    pub fn sub_device(&mut self, gateway: u32, triple: Triple, model: Option<Arc<Model>>) -> u32 {
        self.add(triple, false, Some(gateway), model)
    }

    /// Adds a device that is in no topology yet.
    pub fn loose_device(&mut self, triple: Triple, model: Option<Arc<Model>>) -> u32 {
        self.add(triple, false, None, model)
    }

    /// A disabled device may not log in (723).
    pub fn enable(&mut self, product_key: &str, device_key: &str, enabled: bool) {
        if let Some(device) = self.find(product_key, device_key) {
            self.devices[device as usize].enabled = enabled;
        }
    }

    pub(super) fn find(&self, product_key: &str, device_key: &str) -> Option<u32> {
        self.by_key.get(product_key)?.get(device_key).copied()
    }

    /// The model of the product, as another device of it has it.
    pub(super) fn model_of_product(&self, product_key: &str) -> Option<Arc<Model>> {
        self.devices.iter().find(|device| device.triple.product_key == product_key)?.model.clone()
    }

    pub(super) fn get(&self, device: u32) -> &Device {
        &self.devices[device as usize]
    }

    pub(super) fn add(
        &mut self,
        triple: Triple,
        is_gateway: bool,
        gateway: Option<u32>,
        model: Option<Arc<Model>>,
    ) -> u32 {
        let number = u32::try_from(self.devices.len()).expect("fewer than 4 billion devices");
        let keys = self.by_key.entry(triple.product_key.clone()).or_default();
        if let Some(known) = keys.insert(triple.device_key.clone(), number) {
            keys.insert(triple.device_key, known);
            return known;
        }
        self.devices.push(Device {
            asset_id: format!("asset-{number}"),
            triple,
            is_gateway,
            gateway,
            enabled: true,
            model,
            learned: HashMap::new(),
            attributes: BTreeMap::new(),
            tags: BTreeMap::new(),
            ota: super::ota::OtaState::default(),
        });
        number
    }
}
