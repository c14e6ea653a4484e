//! PURE. `assets.yaml`: sites, device assets and logic assets, as written.

use super::check::limits;
use super::details::{self, Common};
use super::fields::{Faults, Fields};
use super::offsets::{self, OffsetText};
use super::yaml::Node;
use crate::config::Secret;
use crate::diagnostic::{Diagnostic, Place};
use crate::model::DeviceDetails;
use driver::Text;
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct Assets {
    pub sites: Vec<Site>,
    pub devices: Vec<Device>,
}

#[derive(Clone, Debug)]
pub struct Site {
    pub id: Text,
    pub parent: Option<Text>,
}

/// A device asset has the triple; a logic asset has an asset id and no triple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssetKind {
    Device,
    Logic,
}

#[derive(Clone, Debug)]
pub enum SecretText {
    Plain(Secret),
    /// A path below the secrets of the state folder.
    File(Text),
}

#[derive(Clone, Debug)]
pub struct Device {
    pub place: Place,
    pub name: Text,
    pub kind: AssetKind,
    pub product_key: Option<Text>,
    pub device_key: Option<Text>,
    pub secret: Option<SecretText>,
    pub product_secret: Option<SecretText>,
    /// The cloud is asked to make the device.
    pub register: bool,
    pub details: DeviceDetails,
    pub asset_id: Option<Text>,
    pub site: Option<Text>,
    pub template: Option<Text>,
    pub connection: Option<Text>,
    pub address: Option<Text>,
    pub offsets: OffsetText,
    pub attributes: Vec<(Text, Text)>,
}

const TOP: &[&str] = &["sites", "devices"];
const SITE: &[&str] = &["id", "name", "description", "parent", "timezone", "attributes", "tags"];
const DEVICE: &[&str] = &[
    "name",
    "kind",
    "product_key",
    "device_key",
    "device_secret",
    "device_secret_file",
    "product_secret",
    "product_secret_file",
    "register",
    "names",
    "asset_id",
    "site",
    "template",
    "connection",
    "address",
    "offsets",
    "timezone",
    "description",
    "attributes",
    "tags",
];
const KINDS: &[(&str, AssetKind)] = &[("device", AssetKind::Device), ("logic", AssetKind::Logic)];

/// Adds what one file says to `assets`.
pub fn read(file: &Arc<str>, root: &Node<'_>, assets: &mut Assets, faults: &mut Faults) {
    let Some(top) = Fields::open(file, root, "asset file", TOP, faults) else { return };
    for node in top.list("sites", faults) {
        if let Some(site) = read_site(file, node, faults) {
            assets.sites.push(site);
        }
    }
    let devices = top.list("devices", faults);
    assets.devices.reserve(devices.len());
    for node in devices {
        if let Some(device) = read_device(file, node, faults) {
            assets.devices.push(device);
        }
    }
}

fn read_site(file: &Arc<str>, node: &Node<'_>, faults: &mut Faults) -> Option<Site> {
    let fields = Fields::open(file, node, "site", SITE, faults)?;
    let id = fields.required("id", faults);
    if let Some(id) = &id {
        limits::identifier("site id", id, faults);
    }
    common(&fields, faults);
    fields.complain_unless_map("tags", faults);
    if let Some(name) = fields.text("name", faults) {
        limits::name("site name", &name, faults);
    }
    Some(Site { id: id?, parent: fields.text("parent", faults) })
}

fn read_device(file: &Arc<str>, node: &Node<'_>, faults: &mut Faults) -> Option<Device> {
    let fields = Fields::open(file, node, "device", DEVICE, faults)?;
    let name = fields.required("name", faults);
    if let Some(name) = &name {
        limits::name("device name", name, faults);
    }
    let common = common(&fields, faults);
    let attributes = fields.pairs("attributes", faults);
    let offsets = offsets::read(&fields.pairs("offsets", faults), faults);
    let kind = fields.word("kind", KINDS, faults);
    // A kind that is written, and not known, says nothing about the triple.
    let kind_is_clear = kind.is_some() || fields.node("kind").is_none();
    let device = Device {
        place: fields.place.clone(),
        name: name.unwrap_or_else(|| Text { text: "?".to_owned(), place: fields.place.clone() }),
        kind: kind.unwrap_or(AssetKind::Device),
        product_key: fields.text("product_key", faults),
        device_key: fields.text("device_key", faults),
        secret: read_secret(&fields, "device_secret", faults),
        product_secret: read_secret(&fields, "product_secret", faults),
        register: fields.flag("register", false, faults),
        details: details::read(&fields, common, &attributes, faults),
        asset_id: fields.text("asset_id", faults),
        site: fields.text("site", faults),
        template: fields.required("template", faults),
        connection: fields.required("connection", faults),
        address: fields.text("address", faults),
        offsets,
        attributes,
    };
    check_keys(&device, faults);
    if kind_is_clear {
        check_identity(&device, faults);
    }
    Some(device)
}

/// Keys that sites and devices share.
fn common(fields: &Fields<'_, '_>, faults: &mut Faults) -> Common {
    let description = fields.text("description", faults);
    if let Some(text) = &description {
        limits::description(text, faults);
    }
    let timezone = fields.text("timezone", faults);
    if let Some(zone) = &timezone
        && !is_timezone(&zone.text)
    {
        faults.push(super::fields::misfit("timezone", zone, "write +08:00, or a region and city as Asia/Shanghai"));
    }
    Common { description, timezone }
}

fn is_timezone(zone: &str) -> bool {
    let offset = |rest: &str| {
        rest.split_once(':').is_some_and(|(hours, minutes)| {
            let digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            digits(hours) && digits(minutes) && hours <= "14" && minutes <= "59"
        })
    };
    match zone.strip_prefix(['+', '-']) {
        Some(rest) => offset(rest),
        None => {
            zone == "UTC"
                || zone.split_once('/').is_some_and(|(region, city)| !region.is_empty() && !city.is_empty())
                    && zone.chars().all(|c| c.is_ascii_alphanumeric() || "/_-+".contains(c))
        }
    }
}

fn read_secret(fields: &Fields<'_, '_>, key: &str, faults: &mut Faults) -> Option<SecretText> {
    let plain = fields.text(key, faults);
    let file_key = format!("{key}_file");
    let file = fields.text(&file_key, faults);
    if let Some(file) = &file {
        if plain.is_some() {
            let problem = format!("device has {key} and {file_key}");
            faults.push(Diagnostic::error(file.place.clone(), problem).help("keep one of the two"));
        }
        if file.text.starts_with('/') || file.text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let help = "write a path below the secrets of the state folder, without ..";
            faults.push(super::fields::misfit(&file_key, file, help));
        }
    }
    if let Some(plain) = &plain {
        limits::secret(plain, faults);
    }
    plain.map(|text| SecretText::Plain(Secret::new(text.text))).or(file.map(SecretText::File))
}

fn check_keys(device: &Device, faults: &mut Faults) {
    for (what, key) in [("product key", &device.product_key), ("device key", &device.device_key)] {
        if let Some(key) = key {
            limits::key(what, key, faults);
        }
    }
    if let Some(id) = &device.asset_id {
        limits::identifier("asset id", id, faults);
    }
}

/// A triple on a logic asset, or none on a device asset.
fn check_identity(device: &Device, faults: &mut Faults) {
    let name = &device.name.text;
    match device.kind {
        AssetKind::Device => {
            let parts = [
                (device.product_key.is_none(), "product_key"),
                (device.device_key.is_none(), "device_key"),
                (device.secret.is_none() && device.product_secret.is_none() && !device.register, "device_secret"),
            ];
            let missing: Vec<_> = parts.iter().filter(|(missing, _)| *missing).map(|(_, word)| *word).collect();
            if !missing.is_empty() {
                let problem = format!("device asset \"{name}\" has no {}", missing.join(" and no "));
                let help = "write the triple the cloud gave the device, `register: true` to let the gateway register it, or \
                            `kind: logic` for a logic asset";
                faults.push(Diagnostic::error(device.place.clone(), problem).help(help));
            }
            if device.register && (device.secret.is_some() || device.product_secret.is_some()) {
                let problem = format!("device asset \"{name}\" has `register: true` and a secret");
                let help = "a device with a secret is registered already; keep one of the two";
                faults.push(Diagnostic::error(device.place.clone(), problem).help(help));
            }
        }
        AssetKind::Logic => {
            if let Some(key) = device.product_key.as_ref().or(device.device_key.as_ref()) {
                refuse_triple(name, key.place.clone(), faults);
            } else if device.secret.is_some() || device.product_secret.is_some() || device.register {
                refuse_triple(name, device.place.clone(), faults);
            }
            if device.asset_id.is_none() {
                let problem = format!("logic asset \"{name}\" has no asset_id");
                let help = "write the asset id the cloud shows; a logic asset is addressed by it";
                faults.push(Diagnostic::error(device.place.clone(), problem).help(help));
            }
        }
    }
}

fn refuse_triple(name: &str, place: Place, faults: &mut Faults) {
    let problem = format!("logic asset \"{name}\" has a triple");
    let help = "remove product_key, device_key and device_secret; only a device asset logs in";
    faults.push(Diagnostic::error(place, problem).help(help));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones_are_offsets_or_places() {
        for good in ["+08:00", "-03:30", "Asia/Shanghai", "UTC", "America/Argentina/Buenos_Aires"] {
            assert!(is_timezone(good), "{good}");
        }
        for bad in ["8", "+8", "+25:00", "+08:60", "Asia/", "somewhere", "Asia/Shang hai"] {
            assert!(!is_timezone(bad), "{bad}");
        }
    }
}
