//! Whether a slot holds an engine that somebody trusted signed, asked each time before it is started.

use super::{Folder, PROGRAM, Slot};
use crate::package::trust::PublicKey;
use crate::store::{Disk, RealDisk};
use crate::update::{Kind, Manifest, file, manifest};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// What the first bytes of a program tell.
const START: u64 = 64;

/// Proves the engine of a slot: owner, signature over every byte, architecture. `user`: who will run it, beside root the
/// only one it may belong to.
///
/// # Errors
/// Why it is not started.
pub fn prove(folder: &Folder, slot: Slot, keys: &[PublicKey], user: u32) -> Result<Manifest, String> {
    let path = folder.slot(slot);
    own(&path, "the slot", user, Metadata::is_dir)?;
    let program = folder.program(slot);
    let found = own(&program, "the engine", user, Metadata::is_file)?;
    if found.permissions().mode() & 0o100 == 0 {
        return Err("the engine may not be executed".to_owned());
    }
    prove_at(&path, &program, found.len(), keys)
}

/// As [`prove`], of an engine that is still to be put into its slot: `proof` holds its manifest and signature.
///
/// # Errors
/// Why it is not trusted.
pub fn prove_at(proof: &Path, program: &Path, length: u64, keys: &[PublicKey]) -> Result<Manifest, String> {
    if keys.is_empty() {
        return Err("no key is trusted for engines; name public keys in update.keys".to_owned());
    }
    let read = |name: &str| {
        let bytes =
            crate::store::read(&RealDisk, &proof.join(name)).map_err(|error| format!("read {name}: {error}"))?;
        bytes.ok_or_else(|| format!("{name} is missing: the engine is not signed"))
    };
    let (text, signature) = (read(manifest::FILE)?, read(manifest::SIGNATURE)?);
    let digest = RealDisk.digest(program).map_err(|error| format!("read {PROGRAM}: {error}"))?;
    let manifest = file::prove(&text, &signature, (length, &digest), keys)?;
    let Kind::Engine { architecture } = &manifest.kind else { return Err("it is an update of firmware".to_owned()) };
    if architecture != manifest::architecture() {
        return Err(format!("the engine is for {architecture}, and this is {}", manifest::architecture()));
    }
    let mut start = Vec::new();
    let read = File::open(program).and_then(|file| file.take(START).read_to_end(&mut start));
    read.map_err(|error| format!("read {PROGRAM}: {error}"))?;
    file::hold_architecture(&start, &manifest.kind).map_err(|failure| failure.words)?;
    Ok(manifest)
}

/// Nobody but its user or root put it there, and nobody else can change it. A link leads elsewhere, so it is none.
fn own(path: &Path, what: &str, user: u32, is: impl Fn(&Metadata) -> bool) -> Result<Metadata, String> {
    let found = std::fs::symlink_metadata(path).map_err(|error| format!("{what} {}: {error}", path.display()))?;
    if !is(&found) {
        return Err(format!("{what} {} is something else, perhaps a link", path.display()));
    }
    if ![user, 0].contains(&found.uid()) {
        return Err(format!("{what} {} belongs to user {}", path.display(), found.uid()));
    }
    if found.permissions().mode() & 0o022 != 0 {
        return Err(format!("others may write {what} {}", path.display()));
    }
    Ok(found)
}
