//! The command line: one file a command.

mod answer;
mod audit;
mod bundle;
mod certificate;
pub mod check;
mod cloud;
mod command;
mod destinations;
mod doctor;
#[cfg(test)]
mod documented;
mod engine;
mod fetch;
mod generations;
mod handover;
mod identity;
mod launch;
mod moments;
mod monitor;
pub mod package;
mod progress;
mod read;
mod run;
mod status;
mod status_field;
mod terminal;
mod update;
mod wait;

use crate::south::protocols::Protocols;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Edge gateway runtime: polls sub-devices, keeps every reading until the EnOS Cloud has it.
#[derive(Parser)]
#[command(name = "enos-edge", version = crate::version::current(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway in the foreground.
    Run(run::Arguments),
    /// Run the engine that is current: the packaged one, or one that came over the air, on trial at first.
    Launch(run::Arguments),
    #[command(name = crate::engine::supervise::CHILD_COMMAND, hide = true)]
    Become(launch::Become),
    /// Check a resource package and report every fault with its place.
    Check(check::Args),
    /// Make and seal resource packages.
    Package(package::PackageArgs),
    /// How the gateway proves itself to the cloud.
    Identity(identity::Arguments),
    /// Show what a running gateway is doing.
    Status(status::Arguments),
    /// Watch live values of a running gateway.
    Monitor(monitor::Arguments),
    /// Ask the cloud what it knows of the gateway and its sub-devices.
    Cloud(cloud::Arguments),
    /// Read points from a device now.
    Read(read::Arguments),
    /// Write a measurement point of a device.
    Write(command::WriteArguments),
    /// Call a service of a device.
    Invoke(command::InvokeArguments),
    /// Show what was commanded and what came of it.
    Audit(audit::Arguments),
    /// Find what is wrong on this gateway, running or not, and what to do about it.
    Doctor(doctor::command::Arguments),
    /// Pack logs and state for somebody far away, without secrets.
    SupportBundle(bundle::Arguments),
    /// Show and choose the engine: the packaged one, or one that came over the air.
    Engine(engine::Arguments),
    /// Show the client certificates a running gateway keeps, or ask for a new one.
    Certificate(certificate::Arguments),
    /// Build, verify and install update files of the engine and of firmware.
    Update(update::Arguments),
}

/// The command line, for what describes it: man page and completions.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// How to reach a running gateway.
#[derive(clap::Args, Debug)]
struct DoorArguments {
    /// Control socket of the gateway; default: the one its configuration names.
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
    /// Configuration of the gateway.
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG, global = true)]
    config: PathBuf,
}

/// Where a package puts its configuration.
const DEFAULT_CONFIG: &str = "/etc/enos-edge/edge.yaml";

/// Exit status 0: done; 1: done, and something is wrong; 2: could not be done.
pub fn main_from(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not failures. A closed pipe is nobody's fault.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Launch(arguments) => launch::run(arguments),
        Command::Become(arguments) => launch::become_engine(&arguments),
        Command::Check(arguments) => check::run(&arguments, &Protocols::new(Path::new(".")).list()),
        Command::Package(arguments) => package::run(arguments),
        Command::Identity(arguments) => identity::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Monitor(arguments) => monitor::run(&arguments),
        Command::Cloud(arguments) => cloud::run(&arguments),
        Command::Read(arguments) => read::run(&arguments),
        Command::Write(arguments) => command::write(&arguments),
        Command::Invoke(arguments) => command::invoke(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        Command::SupportBundle(arguments) => bundle::run(&arguments),
        Command::Doctor(arguments) => doctor::command::run(&arguments),
        Command::Engine(arguments) => engine::run(&arguments),
        Command::Certificate(arguments) => certificate::run(&arguments),
        Command::Update(arguments) => update::run(&arguments),
    }
}

impl DoorArguments {
    /// The socket named, or that of the configuration.
    fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        crate::config::control_socket(&self.config).map_err(|faults| {
            anyhow::anyhow!(
                "{}\nname the socket with --socket, or the configuration with --config",
                crate::diagnostic::joined(&faults)
            )
        })
    }
}

/// The gateway's configuration, for what only concerns it if there is one: the file named, else the one at the usual
/// place, if this user can read it.
///
/// # Errors
/// Every fault of a file that was named.
fn gateway_config(named: Option<&Path>) -> Result<Option<crate::config::Config>, Vec<crate::diagnostic::Diagnostic>> {
    match named {
        Some(path) => crate::config::read(path).map(Some),
        None => Ok(crate::config::read(Path::new(DEFAULT_CONFIG)).ok()),
    }
}

/// Prints an error with its causes and answers exit status 2.
fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("enos-edge: {error:#}");
    ExitCode::from(2)
}
