//! `enos-edge read DEVICE [POINT]`: asks the device now, through the running gateway.

use super::status::text;
use super::terminal::table;
use super::{DoorArguments, failed};
use crate::doors::local::Visitor;
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    door: DoorArguments,
    /// Name of the device.
    device: String,
    /// Measurement point; default: all of them.
    point: Option<String>,
    /// JSON array of values, for a script.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let request = json!({"device": arguments.device, "point": arguments.point});
    let asked = arguments.door.path().and_then(|path| Visitor::connect(&path)?.ask("read", &request));
    let values = match asked {
        Ok(values) => values,
        Err(error) => return failed(&error),
    };
    let values_list = values.as_array().cloned().unwrap_or_default();
    if arguments.json {
        println!("{values}");
    } else {
        let columns = ["point", "value", "unit", "quality", "raw"];
        let rows: Vec<Vec<String>> =
            values_list.iter().map(|v| columns.iter().map(|c| text(&v[*c])).collect()).collect();
        print!("{}", table(&columns, &rows));
    }
    // A device that did not answer shows in the table; a script sees it in the status too.
    let answered = values_list.iter().any(|v| !v["value"].is_null() || !v["raw"].is_null());
    if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
