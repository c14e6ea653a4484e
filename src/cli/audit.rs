//! `enos-edge audit`: what was commanded and what came of it, read from the state folder; no gateway has to run.

use super::moments::stamp;
use super::status::text;
use super::terminal::{say, table};
use super::{DEFAULT_CONFIG, failed};
use crate::operate::command::audit::{Query, query, verify};
use anyhow::Context;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// State folder of the gateway; default: the one its configuration names.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Only of the last so many hours, or since a time in milliseconds since 1970.
    #[arg(long, value_name = "HOURS")]
    since: Option<u64>,
    /// Only of the device of this name.
    #[arg(long)]
    device: Option<String>,
    /// Only through this door: enos, local, the name of a broker.
    #[arg(long)]
    door: Option<String>,
    /// Tells whether the record is whole, instead of showing it.
    #[arg(long)]
    verify: bool,
    /// JSON array of records, or the object of --verify, for a script.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match look(arguments) {
        Ok(status) => status,
        Err(error) => failed(&error),
    }
}

fn look(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let state_dir = match &arguments.state_dir {
        Some(dir) => dir.clone(),
        None => {
            let faulty = |faults: Vec<_>| anyhow::anyhow!("{}", crate::diagnostic::joined(&faults));
            crate::config::read(&arguments.config).map_err(faulty)?.state_dir
        }
    };
    let folder = state_dir.join("audit");
    anyhow::ensure!(
        folder.exists(),
        "there is no audit in {}: no gateway has run with this state folder; name its configuration with --config, or \
         the folder with --state-dir",
        folder.display()
    );
    let context = || format!("read the audit in {}", folder.display());
    if arguments.verify {
        let found = verify(&folder).with_context(context)?;
        if arguments.json {
            say(&format!("{}\n", json!(found)));
        } else {
            let faults: String = found.faults.iter().map(|fault| format!("{fault}\n")).collect();
            let files = found.files;
            say(&format!("{faults}{} records in {files} files, {} faults\n", found.records, found.faults.len()));
        }
        return Ok(if found.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let wanted =
        Query { since: arguments.since.map(since), device: arguments.device.clone(), door: arguments.door.clone() };
    let records = query(&folder, &wanted).with_context(context)?;
    if arguments.json {
        say(&format!("{}\n", Json::Array(records)));
    } else {
        let columns = ["time", "event", "door", "id", "device", "what", "code", "message"];
        let cell = |record: &Json, column: &str| match column {
            "time" => record["time"].as_i64().map(stamp).unwrap_or_default(),
            column => text(&record[column]),
        };
        let rows: Vec<Vec<String>> =
            records.iter().map(|record| columns.iter().map(|column| cell(record, column)).collect()).collect();
        say(&table(&columns, &rows));
    }
    Ok(ExitCode::SUCCESS)
}

/// Hours back from now; a number too large for that is a time itself.
fn since(number: u64) -> i64 {
    const CENTURY_H: u64 = 876_000;
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    if number > CENTURY_H {
        return i64::try_from(number).unwrap_or(i64::MAX);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    millis(now.saturating_sub(Duration::from_secs(number * 3600)))
}
