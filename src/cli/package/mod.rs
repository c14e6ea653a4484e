//! `enos-edge package`: makes, seals, signs, verifies and compares resource packages.

mod diff;
mod import;
mod new;
mod trust;

use super::fetch;
use super::generations;
use super::progress::with_bar;
use super::terminal::say;
use super::wait;
use crate::diagnostic::Diagnostic;
use crate::model::progress::Progress;
use crate::package::source::Limits;
use crate::package::{build, seal};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Make, seal, sign and verify resource packages.
#[derive(Args, Debug)]
pub struct PackageArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    New(new::NewArgs),
    /// Write the SHA-256 of every file into package.yaml; nothing else in it changes
    Seal {
        /// Folder with package.yaml in it
        dir: PathBuf,
    },
    Build(BuildArgs),
    Diff(diff::DiffArgs),
    Import(import::ImportArgs),
    Keygen(trust::KeygenArgs),
    Sign(trust::SignArgs),
    Verify(trust::VerifyArgs),
    /// Fetch a package as the configuration says, and tell every step: which port is closed, who is not trusted
    Fetch(fetch::Arguments),
    /// Check a package and let the gateway go on with it; without one running, the next start uses it
    Install(generations::Install),
    /// The packages that are kept, and which one runs
    List(generations::Door),
    /// Go back to an older package
    Rollback(generations::Rollback),
    /// What happened to packages: installed, refused, kept, rolled back, and why
    History(generations::Door),
    /// Wait until a running gateway has applied a package to all its parts; 1: not in time
    Wait(wait::Arguments),
}

/// Write a sealed archive; the folder stays as it is, and equal folders give equal bytes
#[derive(Args, Debug)]
struct BuildArgs {
    /// Folder with package.yaml in it
    dir: PathBuf,
    /// Archive to write: its name ends in .tar.gz, .tar.zst or .zip
    #[arg(short, long)]
    output: PathBuf,
    /// Private key to sign the archive with
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a command says on standard output, or why it says nothing.
type Outcome = Result<String, Vec<Diagnostic>>;

/// Runs the command. Faults go to standard error, one a line with its help, and the exit code is 1.
#[must_use]
pub fn run(args: PackageArgs) -> ExitCode {
    let limits = Limits::default();
    let done = match &args.command {
        Command::Seal { dir } => {
            seal::seal(dir, &limits).map(|files| format!("sealed {files} files of {}\n", dir.display()))
        }
        Command::Install(install) => return generations::install(install),
        Command::List(door) => return generations::list(door),
        Command::Rollback(rollback) => return generations::rollback(rollback),
        Command::History(door) => return generations::history(door),
        Command::Wait(arguments) => return wait::run(arguments),
        Command::Fetch(arguments) => return fetch::run(arguments),
        Command::Diff(args) => return diff::run(args),
        Command::Import(args) => return import::run(args),
        Command::New(args) => new::run(args),
        Command::Build(args) => build(args, &limits),
        Command::Keygen(args) => trust::keygen(args),
        Command::Sign(args) => trust::sign(args, &limits),
        Command::Verify(args) => trust::verify(args, &limits),
    };
    match done {
        Ok(said) => {
            say(&said);
            ExitCode::SUCCESS
        }
        Err(faults) => {
            faults.iter().for_each(|fault: &Diagnostic| eprintln!("{fault}"));
            ExitCode::from(1)
        }
    }
}

fn build(args: &BuildArgs, limits: &Limits) -> Outcome {
    let key = args.key.as_deref().map(crate::package::trust::SigningKey::read).transpose().map_err(|f| vec![f])?;
    let build = |progress: &Progress| {
        let limits = &Limits { progress: progress.clone(), ..limits.clone() };
        let files = build::build(&args.dir, &args.output, limits)?;
        let signature =
            key.map(|key| crate::package::trust::sign(&args.output, &key, limits)).transpose()?.map(|made| made.key_id);
        Ok::<_, Vec<Diagnostic>>((files + usize::from(signature.is_some()), signature))
    };
    let (files, signed) = with_bar("building", args.json, build)?;
    let bytes = std::fs::metadata(&args.output).map_or(0, |found| found.len());
    if !args.json {
        return Ok(format!("wrote {files} files to {}\n", args.output.display()));
    }
    let digest = std::fs::read(&args.output).map(|bytes| crate::package::source::sha256(&bytes)).ok();
    let output = args.output.display().to_string();
    Ok(format!(
        "{}\n",
        serde_json::json!({ "output": output, "files": files, "bytes": bytes, "sha256": digest, "key_id": signed })
    ))
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

    fn parse(line: &str) -> Result<PackageArgs, clap::Error> {
        Program::try_parse_from(line.split(' ')).map(|program| program.package)
    }

    #[test]
    fn the_command_line_reads_as_documented() {
        let built = parse("enos-edge build plant -o plant.zip").unwrap();
        assert!(matches!(built.command, Command::Build(args) if args.output.ends_with("plant.zip")));
        assert!(parse("enos-edge build plant").is_err(), "the output is needed");
        assert!(parse("enos-edge keygen -o plant.key").is_ok());
        assert!(parse("enos-edge sign plant.zip --key plant.key").is_ok());
        assert!(parse("enos-edge sign plant.zip").is_err(), "the key is needed");
        assert!(parse("enos-edge verify plant.zip --key a.pub --key b.pub").is_ok());
    }

    #[test]
    fn what_is_no_package_ends_with_status_1() {
        let folder = tempfile::tempdir().unwrap();
        let sealed = parse(&format!("enos-edge seal {}", folder.path().display())).unwrap();
        assert_eq!(format!("{:?}", run(sealed)), format!("{:?}", ExitCode::from(1)), "no package.yaml");
    }
}
