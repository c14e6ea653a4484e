//! PURE. The package's files as text.

use super::{Connection, Site, Template};
use std::fmt::Write as _;

/// JSON strings are YAML strings, whatever they hold.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

pub(super) fn manifest(site: &Site) -> String {
    format!("format: 1\nname: {}\nversion: {}\nengine: 0.1.0\n", quoted(&site.name), site.version)
}

pub(super) fn assets(site: &Site) -> String {
    let mut out = String::from("sites:\n  - id: plant\n    name: Plant\ndevices:\n");
    for device in &site.devices {
        let triple = &device.triple;
        let _ = write!(
            out,
            "  - name: {}\n    product_key: {}\n    device_key: {}\n    device_secret: {}\n    site: plant\n    \
             template: {}\n    connection: {}\n",
            quoted(&device.name),
            quoted(&triple.product_key),
            quoted(&triple.device_key),
            quoted(&triple.secret),
            device.template,
            device.connection,
        );
        if let Some(address) = &device.address {
            let _ = writeln!(out, "    address: {}", quoted(address));
        }
    }
    out
}

/// One model a template.
pub(super) fn models(site: &Site) -> String {
    let mut out = String::from("models:\n");
    for template in &site.templates {
        let _ = writeln!(out, "  - id: {0}\n    name: {0}\n    measurepoints:", template.model);
        for point in &template.points {
            let _ = write!(
                out,
                "      - id: {0}\n        name: {0}\n        type: {1}\n        data_type: {2}\n        \
                 upload: realtime\n",
                point.id,
                // Kinds of a model say what is collected: what is written is known by its control.
                point.kind.replace('o', "i").to_uppercase(),
                point.data_type,
            );
            if !point.unit.is_empty() {
                let _ = writeln!(out, "        unit: {}", quoted(point.unit));
            }
        }
    }
    out
}

pub(super) fn connection(connection: &Connection) -> String {
    let mut out = format!("name: {}\nprotocol: {}\nprotocol.sys:\n", connection.name, connection.protocol);
    for (key, value) in &connection.parameters {
        let _ = writeln!(out, "  {key}: {}", quoted(value));
    }
    out
}

pub(super) fn points(template: &Template) -> String {
    let mut out = String::from("name,number,value type,point type,coefficient,base value,alias\n");
    for point in &template.points {
        let _ =
            writeln!(out, "{},{},{},{},{},0,", point.id, point.number, point.value_type, point.kind, point.coefficient);
    }
    out
}

pub(super) fn mapping(template: &Template) -> String {
    let mut out = String::from("mapping:\n");
    for point in &template.points {
        let place = quoted(&format!("{}.{}", point.kind, point.number));
        let _ = match point.kind {
            "ao" | "do" | "po" => writeln!(out, "  {}: {{ control: {place} }}", point.id),
            _ => writeln!(out, "  {}: {place}", point.id),
        };
    }
    out
}
