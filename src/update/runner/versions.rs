//! Which versions sub-devices run: told after each connect, so that the cloud can put them into jobs.

use super::{Runner, manifest, saying};
use crate::model::update::Said;
use crate::update::Kind;
use crate::update::device::same;
use crate::update::job::{Job, State};
use std::time::Duration;
use tokio::time::Instant;

/// How often what they show is looked at: it is in memory already. Sooner after a start, when the first values come in.
const LOOK: Duration = Duration::from_secs(60);

impl Runner {
    /// What a job has brought a device to.
    pub(super) fn know_version(&mut self, job: &Job) {
        if job.state != State::Done {
            return;
        }
        let of_device = manifest(job).filter(|manifest| matches!(manifest.kind, Kind::Device { .. }));
        let known = match (job.offer(), of_device) {
            (Some(offer), _) if !self.is_gateway(offer) => {
                Some((offer.product_key.clone(), offer.device_key.clone(), offer.version.clone()))
            }
            (None, Some(manifest)) => {
                let name = job.device.as_deref().or_else(|| manifest.kind.device());
                let keys = name.and_then(|name| self.ports.around.keys_of(name));
                keys.map(|(product_key, device_key)| (product_key, device_key, manifest.version.to_string()))
            }
            _ => None,
        };
        let Some((product_key, device_key, version)) = known else { return };
        self.versions.insert(format!("{product_key}/{device_key}"), version.clone());
        self.keep_versions();
        if job.offer().is_none() {
            self.ports.ear.say(saying(&product_key, &device_key, "", Said::Version(version)));
        }
    }

    fn keep_versions(&self) {
        if let Err(error) = self.ports.shelf.save_versions(&self.versions) {
            tracing::warn!(%error, "the version of a device is not on disk and will not be told after a restart");
        }
    }

    /// Tells the versions that devices show and that were not told. Not of a device whose update is under way: success
    /// that was told is never undone.
    pub(super) fn look_at_versions(&mut self) {
        self.look_at = Instant::now() + self.look_after;
        self.look_after = (self.look_after * 2).min(LOOK);
        let busy = self.job.as_ref().filter(|job| !job.state.is_end());
        let busy = busy.and_then(|job| match job.offer() {
            Some(offer) => Some((offer.product_key.clone(), offer.device_key.clone())),
            None => job.device.as_ref().and_then(|name| self.ports.around.keys_of(name)),
        });
        let mut news = false;
        for (product_key, device_key, version) in self.ports.around.versions() {
            if self.seen.insert((product_key.clone(), device_key.clone())) {
                self.ask_for(&product_key, &device_key, &version);
            }
            let whose = format!("{product_key}/{device_key}");
            let told = self.versions.get(&whose).is_some_and(|told| same(told, &version));
            if told || busy.as_ref().is_some_and(|busy| (&busy.0, &busy.1) == (&product_key, &device_key)) {
                continue;
            }
            news = true;
            self.versions.insert(whose, version.clone());
            self.ports.ear.say(saying(&product_key, &device_key, "", Said::Version(version)));
        }
        if news {
            self.keep_versions();
        }
    }
}
