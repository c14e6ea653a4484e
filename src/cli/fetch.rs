//! `enos-edge package fetch`: every step of a fetch told, through a running gateway or without one (R6).

use super::progress::Screen;
use super::terminal::say;
use super::{DoorArguments, failed};
use crate::config::{self, Config, SourceConfig};
use crate::diagnostic;
use crate::doors::local::Visitor;
use crate::fetch::journal::Trouble;
use crate::fetch::{Errand, FOLDER, once};
use crate::model::progress::{Progress, Unit};
use anyhow::Context;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Source; default: all that the configuration names
    name: Option<String>,
    #[command(flatten)]
    door: DoorArguments,
    /// Go as far as the archive and do not fetch it; needs no running gateway
    #[arg(long)]
    dry_run: bool,
    /// Write the archive to FILE and hand it to nobody; goes on where the last such attempt broke; needs no running gateway
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run", requires = "name")]
    to: Option<PathBuf>,
}

/// How often a running gateway is asked for news.
const NEWS: Duration = Duration::from_millis(300);
/// A gateway that has not begun by then will not.
const BEGINS: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let done = if arguments.dry_run || arguments.to.is_some() { alone(arguments) } else { through_the_door(arguments) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn line(step: &str, said: &str) -> String {
    format!("  ok      {:<16} {said}\n", step.replace('_', " "))
}

fn bad(step: &str, problem: &str, remedy: &str) -> String {
    let remedy = if remedy.is_empty() { String::new() } else { format!("          {:<16} {remedy}\n", "") };
    format!("  FAILED  {:<16} {problem}\n{remedy}", step.replace('_', " "))
}

/// True when every source could be fetched.
fn alone(arguments: &Arguments) -> anyhow::Result<bool> {
    let config = config::read(&arguments.door.config).map_err(|faults| anyhow::anyhow!(diagnostic::joined(&faults)))?;
    let sources = chosen(&config, arguments.name.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let mut good = true;
    for source in sources {
        say(&format!("{}: {}\n", source.name, source.address));
        let screen = Screen::open(false);
        let watcher = |done: &crate::fetch::journal::Done| screen.say(&line(done.step.word(), &done.said));
        let folder = config.state_dir.join(FOLDER);
        let fetched = screen.during("fetching", |progress| {
            let (to, watcher) = (arguments.to.as_deref(), &watcher);
            runtime.block_on(once(&Errand { source, folder: &folder, to, watcher, progress }))
        });
        match fetched {
            Ok(Some(_)) => say(&format!("  written to {}\n", arguments.to.as_deref().unwrap_or(&folder).display())),
            Ok(None) => say("  it could be fetched\n"),
            Err(Trouble { step, problem, remedy, .. }) => {
                good = false;
                say(&bad(step.word(), &problem, &remedy));
            }
        }
    }
    Ok(good)
}

fn chosen<'c>(config: &'c Config, name: Option<&str>) -> anyhow::Result<Vec<&'c SourceConfig>> {
    let known = || config.fetch.iter().map(|source| source.name.as_str());
    anyhow::ensure!(!config.fetch.is_empty(), "no source of packages is configured; write one below `fetch:`");
    let chosen: Vec<_> = config.fetch.iter().filter(|source| name.is_none_or(|name| source.name == name)).collect();
    if let (true, Some(name)) = (chosen.is_empty(), name) {
        anyhow::bail!("source \"{name}\" is not configured; {}", diagnostic::did_you_mean(name, known()));
    }
    Ok(chosen)
}

/// Asks the running gateway, and shows what it does until it is done.
fn through_the_door(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut visitor = Visitor::connect(&arguments.door.path()?)
        .context("reach the running gateway; without one use --dry-run or --to FILE")?;
    let before = visitor.ask("package_fetch", &json!({ "name": arguments.name }))?;
    visitor.ask("package_fetch", &json!({ "name": arguments.name, "look": true }))?;
    let mut good = true;
    for source in before.as_array().into_iter().flatten() {
        say(&format!("{}: {}\n", text(source, "name"), text(source, "url")));
        good &= follow(&mut visitor, source)?;
    }
    Ok(good)
}

fn follow(visitor: &mut Visitor, before: &Json) -> anyhow::Result<bool> {
    let screen = Screen::open(false);
    screen.during("fetching", |progress| followed(visitor, before, &screen, progress))
}

fn followed(visitor: &mut Visitor, before: &Json, screen: &Screen, progress: &Progress) -> anyhow::Result<bool> {
    let (begun, mut length) = (Instant::now(), 0);
    // An attempt under way is the one that is waited for, and the next.
    let wanted = before["attempts"].as_u64().unwrap_or(0) + 1;
    let mut shown = 0;
    loop {
        let now = visitor.ask("package_fetch", &json!({ "name": before["name"] }))?[0].take();
        if now["attempts"].as_u64().unwrap_or(0) >= wanted {
            let steps = now["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
            steps.iter().skip(shown).for_each(|done| screen.say(&line(text(done, "step"), text(done, "said"))));
            shown = steps.len();
            let total = now["total"].as_u64().unwrap_or(0);
            if total != length {
                progress.step("fetching", total, Unit::Bytes);
                length = total;
            }
            progress.set(now["bytes"].as_u64().unwrap_or(0));
            if now["busy"] == false {
                let trouble = &now["trouble"];
                if trouble.is_object() {
                    screen.say(&bad(text(trouble, "step"), text(trouble, "problem"), text(trouble, "remedy")));
                } else if let Some(outcome) = now["outcome"].as_str() {
                    screen.say(&format!("  {outcome}\n"));
                }
                return Ok(!trouble.is_object());
            }
        } else if before["busy"] == false {
            anyhow::ensure!(begun.elapsed() < BEGINS, "the gateway does not begin");
        }
        std::thread::sleep(NEWS);
    }
}

fn text<'j>(json: &'j Json, key: &str) -> &'j str {
    json[key].as_str().unwrap_or_default()
}
