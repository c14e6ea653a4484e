//! Opens an update file: an archive of `update.yaml`, `update.sig` and the payload. Nothing of it is believed before the
//! signature holds, and the payload goes through no memory as a whole.

use super::foreign;
use super::manifest::{self, Kind, Manifest, SIGNATURE};
use super::target::{Failure, Stage};
use crate::diagnostic::{Diagnostic, Place, joined};
use crate::package::source::{Limits, Source};
use crate::package::trust::signature::{self, Listed, Signature};
use crate::package::trust::{PublicKey, SigningKey};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What stands in front of what is signed: a package's signature is none of an update.
pub const PURPOSE: &str = "enos-edge update signature 1";
/// A manifest or signature is a few hundred bytes.
const TEXT_BYTES: u64 = 64 << 10;
/// Manifest, signature, payload. Anything more is refused by name.
const FILES: usize = 8;
const DEPTH: usize = 2;

/// An update file that was unpacked and not believed yet.
pub struct Opened {
    source: Source,
}

/// One that was signed by somebody who is trusted here.
pub struct Verified {
    source: Source,
    pub name: String,
    pub manifest: Manifest,
    /// Id of the key that signed it.
    pub key_id: String,
}

/// Caps for update files of `most` bytes; their bytes lie in `staging` while they are open.
#[must_use]
pub fn limits(most: u64, staging: Option<PathBuf>) -> Limits {
    Limits {
        files: FILES,
        file_bytes: most,
        total_bytes: most.saturating_add(2 * TEXT_BYTES),
        // An archive of what does not compress is a little larger than its content.
        archive_bytes: most.saturating_add(most / 100).saturating_add(1 << 20),
        text_bytes: TEXT_BYTES,
        depth: DEPTH,
        staging,
        ..Limits::default()
    }
}

fn refused(words: impl Into<String>) -> Failure {
    Failure { stage: Stage::Refused, words: words.into() }
}

fn unproven(words: impl Into<String>) -> Failure {
    Failure { stage: Stage::Verification, words: words.into() }
}

/// Faults in words of an update; the archive's reader speaks of packages.
fn in_words(faults: &[Diagnostic]) -> String {
    joined(faults).replace("the package", "the update file").replace("a package", "an update file")
}

impl Opened {
    /// Unpacks the file with every cap kept.
    ///
    /// # Errors
    /// What it is instead, and what to do; or why the archive is not taken.
    pub fn open(path: &Path, limits: &Limits) -> Result<Opened, Failure> {
        Opened::open_as(path, &path.display().to_string(), limits)
    }

    /// The same of a file that people know by another name.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_as(path: &Path, shown: &str, limits: &Limits) -> Result<Opened, Failure> {
        let start =
            start(path).map_err(|error| Failure { stage: Stage::Other, words: format!("read {shown}: {error}") })?;
        if let Some((what, way)) = foreign::describe(&start) {
            return Err(refused(format!("it is no update file but {what}: {way}")));
        }
        let source = Source::open_as(path, shown, limits).map_err(|faults| unproven(in_words(&faults)))?;
        if !source.contains(manifest::FILE) {
            let (what, way) = foreign::describe_archive(source.files());
            return Err(refused(format!("it is no update file but {what}: {way}")));
        }
        Ok(Opened { source })
    }

    /// What the file says of itself, whoever wrote it.
    ///
    /// # Errors
    /// When it says nothing that can be read.
    pub fn unproven(&self) -> Result<(String, Manifest), Failure> {
        let text = self.source.text(manifest::FILE).map_err(|fault| unproven(in_words(&[fault])))?;
        Manifest::parse(&text).map_err(|faults| unproven(in_words(&faults)))
    }

    /// Proves the signature over every byte of every file, then reads the manifest and holds the payload against it.
    ///
    /// # Errors
    /// Why it is not trusted.
    pub fn verify(self, keys: &[PublicKey]) -> Result<Verified, Failure> {
        if keys.is_empty() {
            return Err(refused("no key is trusted for updates, so none is taken; name public keys in update.keys"));
        }
        if !self.source.contains(SIGNATURE) {
            return Err(unproven("the update file is not signed; build it with --key and a key that is trusted here"));
        }
        let (signature, bytes) = read_signature(&self.source)?;
        let Some(key) = keys.iter().find(|key| key.id() == signature.key_id) else {
            return Err(unproven(stranger(keys, &signature)));
        };
        let list = signature::list(&listed(&self.source)?);
        if !key.verifies(&signature::message(PURPOSE, &signature.name, &signature.version, &list), &bytes) {
            return Err(unproven(explain(&signature, &list)));
        }
        let (name, manifest) = self.unproven()?;
        if (&name, manifest.version.to_string()) != (&signature.name, signature.version.clone()) {
            return Err(unproven(format!("the signature is for another update than {name} {}", manifest.version)));
        }
        hold_payload(&self.source, &manifest)?;
        Ok(Verified { source: self.source, name, manifest, key_id: signature.key_id })
    }
}

impl Verified {
    /// Writes the payload alone to `path`, on disk when it returns well. Its digest is checked once more on the way.
    ///
    /// # Errors
    /// When it can not be written, or the staged bytes changed.
    pub fn extract(&self, path: &Path, mut tell: impl FnMut(u64)) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure { stage: Stage::Writing, words: format!("write the payload: {error}") };
        let mut reader = self.source.reader(&self.manifest.payload).map_err(|fault| unproven(in_words(&[fault])))?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        let mut buffer = vec![0; 64 << 10];
        let mut written = 0;
        loop {
            let got = reader.read(&mut buffer).map_err(failed)?;
            if got == 0 {
                break;
            }
            digest.update(&buffer[..got]);
            file.write_all(&buffer[..got]).map_err(failed)?;
            written += got as u64;
            tell(written);
        }
        file.sync_all().map_err(failed)?;
        if signature::hex(digest.finish().as_ref()) != self.manifest.payload_sha256 {
            return Err(unproven("the payload changed while it was unpacked"));
        }
        Ok(())
    }
}

impl Verified {
    /// Writes manifest and signature, as they are, into a folder that is there. On disk when it returns well.
    ///
    /// # Errors
    /// When they can not be written.
    pub fn keep_proof(&self, folder: &Path) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure { stage: Stage::Writing, words: format!("write the proof: {error}") };
        for name in [manifest::FILE, SIGNATURE] {
            let mut bytes = Vec::new();
            let reader = self.source.reader(name).map_err(|fault| unproven(in_words(&[fault])))?;
            reader.take(TEXT_BYTES).read_to_end(&mut bytes).map_err(failed)?;
            crate::store::replace(&crate::store::RealDisk, folder, name, &bytes).map_err(failed)?;
        }
        Ok(())
    }
}

/// Proves a payload that lies unpacked beside its manifest and signature: as [`Opened::verify`], of a file on disk.
///
/// # Errors
/// Why it is not trusted.
pub fn prove(
    manifest_bytes: &[u8],
    signature_bytes: &[u8],
    (length, sha256): (u64, &str),
    keys: &[PublicKey],
) -> Result<Manifest, String> {
    let text = std::str::from_utf8(manifest_bytes).map_err(|_| "update.yaml is no text".to_owned())?;
    let (signature, bytes) = Signature::parse(signature_bytes).map_err(|problem| format!("update.sig: {problem}"))?;
    let key = keys.iter().find(|key| key.id() == signature.key_id).ok_or_else(|| stranger(keys, &signature))?;
    // The path alone is taken from it before the signature holds, and it is part of what was signed.
    let (name, manifest) = Manifest::parse(text).map_err(|faults| in_words(&faults))?;
    let list = list(text, &manifest.payload, length, sha256);
    if !key.verifies(&signature::message(PURPOSE, &signature.name, &signature.version, &list), &bytes) {
        return Err(explain(&signature, &list));
    }
    if (&name, manifest.version.to_string()) != (&signature.name, signature.version.clone()) {
        return Err(format!("the signature is for another update than {name} {}", manifest.version));
    }
    if (length, sha256) != (manifest.payload_bytes, manifest.payload_sha256.as_str()) {
        return Err("the payload is not the one that update.yaml describes".to_owned());
    }
    Ok(manifest)
}

fn list(text: &str, payload: &str, length: u64, sha256: &str) -> String {
    let digest = crate::package::source::sha256(text.as_bytes());
    let of_manifest = Listed { path: manifest::FILE, length: text.len() as u64, sha256: digest };
    let mut files = [of_manifest, Listed { path: payload, length, sha256: sha256.to_owned() }];
    files.sort_by(|a, b| a.path.cmp(b.path));
    signature::list(&files)
}

fn start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    File::open(path)?.take(foreign::START as u64).read_to_end(&mut start)?;
    Ok(start)
}

fn read_signature(source: &Source) -> Result<(Signature, [u8; 64]), Failure> {
    let mut bytes = Vec::new();
    let reader = source.reader(SIGNATURE).map_err(|fault| unproven(in_words(&[fault])))?;
    reader.take(TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(|e| unproven(format!("read update.sig: {e}")))?;
    if bytes.len() as u64 > TEXT_BYTES {
        return Err(unproven(format!("update.sig is larger than {TEXT_BYTES} bytes")));
    }
    Signature::parse(&bytes).map_err(|problem| unproven(format!("update.sig: {problem}")))
}

/// Every file but the signature, with its length and digest.
fn listed(source: &Source) -> Result<Vec<Listed<'_>>, Failure> {
    let one = |path| {
        let (length, sha256) = source.measure(path).map_err(|fault| unproven(in_words(&[fault])))?;
        Ok(Listed { path, length, sha256 })
    };
    source.files().filter(|path| *path != SIGNATURE).map(one).collect()
}

/// Texts of an unproven file are shown short.
fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

fn stranger(keys: &[PublicKey], signature: &Signature) -> String {
    let known: Vec<String> = keys.iter().map(PublicKey::id).collect();
    format!(
        "the update file is signed with key \"{}\", which is not trusted here; trusted: {}",
        cut(&signature.key_id),
        known.join(" ")
    )
}

fn explain(signature: &Signature, list: &str) -> String {
    if crate::package::source::sha256(list.as_bytes()) == signature.list {
        "the signature does not fit: it was altered, or made with another key, or for something else than an update"
    } else {
        "the files are not those that were signed; get the update file again"
    }
    .to_owned()
}

fn hold_payload(source: &Source, manifest: &Manifest) -> Result<(), Failure> {
    let known = [manifest::FILE, SIGNATURE, manifest.payload.as_str()];
    if [manifest::FILE, SIGNATURE].contains(&known[2]) || !source.contains(known[2]) {
        return Err(unproven(format!("update.yaml names the payload \"{}\", which is not there", cut(known[2]))));
    }
    if let Some(extra) = source.files().find(|file| !known.contains(file)) {
        return Err(unproven(format!("\"{extra}\" has no place in an update file")));
    }
    let (length, sha256) = source.measure(known[2]).map_err(|fault| unproven(in_words(&[fault])))?;
    if (length, &sha256) != (manifest.payload_bytes, &manifest.payload_sha256) {
        return Err(unproven("the payload is not the one that update.yaml describes"));
    }
    let mut start = Vec::new();
    let reader = source.reader(known[2]).map_err(|fault| unproven(in_words(&[fault])))?;
    reader.take(64).read_to_end(&mut start).map_err(|e| unproven(format!("read the payload: {e}")))?;
    hold_architecture(&start, &manifest.kind)
}

/// An engine says its architecture twice: in the manifest and in its own first bytes.
pub fn hold_architecture(start: &[u8], kind: &Kind) -> Result<(), Failure> {
    let Kind::Engine { architecture } = kind else { return Ok(()) };
    match super::elf::architecture(start) {
        Some(found) if found == architecture => Ok(()),
        Some(found) => Err(unproven(format!("update.yaml says {architecture}, and the engine is built for {found}"))),
        None => Err(unproven("the engine is no program")),
    }
}

/// The signature's text for a manifest and its payload, as they will lie in the archive.
pub fn sign(name: &str, manifest: &Manifest, text: &str, key: &SigningKey) -> String {
    let list = list(text, &manifest.payload, manifest.payload_bytes, &manifest.payload_sha256);
    let version = manifest.version.to_string();
    let signed = key.sign(&signature::message(PURPOSE, name, &version, &list));
    Signature {
        format: signature::FORMAT,
        algorithm: signature::ALGORITHM.to_owned(),
        key_id: key.public().id(),
        name: name.to_owned(),
        version,
        list: crate::package::source::sha256(list.as_bytes()),
        signature: signature::hex(&signed),
    }
    .text()
}

/// A complaint about the file, for those who collect them.
#[must_use]
pub fn fault(path: &Path, failure: &Failure) -> Diagnostic {
    Diagnostic::error(Place::new(&path.display().to_string().into(), 0, 0), failure.words.clone())
}
