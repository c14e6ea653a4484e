//! `enos-edge support-bundle`: what somebody far away needs to see of a gateway, without its secrets.
//!
//! Three sieves, one behind the other: only what is named in `parts` goes in; secrets are blanked by their place
//! (`blank`); and every secret that this machine's files hold is looked for in all that is left (`secrets`, `scrub`).

mod archive;
mod blank;
mod parts;
mod scrub;
mod secrets;

use super::doctor::{Ground, examine};
use super::moments::size;
use super::progress::with_bar;
use super::terminal::say;
use crate::model::progress::Unit;
use anyhow::Context;
use archive::Archive;
use parts::{PARTS, Scene};
use scrub::Scrubber;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// One part: it may ask programs of the system, each with a dead-line of its own.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    /// Where it goes; `-` is standard output. Default: a name with host and time, in this folder.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How far back logs go: 30m, 24h, 7d.
    #[arg(long, value_name = "SPAN", default_value = "24h", value_parser = span)]
    since: Duration,
    /// The log of a gateway that systemd does not run.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Also values: live ones, those the cloud refused, those of commands.
    #[arg(long)]
    with_readings: bool,
    /// Largest size.
    #[arg(long, value_name = "MB", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    max_mb: u64,
    /// One JSON object: where it is, and what is in it.
    #[arg(long)]
    json: bool,
}

fn span(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("write a number with m, h or d, for example 24h".to_owned()),
    };
    let number = digits.parse::<u64>().ok().filter(|number| (1..=100_000).contains(number));
    number.map(|number| Duration::from_secs(number * seconds)).ok_or_else(|| "write a number with m, h or d".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let output = arguments.output.clone().unwrap_or_else(default_name);
    match pack(arguments, &output) {
        Ok(list) => {
            let to_screen = output == Path::new("-");
            let bytes = std::fs::metadata(&output).map_or(0, |found| found.len());
            if arguments.json {
                let told = json!({ "file": output, "bytes": bytes, "parts": list });
                if to_screen { eprintln!("{told}") } else { say(&format!("{told}\n")) }
            } else if !to_screen {
                let place = output.display();
                say(&format!(
                    "{place}: {} with {} files, without secrets; only you may read it\n",
                    size(bytes),
                    list.len()
                ));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            archive::forget(&output);
            super::failed(&error)
        }
    }
}

fn default_name() -> PathBuf {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let stamp = super::moments::stamp(crate::model::Timestamp::now().0).replace([' ', ':'], "-");
    PathBuf::from(format!("enos-edge-support-{host}-{stamp}.tar.gz"))
}

/// Names and lengths of what went in.
fn pack(arguments: &Arguments, output: &Path) -> anyhow::Result<Vec<serde_json::Value>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("bundle")
        .enable_all()
        .build()
        .context("start the runtime")?;
    let quiet = arguments.json || output == Path::new("-");
    let list = with_bar("packing", quiet, |progress| {
        progress.step("looking", 0, Unit::Things);
        let scene = runtime.block_on(scene(arguments));
        let scrubber = Scrubber::new(secrets::all(&arguments.config, scene.config.as_ref()));
        let most = arguments.max_mb.saturating_mul(1_000_000);
        // Compression makes noise a little longer.
        let mut archive = Archive::create(output, most - most / 50, scene.report.at)
            .with_context(|| format!("write {}", output.display()))?;
        let mut list = Vec::new();
        progress.step("packing", PARTS.len() as u64, Unit::Things);
        for part in PARTS {
            let made = runtime.block_on(async { tokio::time::timeout(PATIENCE, (part.make)(&scene)).await });
            let files = made
                .unwrap_or_else(|_| vec![(format!("{}.txt", part.name), format!("no answer within {PATIENCE:?}\n"))]);
            for (name, text) in files {
                let most = usize::try_from(archive.left()).unwrap_or(usize::MAX);
                // Cut first: a log of a year is not scrubbed for its last day.
                let text = &text.as_bytes()[text.len().saturating_sub(most)..];
                let clean = scrubber.scrub(text);
                let length = archive.add(&name, &clean).with_context(|| format!("write {}", output.display()))?;
                list.push(json!({ "name": name, "bytes": length, "cut": length < clean.len() }));
            }
            progress.add(1);
        }
        archive.finish().with_context(|| format!("write {}", output.display()))?;
        anyhow::Ok(list)
    })?;
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(list)
}

async fn scene(arguments: &Arguments) -> Scene {
    let ground = Ground::survey(&arguments.config).await;
    let (config, status) = (ground.config.clone(), ground.status().cloned());
    let faults = ground.faults.clone();
    let report = examine(ground, &[], &|_, _| ()).await;
    Scene {
        config_path: arguments.config.clone(),
        config,
        faults,
        status,
        report,
        since: arguments.since,
        log: arguments.log.clone(),
        with_readings: arguments.with_readings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_with_its_unit() {
        assert_eq!(span("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(span("30m"), Ok(Duration::from_secs(1800)));
        for wrong in ["24", "h", "0h", "-1d", "1y", ""] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
