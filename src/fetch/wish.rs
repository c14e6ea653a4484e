//! What the cloud wants of a source: kept on disk until it is done, so that a restart in between forgets nothing.

use super::incoming::{self, FOLDER};
use crate::config::{Address, Checksum, SourceConfig};
use crate::model::Publish;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// One publish, as far as the cloud says what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    pub publish: Publish,
    /// At the host of the source; `None`: where the source always looks.
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub version: Option<String>,
    #[serde(default)]
    pub sha256: Option<String>,
    /// When it was wished, in milliseconds UTC.
    pub at: i64,
}

impl Wish {
    /// Too old at `now`. A clock that was set back makes none too old.
    #[must_use]
    pub fn is_over(&self, now: i64, give_up: Duration) -> bool {
        u128::try_from(now.saturating_sub(self.at)).is_ok_and(|age| age > give_up.as_millis())
    }

    /// The source as it is asked because of this, and the name of its files: another address has memory of its own, or
    /// the next look at the usual one would bring the older archive again.
    #[must_use]
    pub fn applied(&self, source: &SourceConfig) -> (SourceConfig, String) {
        let mut asked = source.clone();
        if self.sha256.is_some() {
            asked.checksum = Checksum::Ignore;
        }
        match self.url.as_ref().and_then(|url| Address::parse(url).ok()) {
            Some(address) => {
                asked.address = address;
                (asked, format!("{}.publish", source.name))
            }
            None => (asked, source.name.clone()),
        }
    }
}

/// The one wish of a source; a newer one takes its place.
pub(super) struct Wishes {
    folder: PathBuf,
    name: String,
    /// As on disk. Held while the disk is written, so only from threads that may block.
    wish: Mutex<Option<Wish>>,
}

impl Wishes {
    /// One that can not be read is none.
    pub fn open(state_dir: &Path, source: &str) -> Wishes {
        let (folder, name) = (state_dir.join(FOLDER), format!("{source}.wish"));
        let read = fs::read(folder.join(&name)).ok();
        let wish = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Wishes { folder, name, wish: Mutex::new(wish) }
    }

    pub fn now(&self) -> Option<Wish> {
        self.lock().clone()
    }

    /// On disk when it returns well. Answers the one whose place it took. Blocks.
    ///
    /// # Errors
    /// Those of the disk; the old one is still wished then.
    pub fn put(&self, wish: Wish) -> io::Result<Option<Wish>> {
        let mut now = self.lock();
        incoming::make(&self.folder)?;
        incoming::replace(&self.folder, &self.name, &serde_json::to_vec(&wish)?)?;
        Ok(now.replace(wish))
    }

    /// It came to its end, unless another one has taken its place meanwhile. Blocks.
    pub fn done(&self, wish: &Wish) {
        let mut now = self.lock();
        if now.as_ref() == Some(wish) {
            *now = None;
            // Best effort: it is done once more after a restart, and the package runs already then.
            let _ = fs::remove_file(self.folder.join(&self.name));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Wish>> {
        // Every change is whole before the lock is given back.
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(id: &str) -> Wish {
        Wish { publish: Publish { id: id.to_owned(), source: "site".to_owned() }, at: 5, ..Wish::default() }
    }

    #[test]
    fn a_wish_outlives_a_restart_and_only_its_own_end() {
        let folder = tempfile::tempdir().unwrap();
        let wishes = Wishes::open(folder.path(), "site");
        assert_eq!(wishes.put(wish("1")).unwrap(), None);
        assert_eq!(wishes.put(wish("2")).unwrap(), Some(wish("1")));
        wishes.done(&wish("1"));
        let wishes = Wishes::open(folder.path(), "site");
        assert_eq!(wishes.now(), Some(wish("2")));
        wishes.done(&wish("2"));
        assert_eq!((wishes.now(), Wishes::open(folder.path(), "site").now()), (None, None));
        fs::write(folder.path().join(FOLDER).join("site.wish"), "{\"publ").unwrap();
        assert_eq!(Wishes::open(folder.path(), "site").now(), None, "a torn one is none");
    }

    #[test]
    fn a_wish_grows_old_by_the_clock_that_goes_forward() {
        let hour = Duration::from_secs(3600);
        assert!(!wish("1").is_over(3_600_005, hour) && wish("1").is_over(3_600_006, hour));
        assert!(!wish("1").is_over(-9_999_999, hour));
    }
}
