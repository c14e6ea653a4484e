//! Free space where the engines lie.

use std::io;
use std::path::Path;

/// Bytes of the file system that this user may take.
///
/// # Errors
/// When the file system does not tell.
pub fn free(path: &Path) -> io::Result<u64> {
    let fs = rustix::fs::statvfs(path)?;
    Ok(fs.f_bavail * fs.f_frsize)
}
