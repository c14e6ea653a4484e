//! `enos-edge package diff`: what a new package changes.

use crate::cli::progress::with_bar;
use crate::cli::terminal::say;
use crate::package::check::Checked;
use crate::package::diff::{self, report};
use crate::package::source::Limits;
use crate::south::protocols::Protocols;
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show what a new package changes: devices, connections, points, models, triggers, and what it costs
///
/// Exit status: 0 compared, 1 a package is faulty or the change would be refused.
#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// The package that runs: folder or archive
    old: PathBuf,
    /// The package to come: folder or archive
    new: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DiffArgs) -> ExitCode {
    let protocols = Protocols::new(Path::new("."));
    let check = |path: &Path| {
        with_bar("reading", args.json, |progress| {
            let limits = Limits { progress: progress.clone(), ..Limits::default() };
            crate::package::check_in(path, &protocols.list(), &limits)
        })
    };
    let (old, new) = (check(&args.old), check(&args.new));
    let Some(diff) = with_bar("comparing", args.json, |_| diff::compare(&old, &new)) else {
        complain(&args.old, &old);
        complain(&args.new, &new);
        return ExitCode::from(1);
    };
    say(&if args.json { format!("{}\n", report::to_json(&diff)) } else { report::text(&diff) });
    ExitCode::from(u8::from(!diff.refused.is_empty()))
}

fn complain(path: &Path, checked: &Checked) {
    for fault in checked.diagnostics.iter().filter(|fault| fault.severity == crate::diagnostic::Severity::Error) {
        eprintln!("{}: {fault}", path.display());
    }
}
