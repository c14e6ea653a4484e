//! `enos-edge write DEVICE POINT VALUE` and `enos-edge invoke DEVICE SERVICE [k=v…]`: commands through the running gateway.

use super::terminal::say;
use super::{DoorArguments, failed};
use crate::doors::local::Visitor;
use crate::model::command::code;
use serde_json::{Map, Value as Json, json};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct WriteArguments {
    #[command(flatten)]
    door: DoorArguments,
    /// Name of the device.
    device: String,
    /// Measurement point.
    point: String,
    /// The value: a number, true or false, else a text.
    #[arg(allow_hyphen_values = true)]
    value: String,
    #[command(flatten)]
    order: Order,
}

#[derive(clap::Args)]
pub(super) struct InvokeArguments {
    #[command(flatten)]
    door: DoorArguments,
    /// Name of the device.
    device: String,
    /// Service of its model.
    service: String,
    /// Inputs: name=value.
    inputs: Vec<String>,
    #[command(flatten)]
    order: Order,
}

#[derive(clap::Args)]
struct Order {
    /// Milliseconds the command is good for; 20000 unless said, 24000 at most.
    #[arg(long, value_name = "MS")]
    ttl: Option<u64>,
    /// An id: repeated with the same id, the command has one effect and the same answer.
    #[arg(long)]
    id: Option<String>,
    /// JSON object {"code","message","data"}, for a script.
    #[arg(long)]
    json: bool,
}

pub(super) fn write(arguments: &WriteArguments) -> ExitCode {
    let request = json!({"device": arguments.device, "points": { &*arguments.point: value(&arguments.value) }});
    carry_out(&arguments.door, "write", request, &arguments.order)
}

pub(super) fn invoke(arguments: &InvokeArguments) -> ExitCode {
    let mut input = Map::new();
    for one in &arguments.inputs {
        let Some((name, text)) = one.split_once('=') else {
            return failed(&anyhow::anyhow!("input \"{one}\" is not of the form name=value"));
        };
        input.insert(name.to_owned(), value(text));
    }
    let request = json!({"device": arguments.device, "service": arguments.service, "input": input});
    carry_out(&arguments.door, "invoke", request, &arguments.order)
}

/// What a shell passes: JSON where it is a plain value, else a text.
fn value(text: &str) -> Json {
    serde_json::from_str(text)
        .ok()
        .filter(|v: &Json| !v.is_object() && !v.is_array() && !v.is_null())
        .unwrap_or(json!(text))
}

/// Exit status 0: done; 1: the gateway or the device said no, or nobody knows; 2: the gateway was not asked.
fn carry_out(door: &DoorArguments, operation: &str, mut request: Json, order: &Order) -> ExitCode {
    request["ttl_ms"] = json!(order.ttl);
    request["id"] = json!(order.id);
    let asked = door.path().and_then(|path| Visitor::connect(&path)?.ask(operation, &request));
    let outcome = match asked {
        Ok(outcome) => outcome,
        Err(error) => return failed(&error),
    };
    let done = outcome["code"] == code::DONE;
    if order.json {
        say(&format!("{outcome}\n"));
    } else if done {
        let data = outcome["data"].as_object().filter(|data| !data.is_empty());
        say(&data.map_or_else(|| "done\n".to_owned(), |data| format!("done: {}\n", Json::Object(data.clone()))));
    } else {
        eprintln!("enos-edge: not done, code {}: {}", outcome["code"], outcome["message"].as_str().unwrap_or_default());
    }
    if done { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_s_words_become_values() {
        assert_eq!(value("21.5"), json!(21.5));
        assert_eq!(value("-3"), json!(-3));
        assert_eq!(value("true"), json!(true));
        assert_eq!(value("auto"), json!("auto"));
        assert_eq!(value("{}"), json!("{}"));
        assert_eq!(value("null"), json!("null"));
    }
}
