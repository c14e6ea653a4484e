//! An outbox whose file can not be opened because the disk is full: it begins without, keeps what it may in memory, and
//! takes the file over as soon as there is room.

use super::file::{make_private_folder, read_side, write_side};
use super::keeper::{Keeper, chain};
use super::lock::Lock;
use super::ranges::Ranges;
use super::settings::DestinationSettings;
use super::space::Space;
use super::start;
use super::store::{Store, StoreError};
use super::tail::{Loaded, SEQ_BLOCK};
use std::path::Path;
use std::time::Instant;

/// Begins without the file. What lies in it stays as it is.
///
/// # Errors
/// When there is no memory.
pub(super) fn begin(
    path: &Path,
    space: Space,
    destinations: &[DestinationSettings],
) -> Result<(Store, Loaded), StoreError> {
    let next_seq = read_side(path).max(Store::limit_on_disk(path)).max(1);
    let seq_limit = next_seq + SEQ_BLOCK;
    // Where no number was ever written there is none to be repeated; anywhere else the old one is overwritten.
    let reserved = write_side(path, seq_limit).is_ok();
    tracing::debug!(reserved, next_seq, "outbox begins without its file");
    let done = Ranges::up_to(next_seq - 1);
    let destinations = destinations.iter().map(|settings| (settings.name.clone(), done.clone(), 0)).collect();
    let store = Store::absent(path, space, if reserved { seq_limit } else { next_seq })?;
    Ok((store, Loaded { next_seq, seq_limit, destinations, ..Loaded::default() }))
}

impl Keeper {
    /// Opens the file again, or for the first time. Whoever else had the folder meanwhile keeps it.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(super) fn open_again(&mut self) -> Result<(), StoreError> {
        if self.lock.is_none() {
            let folder = self.store.path().parent().unwrap_or(Path::new("."));
            make_private_folder(folder)?;
            self.lock = Some(Lock::take(folder)?);
        }
        self.store.reopen()?;
        self.join()
    }

    /// What the file holds joins what is in memory, if it was not there at the start.
    pub(super) fn join(&mut self) -> Result<(), StoreError> {
        let Some(first) = self.begun_without else { return Ok(()) };
        let loaded = match self.load_below(first) {
            Ok(loaded) => loaded,
            Err(e) => {
                // Half of it would be read as all of it.
                self.store.let_go()?;
                return Err(e);
            }
        };
        self.begun_without = None;
        self.shared.lock().join(&loaded, first, Instant::now());
        self.shared.wake_destinations();
        tracing::info!(waiting = loaded.waiting, "there is room for the outbox file; what it holds is delivered");
        Ok(())
    }

    fn load_below(&mut self, first: u64) -> Result<Loaded, StoreError> {
        let highest = self.store.highest_stored()?;
        if highest >= first {
            let problem = format!("the numbers from {first} on are used twice: they are in the file up to {highest}");
            return Err(StoreError::File(std::io::Error::other(format!("{problem}; start the gateway anew"))));
        }
        start::load(&mut self.store, &self.destinations, &mut self.judge)
    }
}

/// Says it once, where everybody looks.
pub(super) fn told(error: &StoreError) -> String {
    let text = chain(error);
    tracing::error!(error = %text, "the disk is full: the outbox file can not be opened; readings stay in memory, and the oldest are \
        dropped when outbox.memory_mb is full");
    text
}
