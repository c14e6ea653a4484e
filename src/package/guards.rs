//! PURE. What a new package may not do to what was sent before: change a type (R31), mix OUs (R23), convert an asset
//! (R19), or go back in version. The one place of these rules: installing refuses by them, `package diff` foretells them.

use super::models::data_type_word;
use super::places::{Places, whole};
use crate::diagnostic::{Diagnostic, Place};
use crate::model::{ConnectedDevice, DataType, DeviceNames, Site, Template, Upload};
use semver::Version;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Model, point -> data type, of every point that could have been sent.
pub type Types = BTreeMap<String, BTreeMap<String, String>>;

/// A package by its manifest.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub org: Option<&'a str>,
}

/// What ran before, as far as it is known.
#[derive(Clone, Copy)]
pub struct Before<'a> {
    /// The package that runs.
    pub running: Option<Named<'a>>,
    pub site: Option<&'a Site>,
    /// Of all packages that ever ran.
    pub types: &'a Types,
    /// The same content was taken back because of its readings.
    pub taken_back: bool,
}

/// Every reason against the package; none when it may come. `older`: it may be older than the one that runs.
#[must_use]
pub fn refuse(before: &Before<'_>, new: Named<'_>, site: &Site, older: bool, places: &Places) -> Vec<Diagnostic> {
    let mut faults = by_name(before, new, older);
    faults.extend(types_of_models(before.types, site, places));
    if let Some(old) = before.site {
        faults.extend(types_of_devices(old, site, places));
        faults.extend(converted(old, site, places));
    }
    faults
}

/// Those of the reasons that the manifest tells.
#[must_use]
pub fn by_name(before: &Before<'_>, new: Named<'_>, older: bool) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    if before.taken_back {
        let problem = format!("package {} {} was taken back before", new.name, new.version);
        faults.push(fault(whole("package.yaml"), problem, "mend it, or install it with --force"));
    }
    if let Some(running) = before.running {
        faults.extend(version(running, new, older));
        faults.extend(organisation(running, new));
    }
    faults
}

fn fault(place: Place, problem: String, help: &str) -> Diagnostic {
    Diagnostic::error(place, problem).help(help)
}

/// Build metadata says nothing of age (semver 2.0.0, clause 10).
fn version(running: Named<'_>, new: Named<'_>, older: bool) -> Option<Diagnostic> {
    let (Ok(then), Ok(now)) = (Version::parse(running.version), Version::parse(new.version)) else { return None };
    if older || running.name != new.name || now.cmp_precedence(&then).is_ge() {
        return None;
    }
    let help = "raise the version, use `package rollback`, or install it with --force";
    Some(fault(whole("package.yaml"), format!("version {now} is older than {then}, which runs"), help))
}

/// R23: devices of one OU are invisible in another, and a gateway has one identity.
fn organisation(running: Named<'_>, new: Named<'_>) -> Option<Diagnostic> {
    let (then, now) = (running.org?, new.org?);
    let problem = format!("org \"{now}\" is not the OU of this gateway's package, \"{then}\"");
    (now != then).then(|| fault(whole("package.yaml"), problem, "one gateway, one OU: use another gateway"))
}

const KEEPS_ITS_TYPE: &str =
    "stored data keeps its type: give the point another id, give it its type back, or insist with --force";

/// R31: the cloud stores a column of one type.
fn types_of_models(types: &Types, site: &Site, places: &Places) -> Vec<Diagnostic> {
    let changed = sent(site).into_iter().filter_map(|(model, point, now)| {
        let (then, now) = (types.get(model)?.get(point)?, data_type_word(now));
        let problem = format!(
            "model \"{model}\": data type of measurement point \"{point}\" was {then} when it was sent, and is {now} now"
        );
        (then != now).then(|| fault(places.point(model, point), problem, KEEPS_ITS_TYPE))
    });
    changed.collect()
}

/// R31, where a device has another model than before: its points keep their types all the same.
fn types_of_devices(old: &Site, new: &Site, places: &Places) -> Vec<Diagnostic> {
    let before: HashMap<_, &Arc<Template>> =
        connected(old).map(|device| (identity(&old.names.devices[device.device as usize]), &device.template)).collect();
    let mut seen: HashSet<(*const Template, *const Template)> = HashSet::new();
    let mut faults = Vec::new();
    for device in connected(new) {
        let names = &new.names.devices[device.device as usize];
        let Some(was) = before.get(&identity(names)) else { continue };
        let (then, now) = (&was.model.id, &device.template.model.id);
        if then == now || !seen.insert((Arc::as_ptr(was), Arc::as_ptr(&device.template))) {
            continue;
        }
        let earlier: HashMap<&str, DataType> = sent_of(was).collect();
        for (point, is) in sent_of(&device.template) {
            if let Some(was) = earlier.get(point).filter(|was| **was != is) {
                let (was, is) = (data_type_word(*was), data_type_word(is));
                let problem = format!(
                    "device \"{}\": data type of measurement point \"{point}\" was {was} when it was sent (model \"{then}\"), \
                     and is {is} now (model \"{now}\")",
                    names.name
                );
                faults.push(fault(places.point(now, point), problem, KEEPS_ITS_TYPE));
            }
        }
    }
    faults
}

/// R19: the cloud knows an asset as a device or as a logic asset, for good.
fn converted(old: &Site, new: &Site, places: &Places) -> Vec<Diagnostic> {
    let mut earlier: HashMap<&str, bool> = HashMap::new();
    for device in &old.names.devices {
        earlier.insert(&device.name, is_logic(device));
        earlier.extend(device.asset_id.as_deref().map(|id| (id, is_logic(device))));
    }
    let changed = new.names.devices.iter().filter_map(|device| {
        let by_id = device.asset_id.as_deref().and_then(|id| earlier.get(id));
        let (was, is) = (*by_id.or_else(|| earlier.get(&*device.name))?, is_logic(device));
        let word = |logic: bool| if logic { "logic" } else { "device" };
        let problem = format!("device \"{}\" was a {} asset and is a {} asset now", device.name, word(was), word(is));
        let help = "an asset is replaced, not converted: make a new device of another name (and asset id), move its \
                    configuration there, and remove the old one";
        (was != is).then(|| fault(places.device(&device.name), problem, help))
    });
    changed.collect()
}

fn is_logic(device: &DeviceNames) -> bool {
    device.product_key.is_empty()
}

/// What an asset is known by, whatever it is called: its keys, or its asset id.
pub(super) fn identity(names: &DeviceNames) -> (&str, &str, &str) {
    match &names.asset_id {
        Some(id) if names.device_key.is_empty() => ("", "", id),
        _ => (&names.product_key, &names.device_key, ""),
    }
}

fn connected(site: &Site) -> impl Iterator<Item = &ConnectedDevice> {
    site.connections.iter().flat_map(|connection| &connection.devices)
}

/// Adds what the package may send from now on.
pub fn learn(types: &mut Types, site: &Site) {
    for (model, point, data_type) in sent(site) {
        let points = types.entry(model.to_owned()).or_default();
        points.insert(point.to_owned(), data_type_word(data_type).to_owned());
    }
}

/// Each model's points that something is sent for.
fn sent(site: &Site) -> Vec<(&str, &str, DataType)> {
    let templates: HashMap<*const Template, &Template> =
        connected(site).map(|device| (Arc::as_ptr(&device.template), &*device.template)).collect();
    let mut templates: Vec<&Template> = templates.into_values().collect();
    templates.sort_by(|a, b| a.name.cmp(&b.name));
    let points = templates.into_iter().flat_map(|template| {
        sent_of(template).map(|(point, data_type)| (template.model.id.as_str(), point, data_type))
    });
    let mut seen = HashSet::new();
    points.filter(|(model, point, _)| seen.insert((*model, *point))).collect()
}

fn sent_of(template: &Template) -> impl Iterator<Item = (&str, DataType)> {
    let rules = template.rules.iter().filter(|rule| rule.upload != Upload::Never);
    let points = rules.filter_map(|rule| template.model.measurepoints.get(rule.measurepoint as usize));
    points.map(|point| (point.id.as_str(), point.data_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::scaffold::{self, Wanted};

    fn site(change: &[(&str, &str, &str)]) -> Site {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("p");
        scaffold::create(&folder, &Wanted { name: "p", protocol: "modbus-tcp", model: None }).unwrap();
        for (file, from, to) in change {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            assert!(text.contains(from), "{from} is not in {text}");
            std::fs::write(folder.join(file), text.replace(from, to)).unwrap();
        }
        crate::package::load(&folder, &modbus::protocols(), None).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    fn named<'a>(version: &'a str, org: Option<&'a str>) -> Named<'a> {
        Named { name: "p", version, org }
    }

    fn reasons(old: &Site, new: &Site) -> Vec<String> {
        let mut types = Types::new();
        learn(&mut types, old);
        let before = Before { running: Some(named("1.0.0", None)), site: Some(old), types: &types, taken_back: false };
        refuse(&before, named("1.0.0", None), new, false, &Places::default())
            .into_iter()
            .map(|fault| fault.problem)
            .collect()
    }

    #[test]
    fn a_point_that_was_sent_keeps_its_data_type_in_its_model() {
        let retyped = ("models/model.yaml", "AI, data_type: double", "AI, data_type: float");
        let told = reasons(&site(&[]), &site(&[retyped]));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("measurement point \"temperature\" was double when it was sent, and is float now"));
        let renamed = [
            retyped,
            ("models/model.yaml", "id: temperature", "id: temp"),
            ("templates/device/mapping.yaml", "temperature", "temp"),
        ];
        assert!(reasons(&site(&[]), &site(&renamed)).is_empty(), "another id is another point");
        let unsent = ("models/model.yaml", "data_type: double, unit: °C", "data_type: double, unit: °C, upload: never");
        assert!(reasons(&site(&[unsent]), &site(&[unsent, retyped])).is_empty(), "what was never sent may change");
    }

    #[test]
    fn a_device_of_another_model_keeps_the_types_of_its_points_too() {
        let renamed = [
            ("models/model.yaml", "id: Device", "id: Other"),
            ("templates/device/template.yaml", "model: \"Device\"", "model: Other"),
        ];
        let retyped = ("models/model.yaml", "AI, data_type: double", "AI, data_type: float");
        let other = |retype: bool| {
            let changes = renamed.iter().chain(retype.then_some(&retyped));
            site(&changes.copied().collect::<Vec<_>>())
        };
        assert!(reasons(&site(&[]), &other(false)).is_empty());
        let told = reasons(&site(&[]), &other(true));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("\"temperature\" was double when it was sent (model"), "{told:?}");
    }

    #[test]
    fn an_older_version_another_ou_and_what_was_taken_back_are_refused() {
        let (site, types) = (site(&[]), Types::new());
        let refused = |running: &str, new: &str, older: bool| {
            let before = Before { running: Some(named(running, None)), site: None, types: &types, taken_back: false };
            refuse(&before, named(new, None), &site, older, &Places::default()).len()
        };
        assert_eq!(refused("1.10.0", "1.2.0", false), 1);
        for (running, new, older) in [
            ("1.10.0", "1.2.0", true),
            ("1.2.0", "1.2.0", false),
            ("1.2.0+build.9", "1.2.0+build.1", false),
            ("1.2.0-rc.1", "1.2.0", false),
            ("recovered", "1.2.0", false),
        ] {
            assert_eq!(refused(running, new, older), 0, "{running} {new}");
        }
        let before =
            |org, taken_back| Before { running: Some(named("1.0.0", org)), site: None, types: &types, taken_back };
        let told = refuse(&before(Some("o1"), true), named("1.0.0", Some("o2")), &site, false, &Places::default());
        assert!(told[0].problem.contains("was taken back before"));
        assert!(told[1].problem.contains("org \"o2\" is not the OU of this gateway's package, \"o1\""));
        assert!(refuse(&before(None, false), named("1.0.0", Some("o2")), &site, false, &Places::default()).is_empty());
    }

    #[test]
    fn an_asset_is_replaced_and_not_converted() {
        let logic = [
            ("assets.yaml", "    product_key: product ", "    kind: logic\n    asset_id: abc\n    # "),
            ("assets.yaml", "    device_key", "    # "),
            ("assets.yaml", "    device_secret_file", "    # "),
        ];
        let told = reasons(&site(&[]), &site(&logic));
        assert_eq!(told, ["device \"Device 1\" was a device asset and is a logic asset now"]);
        let replaced = [logic[0], logic[1], logic[2], ("assets.yaml", "name: Device 1", "name: Device 1 L")];
        assert!(reasons(&site(&[]), &site(&replaced)).is_empty());
    }
}
