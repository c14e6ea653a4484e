//! The folder STATE/incoming: a half-fetched archive with what proves that the rest belongs to it, across restarts, and
//! what was taken last.

use super::digest;
use super::journal::{Step, Trouble};
use crate::model::progress::{Progress, Unit};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Below the state folder.
pub const FOLDER: &str = "incoming";

/// Bytes that are written at once.
const BLOCK: usize = 256 << 10;
/// What may be lost of a half-fetched archive when the power is cut.
const SYNCED: u64 = 4 << 20;

/// What a server says of an archive. Equal ones mean equal bytes, as far as the server can be believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Mark {
    /// Address, with the name that was found in a folder.
    pub address: String,
    pub etag: Option<String>,
    /// HTTP's Last-Modified, FTP's MDTM, SFTP's column of times: compared, never computed with.
    pub modified: Option<String>,
    pub size: Option<u64>,
}

impl Mark {
    /// Whether there is anything that would change with the archive.
    #[must_use]
    pub fn proves(&self) -> bool {
        self.strong_etag().is_some() || self.modified.is_some()
    }

    /// A weak one (RFC 9110 8.8.1) says nothing of single bytes.
    #[must_use]
    pub fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|etag| etag.starts_with('"') && etag.len() > 2)
    }
}

/// What is remembered of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// Of the half-fetched archive.
    pub part: Option<Mark>,
    /// The archive that was handed over last and need not be fetched again.
    pub taken: Option<Mark>,
    pub taken_sha256: Option<String>,
}

/// Files of one source. One task owns them.
pub(super) struct Incoming {
    folder: PathBuf,
    name: String,
    pub memory: Memory,
    /// Told how far a transfer is.
    pub progress: Progress,
    /// What whoever published it says; compared.
    pub wanted_sha256: Option<String>,
    /// How often the archive has to fit on the disk.
    pub copies: u64,
    /// Free bytes of the disk of a folder, where that can be known.
    free: fn(&Path) -> Option<u64>,
}

/// What stays free on the disk of the state folder, whatever comes: the outbox needs it.
const RESERVE: u64 = 16 << 20;

fn free(folder: &Path) -> Option<u64> {
    let space = rustix::fs::statvfs(folder).ok()?;
    Some(space.f_bavail.saturating_mul(space.f_frsize))
}

/// # Errors
/// When `more` bytes would take what must stay free.
pub(super) fn room(folder: &Path, more: u64, free: fn(&Path) -> Option<u64>) -> Result<(), Trouble> {
    let Some(free) = free(folder) else { return Ok(()) };
    if free >= more.saturating_add(RESERVE) {
        return Ok(());
    }
    let mb = |bytes: u64| bytes.div_ceil(1 << 20);
    let problem = format!(
        "the disk of {} has {} MB free, and {} MB are needed ({} of them stay free)",
        folder.display(),
        free >> 20,
        mb(more.saturating_add(RESERVE)),
        mb(RESERVE)
    );
    Err(Trouble::new(Step::Transfer, problem).help("make space on the disk of the state folder"))
}

/// As [`room`], of the machine's own disk while somebody else fills it.
///
/// # Errors
/// When nothing more should come.
pub(super) fn still_room(file: &Path) -> Result<(), Trouble> {
    file.parent().map_or(Ok(()), |folder| room(folder, 0, free))
}

impl Incoming {
    /// Makes the folder. Memory that can not be read is no memory: then the archive is fetched whole.
    ///
    /// # Errors
    /// When the folder can not be made.
    pub fn open(folder: &Path, name: &str) -> Result<Incoming, Trouble> {
        make(folder).map_err(|error| disk(&format!("make folder {}", folder.display()), &error))?;
        let incoming = Incoming {
            folder: folder.to_owned(),
            name: name.to_owned(),
            memory: Memory::default(),
            progress: Progress::default(),
            wanted_sha256: None,
            copies: 1,
            free,
        };
        let read = fs::read(incoming.file("json")).unwrap_or_default();
        Ok(Incoming { memory: serde_json::from_slice(&read).unwrap_or_default(), ..incoming })
    }

    #[must_use]
    pub fn part(&self) -> PathBuf {
        self.file("part")
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.name))
    }

    /// Bytes that are here of the archive that `memory.part` describes.
    #[must_use]
    pub fn held(&self) -> u64 {
        if self.memory.part.is_none() {
            return 0;
        }
        fs::metadata(self.part()).map_or(0, |found| found.len())
    }

    /// Writes the memory: temporary file, fsync, rename, fsync of the folder.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn remember(&self) -> Result<(), Trouble> {
        let write = || replace(&self.folder, &format!("{}.json", self.name), &serde_json::to_vec(&self.memory)?);
        write().map_err(|error| disk("remember the source", &error))
    }

    /// Begins an archive anew: what is half here goes.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn begin(&mut self, mark: Mark) -> Result<Writer, Trouble> {
        self.forget_part();
        self.room(mark.size.unwrap_or(0), 0)?;
        self.memory.part = Some(mark);
        self.remember()?;
        self.writer(0)
    }

    /// Goes on with what is half here.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn go_on(&self) -> Result<Writer, Trouble> {
        let size = self.memory.part.as_ref().and_then(|mark| mark.size);
        self.room(size.unwrap_or(0), self.held())?;
        self.writer(self.held())
    }

    fn room(&self, size: u64, held: u64) -> Result<(), Trouble> {
        room(&self.folder, size.saturating_mul(self.copies).saturating_sub(held), self.free)
    }

    fn writer(&self, held: u64) -> Result<Writer, Trouble> {
        let file = own_file(&self.part(), held == 0).map_err(|error| disk("open the archive", &error))?;
        let size = self.memory.part.as_ref().and_then(|mark| mark.size).unwrap_or(0);
        self.progress.step("fetching", size, Unit::Bytes);
        self.progress.set(held);
        Ok(Writer {
            file: Some(file),
            buffer: Vec::new(),
            length: held,
            unsynced: 0,
            progress: self.progress.clone(),
            folder: self.folder.clone(),
            free: self.free,
        })
    }

    pub fn forget_part(&mut self) {
        // Best effort: what is left is emptied when the next archive begins.
        let _ = fs::remove_file(self.part());
        self.memory.part = None;
    }

    /// SHA-256 and length of the archive.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn digest(&self) -> Result<(String, u64), Trouble> {
        let path = self.part();
        let read = tokio::task::spawn_blocking(move || digest::of_file(&path)).await;
        read.map_err(io::Error::other).and_then(|read| read).map_err(|error| disk("read the archive", &error))
    }
}

/// The folder, for the owner alone.
///
/// # Errors
/// Those of the disk.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Temporary file, fsync, rename, fsync of the folder.
///
/// # Errors
/// Those of the disk; the old content is still there then.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.tmp"));
    let mut file = own_file(&temporary, true)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// For the owner alone; appends, or begins with nothing.
fn own_file(path: &Path, empty: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o600);
    if empty {
        options.write(true).truncate(true)
    } else {
        options.append(true)
    };
    options.open(path)
}

fn disk(doing: &str, error: &io::Error) -> Trouble {
    let trouble = Trouble::new(Step::Transfer, format!("{doing}: {error}"));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => trouble.help("make space in the state folder"),
        _ => trouble,
    }
}

/// Appends to a half-fetched archive, away from the runtime's thread.
pub(super) struct Writer {
    /// Only away while a block is written; a cancelled write leaves the file as it is and the writer without.
    file: Option<File>,
    buffer: Vec<u8>,
    length: u64,
    unsynced: u64,
    progress: Progress,
    folder: PathBuf,
    free: fn(&Path) -> Option<u64>,
}

impl Writer {
    /// With what is not on disk yet.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// # Errors
    /// Those of the disk.
    pub async fn append(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.length += bytes.len() as u64;
        self.progress.add(bytes.len() as u64);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BLOCK { Ok(()) } else { self.flush(false).await }
    }

    /// What came is on disk when it returns well, also when the transfer broke: the next attempt goes on there.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn finish(&mut self) -> Result<(), Trouble> {
        self.flush(true).await
    }

    async fn flush(&mut self, sync: bool) -> Result<(), Trouble> {
        // Asked with each block: others write to the disk as well, and a server need not say how much it sends.
        if !self.buffer.is_empty() {
            room(&self.folder, self.buffer.len() as u64, self.free).inspect_err(|_| self.buffer.clear())?;
        }
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let mut buffer = std::mem::take(&mut self.buffer);
        self.unsynced += buffer.len() as u64;
        let sync = sync || self.unsynced >= SYNCED;
        let written = tokio::task::spawn_blocking(move || -> io::Result<(File, Vec<u8>)> {
            file.write_all(&buffer)?;
            if sync {
                file.sync_data()?;
            }
            buffer.clear();
            Ok((file, buffer))
        });
        let written = written.await.map_err(io::Error::other).and_then(|written| written);
        let (file, buffer) = written.map_err(|error| disk("write the archive", &error))?;
        (self.file, self.buffer) = (Some(file), buffer);
        if sync {
            self.unsynced = 0;
        }
        Ok(())
    }
}

/// A cancelled transfer keeps what came.
impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(file) = &mut self.file {
            // Best effort: what is not written is fetched again.
            let _ = file.write_all(&self.buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(etag: &str) -> Mark {
        Mark { address: "https://h/a.zip".to_owned(), etag: Some(etag.to_owned()), ..Mark::default() }
    }

    #[tokio::test]
    async fn a_half_fetched_archive_is_found_after_a_restart_with_its_mark() {
        let folder = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::open(&folder.path().join(FOLDER), "site").unwrap();
        let mut writer = incoming.begin(mark("\"1\"")).unwrap();
        writer.append(b"hello ").await.unwrap();
        // The attempt is cancelled.
        drop(writer);
        let again = Incoming::open(&folder.path().join(FOLDER), "site").unwrap();
        assert_eq!((again.held(), again.memory.part.clone()), (6, Some(mark("\"1\""))));
        let mut writer = again.go_on().unwrap();
        writer.append(b"world").await.unwrap();
        writer.finish().await.unwrap();
        assert_eq!(writer.length(), 11);
        assert_eq!(
            again.digest().await.unwrap().0,
            crate::fetch::digest::hex(ring::digest::digest(&ring::digest::SHA256, b"hello world").as_ref())
        );
    }

    #[tokio::test]
    async fn no_archive_begins_or_goes_on_that_would_fill_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::open(folder.path(), "site").unwrap();
        incoming.free = |_| Some(RESERVE + 1000);
        let large = Mark { size: Some(1001), ..mark("\"1\"") };
        let trouble = incoming.begin(large.clone()).map(|_| ()).unwrap_err();
        assert!(trouble.problem.contains("16 MB free") && trouble.problem.contains("17 MB are needed"), "{trouble}");
        assert!(!incoming.part().exists(), "nothing was begun");
        incoming.copies = 2;
        assert!(incoming.begin(Mark { size: Some(501), ..mark("\"1\"") }).is_err(), "it has to fit twice");
        incoming.copies = 1;
        let mut writer = incoming.begin(Mark { size: Some(1000), ..mark("\"1\"") }).unwrap();
        writer.append(&[0; 600]).await.unwrap();
        writer.finish().await.unwrap();
        incoming.free = |_| Some(RESERVE + 399);
        assert!(incoming.go_on().is_err(), "400 bytes are missing");
        // A server that does not say how much it sends.
        let mut writer = incoming.begin(mark("\"2\"")).unwrap();
        writer.append(&[0; 300]).await.unwrap();
        writer.finish().await.unwrap();
        writer.append(&vec![0; 400]).await.unwrap();
        assert!(writer.finish().await.is_err());
        assert_eq!(incoming.held(), 300, "not a byte of what had no room");
    }

    #[test]
    fn a_torn_memory_is_no_memory_and_a_weak_etag_no_proof() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("site.json"), "{\"part\":{\"addr").unwrap();
        fs::write(folder.path().join("site.part"), "half").unwrap();
        let incoming = Incoming::open(folder.path(), "site").unwrap();
        assert_eq!((incoming.held(), incoming.memory.clone()), (0, Memory::default()));
        assert!(!mark("W/\"1\"").proves() && mark("\"1\"").proves());
    }
}
