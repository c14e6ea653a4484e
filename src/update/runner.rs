//! The task that carries a job from step to step: writes each down before it is acted on, takes offers and wishes
//! meanwhile, and tells the cloud.

mod ask;
mod asked;
mod handle;
mod page;
mod telling;
mod turns;
mod versions;

pub use handle::{Refused, Updates};

use super::carry::perform;
use super::conditions::Warned;
use super::device::SubDevice;
use super::job::{Event, Job, Origin, State};
use super::shelf::{Shelf, Versions};
use super::{Activation, Failure, Kind, Manifest, Target};
use crate::config::{Pull, UpdateConfig};
use crate::model::Timestamp;
use crate::model::cloud_ask::CloudAsk;
use crate::model::identity::Identity;
use crate::model::update::{Ear, Offer, Said};
use crate::package::trust::PublicKey;
use ask::Asked;
use handle::Request;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use telling::saying;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use turns::Turns;

/// People and clouds ask one thing at a time; further ones wait a little and are then refused as busy.
const WAITING: usize = 8;
/// Progress is told when it is this much further: messages cost money.
const STRIDE: u8 = 5;
/// A state that can not be written down is tried again after this.
const DISK_AGAIN: Duration = Duration::from_secs(30);

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
    /// Conditions that are not asked, as far as they were told.
    pub warned: Warned,
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
    /// A sub-device of the package that runs, by its name.
    fn sub_device(&self, name: &str) -> Option<Arc<dyn SubDevice>> {
        let _ = name;
        None
    }
    /// Product key and device key of a sub-device.
    fn keys_of(&self, name: &str) -> Option<(String, String)> {
        let _ = name;
        None
    }
    /// Versions that sub-devices show, of those that show one now, by product key and device key.
    fn versions(&self) -> Vec<(String, String, String)> {
        Vec::new()
    }
    /// Stops the engine in order, for whoever starts it again. Never blocks.
    fn restart(&self);
}

type Doing = Pin<Box<dyn Future<Output = Event> + Send>>;
type Pulling = Pin<Box<dyn Future<Output = (Asked, Result<Json, String>)> + Send>>;

/// What a step came to, and the disk did not take.
struct Unwritten {
    job: Job,
    /// The engine has to start again for it.
    restart: bool,
    again: Instant,
}

struct Runner {
    ports: Arc<Ports>,
    job: Option<Job>,
    /// Why nobody knows whether an update is under way; none is taken then.
    unread: Option<String>,
    versions: Versions,
    shown: Arc<Mutex<Json>>,
    doing: Option<(Doing, watch::Receiver<(u8, String)>)>,
    unwritten: Option<Unwritten>,
    /// Of the step that is under way.
    words: String,
    pulling: Option<Pulling>,
    pull_at: Option<Instant>,
    /// When everybody is asked for again.
    round_at: Option<Instant>,
    /// Whose updates the cloud is still to be asked for; as many as there are devices at most.
    asking: Turns<(String, String), Asked>,
    /// Devices that have shown a version since the start.
    seen: BTreeSet<(String, String)>,
    /// When the versions that sub-devices show are looked at next.
    look_at: Instant,
    look_after: Duration,
    /// When this engine started, in milliseconds since 1970: the configuration is of then.
    since: i64,
}

/// Starts the task; it ends after `stopped`. What it told before a restart is told again.
#[must_use]
pub fn start(ports: Ports, mut stopped: watch::Receiver<bool>) -> (Updates, tokio::task::JoinHandle<()>) {
    // A full queue keeps whoever asks waiting a while, and then refuses.
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

fn now() -> i64 {
    Timestamp::now().0
}

impl Runner {
    /// A disk that does not give the job keeps no gateway from starting.
    fn open(ports: Arc<Ports>, shown: Arc<Mutex<Json>>) -> Runner {
        let unread = |error: &std::io::Error| tracing::error!(%error, "what is known of updates can not be read");
        let versions = ports.shelf.versions().inspect_err(unread).unwrap_or_default();
        // Best effort: how earlier ones ended holds nothing up.
        let _ = ports.shelf.mend_history().inspect_err(unread);
        let (job, unread) = read_job(&ports.shelf);
        let round_at = (ports.config.pull != Pull::Off && ports.ask.is_some()).then(Instant::now);
        let words = String::new();
        let mut runner = Runner {
            ports,
            job,
            unread,
            versions,
            shown,
            doing: None,
            unwritten: None,
            words,
            pulling: None,
            pull_at: round_at,
            round_at,
            asking: Turns::new(),
            seen: BTreeSet::new(),
            look_at: Instant::now(),
            look_after: Duration::from_secs(1),
            since: now(),
        };
        runner.begin();
        runner
    }

    /// Whether the job on disk can be read by now; what was under way goes on then.
    fn read_again(&mut self) {
        if self.unread.is_some() {
            (self.job, self.unread) = read_job(&self.ports.shelf);
            if self.unread.is_none() {
                tracing::info!("the update job on disk can be read again");
                self.begin();
            }
            self.show();
        }
    }

    /// What a restart interrupted is written down and told again.
    fn begin(&mut self) {
        // Of a job that can not be read the files may be needed yet.
        if self.unread.is_none() {
            self.ports.shelf.tidy_up(self.job.as_ref());
        }
        for (whose, version) in &self.versions {
            if let Some((product_key, device_key)) = whose.split_once('/') {
                self.ports.ear.say(saying(product_key, device_key, "", Said::Version(version.clone())));
            }
        }
        if let Some(why) = &self.unread {
            tracing::error!("{why}");
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
            let again = self.unwritten.as_ref().map(|unwritten| unwritten.again);
            let pull_at = self.pull_at.filter(|_| self.pulling.is_none());
            tokio::select! {
                biased;
                request = incoming.recv() => match request {
                    Some(request) => self.hear(request),
                    None => return,
                },
                heard = ear.heard() => self.heard(&heard),
                event = news(&mut self.doing) => match event {
                    Some(event) => self.step(event).await,
                    None => self.further(),
                },
                (asked, data) = pulled(&mut self.pulling) => self.pulled(&asked, data),
                () = at(again) => self.write_again(),
                () = at(pull_at) => self.pull(),
                () = sleep_until(self.look_at) => self.look_at_versions(),
            }
        }
    }

    /// Begins what the job's state says, if it is not under way.
    fn take_up(&mut self) {
        let idle = self.doing.is_none() && self.unwritten.is_none();
        let Some(job) = self.job.as_ref().filter(|job| !job.state.is_end() && idle) else { return };
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
        self.settle(after, restart);
    }

    /// Writes down what a step came to. What the disk does not take is kept and tried again: the step itself may have written
    /// a whole flash.
    fn settle(&mut self, job: Job, restart: bool) {
        let mut done = self.commit(&job);
        if done.is_err() && job.state.is_end() {
            // Its files are needed no more, and may be the room that is missing.
            self.ports.shelf.tidy_up(None);
            done = self.commit(&job);
        }
        if let Err(error) = done {
            tracing::error!(%error, state = job.state.word(), "an update can not be written down; it is tried again");
            self.words = format!("it can not be written down that it is {}: {error}", job.state.word());
            self.unwritten = Some(Unwritten { job, restart, again: Instant::now() + DISK_AGAIN });
            self.show();
        } else if restart {
            tracing::info!("the engine stops for another one");
            self.ports.around.restart();
        }
    }

    fn write_again(&mut self) {
        if let Some(Unwritten { job, restart, .. }) = self.unwritten.take() {
            self.settle(job, restart);
        }
    }

    /// On disk first, then it is so.
    fn commit(&mut self, job: &Job) -> std::io::Result<()> {
        self.ports.shelf.save(job)?;
        self.doing = None;
        self.unwritten = None;
        let end = job.state.is_end();
        tracing::info!(job = %job.id, state = job.state.word(), why = job.state.why(), percent = job.percent, "update");
        self.job = Some(job.clone());
        self.call_oneself(job);
        if end {
            self.finish(job);
        } else {
            self.tell(job, "");
        }
        self.show();
        Ok(())
    }

    fn finish(&mut self, job: &Job) {
        self.record(job);
        self.ports.shelf.tidy_up(None);
        self.know_version(job);
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

    /// A step is further.
    fn further(&mut self) {
        let Some((_, news)) = &mut self.doing else { return };
        let (percent, words) = news.borrow_and_update().clone();
        self.words = words;
        if let Some(job) = self.job.as_mut().filter(|job| job.starts > 0 && percent > job.percent) {
            // Further than any life before: this step does not kill the gateway.
            (job.starts, job.percent) = (0, percent);
            // Best effort, as below.
            let _ = self.ports.shelf.save(job);
        } else if let Some(job) = self.job.as_mut()
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
}

/// The job on disk as a start finds it; or why it can not be read.
fn read_job(shelf: &Shelf) -> (Option<Job>, Option<String>) {
    match shelf.load() {
        Ok(job) => (job.map(|job| if job.state.is_end() { job } else { job.found(now()) }), None),
        Err(error) => {
            let (what, remedy) = shelf.unread(&error);
            (None, Some(format!("no update is taken, for {what}; {remedy}")))
        }
    }
}

fn manifest(job: &Job) -> Option<Manifest> {
    job.manifest.as_deref().and_then(|text| Manifest::parse(text).ok()).map(|(_, manifest)| manifest)
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

async fn pulled(pulling: &mut Option<Pulling>) -> (Asked, Result<Json, String>) {
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
