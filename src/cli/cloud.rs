//! `enos-edge cloud …`: what the cloud knows of the gateway and its sub-devices, asked through the running gateway.

use super::status::text;
use super::terminal::{say, table};
use super::{DoorArguments, failed};
use crate::doors::local::Visitor;
use serde_json::{Value as Json, json};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    door: DoorArguments,
    #[arg(value_enum)]
    what: What,
    /// Name or device key of a sub-device; default: the gateway.
    device: Option<String>,
    /// Attributes or tags; default: all of them.
    names: Vec<String>,
    /// JSON as the cloud sent it, for a script.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Attributes the cloud keeps.
    Attributes,
    /// Tags the cloud keeps.
    Tags,
    /// The model as the cloud has it.
    Template,
    /// Sub-devices of this gateway as the cloud has them.
    Topology,
    /// Logins of the sub-devices, from the gateway's memory.
    Devices,
    /// Versions the cloud offers to the gateway.
    Versions,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let answer = match ask(arguments) {
        Ok(answer) => answer,
        Err(error) => return failed(&error),
    };
    if arguments.json {
        say(&format!("{answer}\n"));
    } else {
        say(&shown(arguments.what, &answer));
    }
    ExitCode::SUCCESS
}

fn ask(arguments: &Arguments) -> anyhow::Result<Json> {
    let mut visitor = Visitor::connect(&arguments.door.path()?)?;
    let what = match arguments.what {
        What::Attributes => "attributes",
        What::Tags => "tags",
        What::Template => "template",
        What::Topology => "topology",
        What::Versions => "versions",
        What::Devices => {
            let mut status = visitor.ask("status", &json!({ "listings": false }))?;
            let mut devices = status["cloud"]["sub_devices"].take();
            if let (Some(device), Some(list)) = (&arguments.device, devices.as_array_mut()) {
                list.retain(|each| each["device"] == **device || each["device_key"] == **device);
                anyhow::ensure!(!list.is_empty(), "no sub-device is called \"{device}\"");
            }
            return Ok(devices);
        }
    };
    visitor.ask("cloud", &json!({ "what": what, "device": arguments.device, "names": arguments.names }))
}

fn shown(what: What, answer: &Json) -> String {
    match what {
        What::Attributes | What::Tags => {
            let pairs = answer.as_object().into_iter().flatten();
            table(&["name", "value"], &pairs.map(|(name, value)| vec![name.clone(), text(value)]).collect::<Vec<_>>())
        }
        What::Topology => rows(answer, &["productKey", "deviceKey", "assetId"]),
        What::Versions => rows(answer, &["version", "fileUrl", "fileSize", "signMethod"]),
        What::Devices => rows(answer, &["device", "product_key", "device_key", "login", "code", "message"]),
        What::Template => template(answer),
    }
}

fn rows(answer: &Json, columns: &[&str]) -> String {
    let cell = |value: &Json| if value.is_null() { String::new() } else { text(value) };
    let each = answer.as_array().into_iter().flatten();
    table(columns, &each.map(|row| columns.iter().map(|c| cell(&row[*c])).collect()).collect::<Vec<_>>())
}

fn template(answer: &Json) -> String {
    let kinds = [
        ("attribute", "tslAttributeMap"),
        ("measurement point", "tslMeasurepointMap"),
        ("event", "tslEventMap"),
        ("service", "tslServiceMap"),
    ];
    let rows: Vec<Vec<String>> = kinds
        .iter()
        .flat_map(|(kind, map)| {
            let each = answer[*map].as_object().into_iter().flatten();
            each.map(|(id, value)| {
                let data_type = value["dataType"].as_str().unwrap_or_default().to_owned();
                vec![(*kind).to_owned(), id.clone(), data_type]
            })
        })
        .collect();
    table(&["kind", "id", "type"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_tables() {
        let tags = shown(What::Tags, &json!({ "k": "v" }));
        assert_eq!(tags, "name  value\nk     v\n");
        let points = json!({ "tslMeasurepointMap": { "temp": { "dataType": "float" } } });
        assert_eq!(shown(What::Template, &points), "kind               id    type\nmeasurement point  temp  float\n");
        assert!(shown(What::Topology, &json!([{ "productKey": "p", "deviceKey": "d" }])).contains("p           d"));
        assert_eq!(shown(What::Versions, &Json::Null).lines().count(), 1);
    }
}
