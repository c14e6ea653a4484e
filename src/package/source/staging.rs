//! Bytes unpacked from an archive, in one nameless file. Nothing an archive says becomes a path of this machine,
//! and nothing is left over, not even after a kill.

use super::{Limits, names};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often the disk is asked for its free space.
const ROOM_STEP: u64 = 1 << 20;

/// Where a file's bytes lie in the staging file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: u64,
    pub len: u64,
}

/// The files of an archive. Reading starts when the archive was unpacked to its end.
pub struct Staged {
    file: File,
    entries: BTreeMap<String, Range>,
}

impl Staged {
    pub fn entries(&self) -> &BTreeMap<String, Range> {
        &self.entries
    }

    pub fn reader(&self, range: Range) -> RangeReader<'_> {
        RangeReader::new(&self.file, range.start, range.len)
    }
}

/// Reads one range, whatever other readers do.
pub struct RangeReader<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl<'a> RangeReader<'a> {
    pub fn new(file: &'a File, start: u64, len: u64) -> RangeReader<'a> {
        RangeReader { file, at: start, left: len }
    }
}

impl Read for RangeReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.file.read_at(&mut buffer[..want], self.at)?;
        if got == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// Fills a staging file and keeps every cap while bytes stream.
pub struct Stager<'l> {
    limits: &'l Limits,
    file: File,
    at: u64,
    entries: BTreeMap<String, Range>,
    taken: names::Taken,
    /// Up to here there is room on the disk.
    room_known_to: u64,
    /// Bytes of files that are no part of the package.
    skipped: u64,
    /// The disk did not take it.
    has_no_disk: bool,
}

impl<'l> Stager<'l> {
    /// # Errors
    /// When no file can be made in the folder for temporary files.
    pub fn new(limits: &'l Limits) -> Result<Stager<'l>, String> {
        let folder = limits.staging.clone().unwrap_or_else(std::env::temp_dir);
        let made = nameless(&folder).or_else(|e| if limits.needed { in_memory() } else { Err(e) });
        let file = made.map_err(|e| format!("make a temporary file in {}: {e}", folder.display()))?;
        Ok(Stager {
            limits,
            file,
            at: 0,
            entries: BTreeMap::new(),
            taken: names::Taken::default(),
            room_known_to: 0,
            skipped: 0,
            has_no_disk: false,
        })
    }

    /// Copies one file of the archive to its end.
    ///
    /// # Errors
    /// The reason in words, naming the entry.
    pub fn add(&mut self, name: &str, mut from: impl Read) -> Result<(), String> {
        let refuse = |reason: String| format!("entry \"{}\": {reason}", names::shown(name.as_bytes()));
        self.taken.take_file(name).map_err(refuse)?;
        if self.entries.len() >= self.limits.files {
            return Err(format!("the package has more than {} files", self.limits.files));
        }
        let start = self.at;
        let mut buffer = [0u8; 32 * 1024];
        loop {
            let got = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(refuse(format!("can not be unpacked: {e}"))),
            };
            self.at += got as u64;
            self.check_size(self.at - start).map_err(refuse)?;
            self.check_room()?;
            if let Err(e) = self.file.write_all(&buffer[..got]) {
                self.has_no_disk = true;
                return Err(refuse(format!("write the temporary file: {e}")));
            }
        }
        self.entries.insert(name.to_owned(), Range { start, len: self.at - start });
        Ok(())
    }

    /// Reads a file that is no part of the package to its end. It counts as if it were: it costs the same time.
    ///
    /// # Errors
    /// The reason in words, without the entry's name.
    pub fn skip(&mut self, mut from: impl Read) -> Result<(), String> {
        let mut buffer = [0u8; 32 * 1024];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(got) => self.skipped += got as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(format!("can not be unpacked: {e}")),
            }
            self.check_size(0)?;
        }
    }

    fn check_size(&self, len: u64) -> Result<(), String> {
        if len > self.limits.file_bytes {
            return Err(format!("is larger than {} bytes", self.limits.file_bytes));
        }
        if self.at.saturating_add(self.skipped) > self.limits.total_bytes {
            return Err(format!("the package is larger than {} bytes", self.limits.total_bytes));
        }
        Ok(())
    }

    /// A disk that is filled to the brim takes no readings any more: some of it stays free.
    fn check_room(&mut self) -> Result<(), String> {
        if self.at < self.room_known_to {
            return Ok(());
        }
        self.room_known_to = self.at + ROOM_STEP;
        let Ok(space) = rustix::fs::fstatvfs(&self.file) else { return Ok(()) };
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        if free >= Limits::RESERVE + ROOM_STEP {
            return Ok(());
        }
        self.has_no_disk = true;
        if self.limits.needed {
            return self.go_on_in_memory().map_err(|e| format!("go on unpacking in memory: {e}"));
        }
        let folder = self.limits.staging.clone().unwrap_or_else(std::env::temp_dir);
        Err(format!(
            "{free} bytes are free on the disk of {}, too few to unpack the package: {} stay free",
            folder.display(),
            Limits::RESERVE
        ))
    }

    /// A disk filled by others must not keep a gateway from starting with what it has.
    fn go_on_in_memory(&mut self) -> io::Result<()> {
        let mut memory = in_memory()?;
        self.file.seek(io::SeekFrom::Start(0))?;
        io::copy(&mut self.file, &mut memory)?;
        (self.file, self.has_no_disk) = (memory, false);
        self.room_known_to = u64::MAX;
        Ok(())
    }

    /// It failed because of the disk it is unpacked to, and not because of what is in it.
    #[must_use]
    pub fn has_no_disk(&self) -> bool {
        self.has_no_disk
    }

    /// All files, with a single top folder taken off.
    #[must_use]
    pub fn finish(self) -> Staged {
        Staged { file: self.file, entries: without_top_folder(self.entries) }
    }
}

fn in_memory() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("package", rustix::fs::MemfdFlags::CLOEXEC)?))
}

fn without_top_folder(entries: BTreeMap<String, Range>) -> BTreeMap<String, Range> {
    let Some((top, _)) = entries.keys().next().and_then(|name| name.split_once('/')) else {
        return entries;
    };
    let top = format!("{top}/");
    if !entries.contains_key(&format!("{top}package.yaml")) || !entries.keys().all(|name| name.starts_with(&top)) {
        return entries;
    }
    entries.into_iter().map(|(name, range)| (name[top.len()..].to_owned(), range)).collect()
}

/// A file without a name: made with a random one that nobody else has, then unlinked at once.
fn nameless(folder: &Path) -> io::Result<File> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..16 {
        let name = format!(
            ".enos-edge-{}-{}-{:016x}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed),
            fastrand::u64(..)
        );
        let path = folder.join(name);
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &[&str]) -> BTreeMap<String, Range> {
        names.iter().map(|n| ((*n).to_owned(), Range { start: 0, len: 0 })).collect()
    }

    #[test]
    fn a_single_top_folder_is_taken_off() {
        let stripped = without_top_folder(entries(&["p/package.yaml", "p/models/m.yaml"]));
        assert_eq!(stripped.keys().collect::<Vec<_>>(), ["models/m.yaml", "package.yaml"]);
        let kept = without_top_folder(entries(&["p/package.yaml", "q/models/m.yaml"]));
        assert_eq!(kept.len(), 2);
        assert!(kept.contains_key("q/models/m.yaml"));
    }

    #[test]
    fn the_staging_file_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { staging: Some(folder.path().to_owned()), ..Limits::default() };
        let mut stager = Stager::new(&limits).unwrap();
        stager.add("a", &b"hello"[..]).unwrap();
        stager.add("b", &b"world"[..]).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let staged = stager.finish();
        let mut text = String::new();
        staged.reader(staged.entries()["b"]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "world");
    }

    #[test]
    fn what_is_needed_is_unpacked_to_memory_where_the_disk_takes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let mut limits = Limits { staging: Some(home.path().join("gone")), ..Limits::default() };
        assert!(Stager::new(&limits).is_err());
        limits.needed = true;
        let mut stager = Stager::new(&limits).unwrap();
        stager.add("a", &b"hello"[..]).unwrap();
        // The disk has become full.
        stager.go_on_in_memory().unwrap();
        stager.add("b", &b"world"[..]).unwrap();
        let staged = stager.finish();
        for (name, expected) in [("a", "hello"), ("b", "world")] {
            let mut text = String::new();
            staged.reader(staged.entries()[name]).read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn caps_hold_while_bytes_stream() {
        let limits = Limits { file_bytes: 100_000, files: 1, ..Limits::default() };
        let mut stager = Stager::new(&limits).unwrap();
        let refusal = stager.add("endless", io::repeat(0)).expect_err("refused");
        assert!(refusal.contains("\"endless\": is larger than 100000 bytes"), "{refusal}");
    }
}
