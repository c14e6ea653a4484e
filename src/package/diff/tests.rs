//! Comparing small packages.

use super::*;
use crate::package::scaffold::{self, Wanted};

fn checked(change: &[(&str, &str, &str)]) -> Checked {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("p");
    scaffold::create(&folder, &Wanted { name: "p", protocol: "modbus-tcp", model: None }).unwrap();
    for (file, from, to) in change {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(folder.join(file), text.replacen(from, to, 1)).unwrap();
    }
    let checked = crate::package::check(&folder, &modbus::protocols());
    assert_eq!(checked.errors(), 0, "{}", crate::diagnostic::joined(&checked.diagnostics));
    checked
}

fn diff(change: &[(&str, &str, &str)]) -> Diff {
    compare(&checked(&[]), &checked(change), &Memory::default()).unwrap()
}

const SECOND: &str = "devices:\n  - { name: Device 2, product_key: p, device_key: d2, device_secret: s, template: device, connection: line-1, address: \"2\" }\n";

#[test]
fn equal_packages_differ_in_nothing_and_keep_every_connection() {
    let diff = diff(&[]);
    let told = report::text(&diff);
    assert!(told.contains("nothing changes\nconnections opened anew: none; kept as they are: 1"), "{told}");
    assert!(diff.refused.is_empty());
}

#[test]
fn points_tell_what_changes_in_them() {
    let table = "templates/device/point.csv";
    let diff = diff(&[
        (table, "Temperature,1,double,ai,1,0", "Temperature,9,float,ai,0.1,-5"),
        ("templates/device/mapping.yaml", "ai.1", "ai.9"),
        (table, "Running", "Run"),
        ("models/model.yaml", "upload_interval_ms: 60000", "upload_interval_ms: 30000"),
    ]);
    let told = report::text(&diff);
    for expected in [
        "template device (1 device):\n  - point Running (di.0)\n  + point Run (di.0)\n",
        "~ point Temperature (ai.9): number 1 -> 9, value type double -> float, coefficient 1 -> 0.1, base value 0 -> -5\n",
        "~ measurement point temperature: mapping ai.1 -> ai.9\n",
        "~ measurement point energy: upload timer 60s -> timer 30s\n",
        "opened anew: 1 (line-1); kept as they are: 0",
    ] {
        assert!(told.contains(expected), "{expected} is missing in\n{told}");
    }
}

#[test]
fn a_new_device_costs_what_it_costs() {
    let diff = diff(&[("assets.yaml", "devices:\n", SECOND)]);
    assert_eq!(diff.devices.added, ["Device 2"]);
    let told = report::text(&diff);
    assert!(told.contains("values/s read              3 -> 6 (+3)"), "{told}");
    assert_eq!(report::to_json(&diff)["restarted"], serde_json::json!(["line-1"]));
}

#[test]
fn connections_tell_their_parameters_but_no_passwords() {
    let told = report::text(&diff(&[("connections/line-1.yaml", "192.168.0.10", "192.168.0.11")]));
    assert!(told.contains("~ connection line-1: host 192.168.0.10 -> 192.168.0.11"), "{told}");
    let map = |value: &str| BTreeMap::from([("password".to_owned(), value.to_owned())]);
    assert_eq!(parameter_changes(Some(&map("a")), Some(&map("b"))), ["password (not shown)"]);
}

#[test]
fn what_the_gateway_would_refuse_is_foretold() {
    let retyped = [("models/model.yaml", "AI, data_type: double", "AI, data_type: float")];
    let refused = diff(&retyped).refused;
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].problem.contains("\"temperature\" was double when it was sent, and is float now"),
        "{refused:?}"
    );
    let version = [("package.yaml", "version: 0.1.0", "version: 0.0.9")];
    assert!(diff(&version).refused[0].problem.contains("version 0.0.9 is older than 0.1.0"));
    let (old, new) = (checked(&[]), checked(&version));
    let older = Memory { older: true, ..Memory::default() };
    assert!(compare(&old, &new, &older).unwrap().refused.is_empty());
    // The running package is not all that the gateway remembers.
    let model = &old.site.as_ref().unwrap().connections[0].devices[0].template.model.id;
    let sent = Types::from([(model.clone(), BTreeMap::from([("temperature".to_owned(), "int".to_owned())]))]);
    let memory = Memory { types: Some(sent), taken_back: true, ..Memory::default() };
    let refused = compare(&old, &old, &memory).unwrap().refused;
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused[1].problem.contains("was int when it was sent, and is double now"), "{refused:?}");
}
