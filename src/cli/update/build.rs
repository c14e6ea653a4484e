//! `enos-edge update build`.

use super::Outcome;
use crate::cli::progress::with_bar;
use crate::diagnostic::{Diagnostic, Place};
use crate::package::source::Limits;
use crate::package::trust::SigningKey;
use crate::update::Kind;
use crate::update::build::{Wanted, architecture_of, build, version_of};
use crate::update::manifest;
use clap::ValueEnum;
use semver::Version;
use std::path::{Path, PathBuf};

/// Largest update file built here; a gateway has its own bound, update.max_mb.
const MOST: u64 = 4 << 30;

#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// What it is for
    #[arg(long, value_enum)]
    kind: Word,
    /// The payload: an engine's program, or firmware as its target takes it
    #[arg(long, value_name = "FILE")]
    binary: PathBuf,
    /// Version of the payload; default for an engine that runs here: what it says itself
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    /// amd64, arm64 or armhf; default: what the engine is built for
    #[arg(long, value_name = "ARCH")]
    arch: Option<String>,
    /// The firmware target that takes it: a drop-in of the gateway
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// The template of the package whose sub-devices take it
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// The one sub-device it is for
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Name for people; default: enos-edge, or the target
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The least version that may be replaced
    #[arg(long, value_name = "VERSION")]
    replaces_from: Option<Version>,
    /// Private key to sign with, as `enos-edge package keygen` makes it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Update file to write: its name ends in .tar.gz, .tar.zst or .zip
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Word {
    Engine,
    Firmware,
    /// Firmware that sub-devices take by their protocol
    Device,
}

fn one(path: &Path, problem: String, help: &str) -> Vec<Diagnostic> {
    vec![Diagnostic::error(Place::new(&path.display().to_string().into(), 0, 0), problem).help(help)]
}

pub(super) fn run(own: &Arguments) -> Outcome {
    let key = SigningKey::read(&own.key).map_err(|fault| vec![fault])?;
    let kind = kind(own)?;
    let version = version(own, &kind)?;
    let name = own.name.clone().unwrap_or_else(|| match &kind {
        Kind::Engine { .. } => "enos-edge".to_owned(),
        Kind::Firmware { target, .. } => target.clone(),
        Kind::Device { template, .. } => template.clone(),
    });
    let wanted = Wanted { kind, name: &name, version, replaces_from: own.replaces_from.clone(), payload: &own.binary };
    let limits = crate::update::limits(MOST, own.output.parent().filter(|p| !p.as_os_str().is_empty()).map(Into::into));
    let manifest = with_bar("packing", own.json, |progress| {
        let limits = Limits { progress: progress.clone(), ..limits };
        build(&wanted, &key, &own.output, &limits)
    })?;
    let key_id = key.public().id();
    if own.json {
        return Ok(format!("{}\n", super::as_json(&name, &manifest, Some(&key_id))));
    }
    Ok(format!(
        "{}: {name} {} ({}), {} bytes, signed with key {key_id}\n",
        own.output.display(),
        manifest.version,
        super::purpose(&manifest),
        manifest.payload_bytes,
    ))
}

fn kind(own: &Arguments) -> Result<Kind, Vec<Diagnostic>> {
    let useless = |flag: &str, given: bool, fits: &[Word]| {
        let wrong = given && !fits.contains(&own.kind);
        let kind = own.kind.to_possible_value().map(|word| word.get_name().to_owned()).unwrap_or_default();
        let problem = format!("--{flag} has no use with --kind {kind}");
        if wrong { Err(one(&own.binary, problem, "leave it out")) } else { Ok(()) }
    };
    useless("arch", own.arch.is_some(), &[Word::Engine])?;
    useless("target", own.target.is_some(), &[Word::Firmware])?;
    useless("template", own.template.is_some(), &[Word::Device])?;
    useless("device", own.device.is_some(), &[Word::Firmware, Word::Device])?;
    if own.kind == Word::Device {
        let Some(template) = own.template.clone().filter(|name| !name.is_empty()) else {
            let help = "name the template of the package whose devices take it";
            return Err(one(&own.binary, "firmware of sub-devices needs --template".to_owned(), help));
        };
        return Ok(Kind::Device { template, device: own.device.clone() });
    }
    if own.kind == Word::Firmware {
        let Some(target) = own.target.clone() else {
            return Err(one(
                &own.binary,
                "firmware needs --target".to_owned(),
                "name the drop-in of the gateway, for example rauc",
            ));
        };
        if !manifest::is_target(&target) {
            return Err(one(&own.binary, format!("--target {target} names no drop-in"), "letters, digits, - and _"));
        }
        return Ok(Kind::Firmware { target, device: own.device.clone() });
    }
    let found = architecture_of(&own.binary).map_err(|fault| vec![fault])?;
    let architecture = own.arch.clone().unwrap_or_else(|| found.to_owned());
    Ok(Kind::Engine { architecture })
}

/// What was given and what the engine says must be the same, where it can be asked.
fn version(own: &Arguments, kind: &Kind) -> Result<Version, Vec<Diagnostic>> {
    let said = match kind {
        Kind::Engine { architecture } if architecture == manifest::architecture() => {
            version_of(&own.binary).map_err(|fault| vec![fault])?
        }
        _ => None,
    };
    match (own.version.clone(), said) {
        (Some(given), Some(said)) if given != said => {
            let problem = format!("--version says {given}, and the engine says {said}");
            Err(one(
                &own.binary,
                problem,
                "an engine that lies about its version would be rolled back; leave --version out",
            ))
        }
        (_, Some(said)) => Ok(said),
        (Some(given), None) => {
            if matches!(kind, Kind::Engine { .. }) {
                eprintln!("enos-edge: warning: the engine can not be run here, so its version {given} is not checked");
            }
            Ok(given)
        }
        (None, None) => {
            Err(one(&own.binary, "has no version that can be asked here".to_owned(), "say it with --version"))
        }
    }
}
