//! PURE. Cross references: what a file names must be there, once, and of the right make.

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::package::assets::{AssetKind, Device};
use crate::package::fields::Faults;
use crate::package::models::{Models, sorted};
use crate::package::texts::{Template as TemplateText, Texts};
use crate::package::{commands, mapping};
use driver::Text;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::model::Template;

/// Sound templates by name.
pub type Templates = BTreeMap<String, Arc<Template>>;

/// Guesses compare a word with all known ones; beyond so many faults nobody reads them.
const GUESSES: usize = 200;

/// Complains that `name` is not among `known`, with a guess while there are not too many already.
fn unknown<'k>(what: &str, name: &Text, known: impl Iterator<Item = &'k str>, faults: &mut Faults) {
    let fault = Diagnostic::error(name.place.clone(), format!("{what} \"{}\" is not known", name.text));
    let help = if faults.len() < GUESSES {
        did_you_mean(&name.text, sorted(known))
    } else {
        format!("see the {what}s of the package")
    };
    faults.push(fault.help(help));
}

fn twice(what: &str, name: &Text, before: &Text, faults: &mut Faults) {
    faults.push(
        Diagnostic::error(name.place.clone(), format!("{what} \"{}\" is defined twice", name.text))
            .help(format!("it is defined at {} already", before.place)),
    );
}

/// Resolves every template against its model and its point table.
pub fn templates(texts: &Texts, models: &Models, faults: &mut Faults) -> Templates {
    let mut all = Templates::new();
    for (name, text) in &texts.templates {
        if let Some(template) = template(name, text, models, faults) {
            all.insert(name.clone(), Arc::new(template));
        }
    }
    all
}

fn template(name: &str, text: &TemplateText, models: &Models, faults: &mut Faults) -> Option<Template> {
    let named = text.text.model.as_ref()?;
    let Some(model) = models.get(&named.text) else {
        unknown("model", named, models.keys().map(String::as_str), faults);
        return None;
    };
    let (model, table, (file, rows)) = (model.as_ref()?, text.table.as_ref()?, text.mapping.as_ref()?);
    let before = faults.len();
    let mapped = mapping::resolve(file, rows, model, table, faults);
    if mapped.rules.is_empty() && mapped.controls.is_empty() && faults.len() == before {
        let place = crate::diagnostic::Place::new(file, 0, 0);
        let problem = format!("template \"{name}\" maps no measurement point");
        faults.push(Diagnostic::error(place, problem).help("map a point, for example `voltage: ai.3000`"));
    }
    let made = commands::Made {
        model: &model.model,
        limits: &model.limits,
        interlocks: &model.interlocks,
        services: &model.inputs,
        rules: &mapped.rules,
        controls: &mapped.controls,
        rows,
    };
    let rules =
        commands::resolve(&made, &text.text.interlocks, &text.text.services, text.text.firmware.as_ref(), faults);
    Some(Template {
        name: name.to_owned(),
        model: Arc::clone(&model.model),
        table: Arc::clone(table),
        rules: mapped.rules,
        controls: mapped.controls,
        commands: rules,
    })
}

/// Sites and devices: unique, and every name they use is known.
pub fn assets(texts: &Texts, faults: &mut Faults) {
    let mut sites: HashMap<&str, &Text> = HashMap::new();
    for site in &texts.assets.sites {
        if let Some(before) = sites.get(site.id.text.as_str()) {
            twice("site", &site.id, before, faults);
        } else {
            sites.insert(&site.id.text, &site.id);
        }
    }
    site_parents(texts, &sites, faults);
    let mut connections: HashMap<&str, &Text> = HashMap::new();
    for connection in &texts.connections {
        if let Some(before) = connections.get(connection.name.text.as_str()) {
            twice("connection", &connection.name, before, faults);
        } else {
            connections.insert(&connection.name.text, &connection.name);
        }
    }
    for device in &texts.assets.devices {
        references(device, texts, &sites, &connections, faults);
    }
    unique_devices(&texts.assets.devices, faults);
    unused_connections(texts, faults);
}

fn site_parents(texts: &Texts, sites: &HashMap<&str, &Text>, faults: &mut Faults) {
    let parents: HashMap<&str, &Text> =
        texts.assets.sites.iter().filter_map(|site| Some((site.id.text.as_str(), site.parent.as_ref()?))).collect();
    let mut sound: HashSet<&str> = HashSet::new();
    for site in &texts.assets.sites {
        if let Some(parent) = site.parent.as_ref().filter(|parent| !sites.contains_key(parent.text.as_str())) {
            unknown("site", parent, sites.keys().copied(), faults);
        }
        let mut path: Vec<&str> = Vec::new();
        let mut on_path: HashSet<&str> = HashSet::new();
        let mut at = site.id.text.as_str();
        while !sound.contains(at) {
            if !on_path.insert(at) {
                let start = path.iter().position(|id| *id == at).unwrap_or(0);
                let names = [&path[start..], &[at]].concat().join(" -> ");
                let place = parents.get(at).map_or(&site.id.place, |parent| &parent.place).clone();
                let problem = format!("sites lie within each other in a loop: {names}");
                faults.push(Diagnostic::error(place, problem).help("remove one of these parents"));
                break;
            }
            path.push(at);
            match parents.get(at) {
                Some(parent) => at = &parent.text,
                None => break,
            }
        }
        sound.extend(path);
    }
}

fn references(
    device: &Device,
    texts: &Texts,
    sites: &HashMap<&str, &Text>,
    connections: &HashMap<&str, &Text>,
    faults: &mut Faults,
) {
    if let Some(site) = device.site.as_ref().filter(|site| !sites.contains_key(site.text.as_str())) {
        unknown("site", site, sites.keys().copied(), faults);
    }
    if let Some(name) = device.template.as_ref().filter(|name| !texts.templates.contains_key(&name.text)) {
        unknown("template", name, texts.templates.keys().map(String::as_str), faults);
    }
    if let Some(name) = device.connection.as_ref().filter(|name| !connections.contains_key(name.text.as_str())) {
        unknown("connection", name, connections.keys().copied(), faults);
    }
}

/// The cloud knows a device asset by product key and device key, and every asset with an id by that id;
/// people and commands know a device by its name.
fn unique_devices(devices: &[Device], faults: &mut Faults) {
    let mut names: HashMap<&str, &Text> = HashMap::with_capacity(devices.len());
    let mut keys: HashMap<(&str, &str), &Text> = HashMap::with_capacity(devices.len());
    let mut ids: HashMap<&str, &Text> = HashMap::new();
    for device in devices {
        match names.get(device.name.text.as_str()) {
            // A name that is missing or empty has its own fault.
            _ if matches!(device.name.text.as_str(), "?" | "") => {}
            Some(before) => twice("device", &device.name, before, faults),
            None => {
                names.insert(&device.name.text, &device.name);
            }
        }
        if let (AssetKind::Device, Some(product), Some(key)) = (device.kind, &device.product_key, &device.device_key) {
            match keys.get(&(product.text.as_str(), key.text.as_str())) {
                Some(before) => twice(&format!("device key of product {}", product.text), key, before, faults),
                None => {
                    keys.insert((&product.text, &key.text), key);
                }
            }
        }
        if let Some(id) = &device.asset_id {
            match ids.get(id.text.as_str()) {
                Some(before) => twice("asset id", id, before, faults),
                None => {
                    ids.insert(&id.text, id);
                }
            }
        }
    }
}

fn unused_connections(texts: &Texts, faults: &mut Faults) {
    // Without any device the cause lies elsewhere, and has its own fault.
    if texts.assets.devices.is_empty() {
        return;
    }
    let used: HashSet<&str> =
        texts.assets.devices.iter().filter_map(|d| d.connection.as_ref()).map(|name| name.text.as_str()).collect();
    for connection in texts.connections.iter().filter(|c| !used.contains(c.name.text.as_str())) {
        let problem = format!("connection \"{}\" has no device", connection.name.text);
        let help = "name it in a device of assets.yaml, or remove the file";
        faults.push(Diagnostic::warning(connection.name.place.clone(), problem).help(help));
    }
}

/// All devices of a product have its model, or one that this model inherits from or to.
pub fn products(texts: &Texts, templates: &Templates, models: &Models, faults: &mut Faults) {
    let mut first: HashMap<&str, (&Device, &str)> = HashMap::new();
    for device in &texts.assets.devices {
        let (Some(product), Some(template)) = (&device.product_key, &device.template) else { continue };
        let Some(template_found) = templates.get(&template.text) else { continue };
        let model = template_found.model.id.as_str();
        let (before, other) = *first.entry(&product.text).or_insert((device, model));
        if other != model && !related(models, model, other) {
            let problem = format!("product \"{}\" has devices of model {other} and of model {model}", product.text);
            let help = format!("a product has one model; see device \"{}\" at {}", before.name.text, before.place);
            faults.push(Diagnostic::error(template.place.clone(), problem).help(help));
        }
    }
}

fn related(models: &Models, a: &str, b: &str) -> bool {
    let above = |low: &str, high: &str| {
        let flat = models.get(low).and_then(Option::as_ref);
        flat.is_some_and(|flat| flat.lineage.iter().any(|id| id == high))
    };
    above(a, b) || above(b, a)
}
