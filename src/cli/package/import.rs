//! `enos-edge package import`: a point table out of an .xlsx or a Kepware tag list.

use crate::cli::progress::with_bar;
use crate::cli::terminal::say;
use crate::diagnostic::Severity;
use crate::package::{import, seal};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make a point.csv of an .xlsx point table or a Kepware tag list; what can not be taken is listed
///
/// Exit status: 0 all was taken, 1 some rows were not (the others are written), 2 nothing was written.
#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// .xlsx or .csv file
    file: PathBuf,
    /// Point table to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Worksheet. Default: the first
    #[arg(long)]
    sheet: Option<String>,
}

pub(super) fn run(args: &ImportArgs) -> ExitCode {
    let imported =
        match with_bar("importing", false, |progress| import::read(&args.file, args.sheet.as_deref(), progress)) {
            Ok(imported) => imported,
            Err(faults) => {
                faults.iter().for_each(|fault| eprintln!("{fault}"));
                return ExitCode::from(2);
            }
        };
    imported.left.iter().for_each(|fault| eprintln!("{fault}"));
    if let Err(error) = seal::replace(&args.output, imported.csv.as_bytes()) {
        eprintln!("enos-edge package import: write {}: {error}", args.output.display());
        return ExitCode::from(2);
    }
    let errors = imported.left.iter().filter(|fault| fault.severity == Severity::Error).count();
    let left = if errors == 0 { String::new() } else { format!("; {errors} faults, their rows were not taken") };
    say(&format!("wrote {} points to {}{left}\n", imported.rows, args.output.display()));
    ExitCode::from(u8::from(errors > 0))
}
