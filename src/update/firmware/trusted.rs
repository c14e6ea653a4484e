//! Whose programs are run: root's, in folders that nobody else can write.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Others may put files there, and not replace root's.
const STICKY: u32 = 0o1000;

/// The file behind the name, links followed.
///
/// # Errors
/// In words, with the remedy.
pub(super) fn program(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let named = folder.join(name);
    let path = std::fs::canonicalize(&named).map_err(|error| {
        format!("there is no firmware target {name} here: {}: {error}; see docs/reference/firmware.md", named.display())
    })?;
    let found = std::fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let shown = path.display();
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return Err(format!("{shown} is no program: chmod 755 {shown}"));
    }
    // The link itself may be replaced by whoever can write its folder.
    let folders = path.ancestors().skip(1).chain(folder.ancestors());
    for path in std::iter::once(path.as_path()).chain(folders).filter(|path| !path.as_os_str().is_empty()) {
        belongs_to_root(path)?;
    }
    Ok(path)
}

fn belongs_to_root(path: &Path) -> Result<(), String> {
    let (found, shown) =
        (std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?, path.display());
    if found.uid() != 0 {
        return Err(format!("{shown} does not belong to root, so it is not run: chown root: {shown}"));
    }
    let open = found.mode() & 0o022 != 0 && !(found.is_dir() && found.mode() & STICKY != 0);
    if open {
        return Err(format!("{shown} can be written by others than root, so it is not run: chmod go-w {shown}"));
    }
    Ok(())
}
