//! `enos-edge update`: builds, shows and verifies update files, installs them and tells how a job stands.

mod build;
mod inspect;
mod job;
pub(super) mod told;

use crate::diagnostic::Diagnostic;
use clap::{Args, Subcommand};
use std::process::ExitCode;

/// Update files: build, verify, install.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Write a signed update file; equal payloads give equal bytes
    Build(build::Arguments),
    /// Check who signed an update file, and that it is whole
    Verify(inspect::VerifyArguments),
    /// Show what an update file says of itself, without believing it
    Show(inspect::ShowArguments),
    /// Let the gateway take an update file; window and conditions of the configuration hold
    Install(job::InstallArguments),
    /// How the update stands that is under way, or how the last one ended
    Status(job::Door),
    /// How updates ended
    History(job::Door),
    /// Give up an update that has not begun to change anything
    Cancel(job::Door),
    /// Bring back what ran before the last update
    RollBack(job::Door),
}

/// What a command says on standard output, or why it says nothing.
type Outcome = Result<String, Vec<Diagnostic>>;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let done = match &arguments.command {
        Command::Build(own) => build::run(own),
        Command::Verify(own) => inspect::verify(own),
        Command::Show(own) => inspect::show(own),
        Command::Install(own) => return job::install(own),
        Command::Status(own) => return job::status(own),
        Command::History(own) => return job::history(own),
        Command::Cancel(own) => return job::cancel(own),
        Command::RollBack(own) => return job::roll_back(own),
    };
    match done {
        Ok(said) => {
            super::terminal::say(&said);
            ExitCode::SUCCESS
        }
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            ExitCode::FAILURE
        }
    }
}

/// A manifest as one line of JSON.
fn as_json(name: &str, manifest: &crate::update::Manifest, key_id: Option<&str>) -> serde_json::Value {
    use crate::update::Kind;
    let (kind, architecture, target, template, device) = match &manifest.kind {
        Kind::Engine { architecture } => ("engine", Some(architecture), None, None, None),
        Kind::Firmware { target, device } => ("firmware", None, Some(target), None, device.as_ref()),
        Kind::Device { template, device } => ("device", None, None, Some(template), device.as_ref()),
    };
    serde_json::json!({
        "name": name,
        "kind": kind,
        "architecture": architecture,
        "target": target,
        "template": template,
        "device": device,
        "version": manifest.version.to_string(),
        "payload": manifest.payload,
        "size": manifest.payload_bytes,
        "sha256": manifest.payload_sha256,
        "replaces_from": manifest.replaces_from.as_ref().map(ToString::to_string),
        "key_id": key_id,
    })
}

/// `engine for arm64` or `firmware for rauc, device Meter 1`.
fn purpose(manifest: &crate::update::Manifest) -> String {
    use crate::update::Kind;
    match &manifest.kind {
        Kind::Engine { architecture } => format!("engine for {architecture}"),
        Kind::Firmware { target, device: None } => format!("firmware for {target}"),
        Kind::Firmware { target, device: Some(device) } => format!("firmware for {target}, device {device}"),
        Kind::Device { template, device: None } => format!("firmware of sub-devices with template {template}"),
        Kind::Device { template, device: Some(device) } => {
            format!("firmware of sub-device {device} with template {template}")
        }
    }
}
