//! One process owns an outbox folder.

use super::store::StoreError;
use std::fs::File;
use std::path::Path;

/// Held until dropped; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// # Errors
    /// `InUse` when another process holds it.
    pub fn take(folder: &Path) -> Result<Lock, StoreError> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = folder.join("outbox.lock");
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse),
            Err(e) => Err(StoreError::File(e.into())),
        }
    }
}

/// Whether another process holds it. The file is not made, and not held.
///
/// # Errors
/// When this user may not look.
pub fn is_held(folder: &Path) -> std::io::Result<bool> {
    let file = match File::open(folder.join("outbox.lock")) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
