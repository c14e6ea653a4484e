//! One at a time changes the pointer: the engine, the launcher and a person's command are programs of their own.

use super::Folder;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

const LOCK: &str = "lock";
/// A change is a few file operations.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// Held until dropped; the kernel lets go of it when the process dies.
pub(super) struct Alone {
    _file: File,
}

impl Alone {
    /// Waits a little for whoever changes it. `None` goes on without: a disk that takes no file, or a program that
    /// hangs, must not keep an engine from going back.
    pub(super) fn with(folder: &Folder) -> Option<Alone> {
        let path = folder.path().join(LOCK);
        // A pipe in its place would keep whoever opens it for ever.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let file = options.open(path).ok()?;
        let began = Instant::now();
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if began.elapsed() >= PATIENCE {
                return None;
            }
            std::thread::sleep(LOOK);
        }
        Some(Alone { _file: file })
    }
}
