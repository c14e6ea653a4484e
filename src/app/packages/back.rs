//! The way back to an older generation, because somebody or the watch says so.

use super::Packages;
use super::switch::{milliseconds, shown};
use crate::app::boot;
use crate::diagnostic;
use crate::model::Stage;
use crate::operate::Refusal;
use crate::package::generations::Generations;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

impl Packages {
    /// Goes back to an older generation, because somebody says so.
    pub async fn roll_back(self: &Arc<Self>, to: Option<u64>) -> Result<Json, Refusal> {
        let this = Arc::clone(self);
        let asked_of = self.generation();
        let task = tokio::spawn(async move {
            let generations = Arc::clone(&this.generations).lock_owned().await;
            let current = generations.record().current;
            if to.is_none() && current != asked_of {
                // Somebody installed one meanwhile, or it went back by itself: "the one before" is another one now.
                let words = format!(
                    "generation {current} runs now, and not {asked_of} any more; say which one: `package list`"
                );
                return Err(Refusal::new("no_generation", words));
            }
            this.back(generations, to, false, "asked for", Vec::new()).await
        });
        task.await.unwrap_or_else(|_| Err(Refusal::new("failed", "going back failed in the middle")))
    }

    pub(in crate::app) async fn back(
        self: &Arc<Self>,
        mut generations: OwnedMutexGuard<Generations>,
        to: Option<u64>,
        reject: bool,
        why: &str,
        evidence: Vec<(&'static str, Json)>,
    ) -> Result<Json, Refusal> {
        let asked = Instant::now();
        let facts = generations.before(to).map_err(|why| Refusal::new("no_generation", why))?;
        let (this, target, words) = (Arc::clone(self), facts.clone(), why.to_owned());
        let prepared = tokio::task::spawn_blocking(move || {
            let site = boot::load(&this.parts.config, &generations.path(target.generation))
                .map_err(|faults| diagnostic::joined(&faults))?;
            generations.go_back(&target, &site, reject, &words).map_err(|error| error.to_string())?;
            Ok::<_, String>((generations, Arc::new(site)))
        });
        let (_generations, site) = prepared
            .await
            .map_err(|_| Refusal::new("failed", "the package broke its reader"))?
            .map_err(|why| Refusal::new("failed", format!("generation {} can not run: {why}", facts.generation)))?;
        // Only now: one that could not be brought back leaves the watch as it is.
        self.stop_watching();
        let before = milliseconds(asked);
        let watch = json!({ "state": "rolled_back", "why": why });
        let (applied, took) = self.switch(&site, &facts, Some(watch)).await;
        self.tell("packageRolledBack", &facts, why);
        let back_to = [&evidence[..], &[("back_to", json!(facts.generation))]].concat();
        self.publishes.end(Stage::RolledBack, why, &back_to).await;
        Ok(json!({ "package": facts, "applied": shown(&applied), "prepared_ms": before, "switched_ms": took }))
    }
}
