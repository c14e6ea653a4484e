//! Files of the state folder that must never be half: a power cut leaves the old or the new one.
//!
//! Every step goes through [`Disk`], so that a test can cut the power at each of them.

#[cfg(test)]
pub(crate) mod power_cut;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Keys, certificate chains and lists are a few kilobytes; anything larger is something else.
const LARGEST: u64 = 256 << 10;

/// The steps a file system can be asked for. Each returns when the system call does; only the two syncs make it last.
pub trait Disk: Send + Sync {
    /// # Errors
    /// `NotFound` when there is none.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Of a list that grows with the site: up to `most` bytes.
    ///
    /// # Errors
    /// As `read`.
    fn read_list(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let _ = most;
        self.read(path)
    }
    /// For the owner alone, 0700; one that exists is fine. Its entry in the parent is synced.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes or empties the file, for the owner alone (0600), and writes it.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// fsync of the file's content.
    fn sync(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Adds to the end of the file, and makes it if there is none.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Takes over a large file of this machine, byte by byte, as [`Disk::write`] would.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// For the owner alone, and he may run it (0700).
    fn make_executable(&self, path: &Path) -> io::Result<()>;
    /// SHA-256 of a file of any size, in lower-case hex.
    fn digest(&self, path: &Path) -> io::Result<String>;
    /// Names in a folder; nothing when there is none.
    fn names(&self, path: &Path) -> io::Result<Vec<String>>;
    /// fsync of the folder: what was renamed or removed in it lasts.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// Writes `folder/name` in four steps: temporary file, fsync, rename, fsync of the folder. On disk when it returns well.
///
/// # Errors
/// When a step failed; the old content is still there then, or the new one is.
pub fn replace(disk: &dyn Disk, folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.tmp"));
    disk.make_folder(folder)?;
    disk.write(&temporary, bytes)?;
    disk.sync(&temporary)?;
    disk.rename(&temporary, &folder.join(name))?;
    disk.sync_folder(folder)
}

/// `None` when there is no such file.
///
/// # Errors
/// When it is there and can not be read.
pub fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match disk.read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_list(path, LARGEST)
    }

    fn read_list(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // A pipe in its place would keep whoever opens it for ever.
        let file =
            OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() && !found.is_dir() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "is no plain file"));
        }
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large for a file of the state"));
        }
        Ok(bytes)
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        }
        // Also when it was there: whoever made it may have died before its name was on disk.
        let mut above = path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty());
        if let Some(parent) = above.next() {
            self.sync_folder(parent)?;
        }
        // Best effort: the folder of the state folder may be closed to us.
        let _ = above.next().map(|folder| self.sync_folder(folder));
        Ok(())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // A left-over may have another owner or other rights; it is not written into.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(bytes)
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut from = File::open(from)?;
        match fs::remove_file(to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        io::copy(&mut from, &mut to).map(drop)
    }

    fn make_executable(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
    }

    fn digest(&self, path: &Path) -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hex(context.finish().as_ref())),
                got => context.update(&buffer[..got]),
            }
        }
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// SHA-256 of bytes in memory, in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from(b"0123456789abcdef"[usize::from(n)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_written_is_for_the_owner_alone_and_replaces_as_a_whole() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/identity");
        replace(&RealDisk, &folder, "secret", b"one").unwrap();
        replace(&RealDisk, &folder, "secret", b"two").unwrap();
        assert_eq!(read(&RealDisk, &folder.join("secret")).unwrap().unwrap(), b"two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("secret"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_pipe_or_device_in_the_place_of_a_file_keeps_nobody_waiting() {
        let home = tempfile::tempdir().unwrap();
        let pipe = home.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        for path in [&pipe, Path::new("/dev/zero")] {
            let error = read(&RealDisk, path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{}: {error}", path.display());
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_none_and_a_huge_one_is_refused() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(read(&RealDisk, &home.path().join("x")).unwrap(), None);
        fs::write(home.path().join("huge"), vec![0; 300 << 10]).unwrap();
        assert!(read(&RealDisk, &home.path().join("huge")).is_err());
    }
}
