//! `enos-edge status`: what a running gateway is doing, for a person or a script.

use super::terminal::{grouped, table};
use super::{DoorArguments, failed};
use crate::doors::local::Visitor;
use serde_json::{Value as Json, json};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    door: DoorArguments,
    /// One JSON object for a script.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let asked = arguments.door.path().and_then(|path| Visitor::connect(&path)?.ask("status", &json!({})));
    match asked {
        Ok(status) if arguments.json => println!("{status}"),
        Ok(status) => print!("{}", shown(&status)),
        Err(error) => return failed(&error),
    }
    ExitCode::SUCCESS
}

/// The status as a page.
pub(super) fn shown(status: &Json) -> String {
    let mut page = format!(
        "enos-edge {} · up {} · package {} {}\n",
        text(&status["version"]),
        duration(status["uptime_s"].as_u64().unwrap_or(0)),
        text(&status["package"]["name"]),
        text(&status["package"]["version"]),
    );
    page.push_str(&format!("cloud   {}\n", cloud(&status["cloud"])));
    page.push_str(&format!("outbox  {}\n\n", outbox(status)));
    let rows: Vec<Vec<String>> =
        status["south"]["connections"].as_array().into_iter().flatten().flat_map(connection_rows).collect();
    page.push_str(&table(&["connection", "device", "state", "reads", "timeouts", "last error"], &rows));
    page
}

fn connection_rows(connection: &Json) -> Vec<Vec<String>> {
    let devices = connection["devices"].as_array().cloned().unwrap_or_default();
    let row = |device: &Json| {
        vec![
            text(&connection["name"]),
            text(&device["name"]),
            text(&device["state"]),
            text(&device["reads"]),
            text(&device["timeouts"]),
            text(&device["last_error"]),
        ]
    };
    devices.iter().map(row).collect()
}

fn cloud(cloud: &Json) -> String {
    if cloud.is_null() {
        return "not configured; readings wait in the outbox".into();
    }
    let mut line = format!("{} · {}", text(&cloud["state"]), text(&cloud["endpoint"]));
    if let Some(error) = cloud["last_error"].as_str() {
        line.push_str(&format!(" · {error}"));
    }
    line
}

fn outbox(status: &Json) -> String {
    let counter = |name: &str| grouped(status["counters"][name].as_u64().unwrap_or(0));
    format!(
        "{} waiting · {} acknowledged · {} dropped · {} set aside · {} bytes on disk",
        counter("outbox_readings"),
        counter("acknowledged"),
        counter("dropped"),
        counter("set_aside"),
        counter("outbox_bytes"),
    )
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Text without quotes; nothing for null.
pub(super) fn text(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(s) => s.clone(),
        other => other.to_string(),
    }
}
