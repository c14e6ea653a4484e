//! What the cloud knows of its assets: products, gateways, sub-devices and who is under whom.

use super::model::Model;
use enos_edge::model::{Credential, Site, ThingModel};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::time::Instant;

/// The assets of one organisation.
#[derive(Debug, Default)]
pub struct Registry {
    pub(super) devices: Vec<Device>,
    products: Vec<Product>,
    product_numbers: HashMap<String, u32>,
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

/// What all devices of one kind share.
#[derive(Debug)]
pub struct Product {
    pub key: String,
    pub secret: Option<String>,
    /// Its devices may log in with the product's secret and are sent their own.
    pub dynamic_activation: bool,
    /// Its devices must show a client certificate when they connect.
    pub needs_certificate: bool,
    /// EnOS limits: devices of one product. One more is answered 739.
    pub device_limit: usize,
    pub(super) model: Option<Arc<Model>>,
    devices: HashMap<String, u32>,
}

/// EnOS limits: devices of one product, unless the operator raises it.
const DEVICES_PER_PRODUCT: usize = 10_000;

#[derive(Debug)]
pub(super) struct Device {
    pub triple: Triple,
    pub product: u32,
    pub asset_id: String,
    pub is_gateway: bool,
    /// The gateway this sub-device is in the topology of.
    pub gateway: Option<u32>,
    /// Those under it, when it is a gateway.
    pub children: BTreeSet<u32>,
    pub enabled: bool,
    pub deleted: bool,
    /// It answered the message that brought its secret.
    pub activated: bool,
    /// New devices are seen by the rest of the cloud only from here on.
    pub visible_from: Option<Instant>,
    pub model: Option<Arc<Model>>,
    /// Points of a device without a model, as they came.
    pub learned: HashMap<String, u32>,
    pub attributes: BTreeMap<String, Value>,
    pub tags: BTreeMap<String, Value>,
    pub ota: super::ota::OtaState,
}

impl Triple {
    #[must_use]
    pub fn new(product_key: &str, device_key: &str, secret: &str) -> Triple {
        Triple { product_key: product_key.into(), device_key: device_key.into(), secret: secret.into() }
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

    /// A product, made when it is not known yet.
    pub fn product(&mut self, key: &str) -> &mut Product {
        let number = self.product_number(key);
        &mut self.products[number as usize]
    }

    /// A product whose devices may be activated with its secret.
    pub fn activating_product(&mut self, key: &str, secret: &str) -> &mut Product {
        let product = self.product(key);
        product.secret = Some(secret.to_owned());
        product.dynamic_activation = true;
        product
    }

    pub(super) fn find_product(&self, key: &str) -> Option<u32> {
        self.product_numbers.get(key).copied()
    }

    /// The model of the product, as another device of it has it.
    pub(super) fn model_of_product(&self, product_key: &str) -> Option<Arc<Model>> {
        self.get_product(self.find_product(product_key)?).model.clone()
    }

    pub(super) fn product_of(&self, device: u32) -> &Product {
        self.get_product(self.get(device).product)
    }

    pub(super) fn get_product(&self, product: u32) -> &Product {
        &self.products[product as usize]
    }

    fn product_number(&mut self, key: &str) -> u32 {
        if let Some(known) = self.product_numbers.get(key) {
            return *known;
        }
        let number = u32::try_from(self.products.len()).expect("fewer than 4 billion products");
        self.product_numbers.insert(key.to_owned(), number);
        self.products.push(Product {
            key: key.to_owned(),
            secret: None,
            dynamic_activation: false,
            needs_certificate: false,
            device_limit: DEVICES_PER_PRODUCT,
            model: None,
            devices: HashMap::new(),
        });
        number
    }

    pub fn find(&self, product_key: &str, device_key: &str) -> Option<u32> {
        let product = self.get_product(self.find_product(product_key)?);
        product.devices.get(device_key).copied().filter(|device| !self.get(*device).deleted)
    }

    pub(super) fn get(&self, device: u32) -> &Device {
        &self.devices[device as usize]
    }

    /// Puts a device under a gateway, or under none.
    pub(super) fn set_gateway(&mut self, device: u32, gateway: Option<u32>) {
        if let Some(old) = self.devices[device as usize].gateway {
            self.devices[old as usize].children.remove(&device);
        }
        if let Some(new) = gateway {
            self.devices[new as usize].children.insert(device);
        }
        self.devices[device as usize].gateway = gateway;
    }

    /// Takes a device out of its product and topology. Its number, and its page in the ledger, stay.
    pub(super) fn delete(&mut self, device: u32) {
        self.set_gateway(device, None);
        self.devices[device as usize].deleted = true;
    }

    /// Adds a device; one that is known stays as it is, one that was deleted begins anew.
    pub(super) fn add(
        &mut self,
        triple: Triple,
        is_gateway: bool,
        gateway: Option<u32>,
        model: Option<Arc<Model>>,
    ) -> u32 {
        let product = self.product_number(&triple.product_key);
        let next = u32::try_from(self.devices.len()).expect("fewer than 4 billion devices");
        let shared = &mut self.products[product as usize];
        shared.model = shared.model.take().or_else(|| model.clone());
        let number = *shared.devices.entry(triple.device_key.clone()).or_insert(next);
        let device = Device::new(number, product, triple, is_gateway, model);
        if number == next {
            self.devices.push(device);
        } else if self.get(number).deleted {
            self.devices[number as usize] = device;
        } else {
            return number;
        }
        self.set_gateway(number, gateway);
        number
    }
}

impl Product {
    /// Devices that were ever made of it and not deleted are not told apart here: the limit is a rough one.
    pub(super) fn is_full(&self, more: usize) -> bool {
        self.devices.len() + more > self.device_limit
    }
}

impl Device {
    fn new(number: u32, product: u32, triple: Triple, is_gateway: bool, model: Option<Arc<Model>>) -> Device {
        Device {
            asset_id: format!("asset-{number}"),
            triple,
            product,
            is_gateway,
            gateway: None,
            children: BTreeSet::new(),
            enabled: true,
            deleted: false,
            activated: false,
            visible_from: None,
            model,
            learned: HashMap::new(),
            attributes: BTreeMap::new(),
            tags: BTreeMap::new(),
            ota: super::ota::OtaState::default(),
        }
    }
}
