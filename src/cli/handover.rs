//! A package on its way to a gateway that can not see it: under systemd it has no /home, /root and /tmp of ours, and it may
//! not read root's files. Root lays a copy where the gateway keeps its state; it is gone again after the answer.

use anyhow::Context;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fstat, mkdirat, openat};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A package as the gateway can open it.
pub(super) struct Handed {
    path: PathBuf,
    is_copy: bool,
}

impl Handed {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if self.is_copy {
            // Best effort: what stays behind belongs to the gateway, in its own folder.
            let _ = if self.path.is_dir() { fs::remove_dir_all(&self.path) } else { fs::remove_file(&self.path) };
        }
    }
}

/// The package itself when the gateway runs as whoever asks; a copy when root asks one that runs as another user.
///
/// # Errors
/// When it can not be copied.
pub(super) fn hand_over(package: &Path, state_dir: &Path) -> anyhow::Result<Handed> {
    let owner = fs::metadata(state_dir).ok().map(|state| (state.uid(), state.gid()));
    let root = rustix::process::geteuid().is_root();
    match owner {
        Some(owner) if root && owner.0 != 0 => copied(package, state_dir, owner),
        _ => Ok(Handed { path: package.to_owned(), is_copy: false }),
    }
}

fn copied(package: &Path, state_dir: &Path, owner: (u32, u32)) -> anyhow::Result<Handed> {
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    let path = state_dir.join(format!("handed-{}-{name}", std::process::id()));
    // Removed whatever becomes of it.
    let handed = Handed { path, is_copy: true };
    let lay = || -> io::Result<()> {
        let folder = rustix::fs::open(state_dir, FOLDER, Mode::empty())?;
        copy(package, &folder, handed.path.file_name().unwrap_or_default(), owner)
    };
    lay().with_context(|| format!("copy {} to {} for the gateway", package.display(), state_dir.display()))?;
    Ok(handed)
}

/// Plain files and folders; what else lies in a package is no part of it. The folder belongs to another user, who may put
/// links in our way: nothing is followed, everything is made new, and what was made is not looked up by its name again.
fn copy(from: &Path, folder: &OwnedFd, name: &OsStr, (user, group): (u32, u32)) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
    if fs::metadata(from)?.is_dir() {
        mkdirat(folder, name, Mode::RWXU)?;
        let made = openat(folder, name, FOLDER, Mode::empty())?;
        if fstat(&made)?.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("somebody else put a folder in its place"));
        }
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() || kind.is_file() {
                copy(&entry.path(), &made, &entry.file_name(), (user, group))?;
            }
        }
        fchown(&made, owner.0, owner.1)?;
    } else {
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut made = fs::File::from(openat(folder, name, new, Mode::RUSR | Mode::WUSR)?);
        io::copy(&mut fs::File::open(from)?, &mut made)?;
        fchown(&made, owner.0, owner.1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> (u32, u32) {
        (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    #[test]
    fn a_copy_is_the_package_and_goes_after_use() {
        let (site, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(site.path().join("models")).unwrap();
        fs::write(site.path().join("package.yaml"), "format: 1\n").unwrap();
        fs::write(site.path().join("models/m.yaml"), "models: []\n").unwrap();
        std::os::unix::fs::symlink("/etc/shadow", site.path().join("link")).unwrap();
        let handed = copied(site.path(), state.path(), own()).unwrap();
        assert_eq!(fs::read(handed.path().join("models/m.yaml")).unwrap(), b"models: []\n");
        assert!(!handed.path().join("link").exists(), "root's rights must not carry anything along");
        drop(handed);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        let (site, state, other) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let archive = site.path().join("site.zip");
        fs::write(&archive, "PK").unwrap();
        let victim = other.path().join("victim");
        let trap = state.path().join(format!("handed-{}-site.zip", std::process::id()));
        std::os::unix::fs::symlink(&victim, &trap).unwrap();
        assert!(copied(&archive, state.path(), own()).is_err());
        assert!(!victim.exists());
    }

    #[test]
    fn a_copy_that_fails_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        assert!(copied(Path::new("/nowhere/site.zip"), state.path(), own()).is_err());
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    }

    #[test]
    fn who_runs_the_gateway_himself_hands_over_the_package_as_it_is() {
        let state = tempfile::tempdir().unwrap();
        let handed = hand_over(Path::new("/etc/hosts"), state.path()).unwrap();
        assert_eq!(handed.path(), Path::new("/etc/hosts"));
        drop(handed);
        assert!(Path::new("/etc/hosts").exists());
    }
}
