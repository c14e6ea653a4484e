//! Every part of the gateway goes on with another package.

use super::Packages;
use crate::app::{destinations, extras, field};
use crate::cloud::{CloudSite, CloudUpdate};
use crate::model::{Field, Site};
use crate::package::generations::{self, Facts};
use crate::south::{Applied, South};
use crate::store::RealDisk;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Changed connections finish their request within this.
const FINISH: Duration = Duration::from_secs(5);
/// Local applications wait for the word that a full disk did not take.
const READY_AGAIN: Duration = Duration::from_secs(5);
/// New devices get so long to be known to the cloud before they are read; what comes earlier waits or is tried again.
const KNOWN: Duration = Duration::from_secs(15);

/// Only while its numbers are those in use.
pub(in crate::app) struct FieldOf {
    pub south: Arc<South>,
    pub epoch: u64,
}

impl Field for FieldOf {
    fn silences(&self, report: &mut dyn FnMut(u32, Option<Duration>)) {
        let lines = self.south.now();
        if lines.epoch() == self.epoch {
            lines.silences(report);
        }
    }
}

impl Packages {
    /// Every part goes on with this package. Names come first, so that no reading is without. Whatever takes time with many
    /// devices is done beside the thread that reads them.
    pub(super) async fn switch(
        self: &Arc<Self>,
        site: &Arc<Site>,
        facts: &Facts,
        watch: Option<Json>,
    ) -> (Applied, f64) {
        let (began, parts) = (Instant::now(), &self.parts);
        let epoch = site.names.epoch;
        if let Some(name) = site.named() {
            // Only a gateway that waited for a package has none yet.
            parts.site_name.get_or_init(|| name);
        }
        parts.outbox.use_names(Arc::clone(&site.names));
        parts.events.use_site(site);
        if let Some(rosters) = &parts.rosters {
            let (south, new) = (Arc::clone(&parts.south), Arc::clone(site));
            aside(move || update(&south, &new), |update| rosters.put(update)).await;
            // Only new devices need it; the others go on being read meanwhile.
            if parts.counters.cloud_connected.get() > 0 && !rosters.ready(epoch, KNOWN).await {
                tracing::info!("the cloud does not know all devices of the new package yet");
            }
        }
        let applied = parts.south.apply(site, FINISH).await;
        let (this, new) = (Arc::clone(self), Arc::clone(site));
        aside(move || this.tell_the_others(&new), drop).await;
        let took = milliseconds(began);
        self.tell_status(site, facts, took, watch);
        self.ready(Some(facts.clone())).await;
        tracing::info!(
            package = %facts.name, version = %facts.version, generation = facts.generation, took_ms = took,
            kept = applied.kept.len(), started = applied.started.len(), stopped = applied.stopped.len(),
            "another package runs"
        );
        (applied, took)
    }

    /// Commands and brokers, once the connections are those of the package.
    fn tell_the_others(&self, site: &Arc<Site>) {
        self.parts.carrier.use_site(site, Arc::new(field::Wired(self.parts.south.now())));
        self.parts.feed.put(destinations::feed(site));
    }

    /// All parts have this package, from now on; told in the folder of packages.
    pub async fn ready(self: &Arc<Self>, facts: Option<Facts>) {
        if let Some(again) = self.told().readier.take() {
            again.abort();
        }
        if let Err(error) = self.tell_ready(facts.clone()).await {
            tracing::warn!(%error, "that the package is ready could not be told; it is tried again");
            let this = Arc::clone(self);
            let again = async move {
                while this.tell_ready(facts.clone()).await.is_err() {
                    tokio::time::sleep(READY_AGAIN).await;
                }
            };
            self.told().readier = Some(tokio::spawn(again).abort_handle());
        }
    }

    async fn tell_ready(&self, facts: Option<Facts>) -> std::io::Result<()> {
        let state_dir = self.parts.config.state_dir.clone();
        let told = tokio::task::spawn_blocking(move || match facts {
            Some(facts) => generations::tell_ready(&RealDisk, &state_dir, &facts),
            None => {
                generations::tell_not_ready(&RealDisk, &state_dir);
                Ok(())
            }
        });
        told.await.unwrap_or(Ok(()))
    }
}

/// Runs `work` on another thread and hands on what comes of it; nothing when the gateway is going away.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static, hand_on: impl FnOnce(T)) {
    if let Ok(done) = tokio::task::spawn_blocking(work).await {
        hand_on(done);
    }
}

/// What the cloud link is told.
fn update(south: &Arc<South>, site: &Arc<Site>) -> CloudUpdate {
    CloudUpdate {
        site: CloudSite { names: Arc::clone(&site.names), credentials: site.credentials.clone() },
        field: Some(Arc::new(FieldOf { south: Arc::clone(south), epoch: site.names.epoch })),
        models: extras::models(site),
        details: site.details.clone(),
    }
}

pub(super) fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// What the cloud is told of a switch.
pub(super) fn switched(applied: &Applied, took: f64) -> [(&'static str, Json); 4] {
    [
        ("kept", json!(applied.kept.len())),
        ("started", json!(applied.started.len())),
        ("stopped", json!(applied.stopped.len())),
        ("took_ms", json!(took.round())),
    ]
}

pub(super) fn shown(applied: &Applied) -> Json {
    json!({
        "kept": applied.kept.len(),
        "started": applied.started,
        "stopped": applied.stopped,
        "cut_off": applied.cut_off,
    })
}
