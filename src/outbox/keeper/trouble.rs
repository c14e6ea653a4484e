//! What the store thread does when the disk fails, the file is damaged or gone, and when it is well again.

use super::{Keeper, chain};
use crate::model::Timestamp;
use crate::outbox::gap::Gap;
use crate::outbox::quota::Quota;
use crate::outbox::store::StoreError;
use crate::outbox::{salvage, start};
use std::time::{Duration, Instant};

/// What can be read of a damaged file is carried over for at most so long; the watchdog has to know.
const SALVAGE: Duration = Duration::from_secs(600);
/// A drop, a full disk: said once in this time.
const EPISODE: Duration = Duration::from_secs(60);

impl Keeper {
    pub(super) fn trouble(&mut self, e: &StoreError) {
        // What a connection that was let go answers tells nothing of the disk.
        let mut text = self.store.is_open().then(|| chain(e));
        if let Some(text) = &text
            && self.told.is_none_or(|told| told.elapsed() > EPISODE)
        {
            tracing::error!(error = %text, "outbox can not write; readings stay in memory until it can");
            self.told = Some(Instant::now());
        }
        match e {
            StoreError::Damaged(problem) => self.replace(problem.clone()),
            StoreError::Full(_) => {}
            // Also what a connection answers that could not be opened again last time.
            _ => match self.open_again() {
                Ok(()) => {}
                Err(StoreError::Damaged(problem)) => self.replace(problem),
                Err(e) => {
                    tracing::debug!(error = %chain(&e), "outbox can not be opened again yet");
                    text = Some(chain(&e));
                }
            },
        }
        if text.is_some() {
            self.shared.set_trouble(text);
        }
    }

    fn replace(&mut self, problem: String) {
        let targets = self.store.targets().to_vec();
        self.duty.pulse().back_by(Instant::now() + SALVAGE);
        if let Err(e) = self.store.let_go() {
            return tracing::debug!(error = %chain(&e), "damaged outbox can not be let go yet");
        }
        match salvage::replace(self.store.path(), self.space, problem, Timestamp::now(), false) {
            Ok((store, quarantine)) => {
                tracing::error!(file = %quarantine.file.display(), problem = %quarantine.problem, segments = quarantine.segments_saved,
                    "outbox file was damaged and set aside; what could be read was carried over");
                self.store = store;
                self.shared.set_quarantine(quarantine);
                let known = self.shared.lock().known_names();
                if let Err(e) = self.store.restore_names(&known) {
                    tracing::debug!(error = %chain(&e), "names can not be written to the carried-over outbox");
                }
                match self.begun_without {
                    Some(_) => drop(self.join()),
                    None => self.reconcile(&targets),
                }
            }
            Err(e) => tracing::debug!(error = %chain(&e), "damaged outbox can not be replaced yet"),
        }
    }

    /// After rows were lost while running: what waits is what is on disk and in memory.
    fn reconcile(&mut self, targets: &[i64]) {
        let done = self.shared.lock().done();
        self.quotas.iter_mut().for_each(Quota::forget);
        match start::adopt(&mut self.store, &self.destinations, &mut self.judge, targets, &done) {
            Ok((each, all)) => {
                let held = self.store.all_held(&self.store.names_of());
                let (found, now) = (Timestamp::now(), Instant::now());
                let mut tail = self.shared.lock();
                tail.reconcile(&each, all, found, now);
                if let Ok(rows) = held {
                    tail.reconcile_held(&rows, found, now);
                }
            }
            Err(e) => tracing::debug!(error = %chain(&e), "carried-over outbox can not be read yet"),
        }
    }

    /// Somebody deleted the file under us. Writes go on into nothing: only a person can tell what that was for.
    pub(super) fn gone(&mut self) {
        let file = self.store.path().display().to_string();
        if self.told.is_none_or(|told| told.elapsed() > EPISODE) {
            tracing::error!(file, "the outbox file was deleted; what waits is lost when the gateway stops");
            self.told = Some(Instant::now());
        }
        self.shared.set_trouble(Some(format!("{file} was deleted; what waits is lost when the gateway stops")));
    }

    pub(super) fn recovered(&mut self) {
        if self.shared.set_trouble(None) {
            tracing::info!("outbox writes again");
            self.told = None;
        }
    }

    pub(super) fn say_drops(&mut self, gaps: &[Gap]) {
        let Some(gap) = gaps.first() else { return };
        if self.shared.is_new_episode(gap.reason, EPISODE) {
            let readings: u64 = gaps.iter().map(|g| g.readings).sum();
            tracing::error!(reason = gap.reason.as_str(), destination = %gap.destination, readings, from = gap.from, to = gap.to,
                "outbox dropped its oldest readings; the gap is recorded");
        }
    }
}
