//! `enos-edge update verify | show`.

use super::Outcome;
use crate::cli::DEFAULT_CONFIG;
use crate::cli::progress::with_bar;
use crate::diagnostic::{Diagnostic, Place};
use crate::model::progress::Progress;
use crate::package::source::Limits;
use crate::package::trust::PublicKey;
use crate::update::file;
use crate::update::{Failure, Opened};
use std::path::{Path, PathBuf};

/// Larger files are looked at on purpose only: they are unpacked to be read.
const MOST: u64 = 4 << 30;

#[derive(clap::Args, Debug)]
pub(super) struct VerifyArguments {
    /// Update file
    file: PathBuf,
    /// Public key, or a folder of *.pub; may be given several times. Default: update.keys of the configuration
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Configuration of the gateway, for its keys
    #[arg(long, short, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct ShowArguments {
    /// Update file
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn limits(progress: &Progress) -> Limits {
    Limits { progress: progress.clone(), ..file::limits(MOST, None) }
}

fn failed(path: &Path, failure: &Failure) -> Vec<Diagnostic> {
    vec![file::fault(path, failure)]
}

pub(super) fn verify(own: &VerifyArguments) -> Outcome {
    let keys = keys(own)?;
    let verified = with_bar("verifying", own.json, |progress| {
        Opened::open(&own.file, &limits(progress)).and_then(|opened| opened.verify(&keys))
    });
    let verified = verified.map_err(|failure| failed(&own.file, &failure))?;
    if own.json {
        return Ok(format!("{}\n", super::as_json(&verified.name, &verified.manifest, Some(&verified.key_id))));
    }
    let (name, manifest) = (&verified.name, &verified.manifest);
    Ok(format!("{name} {} ({}) is signed with key {}\n", manifest.version, super::purpose(manifest), verified.key_id))
}

fn keys(own: &VerifyArguments) -> Result<Vec<PublicKey>, Vec<Diagnostic>> {
    if !own.key.is_empty() {
        return crate::update::keys::read(&own.key);
    }
    let config = crate::config::read(&own.config).map_err(|mut faults| {
        let here = Place::new(&own.config.display().to_string().into(), 0, 0);
        let none = Diagnostic::error(here, "no key to verify with");
        faults.push(none.help("name one with --key, or a configuration with --config"));
        faults
    })?;
    crate::update::keys::load(&config.update, &config.state_dir)
}

pub(super) fn show(own: &ShowArguments) -> Outcome {
    let shown = with_bar("reading", own.json, |progress| {
        Opened::open(&own.file, &limits(progress)).and_then(|opened| opened.unproven())
    });
    let (name, manifest) = shown.map_err(|failure| failed(&own.file, &failure))?;
    if own.json {
        return Ok(format!("{}\n", super::as_json(&name, &manifest, None)));
    }
    let mut said = format!(
        "name:      {name}\nversion:   {}\nfor:       {}\npayload:   {}, {} bytes\nsha256:    {}\n",
        manifest.version,
        super::purpose(&manifest),
        manifest.payload,
        manifest.payload_bytes,
        manifest.payload_sha256,
    );
    if let Some(least) = &manifest.replaces_from {
        said.push_str(&format!("replaces:  {least} or newer\n"));
    }
    said.push_str("not verified: `enos-edge update verify` says who signed it\n");
    Ok(said)
}
