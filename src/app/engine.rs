//! The running gateway as the engine's trial sees it, and the task that judges it.

use super::cloud_link::ENOS;
use super::packages::Packages;
use crate::config::Config;
use crate::engine::trial::Look;
use crate::engine::{self, EngineTarget, Folder, How, Observe, Outcome, Shown, Slots, Started, on_trial};
use crate::model::{Notice, Notices, Timestamp};
use crate::outbox::Outbox;
use crate::shutdown::Restart;
use crate::south::South;
use crate::store::RealDisk;
use serde_json::{Value as Json, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What the cloud acknowledged longer ago says nothing of the link.
const LATELY: Duration = Duration::from_secs(3600);
/// How often acknowledgements are looked for.
const LOOK: Duration = Duration::from_secs(5);

/// The engine's own slots, at work.
pub(super) struct Engine {
    slots: Arc<Slots>,
    shown: Arc<Shown>,
    /// What a job of an update works with.
    pub target: Arc<EngineTarget>,
}

impl Engine {
    /// Asks the disk, and the disk may be stuck: apart from the runtime.
    pub async fn status(&self) -> Json {
        let (slots, shown) = (Arc::clone(&self.slots), Arc::clone(&self.shown));
        tokio::task::spawn_blocking(move || on_trial::status(&slots, &shown)).await.unwrap_or_default()
    }
}

/// Parts that are looked at.
struct Parts {
    packages: Arc<Packages>,
    south: Arc<South>,
    outbox: Arc<Outbox>,
    last: Mutex<(u64, Option<Instant>)>,
    began: AtomicU64,
}

impl Parts {
    fn acknowledged(&self) -> u64 {
        let status = self.outbox.status();
        status.destinations.iter().find(|one| one.name == ENOS).map_or(0, |one| one.readings.acknowledged)
    }

    fn note_acknowledgements(&self) {
        let acknowledged = self.acknowledged();
        // Each change is whole.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if acknowledged > last.0 {
            *last = (acknowledged, Some(Instant::now()));
        }
    }
}

impl Observe for Parts {
    fn look(&self) -> Look {
        let mut look = Look {
            generation: self.packages.generation(),
            acknowledged: self.acknowledged().saturating_sub(self.began.load(Ordering::Relaxed)),
            outbox_trouble: self.outbox.status().trouble,
            ..Look::default()
        };
        self.south.now().health(&mut |_, device, good, all| {
            look.devices.insert(device.to_owned(), (good, all));
        });
        look
    }

    fn acknowledged_lately(&self) -> bool {
        self.note_acknowledgements();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.1.is_some_and(|at| at.elapsed() < LATELY)
    }
}

/// Somebody starts this engine again and again, and would not take it back: it may wait for what is missing.
pub(super) fn is_confirmed(config: &Config) -> bool {
    let slots = Slots::new(Arc::new(RealDisk), Folder::of(&config.state_dir), Started::here());
    slots.started().packaged.is_some() && on_trial::own_trial(&slots).is_none()
}

/// Looks at the slots, tells how the last change ended, and judges this engine if it is on trial.
pub(super) fn start(
    config: &Config,
    packages: &Arc<Packages>,
    south: &Arc<South>,
    outbox: &Arc<Outbox>,
    notices: Option<Arc<dyn Notices>>,
    restart: &Restart,
) -> Engine {
    let slots = Arc::new(Slots::new(Arc::new(RealDisk), Folder::of(&config.state_dir), Started::here()));
    let shown = Arc::new(Shown::default());
    let parts = Arc::new(Parts {
        packages: Arc::clone(packages),
        south: Arc::clone(south),
        outbox: Arc::clone(outbox),
        last: Mutex::default(),
        began: AtomicU64::new(0),
    });
    parts.began.store(parts.acknowledged(), Ordering::Relaxed);
    let noted = Arc::clone(&parts);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            noted.note_acknowledgements();
        }
    });
    let observe: Arc<dyn Observe> = parts;
    tokio::spawn(judge(Arc::clone(&slots), Arc::clone(&observe), Arc::clone(&shown), notices, restart.clone()));
    let target = EngineTarget::new(
        Arc::clone(&slots),
        observe,
        Arc::clone(&shown),
        config.update.clone(),
        config.state_dir.clone(),
    );
    Engine { slots, shown, target: Arc::new(target) }
}

async fn judge(
    slots: Arc<Slots>,
    observe: Arc<dyn Observe>,
    shown: Arc<Shown>,
    notices: Option<Arc<dyn Notices>>,
    restart: Restart,
) {
    tell(&slots, notices.as_ref()).await;
    let own = Arc::clone(&slots);
    let Ok(Some(trial)) = tokio::task::spawn_blocking(move || engine::on_trial::own_trial(&own)).await else { return };
    tracing::warn!(version = %trial.version, window_s = trial.window_ms / 1000, "this engine is on trial");
    if on_trial::watch(Arc::clone(&slots), trial, observe, shown).await.is_some() {
        restart.ask();
        return;
    }
    tell(&slots, notices.as_ref()).await;
}

/// How the last change of engines ended, once, to the log and the cloud.
async fn tell(slots: &Arc<Slots>, notices: Option<&Arc<dyn Notices>>) {
    let own = Arc::clone(slots);
    let news = tokio::task::spawn_blocking(move || {
        let last = own.record().ok()?.last.filter(|last| !last.told)?;
        // Best effort: what is not written down is told again with the next start.
        if let Err(error) = own.told() {
            tracing::warn!(%error, "that the end of a trial was told can not be written down");
        }
        Some(last)
    });
    let Ok(Some(last)) = news.await else { return };
    tracing::warn!(version = %last.version, how = ?last.how, why = %last.why, "engines changed");
    if let Some(notices) = notices {
        notices.tell(notice(&last));
    }
}

fn notice(last: &Outcome) -> Notice {
    let event = match last.how {
        How::Proven => "engineUpdated",
        How::RolledBack => "engineRolledBack",
        How::Chosen => "engineChosen",
        How::Upgraded => "engineUpgraded",
    };
    let fields = [("version", json!(last.version)), ("reason", json!(last.why)), ("job", json!(last.job))];
    let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Notice { event: event.to_owned(), fields, at: Timestamp::now(), device: None }
}
