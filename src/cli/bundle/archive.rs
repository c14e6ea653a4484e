//! The archive: a .tar.gz of bounded size that only its owner may read, whole or not there at all.

use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

/// What everything lies below.
pub(super) const FOLDER: &str = "enos-edge-support";

/// Where it goes.
enum Target {
    File { file: File, part: PathBuf, path: PathBuf },
    Out(io::Stdout),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::File { file, .. } => file.write(bytes),
            Target::Out(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::File { file, .. } => file.flush(),
            Target::Out(out) => out.flush(),
        }
    }
}

pub(super) struct Archive {
    tar: Builder<GzEncoder<Target>>,
    at: u64,
    /// Bytes of contents that may still come. They count as they are: packed they are fewer.
    left: u64,
}

impl Archive {
    /// `-` is standard output.
    pub fn create(path: &Path, most: u64, at: i64) -> io::Result<Archive> {
        let target = if path == Path::new("-") {
            Target::Out(io::stdout())
        } else {
            let part = part(path);
            // A part that an earlier attempt left is nobody's.
            let _ = std::fs::remove_file(&part);
            let file = File::options().write(true).create_new(true).mode(0o600).open(&part)?;
            Target::File { file, part, path: path.to_owned() }
        };
        let tar = Builder::new(GzEncoder::new(target, Compression::default()));
        Ok(Archive { tar, at: u64::try_from(at / 1000).unwrap_or(0), left: most })
    }

    pub fn left(&self) -> u64 {
        self.left
    }

    /// Adds a file; of one that is too long the end is kept, which is the newest of a log. Returns its length.
    pub fn add(&mut self, name: &str, contents: &[u8]) -> io::Result<usize> {
        // A header and its padding.
        let room = usize::try_from(self.left.saturating_sub(1024)).unwrap_or(usize::MAX);
        let contents = &contents[contents.len().saturating_sub(room)..];
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(contents.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.at);
        header.set_cksum();
        self.tar.append_data(&mut header, format!("{FOLDER}/{name}"), contents)?;
        self.left = self.left.saturating_sub(contents.len() as u64 + 1024);
        Ok(contents.len())
    }

    /// Makes it whole.
    pub fn finish(self) -> io::Result<()> {
        match self.tar.into_inner()?.finish()? {
            Target::File { file, part, path } => {
                file.sync_all()?;
                std::fs::rename(part, path)
            }
            Target::Out(mut out) => out.flush(),
        }
    }
}

fn part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// What an attempt that failed left behind.
pub(super) fn forget(path: &Path) {
    // Best effort: mostly there is none.
    let _ = std::fs::remove_file(part(path));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_archive_is_bounded_private_and_keeps_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.tar.gz");
        let mut archive = Archive::create(&path, 5000, 0).unwrap();
        assert_eq!(archive.add("a", b"abc").unwrap(), 3);
        let noise: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        assert_eq!(archive.add("log", &noise).unwrap(), 5000 - 3 - 2048);
        assert_eq!(archive.add("more", b"x").unwrap(), 0);
        archive.finish().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let file = flate2::read::GzDecoder::new(File::open(&path).unwrap());
        let mut tar = tar::Archive::new(file);
        let mut seen = Vec::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            seen.push((entry.path().unwrap().display().to_string(), bytes));
        }
        assert_eq!(seen[0], (format!("{FOLDER}/a"), b"abc".to_vec()));
        assert!(noise.ends_with(&seen[1].1));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
