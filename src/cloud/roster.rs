//! Where another package waits for the link: it is adopted by difference as soon as no answer about sub-devices is out.

use super::run::CloudSite;
use crate::model::{DeviceDetails, Field, ThingModel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What the link is told of another package.
#[derive(Clone)]
pub struct CloudUpdate {
    pub site: CloudSite,
    /// Which devices answer, by the numbers of these names.
    pub field: Option<Arc<dyn Field>>,
    pub models: Vec<Arc<ThingModel>>,
    pub details: Vec<DeviceDetails>,
}

/// Holds the newest update until the link takes it.
#[derive(Default)]
pub struct RosterDesk {
    waiting: Mutex<Option<CloudUpdate>>,
    news: Notify,
    /// The epoch whose devices are all known to the cloud, as far as that can be had.
    ready: watch::Sender<u64>,
}

impl RosterDesk {
    /// The link shall go on with this. Never blocks; a newer one takes the place of one that still waits.
    pub fn put(&self, update: CloudUpdate) {
        *self.lock() = Some(update);
        self.news.notify_one();
    }

    /// Waits until the devices of this epoch may send. False when that took longer; nothing is lost then.
    pub async fn ready(&self, epoch: u64, within: Duration) -> bool {
        let mut ready = self.ready.subscribe();
        tokio::time::timeout(within, ready.wait_for(|now| *now == epoch)).await.is_ok_and(|seen| seen.is_ok())
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.lock().is_some()
    }

    pub(super) fn take(&self) -> Option<CloudUpdate> {
        self.lock().take()
    }

    pub(super) fn set_ready(&self, epoch: u64) {
        self.ready.send_if_modified(|now| std::mem::replace(now, epoch) != epoch);
    }

    /// Resolves when there may be a new one. Cancel-safe.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<CloudUpdate>> {
        // Every change is one assignment.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
