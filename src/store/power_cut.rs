//! A disk of the tests whose power goes at a chosen step, and what may be found on it afterwards.

use super::Disk;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// What a power cut does to bytes that were written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bytes {
    Lost,
    Torn,
    Kept,
}

/// And to names that were made, renamed or removed in a folder that was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entries {
    Lost,
    Kept,
}

/// Every way a file system may come back: a rename that lasted before its bytes did is one of them.
pub(crate) const AFTERMATHS: [(Bytes, Entries); 6] = [
    (Bytes::Lost, Entries::Lost),
    (Bytes::Torn, Entries::Lost),
    (Bytes::Kept, Entries::Lost),
    (Bytes::Lost, Entries::Kept),
    (Bytes::Torn, Entries::Kept),
    (Bytes::Kept, Entries::Kept),
];

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    steps: usize,
    cut_at: Option<usize>,
    log: Vec<String>,
}

/// A disk in memory.
#[derive(Debug, Default)]
pub(crate) struct CutDisk(Mutex<State>);

impl CutDisk {
    /// The power goes instead of step `n`, counted from 0; nothing works from then on.
    pub(crate) fn cut_at(&self, n: usize) {
        let mut state = self.state();
        (state.steps, state.cut_at) = (0, Some(n));
    }

    /// Steps that change something, so far.
    pub(crate) fn steps(&self) -> usize {
        self.state().steps
    }

    /// What was done, for the message of a test that fails.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// The disk as the next start finds it.
    pub(crate) fn after(&self, (bytes, entries): (Bytes, Entries)) -> CutDisk {
        let state = self.state();
        let names = if entries == Entries::Kept { &state.names } else { &state.synced_names };
        let survived = state.inodes.iter().map(|inode| match bytes {
            _ if inode.now == inode.synced => inode.now.clone(),
            Bytes::Lost => inode.synced.clone(),
            // What was added to synced bytes is torn, never those.
            Bytes::Torn if inode.now.starts_with(&inode.synced) => {
                inode.now[..inode.synced.len().midpoint(inode.now.len())].to_vec()
            }
            Bytes::Torn => inode.now[..inode.now.len() / 2].to_vec(),
            Bytes::Kept => inode.now.clone(),
        });
        let inodes = survived.map(|bytes| Inode { now: bytes.clone(), synced: bytes }).collect();
        let state = State { inodes, names: names.clone(), synced_names: names.clone(), ..State::default() };
        CutDisk(Mutex::new(state))
    }

    /// Damages a file in place, as worn flash does.
    pub(crate) fn damage(&self, path: &Path) {
        let mut state = self.state();
        let inode = state.names[path];
        for byte in state.inodes[inode].now.iter_mut().skip(20).take(8) {
            *byte ^= 0x55;
        }
        state.inodes[inode].synced = state.inodes[inode].now.clone();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds the disk")
    }

    fn step(&self, what: String) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if state.cut_at.is_some_and(|at| state.steps >= at) {
            return Err(io::Error::other("the power is cut"));
        }
        state.steps += 1;
        state.log.push(what);
        Ok(state)
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no {}", path.display()))
}

impl Disk for CutDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|inode| state.inodes[*inode].now.clone()).ok_or_else(|| missing(path))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.step(format!("make {}", path.display())).map(|_| ())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.step(format!("write {}", path.display()))?;
        state.inodes.push(Inode { now: bytes.to_vec(), synced: Vec::new() });
        let inode = state.inodes.len() - 1;
        state.names.insert(path.to_owned(), inode);
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step(format!("sync {}", path.display()))?;
        let inode = *state.names.get(path).ok_or_else(|| missing(path))?;
        state.inodes[inode].synced = state.inodes[inode].now.clone();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.step(format!("rename {} to {}", from.display(), to.display()))?;
        let inode = state.names.remove(from).ok_or_else(|| missing(from))?;
        state.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step(format!("remove {}", path.display()))?;
        state.names.remove(path).map(|_| ()).ok_or_else(|| missing(path))
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.step(format!("append to {}", path.display()))?;
        if let Some(inode) = state.names.get(path).copied() {
            state.inodes[inode].now.extend(bytes);
            return Ok(());
        }
        state.inodes.push(Inode { now: bytes.to_vec(), synced: Vec::new() });
        let inode = state.inodes.len() - 1;
        state.names.insert(path.to_owned(), inode);
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.write(to, &std::fs::read(from)?)
    }

    fn make_executable(&self, path: &Path) -> io::Result<()> {
        self.step(format!("chmod {}", path.display())).map(|_| ())
    }

    fn digest(&self, path: &Path) -> io::Result<String> {
        Ok(super::sha256(&self.read(path)?))
    }

    fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let here = state.names.keys().filter(|file| file.parent() == Some(path));
        Ok(here.filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.step(format!("sync folder {}", path.display()))?;
        let here = |file: &PathBuf| file.parent() == Some(path);
        let names: Vec<_> = state.names.iter().filter(|(f, _)| here(f)).map(|(f, i)| (f.clone(), *i)).collect();
        state.synced_names.retain(|file, _| !here(file));
        state.synced_names.extend(names);
        Ok(())
    }
}
