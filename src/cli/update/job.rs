//! `enos-edge update install | status | history | cancel | roll-back`: through the door of a running gateway.

use crate::cli::moments::stamp;
use crate::cli::progress::with_bar;
use crate::cli::status::text;
use crate::cli::terminal::{say, table};
use crate::cli::{DoorArguments, failed};
use crate::doors::local::{Refused, Visitor};
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
        own.door.ask("update_install", &json!({ "path": path, "now": own.now }))
    });
    let asked = asked.and_then(|answer| {
        let id = answer["job"]["id"].clone();
        if own.no_wait { Ok(answer) } else { with_bar("updating", own.door.json, |bar| own.door.follow(&id, bar)) }
    });
    let ended_well =
        asked.as_ref().is_ok_and(|answer| own.no_wait || answer["job"]["state"] == "done" || !is_end(answer));
    let status = own.door.show(asked, |answer| describe(&answer["job"]));
    if ended_well { status } else { ExitCode::FAILURE }
}

pub(super) fn status(door: &Door) -> ExitCode {
    door.show(door.ask("update_status", &json!({})), |answer| {
        let mut said = match &answer["job"] {
            Json::Null => "no update was ever taken\n".to_owned(),
            job => describe(job),
        };
        if let Some(why) = answer["keys"]["none"].as_str() {
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
    door.show(door.ask("update_cancel", &json!({})), |answer| describe(&answer["job"]))
}

pub(super) fn roll_back(door: &Door) -> ExitCode {
    door.show(door.ask("update_roll_back", &json!({})), |answer| describe(&answer["job"]))
}

fn is_end(answer: &Json) -> bool {
    answer["job"]["end"] == true
}

/// `engine 1.2.0: waiting (the maintenance window opens sat 2026-11-28 22:00)`
fn describe(job: &Json) -> String {
    let target = job["target"].as_str().unwrap_or("update");
    let mut said = format!("{target} {}: {}", text(&job["version"]), text(&job["state"]));
    if job["end"] != true {
        said.push_str(&format!(", {} %", job["percent"]));
    }
    for key in ["why", "doing"] {
        if let Some(words) = job[key].as_str().filter(|words| !words.is_empty()) {
            said.push_str(&format!(" ({words})"));
        }
    }
    said.push('\n');
    said
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

    /// Exit status 1: there is an answer, and it is no.
    fn show(&self, asked: anyhow::Result<Json>, shown: impl FnOnce(&Json) -> String) -> ExitCode {
        match asked {
            Ok(answer) if self.json => say(&format!("{answer}\n")),
            Ok(answer) => say(&shown(&answer)),
            Err(error) => {
                let refused = error.downcast_ref::<Refused>();
                if self.json
                    && let Some(refused) = refused
                {
                    say(&format!("{}\n", json!({ "error": { "code": refused.code, "message": refused.message } })));
                }
                let answered = refused.is_some();
                let status = failed(&error);
                return if answered { ExitCode::FAILURE } else { status };
            }
        }
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_in_one_line() {
        let waiting = json!({"target": "engine", "version": "1.2.0", "state": "waiting", "percent": 52, "end": false, "why": "the window opens later", "doing": ""});
        assert_eq!(describe(&waiting), "engine 1.2.0: waiting, 52 % (the window opens later)\n");
        let done =
            json!({"target": "rauc", "version": "2.0.0", "state": "done", "percent": 100, "end": true, "why": ""});
        assert_eq!(describe(&done), "rauc 2.0.0: done\n");
    }
}
