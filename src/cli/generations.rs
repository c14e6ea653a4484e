//! `enos-edge package install | list | rollback | history`: through the door of a running gateway, or on its state
//! folder when none runs.

use super::DoorArguments;
use super::answer::show;
use super::handover::hand_over;
use super::moments::stamp;
use super::progress::with_bar;
use super::status::text;
use super::terminal::table;
use crate::doors::local::Visitor;
use crate::model::progress::{INSTALLING, Progress, Unit};
use crate::{app, config, diagnostic};
use anyhow::Context;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// How often the gateway is asked how far it is.
const LOOKED_AT: Duration = Duration::from_millis(300);

#[derive(clap::Args, Debug)]
pub(super) struct Door {
    #[command(flatten)]
    door: DoorArguments,
    /// One JSON object for a script.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct Install {
    /// The package: a folder, or a .tar.gz, .tar.zst or .zip archive.
    package: PathBuf,
    /// Also an older version, one that was taken back, or one that changes the type of a point. It must still be sound.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    door: Door,
}

#[derive(clap::Args, Debug)]
pub(super) struct Rollback {
    /// Generation to go back to; default: the one before.
    generation: Option<u64>,
    #[command(flatten)]
    door: Door,
}

pub(super) fn install(arguments: &Install) -> ExitCode {
    let asked = std::path::absolute(&arguments.package).context("find the package").and_then(|path| {
        std::fs::metadata(&path).with_context(|| format!("open {}", path.display()))?;
        let state_dir = config::state_dir(&arguments.door.door.config).unwrap_or_default();
        let handed = hand_over(&path, &state_dir)?;
        let words = json!({ "path": handed.path(), "force": arguments.force });
        arguments
            .door
            .ask("installing", "package_install", &words, |config| app::install_offline(config, &path, arguments.force))
    });
    arguments.door.show(asked, |answer| {
        let package = &answer["package"];
        let mut said = format!(
            "{} {} is generation {}",
            text(&package["name"]),
            text(&package["version"]),
            text(&package["generation"])
        );
        said.push_str(&match answer["applied"]["kept"].as_u64() {
            Some(kept) => watched(
                &answer["watch_s"],
                format!(
                    "; {kept} connections went on, {} were started, {} stopped\n",
                    answer["applied"]["started"].as_array().map_or(0, Vec::len),
                    answer["applied"]["stopped"].as_array().map_or(0, Vec::len)
                ),
            ),
            None => "; no gateway runs, the next start uses it\n".to_owned(),
        });
        said
    })
}

/// What comes after the switch.
fn watched(seconds: &Json, mut said: String) -> String {
    if let Some(seconds) = seconds.as_u64() {
        said.push_str(&format!("its readings are watched for {seconds} s; if they fall, the one before comes back\n"));
    }
    said
}

pub(super) fn rollback(arguments: &Rollback) -> ExitCode {
    let words = json!({ "generation": arguments.generation });
    let asked = arguments
        .door
        .ask("going back", "package_rollback", &words, |config| app::roll_back_offline(config, arguments.generation));
    arguments.door.show(asked, |answer| {
        let package = &answer["package"];
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        format!("back to generation {}: {name} {version}\n", text(&package["generation"]))
    })
}

pub(super) fn list(door: &Door) -> ExitCode {
    let asked = door.ask("asking", "package_list", &json!({}), app::packages_offline);
    door.show(asked, |answer| {
        let rows = answer["generations"].as_array().into_iter().flatten().map(|one| {
            let current = if one["generation"] == answer["current"] { "*" } else { "" };
            let at = one["at"].as_i64().map(stamp).unwrap_or_default();
            let own = ["generation", "name", "version"].map(|key| text(&one[key]));
            [&[current.to_owned()], &own[..], &[at, text(&one["from"])]].concat()
        });
        table(&["", "generation", "name", "version", "installed", "from"], &rows.collect::<Vec<_>>())
    })
}

pub(super) fn history(door: &Door) -> ExitCode {
    let asked = door.ask("asking", "package_history", &json!({}), app::package_history_offline);
    door.show(asked, |answer| {
        let rows = answer.as_array().into_iter().flatten().map(|one| {
            let at = one["at"].as_i64().map(stamp).unwrap_or_default();
            let own = ["event", "generation", "name", "version", "why"].map(|key| text(&one[key]));
            [&[at], &own[..]].concat()
        });
        table(&["at", "event", "generation", "name", "version", "why"], &rows.collect::<Vec<_>>())
    })
}

impl Door {
    fn ask(
        &self,
        verb: &'static str,
        operation: &str,
        words: &Json,
        offline: impl FnOnce(&config::Config) -> anyhow::Result<Json>,
    ) -> anyhow::Result<Json> {
        match Visitor::connect(&self.door.path()?) {
            Ok(mut visitor) => with_bar(verb, self.json, |progress| {
                std::thread::scope(|scope| {
                    // One message, when the answer is here: whoever follows the steps ends with it.
                    let (answered, waiting) = std::sync::mpsc::sync_channel::<()>(1);
                    if progress.is_seen() {
                        scope.spawn(move || self.follow(progress, &waiting));
                    }
                    let answer = asked(&mut visitor, operation, words);
                    drop(answered);
                    answer
                })
            }),
            Err(error) if nobody_there(&error) && self.door.socket.is_none() => {
                let config = config::read(&self.door.config)
                    .map_err(|faults| anyhow::anyhow!("{}", diagnostic::joined(&faults)))?;
                with_bar(verb, self.json, |_| offline(&config))
            }
            Err(error) => Err(error),
        }
    }

    /// Shows the steps of the gateway's installation here, until there is an answer. Best effort: the answer counts.
    fn follow(&self, progress: &Progress, answered: &Receiver<()>) {
        let Ok(Ok(mut visitor)) = self.door.path().map(|path| Visitor::connect(&path)) else { return };
        let mut seen = 0;
        while answered.recv_timeout(LOOKED_AT) == Err(RecvTimeoutError::Timeout) {
            let Ok(status) = visitor.ask("status", &json!({ "listings": false })) else { return };
            let now = &status["package"]["installing"];
            let Some(step) = INSTALLING.iter().find(|step| now["step"] == **step) else { continue };
            let number = |key: &str| now[key].as_u64().unwrap_or(0);
            if number("number") != seen {
                let unit = if now["unit"] == "bytes" { Unit::Bytes } else { Unit::Things };
                seen = number("number");
                progress.step(step, number("total"), unit);
            }
            progress.set(number("done"));
        }
    }

    fn show(&self, asked: anyhow::Result<Json>, shown: impl FnOnce(&Json) -> String) -> ExitCode {
        show(self.json, asked, shown)
    }
}

/// Until it is done: what takes longer than the door waits is asked after.
fn asked(visitor: &mut Visitor, operation: &str, words: &Json) -> anyhow::Result<Json> {
    let mut answer = visitor.ask(operation, words)?;
    while answer["under_way"] == true {
        answer = visitor.ask("package_job", &json!({ "job": answer["job"] }))?;
    }
    Ok(answer)
}

/// The gateway does not run. Anything else, as a socket that is closed to this user, is an error.
fn nobody_there(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    matches!(kind, Some(NotFound | ConnectionRefused))
}
