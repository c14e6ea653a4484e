//! A package that is a folder. No link is followed, neither while listing nor later while reading.

use super::{Limits, names};
use rustix::fs::{Mode, OFlags, openat};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A folder's files, listed once.
pub struct Folder {
    root: OwnedFd,
    files: BTreeMap<String, u64>,
}

/// A file or folder that may not be there, and why.
pub struct Refused {
    pub name: String,
    pub reason: String,
}

impl Folder {
    /// Lists the files below `path`.
    ///
    /// # Errors
    /// Everything that may not lie in a package.
    pub fn open(path: &Path, limits: &Limits) -> Result<Folder, Vec<Refused>> {
        let refused = |e: io::Error| vec![Refused { name: String::new(), reason: format!("open the folder: {e}") }];
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| refused(e.into()))?;
        let mut walk =
            Walk { limits, total: 0, taken: names::Taken::default(), files: BTreeMap::new(), refused: vec![] };
        walk.folder(path, "");
        if walk.refused.is_empty() { Ok(Folder { root, files: walk.files }) } else { Err(walk.refused) }
    }

    pub fn files(&self) -> &BTreeMap<String, u64> {
        &self.files
    }

    /// Opens a listed file, one folder after the other, so that nothing swapped for a link since is followed.
    pub fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let (folders, leaf) = name.rsplit_once('/').map_or((None, name), |(folders, leaf)| (Some(folders), leaf));
        let mut at: Option<OwnedFd> = None;
        for folder in folders.into_iter().flat_map(|f| f.split('/')) {
            at = Some(openat(at.as_ref().unwrap_or(&self.root), folder, flags | OFlags::DIRECTORY, Mode::empty())?);
        }
        let file = File::from(openat(at.as_ref().unwrap_or(&self.root), leaf, flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no plain file any more")) }
    }
}

struct Walk<'l> {
    limits: &'l Limits,
    total: u64,
    taken: names::Taken,
    files: BTreeMap<String, u64>,
    refused: Vec<Refused>,
}

impl Walk<'_> {
    fn folder(&mut self, path: &Path, name: &str) {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(e) => return self.refuse(name, format!("list the folder: {e}")),
        };
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry, name),
                Err(e) => self.refuse(name, format!("list the folder: {e}")),
            }
            // One more than allowed is enough to know.
            if self.files.len() > self.limits.files || self.refused.len() > 100 {
                return;
            }
        }
    }

    fn entry(&mut self, entry: &std::fs::DirEntry, folder: &str) {
        let leaf = entry.file_name();
        if leaf.to_str().is_some_and(names::is_ignored) {
            return;
        }
        let mut full = folder.as_bytes().to_vec();
        if !full.is_empty() {
            full.push(b'/');
        }
        full.extend_from_slice(leaf.as_bytes());
        let name = match names::check(&full, self.limits.depth) {
            Ok(name) => name,
            Err(reason) => return self.refuse(&names::shown(&full), reason),
        };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => self.folder(&entry.path(), name),
            Ok(kind) if kind.is_file() => self.file(&entry.path(), name),
            Ok(kind) if kind.is_symlink() => {
                self.refuse(name, "it is a symbolic link; a package holds plain files only".to_owned());
            }
            Ok(_) => self.refuse(name, "it is no plain file (a pipe, socket or device)".to_owned()),
            Err(e) => self.refuse(name, format!("look at it: {e}")),
        }
    }

    fn file(&mut self, path: &PathBuf, name: &str) {
        if let Err(reason) = self.taken.take_file(name) {
            return self.refuse(name, reason);
        }
        let len = match std::fs::symlink_metadata(path) {
            Ok(found) => found.len(),
            Err(e) => return self.refuse(name, format!("look at it: {e}")),
        };
        if len > self.limits.file_bytes {
            return self.refuse(name, format!("is larger than {} bytes", self.limits.file_bytes));
        }
        self.total += len;
        if self.total > self.limits.total_bytes {
            self.refuse(name, format!("the package is larger than {} bytes", self.limits.total_bytes));
        } else if self.files.len() == self.limits.files {
            self.refuse("", format!("the package has more than {} files", self.limits.files));
        }
        self.files.insert(name.to_owned(), len);
    }

    fn refuse(&mut self, name: &str, reason: String) {
        self.refused.push(Refused { name: name.to_owned(), reason });
    }
}
