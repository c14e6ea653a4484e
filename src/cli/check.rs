//! `enos-edge check PACKAGE`: shows every fault of a package, for people or for scripts.

use super::progress::with_bar;
use crate::package;
use crate::package::check::report;
use crate::package::forecast::Basis;
use crate::package::source::Limits;
use driver::Protocol;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Check a resource package: every fault of every file, and between them
///
/// Exit status: 0 sound (warnings at most), 1 faulty, 2 could not be checked.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The package: a folder, or a .tar.gz, .tar.zst or .zip archive
    pub package: PathBuf,
    /// Configuration of the gateway it is for: what the forecast depends on
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

const FAULTY: u8 = 1;
const NOT_CHECKED: u8 = 2;

#[must_use]
pub fn run(args: &Args, protocols: &[&dyn Protocol]) -> ExitCode {
    if let Err(error) = std::fs::metadata(&args.package) {
        eprintln!("enos-edge check: {}: {error}", args.package.display());
        return ExitCode::from(NOT_CHECKED);
    }
    let basis = match super::gateway_config(args.config.as_deref()) {
        Ok(config) => config.as_ref().map(Basis::of).unwrap_or_default(),
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            return ExitCode::from(NOT_CHECKED);
        }
    };
    let checked = with_bar("checking", args.json, |progress| {
        let limits = Limits { progress: progress.clone(), ..Limits::default() };
        package::check::check_for(&args.package, protocols, &limits, &basis)
    });
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
