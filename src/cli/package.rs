//! `enos-edge package`: seals a package folder, and builds the archive of one.

use super::generations;
use super::terminal::say;
use crate::diagnostic::Diagnostic;
use crate::package::source::Limits;
use crate::package::{build, seal};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Seal or build resource packages.
#[derive(Args, Debug)]
pub struct PackageArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write the SHA-256 of every file into package.yaml; nothing else in it changes
    Seal {
        /// Folder with package.yaml in it
        dir: PathBuf,
    },
    /// Write a sealed archive; the folder stays as it is, and equal folders give equal bytes
    Build {
        /// Folder with package.yaml in it
        dir: PathBuf,
        /// Archive to write: its name ends in .tar.gz, .tar.zst or .zip
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Check a package and let the gateway go on with it; what has not changed is not interrupted
    Install(generations::Install),
    /// Show the packages this gateway keeps, and which one runs
    List(generations::Door),
    /// Go back to an older package
    Rollback(generations::Rollback),
    /// Show what happened to the package: installed, refused, taken back
    History(generations::Door),
}

/// Runs the command. Faults go to standard error, one a line with its help, and the exit code is 1.
#[must_use]
pub fn run(args: PackageArgs) -> ExitCode {
    let limits = Limits::default();
    let done = match &args.command {
        Command::Install(install) => return generations::install(install),
        Command::List(door) => return generations::list(door),
        Command::Rollback(rollback) => return generations::rollback(rollback),
        Command::History(door) => return generations::history(door),
        Command::Seal { dir } => {
            seal::seal(dir, &limits).map(|files| format!("sealed {files} files of {}", dir.display()))
        }
        Command::Build { dir, output } => {
            build::build(dir, output, &limits).map(|files| format!("wrote {files} files to {}", output.display()))
        }
    };
    match done {
        Ok(said) => {
            say(&format!("{said}\n"));
            ExitCode::SUCCESS
        }
        Err(faults) => {
            faults.iter().for_each(|fault: &Diagnostic| eprintln!("{fault}"));
            ExitCode::from(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        package: PackageArgs,
    }

    #[test]
    fn the_command_line_reads_as_documented() {
        let built = Program::try_parse_from(["enos-edge", "build", "plant", "-o", "plant.zip"]).unwrap();
        assert!(matches!(built.package.command, Command::Build { output, .. } if output.ends_with("plant.zip")));
        assert!(Program::try_parse_from(["enos-edge", "build", "plant"]).is_err(), "the output is needed");
        let folder = tempfile::tempdir().unwrap();
        let sealed = Program::try_parse_from(["enos-edge", "seal", folder.path().to_str().unwrap()]).unwrap();
        assert_eq!(format!("{:?}", run(sealed.package)), format!("{:?}", ExitCode::from(1)), "no package.yaml");
    }
}
