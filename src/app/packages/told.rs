//! What status shows of the package that runs, and of the one that arrives.

use super::Packages;
use crate::model::progress::{Progress, Unit};
use crate::model::{Site, Timestamp};
use crate::package::generations::{Facts, Watch};
use serde_json::{Value as Json, json};
use std::sync::{Arc, PoisonError};
use tokio::task::AbortHandle;

/// What status shows.
#[derive(Default)]
pub(in crate::app) struct Told {
    pub(super) generation: u64,
    pub(super) since: i64,
    pub(in crate::app) watch: Json,
    pub(super) last_refusal: Option<Json>,
    pub(super) switched_ms: Option<f64>,
    pub(in crate::app) watcher: Option<AbortHandle>,
    /// What the one that runs is held against, until it has proved itself.
    pub(in crate::app) judged: Option<Arc<Watch>>,
    /// How far the package is that arrives.
    pub(super) installing: Option<Progress>,
    /// A full disk did not take that the package is ready; whoever tries again.
    pub(super) readier: Option<AbortHandle>,
}

impl Told {
    /// It has proved itself: whatever comes next is held against it.
    pub(in crate::app) fn kept(&mut self) {
        (self.watch, self.judged) = (json!({ "state": "kept" }), None);
    }
}

pub(super) fn refusal(words: &str) -> Json {
    json!({ "at": Timestamp::now().0, "why": words })
}

/// Shown for as long as it lives.
pub(super) struct Installing(Arc<Packages>);

impl Installing {
    pub(super) fn begin(packages: &Arc<Packages>, progress: &Progress) -> Installing {
        packages.told().installing = Some(progress.clone());
        Installing(Arc::clone(packages))
    }
}

impl Drop for Installing {
    fn drop(&mut self) {
        self.0.told().installing = None;
    }
}

impl Packages {
    /// Its number; 0 before there is any.
    pub fn generation(&self) -> u64 {
        self.told().generation
    }

    /// What keeps the gateway from having a package, in one line.
    pub fn missing(&self) -> Option<String> {
        let told = self.told();
        let why = told.last_refusal.as_ref()?["why"].as_str()?;
        // The first line says which package, the next what is wrong with it.
        Some(why.lines().take(2).collect::<Vec<_>>().join(" "))
    }

    pub fn status(&self) -> Json {
        let site = self.site();
        let told = self.told();
        json!({
            "name": site.package.name,
            "version": site.package.version,
            "epoch": site.names.epoch,
            "generation": told.generation,
            "since": told.since,
            "watch": told.watch,
            "switched_ms": told.switched_ms,
            "last_refusal": told.last_refusal,
            "installing": told.installing.as_ref().map(|progress| {
                let look = progress.look();
                let unit = if look.unit == Unit::Bytes { "bytes" } else { "things" };
                json!({ "step": look.step, "number": look.number, "done": look.done, "total": look.total, "unit": unit })
            }),
        })
    }

    pub async fn list(&self) -> Json {
        let generations = self.generations.lock().await;
        json!({ "current": generations.record().current, "generations": generations.record().generations })
    }

    pub async fn history(&self) -> Json {
        json!(self.generations.lock().await.history())
    }

    /// What status shows of the package, all at once.
    pub(super) fn tell_status(&self, site: &Arc<Site>, facts: &Facts, took: f64, watch: Option<Json>) {
        let mut told = self.told();
        (told.generation, told.since, told.switched_ms) = (facts.generation, Timestamp::now().0, Some(took));
        told.watch = watch.unwrap_or(told.watch.take());
        let mut shown = self.site.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *shown, Arc::clone(site));
        // Giving back what is known of many devices takes its time; nobody waits for it.
        drop(tokio::task::spawn_blocking(move || drop(before)));
    }

    pub(in crate::app) fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        // Each change is whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
