//! PURE. What a new package may not do to what was sent before: change a type (R31), mix OUs (R23), convert an asset
//! (R19), or go back in version.

use super::record::{Facts, Record};
use crate::diagnostic::{Diagnostic, Place};
use crate::model::{DataType, Site, Template};
use semver::Version;
use std::collections::{BTreeMap, HashMap};

/// Every reason against the package; none when it may come. `explicit`: somebody named it in the configuration, so its
/// version may be older.
#[must_use]
pub fn refuse(record: &Record, new: &Facts, site: &Site, old: Option<&Site>, explicit: bool) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    let mut refuse = |problem: &str, help: &str| {
        faults.push(Diagnostic::error(Place::new(&"package.yaml".into(), 0, 0), problem.to_owned()).help(help));
    };
    if record.rejected.contains(&new.content) {
        refuse(
            &format!("package {} {} was taken back before", new.name, new.version),
            "mend it, or install it with --force",
        );
    }
    if let Some(current) = record.facts(record.current) {
        let versions = (Version::parse(&current.version), Version::parse(&new.version));
        if let (Ok(running), Ok(wanted)) = versions
            && current.name == new.name
            && wanted < running
            && !explicit
        {
            let problem = format!("version {wanted} is older than {running}, which runs");
            refuse(&problem, "raise the version, use `package rollback`, or install it with --force");
        }
        if let (Some(now), Some(then)) = (&new.org, &current.org)
            && now != then
        {
            // R23: devices of one OU are invisible in another, and a gateway has one identity.
            refuse(
                &format!("org \"{now}\" is not the OU of this gateway's package, \"{then}\""),
                "one gateway, one OU",
            );
        }
    }
    for (model, point, now) in types(site) {
        if let Some(then) = record.types.get(model).and_then(|points| points.get(point))
            && *then != word(now)
        {
            let problem = format!(
                "model \"{model}\": data type of measurement point \"{point}\" was {then} when it was sent, and is {} now",
                word(now)
            );
            refuse(&problem, "stored data keeps its type: give the point another id");
        }
    }
    if let Some(old) = old {
        for (name, was, is) in converted(old, site) {
            refuse(
                &format!("device \"{name}\" was a {was} asset and is a {is} asset now"),
                "make a new device, move its configuration there, and delete the old one (it can not be converted)",
            );
        }
    }
    faults
}

/// Adds what the package may send from now on.
pub fn learn(record: &mut Record, site: &Site) {
    for (model, point, data_type) in types(site) {
        let points: &mut BTreeMap<String, String> = record.types.entry(model.to_owned()).or_default();
        points.insert(point.to_owned(), word(data_type).to_owned());
    }
}

/// Each model's points that something is collected for.
fn types(site: &Site) -> impl Iterator<Item = (&str, &str, DataType)> {
    let devices = site.connections.iter().flat_map(|connection| &connection.devices);
    let templates: HashMap<*const Template, &Template> =
        devices.map(|device| (std::sync::Arc::as_ptr(&device.template), &*device.template)).collect();
    let mut templates: Vec<&Template> = templates.into_values().collect();
    templates.sort_by(|a, b| a.name.cmp(&b.name));
    templates.into_iter().flat_map(|template| {
        let points =
            template.rules.iter().filter_map(|rule| template.model.measurepoints.get(rule.measurepoint as usize));
        points.map(|point| (template.model.id.as_str(), point.id.as_str(), point.data_type))
    })
}

/// Devices of one name that have changed their kind.
fn converted<'s>(old: &'s Site, new: &'s Site) -> Vec<(&'s str, &'static str, &'static str)> {
    let kinds: HashMap<&str, bool> =
        old.names.devices.iter().map(|device| (device.name.as_str(), device.product_key.is_empty())).collect();
    let kind = |logic: bool| if logic { "logic" } else { "device" };
    let changed = new.names.devices.iter().filter_map(|device| {
        let (was, is) = (*kinds.get(device.name.as_str())?, device.product_key.is_empty());
        (was != is).then(|| (device.name.as_str(), kind(was), kind(is)))
    });
    changed.collect()
}

fn word(data_type: DataType) -> &'static str {
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
