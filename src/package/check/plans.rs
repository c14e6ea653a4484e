//! Hands every connection to its protocol, which checks parameters and points and decides what is read together.

use crate::diagnostic::{Diagnostic, Severity, did_you_mean};
use crate::package::fields::Faults;
use crate::package::models::sorted;
use crate::package::texts::{Connection, Texts};
use driver::{ConnectionText, DeviceText, Plan, Protocol, Resource, Text};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// One connection with the devices it serves.
pub struct Planned {
    /// Index into `texts.connections`.
    pub connection: usize,
    pub protocol: &'static str,
    pub plan: Arc<dyn Plan>,
    /// Index into `texts.assets.devices`, and the device's first point.
    pub devices: Vec<(usize, u32)>,
}

/// Plans all connections that have devices.
pub fn plan(texts: &Texts, protocols: &[&dyn Protocol], faults: &mut Faults) -> Vec<Planned> {
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, device) in texts.assets.devices.iter().enumerate() {
        if let Some(name) = &device.connection {
            by_name.entry(&name.text).or_default().push(index);
        }
    }
    let (mut all, mut claims) = (Vec::new(), Vec::new());
    for (index, connection) in texts.connections.iter().enumerate() {
        let protocol = find(connection, protocols, faults);
        // The second connection of a name gets no devices: the name is at fault already.
        let devices = by_name.remove(connection.name.text.as_str()).unwrap_or_default();
        if protocol.is_some() {
            check_families(connection, &devices, texts, faults);
        }
        // Without devices, or with faulty ones, the parameters are still worth checking.
        if let Some(protocol) = protocol {
            let planned = plan_one(index, connection, protocol, &devices, texts, faults);
            claims.extend(claimed(connection, planned.as_ref(), protocol).into_iter().map(|claim| (index, claim)));
            all.extend(planned);
        }
    }
    refuse_shared(&claims, texts, faults);
    all
}

fn find<'p>(connection: &Connection, protocols: &[&'p dyn Protocol], faults: &mut Faults) -> Option<&'p dyn Protocol> {
    let name = connection.protocol.as_ref()?;
    let found = protocols.iter().find(|protocol| protocol.name() == name.text).copied();
    if found.is_none() {
        let known = sorted(protocols.iter().map(|protocol| protocol.name()));
        faults.push(
            Diagnostic::error(name.place.clone(), format!("protocol \"{}\" is not known", name.text))
                .help(did_you_mean(&name.text, known)),
        );
    }
    found
}

/// A template made for one family of protocols serves no other: `modbus` fits `modbus-tcp`.
fn check_families(connection: &Connection, devices: &[usize], texts: &Texts, faults: &mut Faults) {
    let Some(protocol) = &connection.protocol else { return };
    for index in devices {
        let device = &texts.assets.devices[*index];
        let Some(named) = &device.template else { continue };
        let family = texts.templates.get(&named.text).and_then(|template| template.text.protocol.as_ref());
        if let Some(family) = family.filter(|family| !fits(&family.text, &protocol.text)) {
            let problem = format!(
                "template \"{}\" is made for {}, and connection \"{}\" speaks {}",
                named.text, family.text, connection.name.text, protocol.text
            );
            let help = format!("see {}; choose another template or connection", family.place);
            faults.push(Diagnostic::error(named.place.clone(), problem).help(help));
        }
    }
}

fn fits(family: &str, protocol: &str) -> bool {
    protocol == family || protocol.strip_prefix(family).is_some_and(|rest| rest.starts_with('-'))
}

fn plan_one(
    index: usize,
    connection: &Connection,
    protocol: &dyn Protocol,
    devices: &[usize],
    texts: &Texts,
    faults: &mut Faults,
) -> Option<Planned> {
    let mut first_point = 0u32;
    let mut placed = Vec::with_capacity(devices.len());
    let mut device_texts = Vec::with_capacity(devices.len());
    for at in devices {
        let device = &texts.assets.devices[*at];
        let template = device.template.as_ref().and_then(|name| texts.templates.get(&name.text));
        let Some(table) = template.and_then(|template| template.table.clone()) else { continue };
        placed.push((*at, first_point));
        let points = u32::try_from(table.len()).unwrap_or(u32::MAX);
        let Some(next) = first_point.checked_add(points).filter(|next| *next < u32::MAX) else {
            let problem = format!("connection \"{}\" has too many points", connection.name.text);
            faults.push(Diagnostic::error(connection.place.clone(), problem).help("use more connections"));
            return None;
        };
        device_texts.push(DeviceText {
            name: &device.name.text,
            place: device.place.clone(),
            address: device.address.as_ref(),
            table,
            offsets: device.offsets.offsets.clone(),
            first_point,
            transfer: template.and_then(|template| template.text.firmware.as_ref()).map(|firmware| &firmware.transfer),
        });
        first_point = next;
    }
    let text = ConnectionText {
        name: &connection.name.text,
        place: connection.place.clone(),
        parameters: &connection.parameters,
        devices: &device_texts,
    };
    match protocol.plan(&text) {
        Ok(plan) => {
            refuse_files(&*plan, connection, protocol, &placed, texts, faults);
            Some(Planned { connection: index, protocol: protocol.name(), plan, devices: placed })
        }
        Err(more) => {
            add(more, connection, faults);
            None
        }
    }
}

/// A template that speaks of firmware needs a protocol that carries files.
fn refuse_files(
    plan: &dyn Plan,
    connection: &Connection,
    protocol: &dyn Protocol,
    placed: &[(usize, u32)],
    texts: &Texts,
    faults: &mut Faults,
) {
    let mut told: Vec<&str> = Vec::new();
    for (at, (index, _)) in placed.iter().enumerate() {
        let Some(name) = &texts.assets.devices[*index].template else { continue };
        let firmware = texts.templates.get(&name.text).and_then(|template| template.text.firmware.as_ref());
        let Some(firmware) = firmware.filter(|_| plan.transfer(at).is_none() && !told.contains(&&*name.text)) else {
            continue;
        };
        told.push(&name.text);
        let problem = format!("{} carries no files, and template \"{}\" has firmware", protocol.name(), name.text);
        let help =
            format!("remove firmware, or use another protocol than that of connection \"{}\"", connection.name.text);
        faults.push(Diagnostic::error(firmware.place.clone(), problem).help(help));
    }
}

/// Takes over what a protocol complains of. A refusal without an error would leave the fault unnamed.
fn add(more: Vec<Diagnostic>, connection: &Connection, faults: &mut Faults) {
    if !more.iter().any(|fault| fault.severity == Severity::Error) {
        let problem = format!("connection \"{}\" can not be planned", connection.name.text);
        faults.push(Diagnostic::error(connection.place.clone(), problem));
    }
    faults.extend(more);
}

/// What a connection claims; with faulty devices it is asked without them.
fn claimed(connection: &Connection, planned: Option<&Planned>, protocol: &dyn Protocol) -> Vec<Resource> {
    if let Some(planned) = planned {
        return planned.plan.resources().to_vec();
    }
    let alone = ConnectionText {
        name: &connection.name.text,
        place: connection.place.clone(),
        parameters: &connection.parameters,
        devices: &[],
    };
    protocol.plan(&alone).map(|plan| plan.resources().to_vec()).unwrap_or_default()
}

/// Only one connection can own a serial port, however its path is written.
fn refuse_shared(claims: &[(usize, Resource)], texts: &Texts, faults: &mut Faults) {
    let mut first: HashMap<String, (&Text, &Resource)> = HashMap::new();
    for (connection, resource) in claims {
        let one = canonical(&resource.name);
        let Some((before, claimed)) = first.get(&one) else {
            first.insert(one, (&texts.connections[*connection].name, resource));
            continue;
        };
        let shown = |resource: &Resource| resource.name.replacen(SERIAL, "serial port ", 1);
        let mut problem = format!("{} is claimed by connection \"{}\" already", shown(resource), before.text);
        if resource.name != claimed.name {
            let _ = write!(problem, " as {}", claimed.name.trim_start_matches(SERIAL));
        }
        let help = format!("it is claimed at {}; put the devices of one port on one connection", claimed.place);
        faults.push(Diagnostic::error(resource.place.clone(), problem).help(help));
    }
}

/// What the names of a serial port begin with.
const SERIAL: &str = "serial:";

/// The name with the shortest spelling of its path; links are followed where the port is there.
fn canonical(name: &str) -> String {
    let Some(path) = name.strip_prefix(SERIAL) else { return name.to_owned() };
    if let Ok(found) = std::fs::canonicalize(path) {
        return format!("{SERIAL}{}", found.display());
    }
    let mut short = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                short.pop();
            }
            part => short.push(part),
        }
    }
    format!("{SERIAL}{}", short.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_port_is_one_however_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (port, link) = (folder.path().join("ttyS7"), folder.path().join("by-path"));
        std::fs::write(&port, "").unwrap();
        std::os::unix::fs::symlink(&port, &link).unwrap();
        let name = |path: &Path| canonical(&format!("serial:{}", path.display()));
        assert_eq!(name(&port), name(&link));
        assert_eq!(canonical("serial:/nowhere/../nowhere/.//ttyS9"), "serial:/nowhere/ttyS9");
        assert_eq!(canonical("can:/a/../b"), "can:/a/../b", "of other things only their protocol knows");
    }
}
