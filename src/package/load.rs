//! Turns checked texts into the site the daemon runs.

use super::assets::{AssetKind, Device, SecretText};
use super::check::cross::Templates;
use super::check::plans::Planned;
use super::check::{Checked, check_with};
use super::fields::Faults;
use super::inputs::Digests;
use super::manifest::Manifest;
use super::source::Limits;
use super::texts::Texts;
use crate::config::Secret;
use crate::diagnostic::Diagnostic;
use crate::model::{
    ConnectedDevice, Connection, Credential, DeviceNames, EventPlan, LatePolicy, LateRules, Names, PackageName,
    PointName, PointNames, Site, Template,
};
use driver::{Protocol, Text};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What to do with `device_secret_file`.
pub enum Secrets {
    /// A check does not need them, and may run where they are not.
    Unread,
    Folder(PathBuf),
}

/// A secret is a line, not a file of any size.
const SECRET_BYTES: u64 = 1024;

/// Loads a package. `secrets` is the folder below which device secrets lie in files of their own.
///
/// # Errors
/// Every fault of the package, when there is an error among them.
pub fn load(path: &Path, protocols: &[&dyn Protocol], secrets: Option<&Path>) -> Result<Site, Vec<Diagnostic>> {
    load_in(path, protocols, secrets, &Limits::default())
}

/// As [`load`], with limits, and a place to unpack archives, of the caller's choice.
///
/// # Errors
/// As [`load`].
pub fn load_in(
    path: &Path,
    protocols: &[&dyn Protocol],
    secrets: Option<&Path>,
    limits: &Limits,
) -> Result<Site, Vec<Diagnostic>> {
    let secrets = secrets.map_or(Secrets::Unread, |folder| Secrets::Folder(folder.to_owned()));
    let Checked { site, diagnostics, .. } = check_with(path, protocols, &secrets, limits);
    site.ok_or(diagnostics)
}

/// Builds the site of a package without errors.
pub(super) fn build(
    manifest: &Manifest,
    texts: Texts,
    templates: &Templates,
    plans: Vec<Planned>,
    events: EventPlan,
    secrets: &Secrets,
    faults: &mut Faults,
) -> Option<Site> {
    let before = faults.errors();
    let mut points: HashMap<&str, Arc<PointNames>> = HashMap::new();
    let mut names = Vec::with_capacity(texts.assets.devices.len());
    let mut credentials = Vec::with_capacity(texts.assets.devices.len());
    let mut details = Vec::with_capacity(texts.assets.devices.len());
    for device in &texts.assets.devices {
        let template = template_of(device, templates);
        let shared = points.entry(&template.model.id).or_insert_with(|| point_names(template));
        names.push(device_names(device, Arc::clone(shared)));
        credentials.push(credential(device, secrets, faults));
        details.push(device.details.clone());
    }
    let mut digests = Digests::default();
    let connections = plans.into_iter().map(|planned| connection(planned, &texts, templates, &mut digests)).collect();
    if faults.errors() > before {
        return None;
    }
    Some(Site {
        package: PackageName { name: manifest.name.clone(), version: manifest.version.to_string() },
        names: Arc::new(Names::with_late(names, late_rules(&texts, templates))),
        credentials,
        details,
        connections,
        events: Arc::new(events),
    })
}

fn template_of<'t>(device: &Device, templates: &'t Templates) -> &'t Arc<Template> {
    let name = device.template.as_ref().expect("a device without a template is an error of the check");
    templates.get(&name.text).expect("an unknown or faulty template is an error of the check")
}

fn point_names(template: &Template) -> Arc<PointNames> {
    let name = |point: &crate::model::Measurepoint| PointName { id: point.id.clone(), has_quality: point.has_quality };
    let points = template.model.measurepoints.iter().map(name).collect();
    Arc::new(PointNames { model: template.model.id.clone(), points })
}

/// What the models of the package's devices say about late readings.
fn late_rules(texts: &Texts, templates: &Templates) -> LateRules {
    let mut rules = LateRules::new();
    for device in &texts.assets.devices {
        let model = &template_of(device, templates).model;
        if rules.contains_key(&model.id) {
            continue;
        }
        let points = (0..).zip(&model.measurepoints);
        let own: BTreeMap<u32, LatePolicy> = points.filter_map(|(index, point)| Some((index, point.late?))).collect();
        rules.insert(model.id.clone(), own);
    }
    rules.retain(|_, own| !own.is_empty());
    rules
}

fn device_names(device: &Device, points: Arc<PointNames>) -> DeviceNames {
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.text.clone());
    DeviceNames {
        name: device.name.text.clone(),
        product_key: text(&device.product_key).unwrap_or_default(),
        device_key: text(&device.device_key).unwrap_or_default(),
        asset_id: text(&device.asset_id),
        points,
    }
}

fn credential(device: &Device, secrets: &Secrets, faults: &mut Faults) -> Credential {
    if device.kind == AssetKind::Logic {
        return Credential::Logic;
    }
    if device.register {
        return Credential::Register;
    }
    let secret = |text: &Option<SecretText>, faults: &mut Faults| match (text, secrets) {
        (Some(SecretText::Plain(secret)), _) => secret.clone(),
        (Some(SecretText::File(named)), Secrets::Folder(folder)) => Secret::new(read_secret(named, folder, faults)),
        (Some(SecretText::File(_)), Secrets::Unread) | (None, _) => Secret::new(String::new()),
    };
    match &device.product_secret {
        Some(_) if device.secret.is_none() => Credential::Product { secret: secret(&device.product_secret, faults) },
        _ => Credential::Device { secret: secret(&device.secret, faults) },
    }
}

fn read_secret(named: &Text, folder: &Path, faults: &mut Faults) -> String {
    let path = folder.join(&named.text);
    let read = || {
        use std::io::Read;
        let mut text = String::new();
        std::fs::File::open(&path)?.take(SECRET_BYTES).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text.trim().to_owned())
    };
    match read() {
        Ok(secret) if !secret.is_empty() => secret,
        Ok(_) => refuse_secret(named, &path, "it is empty", faults),
        Err(error) => refuse_secret(named, &path, &error.to_string(), faults),
    }
}

fn refuse_secret(named: &Text, path: &Path, why: &str, faults: &mut Faults) -> String {
    let problem = format!("secret {} can not be read: {why}", path.display());
    let help = "put the device secret into that file, readable by the daemon only";
    faults.push(Diagnostic::error(named.place.clone(), problem).help(help));
    String::new()
}

fn connection(planned: Planned, texts: &Texts, templates: &Templates, digests: &mut Digests) -> Connection {
    let placed = planned.devices.iter().map(|(index, _)| &texts.assets.devices[*index]);
    let devices = placed.map(|device| (device, template_of(device, templates)));
    let inputs = digests.of(&texts.connections[planned.connection], planned.protocol, devices);
    let device = |(index, first_point): (usize, u32)| ConnectedDevice {
        device: u32::try_from(index).expect("the parser caps a file far below four billion devices"),
        first_point,
        template: Arc::clone(template_of(&texts.assets.devices[index], templates)),
    };
    Connection {
        name: texts.connections[planned.connection].name.text.clone(),
        protocol: planned.protocol.to_owned(),
        plan: planned.plan,
        inputs,
        devices: planned.devices.into_iter().map(device).collect(),
    }
}
