//! `enos-edge check PACKAGE`: shows every fault of a package, for people or for scripts.

use crate::package;
use crate::package::check::report;
use driver::Protocol;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
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
    let checked = with_progress("checking", || package::check(&args.package, protocols));
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if args.json {
        writeln!(out, "{}", report::to_json(&args.package, &checked))
    } else {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        report::write_text(&mut out, &args.package, &checked, colour)
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
pub(super) fn with_progress<T>(verb: &'static str, work: impl FnOnce() -> T) -> T {
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
                eprint!("\r{verb}, {} s", started.elapsed().as_secs());
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
