//! The task that carries a job from step to step: writes each down before it is acted on, takes offers and wishes
//! meanwhile, and tells the cloud.

use super::carry::perform;
use super::job::{self, Event, Job, Origin, State, Verdict};
use super::shelf::{Shelf, Versions};
use super::{Activation, Failure, Kind, Manifest, Target, pull, source};
use crate::config::{Pull, UpdateConfig};
use crate::model::cloud_ask::{CloudAsk, Wish};
use crate::model::command::{Data, code};
use crate::model::identity::Identity;
use crate::model::update::{Ear, Offer, Offers, Said, Saying};
use crate::model::{Outcome, Timestamp};
use crate::package::trust::PublicKey;
use driver::Answer;
use serde_json::{Value as Json, json};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// People and clouds ask one thing at a time; a further one is refused as busy.
const WAITING: usize = 8;
/// Progress is told when it is this much further: messages cost money.
const STRIDE: u8 = 5;
/// A state that can not be written down is tried again after this.
const DISK_AGAIN: Duration = Duration::from_secs(30);
/// The cloud is asked again so soon when the link is not there yet.
const PULL_AGAIN: Duration = Duration::from_secs(30);

/// What updates stand on.
pub struct Ports {
    pub config: UpdateConfig,
    pub shelf: Shelf,
    /// Whose updates are taken, or why none is.
    pub keys: Result<Vec<PublicKey>, String>,
    pub ear: Arc<dyn Ear>,
    pub around: Arc<dyn Around>,
    /// Product key and device key of the gateway.
    pub gateway: Option<(String, String)>,
    pub identity: Option<Arc<dyn Identity>>,
    pub ask: Option<Arc<dyn CloudAsk>>,
}

/// The rest of the gateway.
pub trait Around: Send + Sync {
    /// What takes such an update.
    ///
    /// # Errors
    /// When nothing here does.
    fn target(&self, kind: &Kind) -> Result<Arc<dyn Target>, Failure>;
    /// Name of a sub-device.
    fn device(&self, product_key: &str, device_key: &str) -> Option<String>;
    /// Stops the engine in order, for whoever starts it again. Never blocks.
    fn restart(&self);
}

/// What people ask.
enum Wanted {
    Offer(Box<Offer>, bool),
    Install { file: PathBuf, now: bool },
    Cancel,
    RollBack,
}

struct Request {
    wanted: Wanted,
    answer: oneshot::Sender<Result<Json, Refused>>,
}

/// Why something is not done: a code for programs, words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: &'static str,
    pub words: String,
}

/// The way to the task.
#[derive(Clone)]
pub struct Updates {
    requests: mpsc::Sender<Request>,
    shown: Arc<Mutex<Json>>,
    shelf: Shelf,
}

type Doing = Pin<Box<dyn Future<Output = Event> + Send>>;
type Pulling = Pin<Box<dyn Future<Output = Result<Json, String>> + Send>>;

struct Runner {
    ports: Arc<Ports>,
    job: Option<Job>,
    versions: Versions,
    shown: Arc<Mutex<Json>>,
    doing: Option<(Doing, watch::Receiver<(u8, String)>)>,
    /// Of the step that is under way.
    words: String,
    pulling: Option<Pulling>,
    pull_at: Option<Instant>,
}

/// Starts the task; it ends after `stopped`. What it told before a restart is told again.
#[must_use]
pub fn start(ports: Ports, mut stopped: watch::Receiver<bool>) -> (Updates, tokio::task::JoinHandle<()>) {
    // A full queue refuses: whoever asked asks again.
    let (requests, mut incoming) = mpsc::channel(WAITING);
    let shown = Arc::new(Mutex::new(Json::Null));
    let updates = Updates { requests, shown: Arc::clone(&shown), shelf: ports.shelf.clone() };
    let mut runner = Runner::open(Arc::new(ports), shown);
    let task = tokio::spawn(async move {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = runner.run(&mut incoming) => {}
        }
    });
    (updates, task)
}

impl Updates {
    /// Takes an update file of this machine.
    ///
    /// # Errors
    /// Why not.
    pub async fn install(&self, file: PathBuf, now: bool) -> Result<Json, Refused> {
        self.ask(Wanted::Install { file, now }).await
    }

    /// # Errors
    /// When there is nothing that can be cancelled.
    pub async fn cancel(&self) -> Result<Json, Refused> {
        self.ask(Wanted::Cancel).await
    }

    /// Brings back what ran before the last update.
    ///
    /// # Errors
    /// When there is nothing to go back to.
    pub async fn roll_back(&self) -> Result<Json, Refused> {
        self.ask(Wanted::RollBack).await
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Json {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How earlier jobs ended, the oldest first.
    #[must_use]
    pub fn history(&self) -> Json {
        json!(self.shelf.history().unwrap_or_default())
    }

    async fn ask(&self, wanted: Wanted) -> Result<Json, Refused> {
        let refused = |code, words: &str| Refused { code, words: words.to_owned() };
        let (answer, told) = oneshot::channel();
        self.requests
            .try_send(Request { wanted, answer })
            .map_err(|_| refused("busy", "too many ask at once, or the gateway stops"))?;
        told.await.unwrap_or_else(|_| Err(refused("stopped", "the gateway stops")))
    }
}

impl Offers for Updates {
    fn offered(&self, offer: Offer, gateway: bool) -> Answer<'static, Outcome> {
        let this = self.clone();
        Box::pin(async move {
            match this.ask(Wanted::Offer(Box::new(offer), gateway)).await {
                Ok(_) => Outcome::done(Data::Json(json!({}))),
                Err(refused) => {
                    let code = if refused.code == "busy" { code::BUSY } else { code::UPDATE_REFUSED };
                    Outcome::refused(code, refused.words)
                }
            }
        })
    }
}

fn now() -> i64 {
    Timestamp::now().0
}

impl Runner {
    /// A disk that does not give the job keeps no gateway from starting.
    fn open(ports: Arc<Ports>, shown: Arc<Mutex<Json>>) -> Runner {
        let unread = |error: &std::io::Error| tracing::error!(%error, "what is known of updates can not be read");
        let versions = ports.shelf.versions().inspect_err(unread).unwrap_or_default();
        let job = ports.shelf.load().inspect_err(unread).unwrap_or_default();
        let job = job.map(|job| if job.state.is_end() { job } else { job.found(now()) });
        let pull_at = (ports.config.pull != Pull::Off && ports.ask.is_some()).then(Instant::now);
        let words = String::new();
        let mut runner = Runner { ports, job, versions, shown, doing: None, words, pulling: None, pull_at };
        runner.begin();
        runner
    }

    /// What a restart interrupted is written down and told again.
    fn begin(&mut self) {
        self.ports.shelf.tidy_up(self.job.as_ref());
        for (whose, version) in &self.versions {
            if let Some((product_key, device_key)) = whose.split_once('/') {
                self.ports.ear.say(saying(product_key, device_key, "", Said::Version(version.clone())));
            }
        }
        let Some(job) = self.job.clone() else { return self.show() };
        if let Err(error) = self.ports.shelf.save(&job) {
            tracing::error!(%error, "the update job can not be written down");
        }
        if job.state.is_end() {
            self.record(&job);
            if !job.told {
                self.tell_end(&job);
            }
        } else {
            tracing::info!(job = %job.id, state = job.state.word(), "an update goes on");
            self.call_oneself(&job);
            self.tell(&job, "the gateway was restarted");
        }
        self.show();
    }

    async fn run(&mut self, incoming: &mut mpsc::Receiver<Request>) {
        loop {
            self.take_up();
            let ear = Arc::clone(&self.ports.ear);
            let pull_at = self.pull_at.filter(|_| self.pulling.is_none());
            tokio::select! {
                biased;
                request = incoming.recv() => match request {
                    Some(request) => self.hear(request).await,
                    None => return,
                },
                heard = ear.heard() => self.heard(&heard),
                event = news(&mut self.doing) => match event {
                    Some(event) => self.step(event).await,
                    None => self.further(),
                },
                data = pulled(&mut self.pulling) => self.pulled(data),
                () = at(pull_at) => self.pull(),
            }
        }
    }

    /// Begins what the job's state says, if it is not under way.
    fn take_up(&mut self) {
        let Some(job) = self.job.as_ref().filter(|job| !job.state.is_end() && self.doing.is_none()) else { return };
        // Only the newest counts.
        let (told, news) = watch::channel((job.percent, String::new()));
        let doing = perform(Arc::clone(&self.ports), job.clone(), told);
        self.doing = Some((Box::pin(doing), news));
        self.words.clear();
    }

    async fn step(&mut self, event: Event) {
        self.doing = None;
        let Some(job) = &self.job else { return };
        tracing::debug!(job = %job.id, state = job.state.word(), ?event, "update");
        let restart =
            matches!(event, Event::Activated(Activation::RestartEngine) | Event::Back(Activation::RestartEngine));
        let Some(after) = job.after(event, now()) else {
            // Nothing follows from it here; the step is asked again, and not in a circle without rest.
            sleep(Duration::from_secs(1)).await;
            return;
        };
        if !self.commit(after).await {
            return;
        }
        if restart {
            tracing::info!("the engine stops for another one");
            self.ports.around.restart();
        }
    }

    /// On disk first, then it is so.
    async fn commit(&mut self, job: Job) -> bool {
        if let Err(error) = self.ports.shelf.save(&job) {
            tracing::error!(%error, state = job.state.word(), "an update can not be written down; the step is done again");
            sleep(DISK_AGAIN).await;
            return false;
        }
        self.doing = None;
        let end = job.state.is_end();
        tracing::info!(job = %job.id, state = job.state.word(), why = job.state.why(), percent = job.percent, "update");
        self.job = Some(job.clone());
        self.call_oneself(&job);
        if end {
            self.finish(&job);
        } else {
            self.tell(&job, "");
        }
        self.show();
        true
    }

    fn finish(&mut self, job: &Job) {
        self.record(job);
        self.ports.shelf.tidy_up(None);
        if job.state == State::Done
            && let Some(offer) = job.offer()
            && !self.is_gateway(offer)
        {
            self.versions.insert(format!("{}/{}", offer.product_key, offer.device_key), offer.version.clone());
            if let Err(error) = self.ports.shelf.save_versions(&self.versions) {
                tracing::warn!(%error, "the version of a device is not on disk and will not be told after a restart");
            }
        }
        self.tell_end(job);
    }

    fn record(&self, job: &Job) {
        let done = match self.ports.shelf.is_recorded(job) {
            Ok(true) => Ok(()),
            _ => self.ports.shelf.record(job),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "how an update ended is not in the history");
        }
    }

    fn is_gateway(&self, offer: &Offer) -> bool {
        self.ports.gateway.as_ref().is_some_and(|(p, d)| (p, d) == (&offer.product_key, &offer.device_key))
    }

    /// While an engine is on trial the cloud is told the version that is proven: told success is never undone.
    fn call_oneself(&self, job: &Job) {
        let trying = matches!(
            job.state,
            State::Activating | State::OnTrial { .. } | State::Confirming | State::RollingBack { .. }
        );
        let engine = manifest(job).is_some_and(|manifest| manifest.kind.is_engine());
        let before = if trying && engine { job.from.clone() } else { goes(job) };
        self.ports.ear.call_oneself(before);
    }

    fn tell(&self, job: &Job, more: &str) {
        // Of a job that had been done the cloud hears the version that runs, and nothing that takes its success back.
        let Some(offer) = job.offer().filter(|_| !job.was_done) else { return };
        let why = if more.is_empty() { job.state.why() } else { more };
        let words = if why.is_empty() { job.state.word().to_owned() } else { format!("{}: {why}", job.state.word()) };
        let said = Said::Progress { step: job.state.step(job.percent), words: cut(&words) };
        self.ports.ear.say(saying(&offer.product_key, &offer.device_key, &job.id, said));
    }

    /// The end, and then the version that runs: it is what closes a job in the cloud.
    fn tell_end(&self, job: &Job) {
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
    fn tell_engine(&self, job: &Job) {
        let Some((product_key, device_key)) = &self.ports.gateway else { return };
        let engine = manifest(job).filter(|manifest| job.state == State::Done && manifest.kind.is_engine());
        if let Some(engine) = engine {
            let version = Said::Version(engine.version.to_string());
            self.ports.ear.say(saying(product_key, device_key, &job.id, version));
        }
    }

    /// The cloud knows how a job ended: it is not told again after a restart.
    fn heard(&mut self, heard: &[Saying]) {
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

    /// A step is further.
    fn further(&mut self) {
        let Some((_, news)) = &mut self.doing else { return };
        let (percent, words) = news.borrow_and_update().clone();
        self.words = words;
        if let Some(job) = self.job.as_mut()
            && percent >= job.percent.saturating_add(STRIDE)
        {
            job.percent = percent;
            // Best effort: after a restart it may be told once more.
            let _ = self.ports.shelf.save(job);
            let job = job.clone();
            self.tell(&job, &self.words.clone());
        }
        self.show();
    }

    async fn hear(&mut self, request: Request) {
        let answer = match request.wanted {
            Wanted::Offer(offer, gateway) => self.offered(*offer, gateway),
            Wanted::Install { file, now } => self.install(&file, now),
            Wanted::Cancel => self.cancel().await,
            Wanted::RollBack => self.roll_back().await,
        };
        // Whoever asked has gone, at worst.
        let _ = request.answer.send(answer);
    }

    fn offered(&mut self, offer: Offer, gateway: bool) -> Result<Json, Refused> {
        let known = format!("{}/{}", offer.product_key, offer.device_key);
        let running =
            if gateway { Some(crate::version::current()) } else { self.versions.get(&known).map(String::as_str) };
        match job::consider(self.job.as_ref(), &offer, running) {
            Verdict::UnderWay => {
                if let Some(job) = self.job.clone() {
                    self.tell(&job, "");
                }
                Ok(self.shown())
            }
            Verdict::Runs => {
                let say = |what| self.ports.ear.say(saying(&offer.product_key, &offer.device_key, "runs", what));
                say(Said::Progress { step: 100, words: "this version runs already".to_owned() });
                say(Said::Version(offer.version.clone()));
                Ok(json!({ "runs": offer.version }))
            }
            Verdict::Busy(words) => Err(Refused { code: "busy", words }),
            Verdict::New => {
                source::way(&offer, &self.ports.config).map_err(|words| Refused { code: "refused", words })?;
                self.take_on(Origin::Cloud(offer), false)
            }
        }
    }

    fn install(&mut self, file: &std::path::Path, at_once: bool) -> Result<Json, Refused> {
        if let Some(job) = self.job.as_ref().filter(|job| !job.state.is_end()) {
            let words =
                format!("another update is under way and {}; `enos-edge update status` shows it", job.state.word());
            return Err(Refused { code: "busy", words });
        }
        self.take_on(Origin::File(file.display().to_string()), at_once)
    }

    fn take_on(&mut self, origin: Origin, at_once: bool) -> Result<Json, Refused> {
        let refused = |words: String| Refused { code: "refused", words };
        self.ports.keys.as_ref().map_err(|why| refused(why.clone()))?;
        let id = format!("{}-{:04x}", now(), fastrand::u16(..));
        let job = Job::new(id, origin, at_once, now());
        self.ports
            .shelf
            .save(&job)
            .map_err(|error| refused(format!("the update can not be written down: {error}; nothing was done")))?;
        tracing::info!(job = %job.id, offer = ?job.offer().map(|offer| &offer.version), "an update begins");
        self.ports.shelf.tidy_up(Some(&job));
        self.tell(&job, "");
        self.job = Some(job);
        self.doing = None;
        self.show();
        Ok(self.shown())
    }

    async fn cancel(&mut self) -> Result<Json, Refused> {
        let refused = |words: &str| Refused { code: "not_possible", words: words.to_owned() };
        let job =
            self.job.as_ref().filter(|job| !job.state.is_end()).ok_or_else(|| refused("no update is under way"))?;
        let Some(after) = job.after(Event::Cancelled("cancelled by a person".to_owned()), now()) else {
            let words = format!(
                "the update is {}, too far to be cancelled; `enos-edge update roll-back` takes it back",
                job.state.word()
            );
            return Err(refused(&words));
        };
        self.committed(after).await
    }

    async fn roll_back(&mut self) -> Result<Json, Refused> {
        let refused = |words: &str| Refused { code: "not_possible", words: words.to_owned() };
        let job = self.job.as_ref().ok_or_else(|| refused("there was no update that could be taken back"))?;
        let Some(after) = job.after(Event::TakeBack("a person asked for it".to_owned()), now()) else {
            return Err(refused(&format!("the last update is {}; there is nothing to take back", job.state.word())));
        };
        self.committed(after).await
    }

    async fn committed(&mut self, after: Job) -> Result<Json, Refused> {
        if self.commit(after).await {
            return Ok(self.shown());
        }
        Err(Refused { code: "disk", words: "it could not be written down; nothing was done".to_owned() })
    }

    /// Asks the cloud what there is for the gateway.
    fn pull(&mut self) {
        let period = match self.ports.config.pull {
            Pull::Every(period) => Some(Instant::now() + period.mul_f32(0.95 + 0.1 * fastrand::f32())),
            Pull::AtStart | Pull::Off => None,
        };
        let idle = self.job.as_ref().is_none_or(|job| job.state.is_end());
        self.pull_at = period;
        if let Some(ask) = self.ports.ask.clone().filter(|_| idle && self.ports.keys.is_ok()) {
            self.pulling = Some(Box::pin(async move { ask.ask(Wish::Versions).await }));
        }
    }

    fn pulled(&mut self, data: Result<Json, String>) {
        self.pulling = None;
        let data = match data {
            Ok(data) => data,
            Err(why) => {
                tracing::debug!(why, "the cloud was not asked for updates");
                self.pull_at = Some(Instant::now() + PULL_AGAIN);
                return;
            }
        };
        let idle = self.job.as_ref().is_none_or(|job| job.state.is_end());
        let Some((product_key, device_key)) = self.ports.gateway.clone().filter(|_| idle) else { return };
        let history = self.ports.shelf.history().unwrap_or_default();
        let allow = self.ports.config.allow_downgrade;
        let chosen = pull::choose((&product_key, &device_key), &data, crate::version::current(), allow, &history);
        if let Some(offer) = chosen
            && let Err(refused) = self.offered(offer, true)
        {
            tracing::warn!(why = refused.words, "an update that the cloud has for the gateway is not taken");
        }
    }

    fn shown(&self) -> Json {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn show(&self) {
        let keys = match &self.ports.keys {
            Ok(keys) => json!(keys.len()),
            Err(why) => json!({ "none": why }),
        };
        let job = self.job.as_ref().map(|job| self.describe(job));
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = json!({ "keys": keys, "job": job });
    }

    fn describe(&self, job: &Job) -> Json {
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

/// The version that runs next, when this very engine was taken back and runs on for a moment only.
fn goes(job: &Job) -> Option<String> {
    let taken_back = matches!(job.state, State::RolledBack { .. });
    let own =
        |manifest: Manifest| manifest.kind.is_engine() && manifest.version.to_string() == crate::version::current();
    job.from.clone().filter(|_| taken_back && manifest(job).is_some_and(own))
}

fn manifest(job: &Job) -> Option<Manifest> {
    job.manifest.as_deref().and_then(|text| Manifest::parse(text).ok()).map(|(_, manifest)| manifest)
}

fn saying(product_key: &str, device_key: &str, job: &str, what: Said) -> Saying {
    Saying { product_key: product_key.to_owned(), device_key: device_key.to_owned(), job: job.to_owned(), what }
}

/// The cloud shows one line.
fn cut(words: &str) -> String {
    words.lines().next().unwrap_or_default().chars().take(256).collect()
}

/// What came of the step that is under way; `None` when it is further. Cancel-safe.
async fn news(doing: &mut Option<(Doing, watch::Receiver<(u8, String)>)>) -> Option<Event> {
    let Some((doing, further)) = doing else { return std::future::pending().await };
    tokio::select! {
        biased;
        event = doing => Some(event),
        Ok(()) = further.changed() => None,
    }
}

async fn pulled(pulling: &mut Option<Pulling>) -> Result<Json, String> {
    match pulling {
        Some(pulling) => pulling.await,
        None => std::future::pending().await,
    }
}

async fn at(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
