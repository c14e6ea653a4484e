//! What happens to a package that arrives while the gateway runs: checked, made a generation, applied by difference,
//! watched, and taken back when the readings say so.

use super::boot::Unfit;
use super::publishes::{self, Publishes};
use super::{boot, destinations, extras, field};
use crate::cloud::{CloudSite, CloudUpdate, NoticeQueue, RosterDesk};
use crate::config::Config;
use crate::diagnostic::{self, Diagnostic};
use crate::forward::FeedDesk;
use crate::model::{Accepted, Field, Notice, Notices, Origin, Publish, Refused, RefusedAt, Site, Stage, Timestamp};
use crate::operate::Refusal;
use crate::operate::command::Carrier;
use crate::outbox::Outbox;
use crate::package::generations::{self, Admission, Facts, Generations, Judge, Look, Verdict};
use crate::south::{Applied, South};
use crate::store::RealDisk;
use crate::telemetry::Counters;
use serde_json::{Value as Json, json};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Changed connections finish their request within this.
const FINISH: Duration = Duration::from_secs(5);
/// New devices get so long to be known to the cloud before they are read; what comes earlier waits or is tried again.
const KNOWN: Duration = Duration::from_secs(15);

/// Parts a switch concerns.
pub(super) struct Parts {
    pub config: Config,
    pub south: Arc<South>,
    pub outbox: Arc<Outbox>,
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
    parts: Parts,
    generations: Arc<tokio::sync::Mutex<Generations>>,
    site: RwLock<Arc<Site>>,
    told: Mutex<Told>,
    publishes: Publishes,
}

/// What status shows.
#[derive(Default)]
struct Told {
    generation: u64,
    since: i64,
    watch: Json,
    last_refusal: Option<Json>,
    switched_ms: Option<f64>,
    watcher: Option<AbortHandle>,
}

/// Devices with an answer, by name: good values and all values.
type Health = HashMap<String, (u64, u64)>;

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
    pub fn new(parts: Parts, generations: Generations, site: Arc<Site>) -> Packages {
        let current = generations.current();
        let told = Told {
            generation: current.map_or(0, |facts| facts.generation),
            since: Timestamp::now().0,
            watch: json!("none"),
            ..Told::default()
        };
        let generations = Arc::new(tokio::sync::Mutex::new(generations));
        let folder = parts.config.state_dir.join(generations::FOLDER);
        let publishes = Publishes::new(Arc::new(RealDisk), folder, parts.notices.clone());
        Packages { parts, generations, site: RwLock::new(site), told: Mutex::new(told), publishes }
    }

    /// All parts have this package, from now on; told in the folder of packages.
    pub async fn ready(&self, facts: Option<Facts>) {
        let state_dir = self.parts.config.state_dir.clone();
        let told = tokio::task::spawn_blocking(move || match facts {
            Some(facts) => generations::tell_ready(&RealDisk, &state_dir, &facts),
            None => {
                generations::tell_not_ready(&RealDisk, &state_dir);
                Ok(())
            }
        });
        if let Ok(Err(error)) = told.await {
            tracing::warn!(%error, "that the package is ready could not be told");
        }
    }

    /// The end of a publish that a restart interrupted is told.
    pub async fn resume(&self) {
        let current = self.current().await.map_or(0, |facts| facts.generation);
        self.publishes.resume(current).await;
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
        let task = tokio::spawn(async move { this.installed(from, how, publish).await });
        let done = task.await.unwrap_or(Err(NotInstalled::Broke));
        done.map_err(|why| Refusal::new(why.code(), why.words()))
    }

    async fn installed(self: Arc<Self>, from: PathBuf, how: Admission, publish: Publish) -> Result<Json, NotInstalled> {
        let asked = Instant::now();
        let mut generations = Arc::clone(&self.generations).lock_owned().await;
        let (this, old) = (Arc::clone(&self), self.site());
        let prepared = tokio::task::spawn_blocking(move || {
            let done = boot::install(&mut generations, &this.parts.config, &from, Some(&old), how);
            (generations, done)
        });
        let (generations, done) = prepared.await.map_err(|_| NotInstalled::Broke)?;
        self.publishes.checked(&publish, done.as_ref().err().map_or(&[][..], |unfit| &unfit.faults));
        let (facts, site) = done.map_err(|unfit| self.refused(unfit))?;
        self.publishes.open(&publish, &facts).await;
        let before = self.health();
        let prepared = milliseconds(asked);
        let (applied, took) = self.switch(&site, &facts).await;
        self.tell("packageInstalled", &facts, "");
        self.publishes.step(Stage::Switched, "", &switched(&applied, took));
        if self.watch(&generations, before, &applied) {
            let window = self.parts.config.package_watch.window.as_secs();
            self.publishes.step(Stage::Watching, "", &[("window_s", json!(window))]);
        } else {
            self.publishes
                .end(Stage::Kept, "nobody watches: package_watch is off, or there is nothing to go back to", &[])
                .await;
        }
        Ok(json!({ "package": facts, "applied": shown(&applied), "prepared_ms": prepared, "switched_ms": took }))
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
        let broken = publish.clone();
        let task = tokio::spawn(async move { this.installed(from, how, publish).await });
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
        self.told().last_refusal = Some(json!({ "at": Timestamp::now().0, "why": words }));
        NotInstalled::Faults(at, faults)
    }

    /// Goes back to an older generation, because somebody says so.
    pub async fn roll_back(self: &Arc<Self>, to: Option<u64>) -> Result<Json, Refusal> {
        let this = Arc::clone(self);
        let task = tokio::spawn(async move {
            this.stop_watching();
            let generations = Arc::clone(&this.generations).lock_owned().await;
            this.back(generations, to, false, "asked for", Vec::new()).await
        });
        task.await.unwrap_or_else(|_| Err(Refusal::new("failed", "going back failed in the middle")))
    }

    async fn back(
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
            generations.go_back(&target, reject, &words).map_err(|error| error.to_string())?;
            Ok::<_, String>((generations, Arc::new(site)))
        });
        let (_generations, site) = prepared
            .await
            .map_err(|_| Refusal::new("failed", "the package broke its reader"))?
            .map_err(|why| Refusal::new("failed", format!("generation {} can not run: {why}", facts.generation)))?;
        let before = milliseconds(asked);
        let (applied, took) = self.switch(&site, &facts).await;
        self.told().watch = json!({ "state": "rolled_back", "why": why });
        self.tell("packageRolledBack", &facts, why);
        let back_to = [&evidence[..], &[("back_to", json!(facts.generation))]].concat();
        self.publishes.end(Stage::RolledBack, why, &back_to).await;
        Ok(json!({ "package": facts, "applied": shown(&applied), "prepared_ms": before, "switched_ms": took }))
    }

    /// Every part goes on with this package. Names come first, so that no reading is without.
    async fn switch(&self, site: &Arc<Site>, facts: &Facts) -> (Applied, f64) {
        let (began, parts) = (Instant::now(), &self.parts);
        let epoch = site.names.epoch;
        if let Some(name) = site.named() {
            // Only a gateway that waited for a package has none yet.
            parts.site_name.get_or_init(|| name);
        }
        parts.outbox.use_names(Arc::clone(&site.names));
        if let Some(rosters) = &parts.rosters {
            rosters.put(CloudUpdate {
                site: CloudSite { names: Arc::clone(&site.names), credentials: site.credentials.clone() },
                field: Some(Arc::new(FieldOf { south: Arc::clone(&parts.south), epoch })),
                models: extras::models(site),
                details: site.details.clone(),
            });
            // Only new devices need it; the others go on being read meanwhile.
            if parts.counters.cloud_connected.get() > 0 && !rosters.ready(epoch, KNOWN).await {
                tracing::info!("the cloud does not know all devices of the new package yet");
            }
        }
        let applied = parts.south.apply(site, FINISH).await;
        parts.carrier.use_site(site, Arc::new(field::Wired(parts.south.now())));
        parts.feed.put(destinations::feed(site));
        *self.site.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(site);
        let took = milliseconds(began);
        {
            let mut told = self.told();
            (told.generation, told.since, told.switched_ms) = (facts.generation, Timestamp::now().0, Some(took));
        }
        self.ready(Some(facts.clone())).await;
        tracing::info!(
            package = %facts.name, version = %facts.version, generation = facts.generation, took_ms = took,
            kept = applied.kept.len(), started = applied.started.len(), stopped = applied.stopped.len(),
            "another package runs"
        );
        (applied, took)
    }

    fn health(&self) -> Health {
        let mut health = Health::new();
        self.parts.south.now().health(&mut |_, device, good, all| {
            health.insert(device.to_owned(), (good, all));
        });
        health
    }

    /// The devices that were there before as well.
    fn look(&self, before: &Health, kept: &HashSet<String>) -> (Look, Look) {
        let (mut then, mut now) = (Look::default(), Look::default());
        self.parts.south.now().health(&mut |connection, device, good, all| {
            let Some((good_before, all_before)) = before.get(device) else { return };
            let pair = if kept.contains(connection) {
                (&mut then.unchanged, &mut now.unchanged)
            } else {
                (&mut then.changed, &mut now.changed)
            };
            pair.0.add(*good_before, *all_before);
            pair.1.add(good, all);
        });
        let (accepted, refused) = (self.parts.counters.acknowledged.get(), self.parts.counters.set_aside.get());
        now.accepted.add(accepted, accepted + refused);
        then.accepted = now.accepted;
        (then, now)
    }

    /// Looks at the readings for a while; in a task of its own, one at a time. False when nobody does.
    fn watch(self: &Arc<Self>, generations: &Generations, before: Health, applied: &Applied) -> bool {
        self.stop_watching();
        let config = self.parts.config.package_watch.clone();
        let Some(facts) = generations.current().cloned().filter(|_| !config.window.is_zero()) else { return false };
        if generations.before(None).is_err() {
            return false;
        }
        let kept: HashSet<String> = applied.kept.iter().cloned().collect();
        let this = Arc::clone(self);
        let mut told = self.told();
        told.watch = json!({ "state": "watching", "until": Timestamp::now().0 + config.window.as_millis() as i64 });
        let task = tokio::spawn(async move { this.judge(config, facts, before, kept).await });
        told.watcher = Some(task.abort_handle());
        true
    }

    async fn judge(
        self: Arc<Self>,
        config: crate::config::PackageWatchConfig,
        facts: Facts,
        before: Health,
        kept: HashSet<String>,
    ) {
        let (then, began) = (self.look(&before, &kept).0, Instant::now());
        let mut judge = Judge::new(config.clone(), then);
        let mut ticks = tokio::time::interval(Judge::period(&config));
        let (why, evidence) = loop {
            ticks.tick().await;
            let mut now = self.look(&before, &kept).1;
            // What was answered since the switch.
            now.accepted.good = now.accepted.good.saturating_sub(then.accepted.good);
            now.accepted.all = now.accepted.all.saturating_sub(then.accepted.all);
            match judge.look(began.elapsed(), &now) {
                Verdict::Watching => {}
                Verdict::Kept => {
                    self.told().watch = json!({ "state": "kept" });
                    let (words, fields) = publishes::evidence(&then, &now);
                    self.publishes.end(Stage::Kept, &words, &fields).await;
                    self.generations.lock().await.note("kept", &facts, words);
                    return;
                }
                Verdict::Back(why) => break (why, publishes::evidence(&then, &now).1),
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

    fn stop_watching(&self) {
        if let Some(watcher) = self.told().watcher.take() {
            watcher.abort();
        }
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
        notices.tell(Notice { event: event.to_owned(), fields, at: Timestamp::now() });
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        // Each change is whole.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
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
