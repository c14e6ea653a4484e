//! `enos-edge package diff`: what a new package changes.

use crate::cli::progress::with_bar;
use crate::cli::terminal::say;
use crate::cli::{failed, gateway_config};
use crate::config::Config;
use crate::package::check::{Checked, check_for};
use crate::package::diff::{self, Memory, report};
use crate::package::forecast::Basis;
use crate::package::generations::{Generations, content_of};
use crate::package::source::Limits;
use crate::south::protocols::Protocols;
use crate::store::RealDisk;
use anyhow::Context;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show what a new package changes: devices, connections, points, models, triggers, and what it costs
///
/// Exit status: 0 compared, 1 a package is faulty or the change would be refused, 2 could not be compared.
#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// The package to come, a folder or an archive, compared with the one that runs; or two: the old one and the new one
    #[arg(required = true, num_args = 1..=2, value_name = "PACKAGE")]
    packages: Vec<PathBuf>,
    /// Configuration of the gateway: whose package runs, and what the forecast depends on
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What the new package is held against.
struct Against {
    package: PathBuf,
    shown: String,
    memory: Memory,
}

pub(super) fn run(args: &DiffArgs) -> ExitCode {
    let config = match gateway_config(args.config.as_deref()) {
        Ok(config) => config,
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            return ExitCode::from(2);
        }
    };
    let (new, against) = match args.packages.as_slice() {
        [old, new] => (new, Ok(named(old, config.as_ref()))),
        [new, ..] => (new, running(new, config.as_ref())),
        [] => unreachable!("clap asks for one at least"),
    };
    match against {
        Ok(against) => compare(&against, new, config.as_ref(), args.json),
        Err(error) => failed(&error),
    }
}

fn named(old: &Path, config: Option<&Config>) -> Against {
    let memory =
        Memory { older: config.is_some_and(|config| config.package_trust.allow_downgrade), ..Memory::default() };
    Against { package: old.to_owned(), shown: old.display().to_string(), memory }
}

/// The generation that runs, or that the next start runs; read beside the gateway, which is not asked to do the work.
fn running(new: &Path, config: Option<&Config>) -> anyhow::Result<Against> {
    let config = config.context(
        "which package runs is not known: name the gateway's configuration with --config, or the package before the new one",
    )?;
    let state = &config.state_dir;
    let (record, package) = Generations::look(&RealDisk, state)
        .with_context(|| format!("find the package that runs in {}", state.display()))?;
    std::fs::metadata(&package).with_context(|| format!("read {}", package.display()))?;
    // A faulty one has none; its faults are told with those of the check.
    let taken_back = content_of(new, &Limits::default()).is_ok_and(|content| record.rejected.contains(&content));
    let shown = format!("generation {}", record.current);
    let memory = Memory { types: Some(record.types), taken_back, older: config.package_trust.allow_downgrade };
    Ok(Against { package, shown, memory })
}

fn compare(against: &Against, new: &Path, config: Option<&Config>, json: bool) -> ExitCode {
    let protocols = Protocols::new(Path::new("."));
    let basis = config.map(Basis::of).unwrap_or_default();
    let check = |path: &Path| {
        with_bar("reading", json, |progress| {
            let limits = Limits { progress: progress.clone(), ..Limits::default() };
            check_for(path, &protocols.list(), &limits, &basis)
        })
    };
    let (before, after) = (check(&against.package), check(new));
    let Some(diff) = with_bar("comparing", json, |_| diff::compare(&before, &after, &against.memory)) else {
        complain(&against.shown, &before);
        complain(&new.display().to_string(), &after);
        return ExitCode::from(1);
    };
    say(&if json { format!("{}\n", report::to_json(&diff)) } else { report::text(&diff) });
    ExitCode::from(u8::from(!diff.refused.is_empty()))
}

fn complain(shown: &str, checked: &Checked) {
    for fault in checked.diagnostics.iter().filter(|fault| fault.severity == crate::diagnostic::Severity::Error) {
        eprintln!("{shown}: {fault}");
    }
}
