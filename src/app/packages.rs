//! What happens to a package that arrives while the gateway runs: checked, made a generation, applied by difference,
//! watched, and taken back when the readings say so.

mod arriving;
mod back;
mod switch;
mod told;

pub(super) use switch::FieldOf;

use super::publishes::Publishes;
use crate::cloud::{NoticeQueue, RosterDesk};
use crate::config::Config;
use crate::forward::FeedDesk;
use crate::model::{Notice, Notices, Site, Timestamp};
use crate::operate::command::Carrier;
use crate::outbox::Outbox;
use crate::package::generations::{self, Facts, Generations};
use crate::south::South;
use crate::store::RealDisk;
use crate::telemetry::Counters;
use serde_json::json;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use told::{Told, refusal};

/// Parts a switch concerns.
pub(super) struct Parts {
    pub config: Config,
    pub south: Arc<South>,
    pub outbox: Arc<Outbox>,
    pub events: Arc<super::events::Events>,
    pub carrier: Carrier,
    pub feed: Arc<FeedDesk>,
    /// What brokers know the site by.
    pub site_name: Arc<OnceLock<String>>,
    pub rosters: Option<Arc<RosterDesk>>,
    pub notices: Option<Arc<NoticeQueue>>,
    pub counters: Arc<Counters>,
}

/// The packages of the running gateway. One switch at a time.
pub(super) struct Packages {
    pub(super) parts: Parts,
    pub(super) generations: Arc<tokio::sync::Mutex<Generations>>,
    site: RwLock<Arc<Site>>,
    told: Mutex<Told>,
    pub(super) publishes: Publishes,
}

impl Packages {
    /// `waits`: why there is no package although there should be one.
    pub fn new(parts: Parts, generations: Generations, site: Arc<Site>, waits: Option<&str>) -> Packages {
        let current = generations.current();
        let told = Told {
            generation: current.map_or(0, |facts| facts.generation),
            since: Timestamp::now().0,
            watch: json!("none"),
            last_refusal: waits.map(refusal),
            ..Told::default()
        };
        let generations = Arc::new(tokio::sync::Mutex::new(generations));
        let folder = parts.config.state_dir.join(generations::FOLDER);
        let publishes = Publishes::new(Arc::new(RealDisk), folder, parts.notices.clone());
        Packages { parts, generations, site: RwLock::new(site), told: Mutex::new(told), publishes }
    }

    pub fn south(&self) -> Arc<South> {
        Arc::clone(&self.parts.south)
    }

    /// The end of a publish that a restart interrupted is told, unless its watch goes on: then it ends with that.
    pub async fn resume(&self) {
        let current = self.current().await.map_or(0, |facts| facts.generation);
        if self.told().watcher.is_none() {
            self.publishes.resume(current).await;
        }
    }

    /// The generation that runs.
    pub async fn current(&self) -> Option<Facts> {
        self.generations.lock().await.current().cloned()
    }

    /// No package came yet.
    pub fn is_awaited(&self) -> bool {
        self.site.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when what the cloud was to be told is on disk.
    pub async fn flush(&self) {
        if let Some(notices) = &self.parts.notices {
            notices.flush().await;
        }
    }

    /// The gateway stops: nothing is judged any more.
    pub fn stop(&self) {
        self.stop_watching();
    }

    fn tell(&self, event: &str, facts: &Facts, why: &str) {
        let Some(notices) = &self.parts.notices else { return };
        let fields = [
            ("name", json!(facts.name)),
            ("version", json!(facts.version)),
            ("generation", json!(facts.generation)),
            ("reason", json!(why)),
        ];
        let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        notices.tell(Notice { event: event.to_owned(), fields, at: Timestamp::now(), device: None });
    }
}
