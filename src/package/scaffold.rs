//! Writes a new package folder that passes its check at once: one device, one connection, and what a person fills in.

use super::fields::Faults;
use super::models::{self, Flat};
use super::yaml;
use crate::diagnostic::{Diagnostic, Place};
use crate::model::{DataType, Measurepoint, Signal};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// What the package is made from.
pub struct Wanted<'a> {
    pub name: &'a str,
    pub protocol: &'a str,
    /// A model file of the thing model in the package's own format.
    pub model: Option<&'a Path>,
}

/// A model file is a text for people.
const MODEL_BYTES: u64 = 4 << 20;

const MODEL: &str = "\
# What the devices of this site measure, as the cloud's model says. One entry a measurement point.
models:
  - id: Device
    name: Device
    measurepoints:
      - { id: running, name: Running, type: DI, data_type: bool, upload: change }
      - { id: temperature, name: Temperature, type: AI, data_type: double, unit: °C }
      - { id: energy, name: Energy, type: PI, data_type: double, unit: kWh, upload: timer, upload_interval_ms: 60000 }
";

/// Protocols a package can be started for, and the parameters to fill in.
const PROTOCOLS: &[(&str, &str)] = &[
    (
        "modbus-tcp",
        "  host: 192.168.0.10        # fill in: address of the device or the serial gateway\n  port: 502\n  scan_period_ms: 1000\n  timeout_ms: 1000\n  notation: plain           # 100 in point.csv is register address 100; classic: 40101\n  # byte_order: ABCD        # or CDAB BADC DCBA; a column byte_order overrides it for a point\n",
    ),
    (
        "modbus-rtu",
        "  serial_port: /dev/ttyS1   # fill in; better the name below /dev/serial/by-path\n  baud_rate: 9600\n  parity: none              # none even odd\n  scan_period_ms: 1000\n  timeout_ms: 1000\n  notation: plain           # 100 in point.csv is register address 100; classic: 40101\n",
    ),
    (
        "opcua",
        "  endpoint: opc.tcp://192.168.0.10:4840/   # fill in\n  mode: subscribe           # the server sends changes; read: polled each period\n  scan_period_ms: 1000\n  # security_policy: Basic256Sha256\n  # user: gateway\n  # password_file: secrets/line-1\n",
    ),
    ("virtual", "  scan_period_ms: 1000      # computed values, for trials without a device\n"),
];

/// Writes the folder. It may be there, and must be empty.
///
/// # Errors
/// What is wrong with the wishes, the model or the folder.
pub fn create(folder: &Path, wanted: &Wanted<'_>) -> Result<Vec<String>, Vec<Diagnostic>> {
    let refuse = |problem: String, help: &str| {
        vec![Diagnostic::error(Place::new(&folder.display().to_string().into(), 0, 0), problem).help(help)]
    };
    let Some((_, parameters)) = PROTOCOLS.iter().find(|(name, _)| *name == wanted.protocol) else {
        let known = PROTOCOLS.iter().map(|(name, _)| *name);
        let help = crate::diagnostic::did_you_mean(wanted.protocol, known);
        return Err(refuse(format!("protocol \"{}\" can not be started from", wanted.protocol), &help));
    };
    if !(1..=64).contains(&wanted.name.chars().count()) || wanted.name.chars().any(char::is_control) {
        return Err(refuse("the name has not 1 to 64 characters".to_owned(), "give one with --name"));
    }
    let (text, model) = read_model(wanted.model)?;
    let files = texts(wanted, parameters, &text, &model);
    let free = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if !free || folder.is_file() {
        return Err(refuse("is there already and not empty".to_owned(), "name a new folder"));
    }
    for (name, text) in &files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .map_err(|e| refuse(format!("write {name}: {e}"), "may the folder be written?"))?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

/// The text, and the model in it that no other model is made from.
fn read_model(path: Option<&Path>) -> Result<(String, Flat), Vec<Diagnostic>> {
    let file: Arc<str> = path.map_or_else(|| "models/device.yaml".into(), |path| path.display().to_string().into());
    let whole = |problem: String| vec![Diagnostic::error(Place::new(&file, 0, 0), problem)];
    let text = match path {
        None => MODEL.to_owned(),
        Some(path) => {
            use std::io::Read;
            let mut text = String::new();
            fs::File::open(path)
                .and_then(|file| file.take(MODEL_BYTES).read_to_string(&mut text))
                .map_err(|e| whole(format!("read the model: {e}")))?;
            text
        }
    };
    let (root, found) = yaml::parse(&file, &text);
    let mut faults = Faults::from(found);
    let mut read = Vec::new();
    if let Some(root) = &root {
        models::read(&file, root, &mut read, &mut faults);
    }
    let mut flat = models::flatten(&read, &mut faults);
    if faults.errors() > 0 {
        return Err(faults.finish());
    }
    let parents: Vec<String> = flat.values().flatten().filter_map(|model| model.model.parent.clone()).collect();
    let last = read.iter().rev().map(|model| &model.id.text).find(|id| !parents.contains(id)).cloned();
    let model =
        last.and_then(|id| flat.remove(&id).flatten()).ok_or_else(|| whole("there is no model in it".to_owned()))?;
    Ok((text, model))
}

/// A text as YAML reads it back, whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn texts(wanted: &Wanted<'_>, parameters: &str, model_text: &str, model: &Flat) -> Vec<(String, String)> {
    let id = &model.model.id;
    let rows = rows(wanted.protocol, &model.model.measurepoints);
    vec![
        (
            "package.yaml".to_owned(),
            format!(
                "format: 1\nname: {}\nversion: 0.1.0            # raise it with each change: gateways refuse to go back\nengine: {}\n# org: o15632609593521    # the one OU of this package\n",
                quoted(wanted.name),
                crate::version::current()
            ),
        ),
        ("assets.yaml".to_owned(), assets(wanted)),
        ("models/model.yaml".to_owned(), model_text.to_owned()),
        (
            "connections/line-1.yaml".to_owned(),
            format!(
                "# One file a connection; docs/reference has a page of each protocol's parameters.\nname: line-1\nprotocol: {}\nprotocol.sys:\n{parameters}",
                wanted.protocol
            ),
        ),
        (
            "templates/device/template.yaml".to_owned(),
            format!("# What all devices of one make share.\nmodel: {}\n", quoted(id)),
        ),
        ("templates/device/point.csv".to_owned(), rows.table),
        ("templates/device/mapping.yaml".to_owned(), rows.mapping),
    ]
}

fn assets(wanted: &Wanted<'_>) -> String {
    let address = match wanted.protocol {
        "modbus-tcp" | "modbus-rtu" => "    address: \"1\"          # fill in: the Modbus unit\n",
        _ => "",
    };
    format!(
        "# Sites and devices. Copy the entry for each further device.\nsites:\n  - id: site-1\n    name: {}\ndevices:\n  - name: Device 1\n    product_key: product    # fill in: product key, device key and secret are the cloud's\n    device_key: device-1\n    device_secret_file: device-1   # the secret lies in STATE/secrets/device-1 of the gateway\n    site: site-1\n    template: device\n    connection: line-1\n{address}    # timezone: \"+08:00\"\n",
        quoted(wanted.name)
    )
}

struct Rows {
    table: String,
    mapping: String,
}

/// A row for each measurement point, where the next free address is.
fn rows(protocol: &str, points: &[Measurepoint]) -> Rows {
    let modbus = protocol.starts_with("modbus");
    let mut table = "name,number,value type,point type,coefficient,base value,alias".to_owned();
    table.push_str(if modbus { ",length\n" } else { "\n" });
    let mut mapping =
        "# measurement point: point, by its kind and number in point.csv, or a formula: sum(ai.0,ai.2)\nmapping:\n"
            .to_owned();
    let mut address = 0;
    for (at, point) in points.iter().enumerate() {
        let Some((value_type, registers)) = value_type(point.data_type) else {
            let _ = writeln!(mapping, "  {}: no_mapping   # arrays are filled by a later version", quoted(&point.id));
            continue;
        };
        let kind = kind(point);
        let number = match protocol {
            "opcua" => format!("ns=2;s=Device.{}", point.id),
            "virtual" if value_type == "bool" => format!("counter{at}"),
            "virtual" => format!("sine{at}"),
            _ => address.to_string(),
        };
        address += registers;
        let mut row = vec![point.name.as_str(), &number, value_type, kind, "1", "0", &point.id];
        if modbus {
            row.push(if value_type == "string" { "32" } else { "" });
        }
        let cells: Vec<String> = row.iter().map(|cell| csv_cell(cell)).collect();
        let _ = writeln!(table, "{}", cells.join(","));
        let _ = writeln!(mapping, "  {}: {}", quoted(&point.id), quoted(&format!("{kind}.{number}")));
    }
    Rows { table, mapping }
}

/// The value type that fills a data type without a warning, and its registers.
fn value_type(data_type: DataType) -> Option<(&'static str, u32)> {
    match data_type {
        DataType::Bool => Some(("bool", 1)),
        DataType::Int | DataType::Enum => Some(("int", 2)),
        DataType::Float => Some(("float", 2)),
        DataType::Double => Some(("double", 4)),
        DataType::Timestamp => Some(("long", 4)),
        DataType::String | DataType::Date | DataType::Struct | DataType::File => Some(("string", 16)),
        DataType::Array => None,
    }
}

fn kind(point: &Measurepoint) -> &'static str {
    match point.signal {
        Signal::Di => "di",
        Signal::Pi => "pi",
        Signal::Ai => "ai",
        Signal::Generic if point.data_type == DataType::Bool => "di",
        Signal::Generic => "ai",
    }
}

/// A cell of a CSV file, quoted where it must be.
#[must_use]
pub fn csv_cell(text: &str) -> String {
    if text.contains([',', ';', '"', '\n', '\r']) || text.trim() != text {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::south::protocols::Protocols;

    fn checked(folder: &Path) -> String {
        let protocols = Protocols::new(Path::new("."));
        let checked = super::super::check(folder, &protocols.list());
        assert!(checked.site.is_some(), "{}", crate::diagnostic::joined(&checked.diagnostics));
        crate::diagnostic::joined(&checked.diagnostics)
    }

    #[test]
    fn every_protocol_s_scaffold_is_sound_but_for_its_seal() {
        let home = tempfile::tempdir().unwrap();
        for (protocol, _) in PROTOCOLS {
            let folder = home.path().join(protocol);
            create(&folder, &Wanted { name: "电站: 1 #", protocol, model: None }).unwrap();
            let told = checked(&folder);
            assert_eq!(told.lines().filter(|line| !line.starts_with("  help")).count(), 1, "{told}");
            assert!(told.contains("not sealed"), "{told}");
        }
    }

    #[test]
    fn every_data_type_of_a_given_model_is_mapped() {
        let home = tempfile::tempdir().unwrap();
        let types =
            ["int", "float", "double", "bool", "enum", "string", "timestamp", "date", "struct", "file", "array"];
        let points: String = types
            .iter()
            .map(|word| format!("      - {{ id: p_{word}, name: \"a, {word}\", data_type: {word} }}\n"))
            .collect();
        let model = home.path().join("model.yaml");
        fs::write(
            &model,
            format!("models:\n  - id: Base\n  - id: 逆变器\n    parent: Base\n    measurepoints:\n{points}"),
        )
        .unwrap();
        for (protocol, _) in PROTOCOLS {
            let folder = home.path().join(protocol);
            create(&folder, &Wanted { name: "x", protocol, model: Some(&model) }).unwrap();
            checked(&folder);
            assert_eq!(fs::read_to_string(folder.join("templates/device/point.csv")).unwrap().lines().count(), 11);
        }
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("notes.txt"), "mine").unwrap();
        let wanted = Wanted { name: "x", protocol: "virtual", model: None };
        assert!(create(home.path(), &wanted).unwrap_err()[0].problem.contains("not empty"));
        let wanted = Wanted { protocol: "modbus", ..wanted };
        let refused = create(&home.path().join("new"), &wanted).unwrap_err();
        assert!(refused[0].help.as_ref().unwrap().contains("modbus-tcp"), "{refused:?}");
        assert!(!home.path().join("new").exists());
    }
}
