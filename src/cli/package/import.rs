//! `enos-edge package import`: a point table out of an .xlsx or a Kepware tag list.

use crate::cli::progress::with_bar;
use crate::cli::terminal::say;
use crate::diagnostic::{Diagnostic, Severity};
use crate::package::import::{self, Imported};
use crate::package::seal;
use clap::Args;
use serde_json::json;
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
    /// Print one JSON object; faults stand in it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ImportArgs) -> ExitCode {
    let imported =
        match with_bar("importing", args.json, |progress| import::read(&args.file, args.sheet.as_deref(), progress)) {
            Ok(imported) => imported,
            Err(faults) => {
                args.tell(&faults, None);
                return ExitCode::from(2);
            }
        };
    if let Err(error) = seal::replace(&args.output, imported.csv.as_bytes()) {
        eprintln!("enos-edge package import: write {}: {error}", args.output.display());
        return ExitCode::from(2);
    }
    let errors = imported.left.iter().filter(|fault| fault.severity == Severity::Error).count();
    args.tell(&imported.left, Some(&imported));
    if !args.json {
        let from = imported.sheet.map_or(String::new(), |sheet| format!(" of sheet {sheet}"));
        let faults = if errors == 1 { "fault; its row was" } else { "faults; their rows were" };
        let left = if errors == 0 { String::new() } else { format!("; {errors} {faults} not taken") };
        say(&format!("wrote {} points{from} to {}{left}\n", imported.rows, args.output.display()));
    }
    ExitCode::from(u8::from(errors > 0))
}

impl ImportArgs {
    fn tell(&self, faults: &[Diagnostic], imported: Option<&Imported>) {
        if !self.json {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            return;
        }
        let one = |fault: &Diagnostic| {
            json!({
                "place": fault.place.to_string(),
                "severity": if fault.severity == Severity::Error { "error" } else { "warning" },
                "problem": fault.problem,
                "help": fault.help,
            })
        };
        let (rows, sheet) = imported.map_or((0, None), |imported| (imported.rows, imported.sheet.as_deref()));
        let faults: Vec<_> = faults.iter().map(one).collect();
        let output = imported.map(|_| self.output.display().to_string());
        say(&format!("{}\n", json!({ "points": rows, "sheet": sheet, "output": output, "diagnostics": faults })));
    }
}
