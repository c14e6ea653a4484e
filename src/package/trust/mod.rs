//! Whether a package comes from somebody the gateway trusts, decided before its content is read.

mod keys;
mod sign;
pub mod signature;
#[cfg(test)]
mod tests;

pub use keys::{PublicKey, SigningKey, generate, public_file};
pub(super) use sign::check_fresh;
pub use sign::sign;
pub use signature::Signature;

use super::manifest::{self, Manifest, SIGNATURE};
use super::source::Source;
use crate::config::{PackageTrustConfig, RequireSignature};
use crate::diagnostic::{Diagnostic, Place, Severity};
use signature::Listed;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A signature is a few hundred bytes.
const SIGNATURE_LIMIT: u64 = 64 << 10;
/// More keys than any site has people.
const KEYS: usize = 64;
/// Folder of public keys below the state folder.
pub const FOLDER: &str = "trust";

/// The keys a gateway trusts, and how far.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pub keys: Vec<PublicKey>,
    pub require: RequireSignature,
    pub allow_downgrade: bool,
}

/// What is known of a package that may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Id of the trusted key that signed it; `None` when nobody did and nobody had to.
    pub key: Option<String>,
}

impl Trust {
    /// The keys of the configuration and of `STATE/trust`. A key that can not be read is an error, not a key less.
    ///
    /// # Errors
    /// Every key file that is none.
    pub fn load(config: &PackageTrustConfig, state: &Path) -> Result<Trust, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let mut keys: Vec<PublicKey> = Vec::new();
        let folder = state.join(FOLDER);
        let own = folder.symlink_metadata().is_ok().then_some(folder);
        let named = config.keys.iter().cloned().chain(own);
        let files: Vec<PathBuf> = named.flat_map(|path| key_files(path, &mut faults)).collect();
        for path in files {
            match PublicKey::read(&path) {
                Ok(key) if keys.contains(&key) => {}
                Ok(_) if keys.len() >= KEYS => {
                    faults.push(whole(&path, format!("more than {KEYS} keys are trusted")));
                    break;
                }
                Ok(key) => keys.push(key),
                Err(fault) => faults.push(fault),
            }
        }
        let trust = Trust { keys, require: config.require, allow_downgrade: config.allow_downgrade };
        if faults.is_empty() { Ok(trust) } else { Err(faults) }
    }

    /// Trusts these keys and nobody else.
    #[must_use]
    pub fn only(keys: Vec<PublicKey>) -> Trust {
        Trust { keys, require: RequireSignature::Always, allow_downgrade: false }
    }

    #[must_use]
    pub fn requires_signature(&self) -> bool {
        match self.require {
            RequireSignature::Auto => !self.keys.is_empty(),
            RequireSignature::Always => true,
            RequireSignature::Never => false,
        }
    }
}

/// A file is itself; a folder its `*.pub` files, sorted.
pub fn key_files(path: PathBuf, faults: &mut Vec<Diagnostic>) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path];
    }
    let listed = std::fs::read_dir(&path).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<PathBuf>>>()
    });
    match listed {
        Ok(mut files) => {
            files.retain(|file| file.extension().is_some_and(|end| end == "pub"));
            files.sort();
            files
        }
        Err(error) => {
            faults.push(whole(&path, format!("read the folder of keys: {error}")));
            Vec::new()
        }
    }
}

fn whole(path: &Path, problem: String) -> Diagnostic {
    Diagnostic::error(Place::new(&path.display().to_string().into(), 0, 0), problem)
}

fn refuse(problem: impl Into<String>, help: &str) -> Vec<Diagnostic> {
    let fault = Diagnostic::error(Place::new(&SIGNATURE.into(), 0, 0), problem);
    vec![if help.is_empty() { fault } else { fault.help(help) }]
}

/// Proves the signature over every byte of every file. Nothing but package.sig is parsed until it holds.
///
/// # Errors
/// Why the package is not trusted; with the files that differ, where that is the reason.
pub fn verify(source: &Source, trust: &Trust) -> Result<Verified, Vec<Diagnostic>> {
    if !source.contains(SIGNATURE) {
        return unsigned(trust);
    }
    let (signature, bytes) = read(source)?;
    let Some(key) = trust.keys.iter().find(|key| key.id() == signature.key_id) else {
        return stranger(trust, &signature);
    };
    let files = listed(source)?;
    let list = signature::list(&files);
    if !key.verifies(&signature::message(signature::PACKAGE, &signature.name, &signature.version, &list), &bytes) {
        return Err(explain(source, &signature, &list));
    }
    let (manifest, faults) = manifest::read(source);
    let manifest = manifest.ok_or(faults)?;
    if manifest.files.is_none() {
        return Err(refuse("the package is signed and not sealed", "seal it, then sign it again"));
    }
    if (manifest.name.as_str(), manifest.version.to_string()) != (&signature.name, signature.version.clone()) {
        return Err(other_name(&signature, &manifest));
    }
    Ok(Verified { key: Some(signature.key_id) })
}

fn unsigned(trust: &Trust) -> Result<Verified, Vec<Diagnostic>> {
    if trust.requires_signature() {
        let help = "sign it with `enos-edge package sign`, with a key that is trusted here";
        return Err(refuse("the package is not signed", help));
    }
    Ok(Verified { key: None })
}

/// A signature nobody here can check is worth as much as none.
fn stranger(trust: &Trust, signature: &Signature) -> Result<Verified, Vec<Diagnostic>> {
    if !trust.requires_signature() {
        return Ok(Verified { key: None });
    }
    let known: Vec<String> = trust.keys.iter().map(PublicKey::id).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(" ") };
    let problem = format!("the package is signed with key {:?}, which is not trusted here", cut(&signature.key_id));
    Err(refuse(problem, &format!("trusted keys: {known}; sign it with one of them, or install the public key")))
}

/// Texts of an unproven file are shown short.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

fn read(source: &Source) -> Result<(Signature, [u8; 64]), Vec<Diagnostic>> {
    let mut bytes = Vec::new();
    let reader = source.reader(SIGNATURE).map_err(|fault| vec![fault])?;
    reader
        .take(SIGNATURE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| refuse(format!("read the signature: {e}"), ""))?;
    if bytes.len() as u64 > SIGNATURE_LIMIT {
        return Err(refuse(format!("the signature is larger than {SIGNATURE_LIMIT} bytes"), "sign the package again"));
    }
    Signature::parse(&bytes).map_err(|problem| refuse(problem, "sign the package again"))
}

/// Every file but the signature, with its length and digest.
fn listed(source: &Source) -> Result<Vec<Listed<'_>>, Vec<Diagnostic>> {
    source.begin("verifying");
    let one = |path| {
        let (length, sha256) = source.measure(path)?;
        Ok(Listed { path, length, sha256 })
    };
    source.files().filter(|path| *path != SIGNATURE).map(one).collect::<Result<_, _>>().map_err(|fault| vec![fault])
}

/// Why a signature does not hold, as far as the manifest tells. Refused it is in any case.
fn explain(source: &Source, signature: &Signature, list: &str) -> Vec<Diagnostic> {
    let (manifest, found) = manifest::read(source);
    if super::source::sha256(list.as_bytes()) != signature.list {
        let mut faults = refuse("the files are not those that were signed", "get the package again, or sign it again");
        faults.extend(found.into_iter().filter(|fault| fault.severity == Severity::Error));
        return faults;
    }
    match manifest {
        Some(manifest) if manifest.name != signature.name || manifest.version.to_string() != signature.version => {
            other_name(signature, &manifest)
        }
        _ => refuse("the signature does not fit: it was altered, or made with another key", "sign the package again"),
    }
}

fn other_name(signature: &Signature, manifest: &Manifest) -> Vec<Diagnostic> {
    let signed = (cut(&signature.name), cut(&signature.version));
    let problem = format!(
        "the signature is for \"{}\" {}, and this is \"{}\" {}",
        signed.0, signed.1, manifest.name, manifest.version
    );
    refuse(problem, "sign this package")
}
