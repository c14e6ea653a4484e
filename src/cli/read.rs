//! `enos-edge read DEVICE [POINT]`: asks the device now, through the running gateway.

use super::status::text;
use super::terminal::{say, table};
use super::{DoorArguments, failed};
use crate::doors::local::{Refused, Visitor};
use crate::operate::NO_ANSWER;
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
        Err(error) => {
            let status = failed(&error);
            let silent = error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == NO_ANSWER);
            return if silent { ExitCode::FAILURE } else { status };
        }
    };
    let values_list = values.as_array().cloned().unwrap_or_default();
    if arguments.json {
        say(&format!("{values}\n"));
    } else {
        let columns = ["point", "value", "unit", "quality", "raw"];
        let rows: Vec<Vec<String>> =
            values_list.iter().map(|v| columns.iter().map(|c| text(&v[*c])).collect()).collect();
        say(&table(&columns, &rows));
    }
    // A device that did not answer shows in the table; a script sees it in the status too.
    let answered = values_list.iter().any(|v| !v["value"].is_null() || !v["raw"].is_null());
    if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
