//! Signs a package: a folder where it lies, an archive by writing it anew with the signature in it.

use super::signature::{self, Signature};
use super::{SigningKey, listed, refuse};
use crate::diagnostic::{Diagnostic, Severity};
use crate::package::build::{self, Format};
use crate::package::manifest::{self, SIGNATURE};
use crate::package::seal;
use crate::package::source::{self, Limits, Source};
use std::path::Path;

/// Signs the folder or archive at `path`. A folder is sealed first. Signing twice gives the same bytes.
///
/// # Errors
/// What keeps it from being a package, or the signature from being written.
pub fn sign(path: &Path, key: &SigningKey, limits: &Limits) -> Result<Signature, Vec<Diagnostic>> {
    if path.is_dir() {
        seal::seal(path, limits)?;
    }
    let source = Source::open(path, limits)?;
    let signature = signature_of(&source, key)?;
    let text = signature.text();
    if source.is_archive() {
        let format = Format::of(path)
            .ok_or_else(|| refuse("no format ends like the archive's name", "name it .tar.gz, .tar.zst or .zip"))?;
        build::write(&source, &[(SIGNATURE, text.as_bytes())], format, path, limits)?;
    } else {
        seal::replace(&path.join(SIGNATURE), text.as_bytes())
            .map_err(|e| refuse(format!("write the signature: {e}"), "may the folder be written?"))?;
    }
    Ok(signature)
}

fn signature_of(source: &Source, key: &SigningKey) -> Result<Signature, Vec<Diagnostic>> {
    let (manifest, faults) = manifest::read(source);
    let errors = |faults: Vec<Diagnostic>| faults.into_iter().filter(|f| f.severity == Severity::Error).collect();
    let manifest = manifest.ok_or_else(|| -> Vec<Diagnostic> { errors(faults) })?;
    if manifest.files.is_none() {
        return Err(refuse("the archive is not sealed", "make it with `enos-edge package build`"));
    }
    let list = signature::list(&listed(source)?);
    let version = manifest.version.to_string();
    let message = signature::message(signature::PACKAGE, &manifest.name, &version, &list);
    Ok(Signature {
        format: signature::FORMAT,
        algorithm: signature::ALGORITHM.to_owned(),
        key_id: key.public().id(),
        name: manifest.name,
        version,
        list: source::sha256(list.as_bytes()),
        signature: signature::hex(&key.sign(&message)),
    })
}

/// Whether the signature in a folder still fits the files as they would be packed.
///
/// # Errors
/// When it was made for other files.
pub fn check_fresh(source: &Source, manifest_text: &str) -> Result<(), Vec<Diagnostic>> {
    if !source.contains(SIGNATURE) {
        return Ok(());
    }
    let (signature, _) = super::read(source)?;
    let mut files = listed(source)?;
    for file in files.iter_mut().filter(|file| file.path == manifest::FILE) {
        file.length = manifest_text.len() as u64;
        file.sha256 = source::sha256(manifest_text.as_bytes());
    }
    if source::sha256(signature::list(&files).as_bytes()) == signature.list {
        return Ok(());
    }
    Err(refuse(
        "files were changed since the folder was signed",
        "sign it again with `enos-edge package sign`, or remove package.sig",
    ))
}
