//! `enos-edge update install | status | history | cancel | roll-back`: through the door of a running gateway.

use super::told::describe;
use crate::cli::DoorArguments;
use crate::cli::answer::show;
use crate::cli::moments::stamp;
use crate::cli::progress::with_bar;
use crate::cli::status::text;
use crate::cli::terminal::table;
use crate::doors::local::Visitor;
use crate::model::progress::{Progress, Unit};
use anyhow::Context;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How often the gateway is asked how it goes on.
const LOOK: Duration = Duration::from_millis(500);
/// It may restart for the new engine meanwhile; then nobody opens the door for a while.
const AWAY: u32 = 240;

#[derive(clap::Args, Debug)]
pub(super) struct Door {
    #[command(flatten)]
    door: DoorArguments,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct InstallArguments {
    /// Update file, as `enos-edge update build` makes it
    file: PathBuf,
    /// The sub-device it is for, where the file names none
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Do not wait for the maintenance window and the conditions
    #[arg(long)]
    now: bool,
    /// Return when the gateway has taken the file on, and do not wait for the end
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    door: Door,
}

pub(super) fn install(own: &InstallArguments) -> ExitCode {
    let asked = std::path::absolute(&own.file).context("find the file").and_then(|path| {
        std::fs::metadata(&path).with_context(|| format!("open {}", path.display()))?;
        own.door.ask("update_install", &json!({ "path": path, "now": own.now, "device": own.device }))
    });
    let asked = asked.and_then(|answer| {
        let id = answer["job"]["id"].clone();
        if own.no_wait { Ok(answer) } else { with_bar("updating", own.door.json, |bar| own.door.follow(&id, bar)) }
    });
    let ended_well =
        asked.as_ref().is_ok_and(|answer| own.no_wait || answer["job"]["state"] == "done" || !is_end(answer));
    let status = own.door.show(asked, |answer| line(&answer["job"]));
    if ended_well { status } else { ExitCode::FAILURE }
}

pub(super) fn status(door: &Door) -> ExitCode {
    door.show(door.ask("update_status", &json!({})), |answer| {
        let mut said = match &answer["job"] {
            Json::Null if answer["unread"].is_string() => String::new(),
            Json::Null => "no update was ever taken\n".to_owned(),
            job => line(job),
        };
        for why in [&answer["unread"], &answer["keys"]["none"]].into_iter().filter_map(Json::as_str) {
            said.push_str(&format!("{why}\n"));
        }
        said
    })
}

pub(super) fn history(door: &Door) -> ExitCode {
    door.show(door.ask("update_history", &json!({})), |answer| {
        let rows = answer.as_array().into_iter().flatten().map(|one| {
            let at = one["ended"].as_i64().map(stamp).unwrap_or_default();
            let own = ["target", "version", "replaced", "result", "from", "why"].map(|key| text(&one[key]));
            [&[at], &own[..]].concat()
        });
        table(&["at", "target", "version", "before", "result", "from", "why"], &rows.collect::<Vec<_>>())
    })
}

pub(super) fn cancel(door: &Door) -> ExitCode {
    door.show(door.ask("update_cancel", &json!({})), |answer| line(&answer["job"]))
}

pub(super) fn roll_back(door: &Door) -> ExitCode {
    door.show(door.ask("update_roll_back", &json!({})), |answer| line(&answer["job"]))
}

fn is_end(answer: &Json) -> bool {
    answer["job"]["end"] == true
}

fn line(job: &Json) -> String {
    format!("{}\n", describe(job))
}

impl Door {
    fn ask(&self, operation: &str, arguments: &Json) -> anyhow::Result<Json> {
        Visitor::connect(&self.door.path()?)?.ask(operation, arguments)
    }

    /// Asks how it goes on until it has ended, or waits for a window: that may take days.
    fn follow(&self, id: &Json, bar: &Progress) -> anyhow::Result<Json> {
        bar.step("updating", 100, Unit::Things);
        let mut away = 0;
        loop {
            match self.ask("update_status", &json!({})) {
                Ok(answer) if answer["job"]["id"] != *id => return Ok(answer),
                Ok(answer) if is_end(&answer) || answer["job"]["state"] == "waiting" => return Ok(answer),
                Ok(answer) => {
                    away = 0;
                    bar.set(answer["job"]["percent"].as_u64().unwrap_or(0));
                }
                Err(error) if away >= AWAY => return Err(error.context("the gateway did not come back")),
                Err(_) => away += 1,
            }
            std::thread::sleep(LOOK);
        }
    }

    fn show(&self, asked: anyhow::Result<Json>, shown: impl FnOnce(&Json) -> String) -> ExitCode {
        show(self.json, asked, shown)
    }
}
