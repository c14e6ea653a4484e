//! What the cloud hears of a job: progress, how it ended, the version that runs.

use super::{Job, Runner, State, manifest};
use crate::model::update::{Said, Saying};
use crate::update::Manifest;

impl Runner {
    /// While an engine is on trial the cloud is told the version that is proven: told success is never undone.
    pub(super) fn call_oneself(&self, job: &Job) {
        let trying = matches!(
            job.state,
            State::Activating | State::OnTrial { .. } | State::Confirming | State::RollingBack { .. }
        );
        let engine = manifest(job).is_some_and(|manifest| manifest.kind.is_engine());
        let before = if trying && engine { job.from.clone() } else { goes(job) };
        self.ports.ear.call_oneself(before);
    }

    pub(super) fn tell(&self, job: &Job, more: &str) {
        // Of a job that had been done the cloud hears the version that runs, and nothing that takes its success back.
        let Some(offer) = job.offer().filter(|_| !job.was_done) else { return };
        let why = if more.is_empty() { job.state.why() } else { more };
        let words = if why.is_empty() { job.state.word().to_owned() } else { format!("{}: {why}", job.state.word()) };
        let said = Said::Progress { step: job.state.step(job.percent), words: cut(&words) };
        self.ports.ear.say(saying(&offer.product_key, &offer.device_key, &job.id, said));
    }

    /// The end, and then the version that runs: it is what closes a job in the cloud.
    pub(super) fn tell_end(&self, job: &Job) {
        let Some(offer) = job.offer() else { return self.tell_engine(job) };
        self.tell(job, "");
        let version = match &job.state {
            State::Done => Some(offer.version.clone()),
            State::RolledBack { .. } if self.is_gateway(offer) => {
                Some(goes(job).unwrap_or_else(|| crate::version::current().to_owned()))
            }
            State::RolledBack { .. } => job.from.clone(),
            _ => None,
        };
        if let Some(version) = version {
            self.ports.ear.say(saying(&offer.product_key, &offer.device_key, &job.id, Said::Version(version)));
        }
    }

    /// A person brought the engine: the cloud offered nothing, and still has to know what runs.
    pub(super) fn tell_engine(&self, job: &Job) {
        let Some((product_key, device_key)) = &self.ports.gateway else { return };
        let engine = manifest(job).filter(|manifest| job.state == State::Done && manifest.kind.is_engine());
        if let Some(engine) = engine {
            let version = Said::Version(engine.version.to_string());
            self.ports.ear.say(saying(product_key, device_key, &job.id, version));
        }
    }

    /// The cloud knows how a job ended: it is not told again after a restart.
    pub(super) fn heard(&mut self, heard: &[Saying]) {
        let Some(job) = self.job.as_mut().filter(|job| job.state.is_end() && !job.told) else { return };
        let with_version = job.state == State::Done || job.was_done;
        let is_last = |one: &Saying| one.is_last_word() && matches!(one.what, Said::Version(_)) == with_version;
        if heard.iter().any(|one| one.job == job.id && is_last(one)) {
            job.told = true;
            if let Err(error) = self.ports.shelf.save(job) {
                tracing::debug!(%error, "that the cloud knows is not on disk; it will be told again");
            }
            self.show();
        }
    }
}

/// The version that runs next, when this very engine was taken back and runs on for a moment only.
fn goes(job: &Job) -> Option<String> {
    let taken_back = matches!(job.state, State::RolledBack { .. });
    let own =
        |manifest: Manifest| manifest.kind.is_engine() && manifest.version.to_string() == crate::version::current();
    job.from.clone().filter(|_| taken_back && manifest(job).is_some_and(own))
}

pub(super) fn saying(product_key: &str, device_key: &str, job: &str, what: Said) -> Saying {
    Saying { product_key: product_key.to_owned(), device_key: device_key.to_owned(), job: job.to_owned(), what }
}

/// The cloud shows one line.
pub(super) fn cut(words: &str) -> String {
    words.lines().next().unwrap_or_default().chars().take(256).collect()
}
