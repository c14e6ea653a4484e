//! Opens a resource package: a folder, or an archive recognised by its content. What comes out are plain files
//! with harmless names; an archive's bytes never become a path of this machine.

mod archive;
mod folder;
#[cfg(test)]
mod hostile;
mod limits;
mod metered;
mod names;
mod staging;
mod tar;
#[cfg(test)]
mod tests;
mod text;
mod zip;

pub use limits::Limits;
pub use names::is_ignored;

use crate::diagnostic::{Diagnostic, Place};
use crate::model::progress::Unit;
use crate::yaml::Budget;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An opened package.
pub struct Source {
    files: Files,
    limits: Limits,
    values: Budget,
    rows: AtomicUsize,
}

enum Files {
    Folder(folder::Folder),
    Archive(staging::Staged),
}

/// Reads one file of a package, at most as many bytes as a file may have.
pub struct Reader<'a>(metered::Watched<Bytes<'a>>);

enum Bytes<'a> {
    Plain(io::Take<File>),
    Staged(staging::RangeReader<'a>),
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Bytes::Plain(file) => file.read(buffer),
            Bytes::Staged(range) => range.read(buffer),
        }
    }
}

impl Source {
    /// Opens a folder, or unpacks an archive to its end with every cap kept.
    ///
    /// # Errors
    /// Everything that may not be in a package, naming the entry.
    pub fn open(path: &Path, limits: &Limits) -> Result<Source, Vec<Diagnostic>> {
        Source::open_as(path, &path.display().to_string(), limits)
    }

    /// The same of a file that people know by another name.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_as(path: &Path, shown: &str, limits: &Limits) -> Result<Source, Vec<Diagnostic>> {
        let shown: Arc<str> = shown.into();
        let refuse = |reason: String| vec![Diagnostic::error(Place::new(&shown, 0, 0), reason)];
        let found = std::fs::metadata(path).map_err(|e| refuse(format!("open the package: {e}")))?;
        let files = if found.is_dir() {
            Files::Folder(folder::Folder::open(path, limits).map_err(|refused| in_folder(&shown, refused))?)
        } else if found.is_file() {
            let staged = archive::unpack(path, limits).map_err(|reason| {
                let mut refused = refuse(reason.problem);
                (refused[0].help, refused[0].machine) = (reason.help, reason.machine);
                refused
            })?;
            Files::Archive(staged)
        } else {
            return Err(refuse("open the package: it is neither a folder nor a file".to_owned()));
        };
        Ok(Source { files, limits: limits.clone(), values: Budget::new(limits.values), rows: AtomicUsize::new(0) })
    }

    #[must_use]
    pub fn is_archive(&self) -> bool {
        matches!(self.files, Files::Archive(_))
    }

    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Values its YAML files may still have.
    #[must_use]
    pub fn values(&self) -> &Budget {
        &self.values
    }

    /// Rows of the point tables that were read so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    pub fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    /// Paths of all files, with `/`, sorted.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let (plain, staged) = match &self.files {
            Files::Folder(folder) => (Some(folder.files().keys()), None),
            Files::Archive(staged) => (None, Some(staged.entries().keys())),
        };
        plain.into_iter().flatten().chain(staged.into_iter().flatten()).map(String::as_str)
    }

    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match &self.files {
            Files::Folder(folder) => folder.files().contains_key(name),
            Files::Archive(staged) => staged.entries().contains_key(name),
        }
    }

    /// Bytes of a file.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn length(&self, name: &str) -> Result<u64, Diagnostic> {
        let found = match &self.files {
            Files::Folder(folder) => folder.files().get(name).copied(),
            Files::Archive(staged) => staged.entries().get(name).map(|range| range.len),
        };
        found.ok_or_else(|| Diagnostic::error(Place::new(&name.into(), 0, 0), "the package has no such file"))
    }

    /// A file's bytes, as a stream.
    ///
    /// # Errors
    /// When there is no such file, or it can not be opened.
    pub fn reader(&self, name: &str) -> Result<Reader<'_>, Diagnostic> {
        let refuse = |reason: String| Diagnostic::error(Place::new(&name.into(), 0, 0), reason);
        let missing = || refuse("the package has no such file".to_owned());
        match &self.files {
            Files::Folder(folder) => {
                let len = *folder.files().get(name).ok_or_else(missing)?;
                let file = folder.open_file(name).map_err(|e| refuse(format!("open the file: {e}")))?;
                // What is written to the file after it was listed is not read.
                Ok(self.watched(Bytes::Plain(file.take(len))))
            }
            Files::Archive(staged) => {
                let range = *staged.entries().get(name).ok_or_else(missing)?;
                Ok(self.watched(Bytes::Staged(staged.reader(range))))
            }
        }
    }

    fn watched<'a>(&self, bytes: Bytes<'a>) -> Reader<'a> {
        Reader(metered::Watched::new(bytes, &self.limits.progress))
    }

    /// A walk over the bytes of all files begins.
    pub fn begin(&self, step: &'static str) {
        let bytes = match &self.files {
            Files::Folder(folder) => folder.files().values().sum(),
            Files::Archive(staged) => staged.entries().values().map(|range| range.len).sum(),
        };
        self.limits.progress.step(step, bytes, Unit::Bytes);
    }

    /// A file as text, without byte order mark.
    ///
    /// # Errors
    /// When it is too large or not UTF-8; the place is that of the first bad byte.
    pub fn text(&self, name: &str) -> Result<String, Diagnostic> {
        self.text_within(name, self.limits.text_bytes)
    }

    /// As [`Source::text`], of at most `most` bytes.
    ///
    /// # Errors
    /// As [`Source::text`].
    pub fn text_within(&self, name: &str, most: u64) -> Result<String, Diagnostic> {
        text::read(&name.into(), self.reader(name)?, most.min(self.limits.text_bytes))
    }

    /// SHA-256 of a file, in lower-case hex.
    ///
    /// # Errors
    /// When the file can not be read.
    pub fn sha256(&self, name: &str) -> Result<String, Diagnostic> {
        self.measure(name).map(|(_, digest)| digest)
    }

    /// Length and SHA-256 of a file.
    ///
    /// # Errors
    /// When the file can not be read.
    pub fn measure(&self, name: &str) -> Result<(u64, String), Diagnostic> {
        let mut length = 0;
        let mut reader = self.reader(name)?;
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        let mut buffer = [0; 32 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok((length, hex(context.finish().as_ref()))),
                Ok(got) => {
                    length += got as u64;
                    context.update(&buffer[..got]);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Diagnostic::error(Place::new(&name.into(), 0, 0), format!("read the file: {e}"))),
            }
        }
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

fn in_folder(shown: &Arc<str>, refused: Vec<folder::Refused>) -> Vec<Diagnostic> {
    let place = |name: String| if name.is_empty() { Arc::clone(shown) } else { name.into() };
    refused.into_iter().map(|r| Diagnostic::error(Place::new(&place(r.name), 0, 0), r.reason)).collect()
}
