//! `enos-edge check PACKAGE`: shows every fault of a package, for people or for scripts.

use crate::diagnostic::{Diagnostic, Severity};
use crate::package::{self, Checked};
use driver::Protocol;
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Check a resource package: every fault of every file, and between them
///
/// Exit status: 0 sound (warnings at most), 1 faulty, 2 could not be checked.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The package: a folder, or a .tar.gz, .tar.zst or .zip archive
    pub package: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

const FAULTY: u8 = 1;
const NOT_CHECKED: u8 = 2;

/// Only a check that takes longer than this shows that it is alive.
const PATIENCE: Duration = Duration::from_secs(2);

#[must_use]
pub fn run(args: &Args, protocols: &[&dyn Protocol]) -> ExitCode {
    if let Err(error) = std::fs::metadata(&args.package) {
        eprintln!("enos-edge check: {}: {error}", args.package.display());
        return ExitCode::from(NOT_CHECKED);
    }
    let checked = with_progress(|| package::check(&args.package, protocols));
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json {
        writeln!(out, "{}", to_json(&args.package, &checked))
    } else {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        write_text(&mut out, &args.package, &checked, colour)
    };
    // A reader that has seen enough (`| head`) is no failure of the check.
    if let Err(error) = written.and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("enos-edge check: {error}");
        return ExitCode::from(NOT_CHECKED);
    }
    if checked.errors() > 0 { ExitCode::from(FAULTY) } else { ExitCode::SUCCESS }
}

/// Runs `work`; on a terminal, a line says how long it has been running.
fn with_progress<T>(work: impl FnOnce() -> T) -> T {
    if !io::stderr().is_terminal() {
        return work();
    }
    // One message, sent when the work is done; nobody waits for room.
    let (done, waiting) = sync_channel::<()>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let started = Instant::now();
            let mut shown = false;
            let mut wait = PATIENCE;
            while waiting.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                eprint!("\rchecking, {} s", started.elapsed().as_secs());
                (shown, wait) = (true, Duration::from_secs(1));
            }
            if shown {
                eprint!("\r\x1b[K");
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// `file:line:column: problem`, its help, and a summary at the end.
///
/// # Errors
/// When `out` does not take it.
pub fn write_text(out: &mut impl Write, package: &Path, checked: &Checked, colour: bool) -> io::Result<()> {
    for fault in &checked.diagnostics {
        if colour { write_coloured(out, fault)? } else { writeln!(out, "{fault}")? }
    }
    let counts = &checked.counts;
    let (errors, warnings) = (checked.errors(), checked.warnings());
    let verdict = match (errors, warnings) {
        (0, 0) => "sound".to_owned(),
        (0, _) => format!("sound, {}", plural(warnings, "warning")),
        (_, 0) => plural(errors, "error"),
        _ => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    writeln!(
        out,
        "{}: {verdict} ({}, {}, {})",
        package.display(),
        plural(counts.devices, "device"),
        plural(usize::try_from(counts.points).unwrap_or(usize::MAX), "point"),
        plural(counts.connections, "connection"),
    )
}

fn write_coloured(out: &mut impl Write, fault: &Diagnostic) -> io::Result<()> {
    let (colour, kind) = match fault.severity {
        Severity::Error => ("31", ""),
        Severity::Warning => ("33", "warning: "),
    };
    writeln!(out, "\x1b[1m{}:\x1b[0m \x1b[{colour}m{kind}{}\x1b[0m", fault.place, fault.problem)?;
    match &fault.help {
        Some(help) => writeln!(out, "  \x1b[2mhelp:\x1b[0m {help}"),
        None => Ok(()),
    }
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// The whole report as one object.
#[must_use]
pub fn to_json(package: &Path, checked: &Checked) -> serde_json::Value {
    let diagnostic = |fault: &Diagnostic| {
        json!({
            "file": &*fault.place.file,
            "line": fault.place.line,
            "column": fault.place.column,
            "severity": match fault.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "problem": fault.problem,
            "help": fault.help,
        })
    };
    let counts = &checked.counts;
    json!({
        "package": package.display().to_string(),
        "errors": checked.errors(),
        "warnings": checked.warnings(),
        "sites": counts.sites,
        "devices": counts.devices,
        "models": counts.models,
        "templates": counts.templates,
        "connections": counts.connections,
        "points": counts.points,
        "triggers": counts.triggers,
        "diagnostics": checked.diagnostics.iter().map(diagnostic).collect::<Vec<_>>(),
    })
}
