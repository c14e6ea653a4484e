//! Updates that wait until they are asked for: the gateway's own, and those of sub-devices that show what they run.

use super::Runner;
use super::telling::{cut, saying};
use crate::config::Pull;
use crate::model::cloud_ask::Wish;
use crate::model::update::{Offer, Said};
use crate::update::{Stage, device, pull, source};
use serde_json::Value as Json;
use std::time::Duration;
use tokio::time::Instant;

/// The cloud is asked again so soon when the link is not there yet, or an update is under way.
const PULL_AGAIN: Duration = Duration::from_secs(30);
/// A sub-device that is not logged in so often is left to the next round.
const TRIES: u32 = 20;
/// Between two questions of one round.
const PACE: Duration = Duration::from_secs(1);

/// Whose updates are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub product_key: String,
    pub device_key: String,
    /// What a sub-device runs; `None`: the gateway.
    pub runs: Option<String>,
    /// Times the cloud was not reached for it, or knew no login of it.
    pub tries: u32,
}

impl Runner {
    /// The gateway, and every sub-device that shows a version.
    pub(super) fn begin_round(&mut self) {
        let period = match self.ports.config.pull {
            Pull::Every(period) => Some(Instant::now() + period.mul_f32(0.95 + 0.1 * fastrand::f32())),
            Pull::AtStart | Pull::Off => None,
        };
        self.round_at = period;
        if let Some((product_key, device_key)) = self.ports.gateway.clone() {
            self.queue(Asked { product_key, device_key, runs: None, tries: 0 });
        }
        for (product_key, device_key, version) in self.ports.around.versions() {
            self.queue(Asked { product_key, device_key, runs: Some(version), tries: 0 });
        }
        self.pull_at = Some(Instant::now());
    }

    /// A sub-device that shows its version for the first time since the start.
    pub(super) fn ask_for(&mut self, product_key: &str, device_key: &str, version: &str) {
        if self.ports.config.pull == Pull::Off || self.ports.ask.is_none() {
            return;
        }
        let (product_key, device_key) = (product_key.to_owned(), device_key.to_owned());
        self.queue(Asked { product_key, device_key, runs: Some(version.to_owned()), tries: 0 });
        self.pull_at = self.pull_at.or_else(|| Some(Instant::now() + PACE));
    }

    /// Bounded by the devices there are: one place each.
    fn queue(&mut self, asked: Asked) {
        self.asking.queue((asked.product_key.clone(), asked.device_key.clone()), asked);
    }

    /// Asks the cloud what there is for the next one.
    pub(super) fn pull(&mut self) {
        if self.round_at.is_some_and(|at| at <= Instant::now()) {
            self.begin_round();
        }
        self.pull_at = self.round_at;
        let Some(next) = self.asking.first().cloned() else { return };
        if self.job.as_ref().is_some_and(|job| !job.state.is_end()) {
            self.pull_at = Some(Instant::now() + PULL_AGAIN);
            return;
        }
        let device = next.runs.as_ref().map(|_| next.device_key.clone());
        if let Some(ask) = self.ports.ask.clone().filter(|_| self.ports.keys.is_ok()) {
            self.pulling = Some(Box::pin(async move { (next, ask.ask(Wish::Versions { device }).await) }));
        }
    }

    pub(super) fn pulled(&mut self, asked: &Asked, data: Result<Json, String>) {
        self.pulling = None;
        self.read_again();
        if self.asking.first() == Some(asked) {
            self.asking.take_first();
        }
        let data = match data {
            Ok(data) => data,
            Err(why) => {
                tracing::debug!(why, device = asked.device_key, "the cloud was not asked for updates");
                // A sub-device may not be logged in for days; the others are asked meanwhile.
                if asked.runs.is_none() || asked.tries < TRIES {
                    self.queue(Asked { tries: asked.tries.saturating_add(1), ..asked.clone() });
                    self.pull_at = Some(Instant::now() + PULL_AGAIN);
                }
                return;
            }
        };
        if !self.asking.is_empty() {
            self.pull_at = Some(Instant::now() + PACE);
        }
        if self.job.as_ref().is_some_and(|job| !job.state.is_end()) {
            return;
        }
        let history = self.ports.shelf.history().unwrap_or_default();
        let allow = self.ports.config.allow_downgrade;
        let whose = (asked.product_key.as_str(), asked.device_key.as_str());
        let tried = pull::Tried { history: &history, since: self.since };
        let barred = |offer: &Offer| source::way(offer, &self.ports.config).err();
        let runs = asked.runs.as_deref().map_or_else(|| crate::version::current().to_owned(), device::whole);
        let choose = |fits: &dyn Fn(&Offer) -> bool| pull::choose(whose, &data, &runs, allow, &tried, fits);
        let chosen = choose(&|offer| barred(offer).is_none());
        let best = choose(&|_| true).and_then(|offer| barred(&offer).map(|why| (offer, why)));
        if let Some((offer, why)) = best
            && self.turn_away(offer.clone(), &why)
        {
            let words = format!("refused: {why}");
            let said = Said::Progress { step: Stage::Refused.code(), words: cut(&words) };
            self.ports.ear.say(saying(&offer.product_key, &offer.device_key, "refused", said));
        }
        if let Some(offer) = chosen
            && let Err(refused) = self.offered(offer, asked.runs.is_none())
        {
            tracing::warn!(why = refused.words, device = asked.device_key, "an update that the cloud has is not taken");
        }
    }
}
