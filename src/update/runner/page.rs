//! How the updates stand, for people and programs.

use super::{Job, Origin, Runner, manifest};
use serde_json::{Value as Json, json};
use std::sync::PoisonError;

impl Runner {
    pub(super) fn shown(&self) -> Json {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn show(&self) {
        let keys = match &self.ports.keys {
            Ok(keys) => json!(keys.len()),
            Err(why) => json!({ "none": why }),
        };
        let job = self.job.as_ref().map(|job| self.describe(job));
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) =
            json!({ "keys": keys, "job": job, "unread": self.unread });
    }

    pub(super) fn describe(&self, job: &Job) -> Json {
        let manifest = manifest(job);
        let version = manifest.as_ref().map(|m| m.version.to_string());
        json!({
            "id": job.id,
            "state": job.state.word(),
            "why": job.state.why(),
            "doing": self.words,
            "percent": job.percent,
            "step": job.state.step(job.percent),
            "end": job.state.is_end(),
            "half_done": job.state.is_half_done(),
            "from": match &job.origin { Origin::Cloud(_) => "cloud", Origin::File(name) => name },
            "name": job.name,
            "target": manifest.as_ref().map(|manifest| manifest.kind.target().to_owned()),
            "version": version.or_else(|| job.offer().map(|offer| offer.version.clone())),
            "replaces": job.from,
            "begun": job.begun,
            "changed": job.changed,
            "told": job.told,
        })
    }
}
