//! `enos-edge doctor`: the command.

use super::{Ground, Level, PROBES, Report, examine, page};
use crate::cli::terminal::say;
use crate::diagnostic::did_you_mean;
use anyhow::Context;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = crate::cli::DEFAULT_CONFIG)]
    config: PathBuf,
    /// One JSON object for a script.
    #[arg(long)]
    json: bool,
    /// Show what is in order too.
    #[arg(long, short)]
    all: bool,
    /// Only this probe; may be given again. `list` shows them.
    #[arg(long, value_name = "PROBE")]
    only: Vec<String>,
}

/// Exit status 0: nothing worse than a note; 1: warnings or faults; 2: it could not look.
pub(in crate::cli) fn run(arguments: &Arguments) -> ExitCode {
    if arguments.only.iter().any(|name| name == "list") {
        let list: Vec<String> = PROBES.iter().map(|probe| format!("{:<15}{}\n", probe.name, probe.about)).collect();
        say(&list.concat());
        return ExitCode::SUCCESS;
    }
    match looked(arguments) {
        Ok(report) => {
            let shown = || serde_json::to_string(&report).unwrap_or_default() + "\n";
            say(&if arguments.json { shown() } else { page(&report, arguments.all) });
            if report.worst >= Level::Warning { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => crate::cli::failed(&error),
    }
}

fn looked(arguments: &Arguments) -> anyhow::Result<Report> {
    for name in &arguments.only {
        let known = || PROBES.iter().map(|probe| probe.name);
        anyhow::ensure!(
            known().any(|probe| probe == name),
            "probe \"{name}\" is not known; {}",
            did_you_mean(name, known())
        );
    }
    report(&arguments.config, &arguments.only)
}

/// Looks at everything, or at what is named, with a runtime of its own.
pub(in crate::cli) fn report(config: &Path, only: &[String]) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("doctor")
        .enable_all()
        .build()
        .context("start the runtime")?;
    let screen = std::io::stderr().is_terminal();
    let seen = |done: usize, all: usize| {
        if screen {
            eprint!("\rlooking, {done} of {all} done ");
        }
    };
    let report = runtime.block_on(async { examine(Ground::survey(config).await, only, &seen).await });
    if screen {
        eprint!("\r\x1b[K");
    }
    // What hangs on a dead disk keeps nobody.
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(report)
}
