//! `enos-edge package keygen | sign | verify`.

use super::Outcome;
use crate::cli::DEFAULT_CONFIG;
use crate::cli::progress::with_bar;
use crate::diagnostic::{Diagnostic, Place};
use crate::model::progress::Progress;
use crate::package::manifest;
use crate::package::source::{Limits, Source};
use crate::package::trust::{self, PublicKey, SigningKey, Trust};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// Make a pair of Ed25519 keys: a private one to sign with, and a public one to install on gateways
#[derive(Args, Debug)]
pub(super) struct KeygenArgs {
    /// File of the private key; the public one is written beside it with .pub after its name
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Sign a package; a folder is sealed first, an archive is written anew
#[derive(Args, Debug)]
pub(super) struct SignArgs {
    /// Folder or archive
    package: PathBuf,
    /// Private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

/// Check who signed a package, and that not a byte was changed since
#[derive(Args, Debug)]
pub(super) struct VerifyArgs {
    /// Folder or archive
    package: PathBuf,
    /// Public key; may be given several times. Default: the keys that the configuration trusts
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Configuration of the gateway, for its keys
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn watched(limits: &Limits, progress: &Progress) -> Limits {
    Limits { progress: progress.clone(), ..limits.clone() }
}

fn one(fault: Diagnostic) -> Vec<Diagnostic> {
    vec![fault]
}

pub(super) fn keygen(args: &KeygenArgs) -> Outcome {
    let public = trust::generate(&args.output).map_err(one)?;
    Ok(format!(
        "key {}\nprivate: {} (keep it off the gateways)\npublic: {} (for packages: copy it into STATE/trust of every gateway; \
         for updates: name it under update.keys in edge.yaml)\n",
        public.id(),
        args.output.display(),
        trust::public_file(&args.output).display(),
    ))
}

pub(super) fn sign(args: &SignArgs, limits: &Limits) -> Outcome {
    let key = SigningKey::read(&args.key).map_err(one)?;
    let signature =
        with_bar("signing", false, |progress| trust::sign(&args.package, &key, &watched(limits, progress)))?;
    Ok(format!(
        "signed {} {} in {} with key {}\n",
        signature.name,
        signature.version,
        args.package.display(),
        signature.key_id
    ))
}

pub(super) fn verify(args: &VerifyArgs, limits: &Limits) -> Outcome {
    let trust = trusted(args)?;
    let work = |progress: &Progress| -> Result<_, Vec<Diagnostic>> {
        let source = Source::open(&args.package, &watched(limits, progress))?;
        let verified = trust::verify(&source, &trust)?;
        let (manifest, faults) = manifest::read(&source);
        Ok((verified, manifest.ok_or(faults)?))
    };
    let (verified, manifest) = with_bar("verifying", args.json, work)?;
    let version = manifest.version.to_string();
    if args.json {
        return Ok(format!("{}\n", json!({ "name": manifest.name, "version": version, "key_id": verified.key })));
    }
    Ok(match verified.key {
        Some(key) => format!("{} {version} is signed with key {key}\n", manifest.name),
        None => format!("{} {version} is not signed by a trusted key, and need not be\n", manifest.name),
    })
}

fn trusted(args: &VerifyArgs) -> Result<Trust, Vec<Diagnostic>> {
    if args.key.is_empty() {
        let config = crate::config::read(&args.config).map_err(|mut faults| {
            let here = Place::new(&args.config.display().to_string().into(), 0, 0);
            faults
                .push(Diagnostic::error(here, "no key to verify with").help("name one with --key, or a configuration"));
            faults
        })?;
        return Trust::load(&config.package_trust, &config.state_dir);
    }
    let mut keys = Vec::new();
    let mut faults = Vec::new();
    for path in &args.key {
        match PublicKey::read(path) {
            Ok(key) => keys.push(key),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(Trust::only(keys)) } else { Err(faults) }
}
