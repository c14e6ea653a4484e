//! PURE. How readings pass from those who read to the outbox, and from the outbox to each destination.
//!
//! The folders do not import each other; `app.rs` hands them these traits.

use super::{Batch, Names, Timestamp};
use driver::Answer;
use std::sync::Arc;

/// Where mapped readings go in. Never blocks: the outbox holds a bounded tail and counts what it must drop.
pub trait Inlet: Send + Sync {
    /// Takes one batch; it gets the next sequence number and destinations are woken at once.
    fn append(&self, batch: Batch);
}

/// A batch on its way to one destination.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Never repeats, not even after the store was empty.
    pub seq: u64,
    pub lane: Lane,
    /// What the numbers in the batch stand for.
    pub names: Arc<Names>,
    pub batch: Batch,
}

/// Live data goes first; backlog is what waited on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    Live,
    Backlog,
}

/// Values a destination refused for good. Kept apart with their reason, never silently lost.
#[derive(Clone, Debug)]
pub struct SetAside {
    pub seq: u64,
    pub names: Arc<Names>,
    /// Only the refused values.
    pub batch: Batch,
    /// The destination's code, for example 1204.
    pub code: i64,
    pub reason: String,
    pub at: Timestamp,
}

/// One destination's end of the outbox. All calls may be made from one task; the futures are
/// cancel-safe: what was not returned is handed out again by the next call.
pub trait Outlet: Send + Sync {
    /// Waits for live parcels and returns at least one, oldest first, about `max_bytes` of encoded batches at most.
    fn live(&self, max_bytes: usize) -> Answer<'_, Vec<Parcel>>;

    /// Waits for backlog and returns at least one parcel, oldest first.
    fn backlog(&self, max_bytes: usize) -> Answer<'_, Vec<Parcel>>;

    /// Waits for parcels and returns at least one, strictly oldest first: live ones only when no backlog is left.
    fn in_order(&self, max_bytes: usize) -> Answer<'_, Vec<Parcel>> {
        let (mut backlog, mut live) = (self.backlog(max_bytes), self.live(max_bytes));
        Box::pin(std::future::poll_fn(move |context| match backlog.as_mut().poll(context) {
            std::task::Poll::Pending => live.as_mut().poll(context),
            ready => ready,
        }))
    }

    /// These have arrived. They leave the outbox once every destination has acknowledged them.
    fn acknowledge(&self, seqs: &[u64]);

    /// These values were refused for good. Stored before the parcel they came from is let go;
    /// acknowledge the parcel as well.
    fn set_aside(&self, refused: SetAside);

    /// These values are not taken before their device is in order at the destination. Acknowledge the parcel as well;
    /// they are then kept apart, on disk, and handed out again, in a parcel of their own, after [`Outlet::release`].
    fn hold(&self, refused: SetAside) {
        self.set_aside(refused);
    }

    /// The device is well: some of what is held for it is to be handed out. False when nothing is held for it.
    fn release(&self, product_key: &str, device_key: &str) -> bool {
        let _ = (product_key, device_key);
        false
    }

    /// Product and device keys of the devices that something is held for.
    fn held(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The link went up or down. Down: what was handed out and not acknowledged will be handed out
    /// again, and nothing is kept in memory for this destination beyond the durability bound.
    fn link(&self, up: bool);
}
