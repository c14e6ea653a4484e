//! PURE. What a package says beside the site it becomes; kept for comparing packages.

use crate::package::assets::AssetKind;
use crate::package::manifest::Manifest;
use crate::package::places::Places;
use crate::package::texts::Texts;
use driver::{Offsets, Text};
use std::collections::BTreeMap;

/// What the files say that the running site has no use for.
#[derive(Clone, Debug)]
pub struct Written {
    pub manifest: Manifest,
    /// Where the points of the models are said.
    pub places: Places,
    /// Parameters of each connection, sorted.
    pub parameters: BTreeMap<String, BTreeMap<String, String>>,
    /// In the order of the site's devices.
    pub devices: Vec<DeviceWritten>,
}

#[derive(Clone, Debug)]
pub struct DeviceWritten {
    pub kind: AssetKind,
    pub connection: String,
    pub address: Option<String>,
    pub offsets: Offsets,
    pub site: Option<String>,
}

pub(super) fn of(manifest: &Manifest, texts: &Texts) -> Written {
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.text.clone());
    let parameters = texts.connections.iter().map(|connection| {
        let entries = connection.parameters.entries.iter();
        (connection.name.text.clone(), entries.map(|(key, value)| (key.text.clone(), value.text.clone())).collect())
    });
    let devices = texts.assets.devices.iter().map(|device| DeviceWritten {
        kind: device.kind,
        connection: text(&device.connection).unwrap_or_default(),
        address: text(&device.address),
        offsets: device.offsets.offsets.clone(),
        site: text(&device.site),
    });
    let places = Places::new(&texts.models, None);
    Written { manifest: manifest.clone(), places, parameters: parameters.collect(), devices: devices.collect() }
}
