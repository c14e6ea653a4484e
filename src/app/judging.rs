//! A package under watch: what it is held against, how its readings are looked at, and what becomes of it.

use super::packages::Packages;
use super::publishes;
use crate::config::PackageWatchConfig;
use crate::model::site::Running;
use crate::model::{Connection, Site, Stage, Timestamp};
use crate::package::generations::{Facts, Generations, Judge, Look, Share, Verdict, Watch};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

impl Packages {
    /// How the new package is to be judged: by what its devices show under the old one, just now.
    pub(super) fn foresee(&self, old: &Site, new: &Site) -> Option<Watch> {
        let window = self.parts.config.package_watch.window;
        if window.is_zero() {
            return None;
        }
        let running: HashMap<&str, Running<'_>> =
            old.connections.iter().map(|connection| (connection.name.as_str(), connection.running())).collect();
        let goes_on = |connection: &&Connection| {
            running.get(connection.name.as_str()).is_some_and(|running| connection.continues(running))
        };
        let kept = new.connections.iter().filter(goes_on).map(|connection| connection.name.clone()).collect();
        let until = Timestamp::now().0 + window.as_millis() as i64;
        // One that has not proved itself is no measure: what was before it is.
        let (was, accepted) = match self.told().judged.clone() {
            Some(judged) => (judged.was.clone(), judged.before.accepted),
            None => (self.health(), self.accepted().accepted),
        };
        Some(Watch::new(until, Look { accepted, ..Look::default() }, new, kept, was))
    }

    /// Devices with an answer, by name: good values and all values.
    fn health(&self) -> BTreeMap<String, (u64, u64)> {
        let mut health = BTreeMap::new();
        self.parts.south.now().health(&mut |_, device, good, all| {
            health.insert(device.to_owned(), (good, all));
        });
        health
    }

    /// Readings that were answered since the start, and those that were taken.
    fn accepted(&self) -> Look {
        let (accepted, refused) = (self.parts.counters.acknowledged.get(), self.parts.counters.set_aside.get());
        Look { accepted: Share { good: accepted, all: accepted + refused }, ..Look::default() }
    }

    /// The devices that were there before as well.
    fn look(&self, watch: &Watch) -> Look {
        let mut look = self.accepted();
        self.parts.south.now().health(&mut |connection, device, good, all| {
            watch.count(&mut look, connection, device, (good, all));
        });
        look
    }

    /// A restart came into a watch: it goes on.
    pub async fn watch_on(self: &Arc<Self>) {
        let generations = self.generations.lock().await;
        if let Some(noted) = &generations.record().watch {
            let watch = noted.watch(&self.site()).unwrap_or_else(|| noted.of_all(&self.site()));
            let rest = watch.rest(Timestamp::now().0, self.parts.config.package_watch.window);
            self.watch(&generations, rest);
        }
    }

    /// Looks at the readings for a while; in a task of its own, one at a time. False when nobody does.
    pub(super) fn watch(self: &Arc<Self>, generations: &Generations, window: Duration) -> bool {
        self.stop_watching();
        let config = PackageWatchConfig { window, ..self.parts.config.package_watch.clone() };
        let (Some(facts), Some(noted)) = (generations.current().cloned(), generations.record().watch.clone()) else {
            return false;
        };
        let site = self.site();
        let watch = Arc::new(noted.watch(&site).unwrap_or_else(|| noted.of_all(&site)));
        if window.is_zero() || generations.before(None).is_err() {
            return false;
        }
        let this = Arc::clone(self);
        let mut told = self.told();
        told.watch = json!({ "state": "watching", "until": Timestamp::now().0 + window.as_millis() as i64 });
        told.judged = Some(Arc::clone(&watch));
        let task = tokio::spawn(async move { this.judge(config, facts, watch).await });
        told.watcher = Some(task.abort_handle());
        true
    }

    async fn judge(self: Arc<Self>, config: PackageWatchConfig, facts: Facts, watch: Arc<Watch>) {
        let (since, began) = (self.accepted().accepted, Instant::now());
        let mut judge = Judge::new(config.clone(), watch.before);
        let mut ticks = tokio::time::interval(Judge::period(&config));
        let (why, evidence) = loop {
            ticks.tick().await;
            let (this, watched) = (Arc::clone(&self), Arc::clone(&watch));
            let Ok(mut now) = tokio::task::spawn_blocking(move || this.look(&watched)).await else { return };
            // What was answered since the switch, or the restart.
            now.accepted.good = now.accepted.good.saturating_sub(since.good);
            now.accepted.all = now.accepted.all.saturating_sub(since.all);
            match judge.look(began.elapsed(), &now) {
                Verdict::Watching => {}
                Verdict::Kept => return self.keep(facts, publishes::evidence(&watch.before, &now)).await,
                Verdict::Back(why) => break (why, publishes::evidence(&watch.before, &now).1),
            }
        };
        tracing::error!(generation = facts.generation, why, "the new package is taken back");
        // From here on a new installation waits for it.
        let generations = Arc::clone(&self.generations).lock_owned().await;
        if generations.record().current != facts.generation {
            return;
        }
        self.told().watcher = None;
        if let Err(error) = self.back(generations, None, true, &why, evidence).await {
            tracing::error!(%error, "the package before could not be brought back");
            let words = format!("{why}; the package before could not be brought back: {error}");
            self.publishes.end(Stage::Failed, &words, &[]).await;
            self.told().watch = json!({ "state": "failed", "why": why });
        }
    }

    /// On disk first: whoever reads that it is kept may cut the power.
    async fn keep(&self, facts: Facts, (words, fields): (String, Vec<(&'static str, Json)>)) {
        let mut generations = Arc::clone(&self.generations).lock_owned().await;
        if generations.record().current != facts.generation {
            return;
        }
        let why = words.clone();
        let kept = tokio::task::spawn_blocking(move || generations.keep(&facts, why)).await;
        self.told().kept();
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "that the package is kept could not be noted; the next start watches it again");
        }
        self.publishes.end(Stage::Kept, &words, &fields).await;
    }

    pub(super) fn stop_watching(&self) {
        let mut told = self.told();
        told.judged = None;
        if let Some(watcher) = told.watcher.take() {
            watcher.abort();
        }
    }
}
