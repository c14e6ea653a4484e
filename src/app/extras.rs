//! What the cloud link is told of the field, where secrets of sub-devices lie, and what it takes from others.

use super::packages::FieldOf;
use crate::cloud::CloudExtras;
use crate::config::Config;
use crate::identity::device_secrets::DeviceSecrets;
use crate::model::{Site, ThingModel};
use crate::south::South;
use crate::store::RealDisk;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn extras(config: &Config, site: &Site, south: &Arc<South>) -> CloudExtras {
    let (shelf, faults) = DeviceSecrets::open(&config.state_dir, Arc::new(RealDisk));
    for fault in faults {
        tracing::error!("{fault}");
    }
    CloudExtras {
        field: Some(Arc::new(FieldOf { south: Arc::clone(south), epoch: site.names.epoch })),
        shelf: Some(Arc::new(shelf)),
        models: models(site),
        details: site.details.clone(),
        ..CloudExtras::default()
    }
}

/// Each model of the site once.
pub(super) fn models(site: &Site) -> Vec<Arc<ThingModel>> {
    let devices = site.connections.iter().flat_map(|connection| &connection.devices);
    let models: BTreeMap<&str, &Arc<ThingModel>> =
        devices.map(|device| (device.template.model.id.as_str(), &device.template.model)).collect();
    models.into_values().cloned().collect()
}
