//! A file that lines are added to, one write and if wanted one fsync each. A line that could not be written leaves no
//! trace in the others.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// No record is longer; more is damage.
const FILE_LIMIT: u64 = 2 << 30;

pub(super) struct Lines {
    file: File,
    len: u64,
    /// A write broke off and could not be undone: the next line begins with a line end.
    torn: bool,
}

impl Lines {
    /// Opens or makes the file, for this user alone.
    pub(super) fn open(path: &Path) -> io::Result<Lines> {
        let new = !path.exists();
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let about = file.metadata()?;
        if !about.is_file() || about.len() > FILE_LIMIT {
            return Err(io::Error::other("it is no file of ours"));
        }
        if new {
            sync_folder(path)?;
        }
        Ok(Lines { len: about.len(), file, torn: false })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// All that is there.
    pub(super) fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&self.file).take(FILE_LIMIT).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Cuts off what a power cut left of the last line.
    pub(super) fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.file.sync_all()?;
        self.len = len;
        Ok(())
    }

    /// Adds a line; answers where it begins.
    pub(super) fn append(&mut self, line: &str, sync: bool) -> io::Result<u64> {
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.torn {
            bytes.push(b'\n');
        }
        let begins = self.len + bytes.len() as u64;
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes).and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        if let Err(error) = written {
            // What did not get to the disk for certain is taken back, or it would be found there after all.
            self.torn = self.file.set_len(self.len).and_then(|()| self.file.sync_data()).is_err();
            if self.torn {
                self.len = self.file.metadata().map_or(self.len, |about| about.len());
            }
            return Err(error);
        }
        self.torn = false;
        self.len += bytes.len() as u64;
        Ok(begins)
    }

    #[cfg(test)]
    pub(super) fn of(file: File) -> Lines {
        Lines { file, len: 0, torn: false }
    }
}

/// A new name is on the disk only when its folder is.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// SHA-256 in lower hex.
pub(super) fn sha256(parts: &[&[u8]]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(part);
    }
    hex(context.finish().as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all text");
        text
    })
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if digits.len().is_multiple_of(2) { digits.chunks(2).map(pair).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_an_error_and_no_line() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut lines = Lines::of(full);
        let error = lines.append("x", true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn lines_are_found_where_they_were_put() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let mut lines = Lines::open(&path).unwrap();
        assert_eq!(lines.append("one", true).unwrap(), 0);
        let at = lines.append("two", false).unwrap();
        assert_eq!(lines.read_at(at, 3).unwrap(), b"two");
        drop(lines);
        let mut lines = Lines::open(&path).unwrap();
        assert_eq!(lines.read().unwrap(), b"one\ntwo\n");
        lines.cut(4).unwrap();
        assert_eq!(lines.append("six", true).unwrap(), 4);
        assert_eq!(unhex(&hex(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!((unhex("0"), unhex("0g")), (None, None));
    }
}
