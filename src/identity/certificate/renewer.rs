//! The task that looks, asks, stores, and tells people. It never holds a lock while it waits, and whatever it is cut off
//! in, the next start goes on from what lies on disk.

use super::authority::{Authority, Issued};
use super::check::{Came, Expected, check};
use super::expiry::{Expiry, seconds_left};
use super::facts::Facts;
use super::schedule::{Brought, How, Reading, Schedule, Seen, Verdict};
use super::slots::{Slots, View};
use super::turns::Effect;
use super::{IdentityNames, key};
use crate::config::CertificateConfig;
use crate::model::Timestamp;
use crate::model::notice::{Notice, Notices};
use crate::rest::RestError;
use crate::telemetry::Counters;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

/// Whoever asks by hand waits no longer; the request goes on.
const PATIENCE: Duration = Duration::from_secs(25);
/// The same trouble is told again after this long.
const REMINDER: Duration = Duration::from_secs(24 * 3600);

/// The wall clock; tests bring their own.
pub trait Clock: Send + Sync {
    fn wall(&self) -> Timestamp;
}

/// The machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What a request brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub how: How,
    pub facts: Facts,
}

/// Asks by hand, from a command.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<oneshot::Sender<Result<Asked, String>>>);

impl Handle {
    /// Asks for a certificate now.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn renew(&self) -> Result<Asked, String> {
        let (answer, answered) = oneshot::channel();
        self.0.try_send(answer).map_err(|_| "another request is under way".to_owned())?;
        let silent = || "no outcome yet; see `enos-edge certificate` later".to_owned();
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(outcome) => outcome.unwrap_or_else(|_| Err("the gateway is stopping".to_owned())),
            Err(_) => Err(silent()),
        }
    }
}

/// What the task works with.
pub struct Renewer {
    pub config: CertificateConfig,
    pub names: IdentityNames,
    pub slots: Arc<Slots>,
    pub authority: Arc<dyn Authority>,
    pub clock: Arc<dyn Clock>,
    pub notices: Arc<dyn Notices>,
    pub counters: Arc<Counters>,
}

impl Renewer {
    /// Runs until `stop` says true. Nothing else ends it.
    pub fn start(self, stop: watch::Receiver<bool>) -> (Handle, impl Future<Output = ()> + Send + use<>) {
        // One place: a second request by hand while one is under way is refused with words.
        let (orders, ordered) = mpsc::channel(1);
        let now = steady();
        let schedule = Schedule::new(self.config.renew_percent_left, self.slots.since_asked(), self.slots.pace(), now);
        let task = Task { schedule, expiry: Expiry::default(), renewal_refused: false, said: None, parts: self };
        (Handle(orders), task.run(ordered, stop))
    }
}

struct Task {
    parts: Renewer,
    schedule: Schedule,
    expiry: Expiry,
    /// The cloud does not renew what is in use: the next request applies anew.
    renewal_refused: bool,
    /// The last trouble and when it was told.
    said: Option<(String, Instant)>,
}

/// Of the runtime, so that tests can pause it.
fn steady() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Task {
    async fn run(
        mut self,
        mut ordered: mpsc::Receiver<oneshot::Sender<Result<Asked, String>>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut changes = self.parts.slots.changes();
        loop {
            let work = async {
                changes.borrow_and_update();
                self.settle().await;
                let wait = self.look().await;
                tokio::select! {
                    order = ordered.recv() => {
                        if let Some(answer) = order {
                            // Who asked may have left meanwhile.
                            let _ = answer.send(self.ask_by_hand().await);
                        }
                    }
                    _ = changes.changed() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            };
            tokio::select! {
                () = work => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        // What the link found out last is worth a write.
        self.settle().await;
    }

    /// Takes what the link has found out, and writes it.
    async fn settle(&mut self) {
        for effect in self.parts.slots.take_effects() {
            let view = self.parts.slots.view();
            match &effect {
                Effect::Nothing => {}
                Effect::Promote(_) => {
                    self.schedule.promoted(view.current.as_ref(), steady());
                    self.renewal_refused = false;
                    if let Some(facts) = &view.current {
                        self.notice("certificateInUse", facts, |_| {});
                    }
                }
                Effect::SetAside(_, reason) => {
                    self.parts.counters.certificate_failures.add(1);
                    self.schedule.set_aside(seen(&view), steady());
                    self.parts.slots.tell(Some(format!("the cloud does not take what it issued: {reason}")), None);
                }
            }
            // Best effort: the disk had it before the request went out.
            if effect != Effect::Nothing
                && let Err(problem) = self.keep_pace(self.schedule.clone()).await
            {
                self.say(&problem);
            }
        }
        let slots = Arc::clone(&self.parts.slots);
        if slots.is_unsaved()
            && let Err(problem) = blocking(move || slots.save()).await
        {
            self.say(&problem);
        }
    }

    async fn look(&mut self) -> Duration {
        let view = self.parts.slots.view();
        let at = self.reading();
        self.tell_people(&view, at.wall);
        match self.schedule.look(at, seen(&view)) {
            Verdict::Wait(wait) => wait,
            Verdict::Ask(how) => {
                // The outcome is kept where people look; the schedule knows when it is time again.
                let _ = self.ask(how).await;
                Duration::ZERO
            }
        }
    }

    async fn ask_by_hand(&mut self) -> Result<Asked, String> {
        let view = self.parts.slots.view();
        let how = Schedule::by_hand(self.reading(), seen(&view));
        info!(?how, "asking for a certificate by hand");
        self.ask(how).await
    }

    async fn ask(&mut self, how: How) -> Result<Asked, String> {
        let view = self.parts.slots.view();
        if view.stuck {
            warn!("peers hang up without a reason; in case it is the certificate, another one is asked for");
        }
        // Whoever is killed in the middle finds this request as one that brought nothing.
        let mut killed = self.schedule.clone();
        killed.brought(Brought::Nothing, seen(&view), steady(), 0.0);
        let outcome = match self.keep_pace(killed).await {
            Ok(()) => self.obtain(how, &view).await,
            Err(problem) => Err((Brought::Nothing, problem)),
        };
        let (brought, told) = match outcome {
            Ok(asked) => {
                self.parts.counters.certificates_issued.add(1);
                info!(
                    serial = %asked.facts.serial,
                    not_after = asked.facts.not_after,
                    "a certificate was issued; it is tried with the next connection"
                );
                self.said = None;
                (Brought::Certificate, Ok(asked))
            }
            Err((brought, problem)) => {
                self.parts.counters.certificate_failures.add(1);
                self.say(&problem);
                (brought, Err(problem))
            }
        };
        self.schedule.brought(brought, seen(&view), steady(), fastrand::f64());
        if let Err(problem) = self.keep_pace(self.schedule.clone()).await {
            debug!("{problem}");
        }
        let next = steady() + self.schedule.quiet_for(steady());
        match &told {
            Ok(_) => self.parts.slots.tell(None, None),
            Err(problem) => self.parts.slots.tell(Some(problem.clone()), Some(next)),
        }
        told
    }

    /// So that a daemon that starts again and again asks no more often than one that runs.
    async fn keep_pace(&self, schedule: Schedule) -> Result<(), String> {
        let slots = Arc::clone(&self.parts.slots);
        let pace = schedule.pace(steady());
        blocking(move || slots.keep_pace(pace)).await
    }

    /// Key, request, answer, check, disk.
    async fn obtain(&mut self, how: How, view: &View) -> Result<Asked, (Brought, String)> {
        let nothing = |problem: String| (Brought::Nothing, problem);
        let (config, names, slots) =
            (self.parts.config.clone(), self.parts.names.clone(), Arc::clone(&self.parts.slots));
        let (number, request, public) = blocking(move || prepare(&config, &names, &slots)).await.map_err(nothing)?;
        let serial = view.current_serial.as_deref().filter(|_| how == How::Renew && !self.renewal_refused);
        let answer = match serial {
            Some(serial) => self.parts.authority.renew(serial, &request).await,
            None => self.parts.authority.apply(&request).await,
        };
        let issued = answer.map_err(|error| {
            self.renewal_refused |= serial.is_some() && matches!(error, RestError::Refused { .. });
            let action = if serial.is_some() { "renew" } else { "apply for" };
            nothing(format!("{action} a certificate: {error}"))
        })?;
        let (chain, facts) = self.checked(&issued, &public, view).await.map_err(|e| (Brought::Unusable, e))?;
        let (slots, kept) = (Arc::clone(&self.parts.slots), facts.clone());
        let stored = blocking(move || slots.keep_issued(number, &chain, kept, issued.serial)).await;
        stored.map_err(nothing)?;
        let how = if serial.is_some() { How::Renew } else { How::Apply };
        Ok(Asked { how, facts })
    }

    async fn checked(&self, issued: &Issued, public: &[u8], view: &View) -> Result<(String, Facts), String> {
        let authority = match self.parts.config.ca_file.clone() {
            Some(file) => {
                let read =
                    move || std::fs::read_to_string(&file).map_err(|e| format!("ca_file {}: {e}", file.display()));
                Some(blocking(read).await?)
            }
            None => None,
        };
        let wall = self.parts.clock.wall().0;
        let counts = |facts: &&Facts| facts.not_after > wall && !view.hopeless;
        let expected = Expected {
            public,
            authority: authority.as_deref(),
            current_end: view.current.as_ref().filter(counts).map(|facts| facts.not_after),
            now: wall,
        };
        let came = Came { certificate: &issued.certificate, authority: issued.authority.as_deref() };
        check(&came, &expected).map_err(|problem| format!("what the cloud issued is not used: {problem}"))
    }

    fn reading(&self) -> Reading {
        Reading { wall: self.parts.clock.wall().0, steady: steady() }
    }

    /// Metric, log and event.
    fn tell_people(&mut self, view: &View, wall: i64) {
        let Some(facts) = &view.current else {
            self.parts.counters.certificate_seconds_left.set(0);
            return;
        };
        self.parts.counters.certificate_seconds_left.set(seconds_left(facts, wall));
        let Some(mark) = self.expiry.look(facts, self.parts.config.renew_percent_left, wall) else { return };
        let serial = &facts.serial;
        if mark == 0 {
            error!(%serial, not_after = facts.not_after, "the client certificate has expired; readings wait when the cloud refuses it");
            self.notice("certificateExpired", facts, |_| {});
        } else {
            warn!(%serial, days_left = mark, not_after = facts.not_after, "the client certificate expires soon and is not renewed yet");
            self.notice("certificateExpiring", facts, |fields| {
                fields.insert("daysLeft".into(), json!(mark));
            });
        }
    }

    fn notice(&self, event: &str, facts: &Facts, more: impl FnOnce(&mut Map<String, Json>)) {
        let mut fields = Map::new();
        fields.insert("serialNumber".into(), json!(facts.serial));
        fields.insert("notAfter".into(), json!(facts.not_after));
        more(&mut fields);
        self.parts.notices.tell(Notice { event: event.to_owned(), fields, at: self.parts.clock.wall(), device: None });
    }

    /// The same trouble is told once, and again after a day.
    fn say(&mut self, problem: &str) {
        let now = steady();
        let known = self.said.as_ref().is_some_and(|(said, at)| said == problem && now < *at + REMINDER);
        if known {
            debug!("{problem}");
            return;
        }
        warn!("{problem}; what is in use stays in use");
        self.said = Some((problem.to_owned(), now));
    }
}

fn seen(view: &View) -> Seen<'_> {
    Seen {
        current: view.current.as_ref(),
        candidate: view.candidate.as_ref(),
        blamed: view.blamed,
        hopeless: view.hopeless,
        stuck: view.stuck,
    }
}

/// The key is on disk before anybody is asked.
fn prepare(config: &CertificateConfig, names: &IdentityNames, slots: &Slots) -> Result<(u32, String, Vec<u8>), String> {
    let key = match slots.waiting_key() {
        Some((_, key)) => key,
        None => key::make(config.key_type)?,
    };
    let request = key::request(config, names, &key)?;
    let public = key::public(&key)?;
    Ok((slots.keep_key(&key)?, request, public))
}

/// Disk and key work go beside the runtime's thread. A disk that is stuck holds this task, and nothing else.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

#[cfg(test)]
#[path = "renewer_tests.rs"]
mod tests;
