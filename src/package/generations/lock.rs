//! One program at a time changes the packages of a gateway: the gateway itself, or an installation while none runs.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

const LOCK: &str = "lock";
/// An installation without a gateway is over by then; a gateway holds it for as long as it runs.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// Held until dropped; the kernel lets go of it when the process dies.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits a little for whoever has it.
    ///
    /// # Errors
    /// When another program keeps it, or the folder does not take the file.
    pub(super) fn take(folder: &Path) -> io::Result<Lock> {
        Lock::take_within(folder, PATIENCE)
    }

    fn take_within(folder: &Path, patience: Duration) -> io::Result<Lock> {
        let path = folder.join(LOCK);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(named)?;
        let began = Instant::now();
        loop {
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < patience => std::thread::sleep(LOOK),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let words = "another program is at it: a gateway that starts or runs with this state folder, or an \
                                 installation; ask again when it answers or has ended";
                    return Err(named(io::Error::new(io::ErrorKind::ResourceBusy, words)));
                }
                Err(error) => return Err(named(error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_has_it_and_the_next_one_gets_it_after() {
        let home = tempfile::tempdir().unwrap();
        let first = Lock::take(home.path()).unwrap();
        let refused = Lock::take_within(home.path(), LOOK).unwrap_err().to_string();
        assert!(refused.contains("another program is at it") && refused.contains("lock"), "{refused}");
        let waits = std::thread::spawn({
            let folder = home.path().to_owned();
            move || Lock::take(&folder).is_ok()
        });
        std::thread::sleep(LOOK);
        drop(first);
        assert!(waits.join().unwrap());
    }
}
