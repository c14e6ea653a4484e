//! PURE. `templates/NAME/template.yaml`, as written, and which files make a template.

use super::check::limits;
use super::commands::{self, InterlockText, ServiceText};
use super::fields::{Faults, Fields};
use super::firmware::{self, FirmwareText};
use super::yaml::Node;
use driver::Text;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct TemplateText {
    pub model: Option<Text>,
    /// The family of protocols its point table is made for: `modbus` fits `modbus-tcp` and `modbus-rtu`.
    pub protocol: Option<Text>,
    pub interlocks: Vec<InterlockText>,
    pub services: Vec<ServiceText>,
    /// How its devices take firmware.
    pub firmware: Option<FirmwareText>,
}

const KNOWN: &[&str] = &[
    "model",
    "protocol",
    "name",
    "description",
    "brand",
    "device_type",
    "version",
    "interlocks",
    "services",
    "firmware",
];

pub fn read(file: &Arc<str>, root: &Node<'_>, faults: &mut Faults) -> TemplateText {
    let Some(fields) = Fields::open(file, root, "template", KNOWN, faults) else {
        return TemplateText {
            model: None,
            protocol: None,
            interlocks: Vec::new(),
            services: Vec::new(),
            firmware: None,
        };
    };
    if let Some(name) = fields.text("name", faults) {
        limits::name("template name", &name, faults);
    }
    if let Some(text) = fields.text("description", faults) {
        limits::description(&text, faults);
    }
    TemplateText {
        model: fields.required("model", faults),
        protocol: fields.text("protocol", faults),
        interlocks: commands::interlocks(&fields, faults),
        services: commands::services(&fields, faults),
        firmware: firmware::read(&fields, faults),
    }
}

/// The files of each folder below `templates/`, by the folder's name, in a stable order.
#[must_use]
pub fn folders<'s>(files: impl Iterator<Item = &'s str>) -> BTreeMap<&'s str, Vec<&'s str>> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files {
        if let Some((name, rest)) = file.strip_prefix("templates/").and_then(|rest| rest.split_once('/')) {
            all.entry(name).or_default().push(rest);
        }
    }
    all
}
