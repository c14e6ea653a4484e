//! What happens to a package that arrives while the gateway runs: checked, made a generation, applied by difference,
//! watched, and taken back when the readings say so.

use super::boot::Unfit;
use super::publishes::Publishes;
use super::{boot, destinations, extras, field};
use crate::cloud::{CloudSite, CloudUpdate, NoticeQueue, RosterDesk};
use crate::config::Config;
use crate::diagnostic::{self, Diagnostic};
use crate::forward::FeedDesk;
use crate::model::progress::{Progress, Unit};
use crate::model::{Accepted, Field, Notice, Notices, Origin, Publish, Refused, RefusedAt, Site, Stage, Timestamp};
use crate::operate::Refusal;
use crate::operate::command::Carrier;
use crate::outbox::Outbox;
use crate::package::generations::{self, Admission, Facts, Generations, Watch};
use crate::south::{Applied, South};
use crate::store::RealDisk;
use crate::telemetry::Counters;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Changed connections finish their request within this.
const FINISH: Duration = Duration::from_secs(5);
/// Local applications wait for the word that a full disk did not take.
const READY_AGAIN: Duration = Duration::from_secs(5);
/// New devices get so long to be known to the cloud before they are read; what comes earlier waits or is tried again.
const KNOWN: Duration = Duration::from_secs(15);

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

/// What status shows.
#[derive(Default)]
pub(super) struct Told {
    generation: u64,
    since: i64,
    pub(super) watch: Json,
    last_refusal: Option<Json>,
    switched_ms: Option<f64>,
    pub(super) watcher: Option<AbortHandle>,
    /// What the one that runs is held against, until it has proved itself.
    pub(super) judged: Option<Arc<Watch>>,
    /// How far the package is that arrives.
    installing: Option<Progress>,
    /// A full disk did not take that the package is ready; whoever tries again.
    readier: Option<AbortHandle>,
}

fn refusal(words: &str) -> Json {
    json!({ "at": Timestamp::now().0, "why": words })
}

/// Shown for as long as it lives.
struct Installing(Arc<Packages>);

impl Installing {
    fn begin(packages: &Arc<Packages>, progress: &Progress) -> Installing {
        packages.told().installing = Some(progress.clone());
        Installing(Arc::clone(packages))
    }
}

impl Drop for Installing {
    fn drop(&mut self) {
        self.0.told().installing = None;
    }
}

impl Told {
    /// It has proved itself: whatever comes next is held against it.
    pub(super) fn kept(&mut self) {
        (self.watch, self.judged) = (json!({ "state": "kept" }), None);
    }
}

/// Only while its numbers are those in use.
pub(super) struct FieldOf {
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

/// Why a package does not run.
enum NotInstalled {
    Faults(RefusedAt, Vec<Diagnostic>),
    Broke,
}

impl NotInstalled {
    fn code(&self) -> &'static str {
        match self {
            NotInstalled::Faults(..) => "refused",
            NotInstalled::Broke => "failed",
        }
    }

    fn words(&self) -> String {
        match self {
            NotInstalled::Faults(_, faults) => diagnostic::joined(faults),
            NotInstalled::Broke => "the installation failed in the middle".to_owned(),
        }
    }
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

    /// Its number; 0 before there is any.
    pub fn generation(&self) -> u64 {
        self.told().generation
    }

    /// No package came yet.
    pub fn is_awaited(&self) -> bool {
        self.site.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What keeps the gateway from having a package, in one line.
    pub fn missing(&self) -> Option<String> {
        let told = self.told();
        let why = told.last_refusal.as_ref()?["why"].as_str()?;
        // The first line says which package, the next what is wrong with it.
        Some(why.lines().take(2).collect::<Vec<_>>().join(" "))
    }

    pub fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.read().unwrap_or_else(PoisonError::into_inner))
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

    /// Installs a package. Runs to its end even if whoever asked has gone.
    pub async fn install(self: &Arc<Self>, from: PathBuf, force: bool) -> Result<Json, Refusal> {
        let this = Arc::clone(self);
        let publish = Publish::new(None, "local", Timestamp::now());
        self.publishes.tell(&publish, Stage::Begun, &from.display().to_string(), &[]);
        let how = Admission { force, explicit: false };
        let task = tokio::spawn(async move {
            let shown = from.display().to_string();
            this.installed(from, shown, how, publish).await
        });
        let done = task.await.unwrap_or(Err(NotInstalled::Broke));
        done.map_err(|why| Refusal::new(why.code(), why.words()))
    }

    async fn installed(
        self: Arc<Self>,
        from: PathBuf,
        told_from: String,
        how: Admission,
        publish: Publish,
    ) -> Result<Json, NotInstalled> {
        let asked = Instant::now();
        let mut generations = Arc::clone(&self.generations).lock_owned().await;
        let (this, old) = (Arc::clone(&self), self.site());
        let progress = Progress::seen();
        let _shown = Installing::begin(&self, &progress);
        let seen = progress.clone();
        let prepared = tokio::task::spawn_blocking(move || {
            let foresee = |new: &Site| this.foresee(&old, new);
            let done = boot::install(
                &mut generations,
                &this.parts.config,
                &from,
                &told_from,
                Some(&old),
                how,
                &foresee,
                &seen,
            );
            (generations, done)
        });
        let (generations, done) = prepared.await.map_err(|_| NotInstalled::Broke)?;
        self.publishes.checked(&publish, done.as_ref().err().map_or(&[][..], |unfit| &unfit.faults));
        let (facts, site) = done.map_err(|unfit| self.refused(unfit))?;
        self.publishes.open(&publish, &facts).await;
        let prepared = milliseconds(asked);
        progress.step("switching", 0, Unit::Things);
        let (applied, took) = self.switch(&site, &facts, None).await;
        self.tell("packageInstalled", &facts, "");
        self.publishes.step(Stage::Switched, "", &switched(&applied, took));
        let watched = self.watch(&generations, self.parts.config.package_watch.window);
        if watched {
            let window = self.parts.config.package_watch.window.as_secs();
            self.publishes.step(Stage::Watching, "", &[("window_s", json!(window))]);
        } else {
            self.publishes
                .end(Stage::Kept, "nobody watches: package_watch is off, or there is nothing to go back to", &[])
                .await;
        }
        Ok(json!({ "package": facts, "applied": shown(&applied), "prepared_ms": prepared, "switched_ms": took,
            "watch_s": watched.then(|| self.parts.config.package_watch.window.as_secs()) }))
    }

    /// A package that came by one of the ways in. A fault of the package does not pass by itself. Goes on to its end
    /// when nobody waits any more.
    pub async fn take_over(self: &Arc<Self>, from: PathBuf, origin: Origin) -> Result<Accepted, Refused> {
        let this = Arc::clone(self);
        let publish = origin.publish.clone();
        if let Some(current) = self.current().await.filter(|current| current.sha256 == origin.sha256) {
            let words = format!("runs already as generation {}", current.generation);
            self.publishes.tell(&publish, Stage::Unchanged, &words, &[]);
            return Ok(Accepted { package: format!("{} {}", current.name, current.version), outcome: words });
        }
        if let Err(faults) = boot::is_version(&self.parts.config, &from, origin.version.as_deref()).await {
            self.publishes.checked(&publish, &faults);
            self.refused(Unfit { at: RefusedAt::Check, faults: faults.clone() });
            let reason = "the package was refused".to_owned();
            return Err(Refused { reason, at: RefusedAt::Check, faults, passing: false });
        }
        let how = Admission { force: false, explicit: false };
        let (broken, shown) = (publish.clone(), format!("{}: {}", origin.source, origin.address));
        let task = tokio::spawn(async move { this.installed(from, shown, how, publish).await });
        match task.await {
            Ok(Ok(done)) => Ok(Accepted {
                package: format!(
                    "{} {}",
                    done["package"]["name"].as_str().unwrap_or_default(),
                    done["package"]["version"].as_str().unwrap_or_default()
                ),
                outcome: format!("runs as generation {}", done["package"]["generation"]),
            }),
            Ok(Err(NotInstalled::Faults(at, faults))) => Err(Refused {
                reason: "the package was refused".to_owned(),
                at,
                faults,
                passing: at == RefusedAt::Switch,
            }),
            Ok(Err(NotInstalled::Broke)) | Err(_) => {
                self.publishes.tell(&broken, Stage::Failed, &NotInstalled::Broke.words(), &[]);
                Err(Refused {
                    reason: NotInstalled::Broke.words(),
                    at: RefusedAt::Switch,
                    faults: Vec::new(),
                    passing: true,
                })
            }
        }
    }

    fn refused(&self, unfit: Unfit) -> NotInstalled {
        let Unfit { at, faults } = unfit;
        let words = diagnostic::joined(&faults);
        tracing::warn!("a package was refused; what runs goes on:\n{words}");
        self.told().last_refusal = Some(refusal(&words));
        NotInstalled::Faults(at, faults)
    }

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

    pub(super) async fn back(
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

    /// Every part goes on with this package. Names come first, so that no reading is without. Whatever takes time with many
    /// devices is done beside the thread that reads them.
    async fn switch(self: &Arc<Self>, site: &Arc<Site>, facts: &Facts, watch: Option<Json>) -> (Applied, f64) {
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

    /// What status shows of the package, all at once.
    fn tell_status(&self, site: &Arc<Site>, facts: &Facts, took: f64, watch: Option<Json>) {
        let mut told = self.told();
        (told.generation, told.since, told.switched_ms) = (facts.generation, Timestamp::now().0, Some(took));
        told.watch = watch.unwrap_or(told.watch.take());
        let mut shown = self.site.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *shown, Arc::clone(site));
        // Giving back what is known of many devices takes its time; nobody waits for it.
        drop(tokio::task::spawn_blocking(move || drop(before)));
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

    pub(super) fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        // Each change is whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
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

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// What the cloud is told of a switch.
fn switched(applied: &Applied, took: f64) -> [(&'static str, Json); 4] {
    [
        ("kept", json!(applied.kept.len())),
        ("started", json!(applied.started.len())),
        ("stopped", json!(applied.stopped.len())),
        ("took_ms", json!(took.round())),
    ]
}

fn shown(applied: &Applied) -> Json {
    json!({
        "kept": applied.kept.len(),
        "started": applied.started,
        "stopped": applied.stopped,
        "cut_off": applied.cut_off,
    })
}
