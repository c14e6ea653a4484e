//! One task owns one connection: it opens the session, reads what is due, serves requests, and starts again.

use super::backoff::Backoff;
use super::guard::{Fault, caught, discard, guarded, watched};
use super::lines::Numbers;
use super::live::Live;
use super::outbound::Outbound;
use super::request::{AskError, Request};
use super::schedule::{Schedule, Turn};
use super::status::ConnectionState;
use super::tap::Tap;
use crate::mapping::DeviceMapper;
use crate::model::{OnDuty, Reason, Sample};
use crate::telemetry::Counters;
use driver::{Plan, Session, SessionError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// A driver bounds its own connect; this is for one that does not.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);
/// A serial line is drained until it is silent; longer than this nobody waits.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Of the time for stopping, what is kept for closing the session.
const CLOSE_SHARE: Duration = Duration::from_secs(1);
/// What is kept for the task to end after that.
const END_SHARE: Duration = Duration::from_millis(50);
/// A person who asks may have a waiting connection tried at once, but not more often than this.
const ASKED_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Line {
    pub live: Arc<Live>,
    pub plan: Arc<dyn Plan>,
    pub counters: Arc<Counters>,
    pub schedule: Schedule,
    pub mappers: Vec<DeviceMapper>,
    pub outbound: Outbound,
    pub tap: Arc<Tap>,
    pub requests: mpsc::Receiver<Request>,
    /// Steps of sending a file: each takes its turn with the scans that are due.
    pub transfers: mpsc::Receiver<Request>,
    /// The moment by which the task must have ended, once it is told to.
    pub stop: watch::Receiver<Option<Instant>>,
    /// How devices are numbered; another package may number them anew.
    pub numbers: watch::Receiver<Numbers>,
    /// The epoch of the numbers in use, for whoever waits for it.
    pub seen: watch::Sender<u64>,
    pub began: Instant,
    /// For the watchdog: by when the task means to get on.
    pub duty: OnDuty,
    pub rng: fastrand::Rng,
    pub state: State,
}

/// What changes from session to session.
#[derive(Default)]
pub(super) struct State {
    pub backoff: Backoff,
    pub retry_at: Option<Instant>,
    pub last_attempt: Option<Instant>,
    /// A request that wants a session first.
    pub asked: Option<Request>,
    pub has_pushed: bool,
    /// The session has answered a read.
    pub answered: bool,
    /// The trouble with the connection that was told last, if nothing good came since.
    pub told: Option<String>,
    /// The group that is being read once more after its conversation broke.
    pub second_chance: Option<usize>,
    /// The turn before this one was pushed data; a due group goes first now.
    pub pushed_last: bool,
    /// The turn before this one was a step of sending a file; a due group goes first now.
    pub sent_last: bool,
    pub pushed: Vec<Sample>,
    /// The scan or batch in which each point was last answered.
    pub marks: Vec<u32>,
    pub scan: u32,
    /// No mapper has to be asked what is due before this time.
    pub ticks_at: Duration,
    /// While stopping, the driver did not come back in time.
    pub cut_off: bool,
}

pub(super) enum Event {
    Stop,
    /// There is something to do and no session.
    Needed,
    Ask(Request),
    Due(usize),
    Pushed(Result<(), Fault>),
    /// Something that waited for its interval may go out.
    Tick,
}

impl Line {
    /// True when the task ended in good order, false when the driver had to be cut off.
    pub(super) async fn run(mut self) -> bool {
        while let Some(session) = self.open().await {
            self.converse(session).await;
        }
        self.refuse_requests();
        self.outbound.flush();
        self.live.lock().enter(ConnectionState::Stopped);
        !self.state.cut_off
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A session, as soon as one is needed and can be had; `None` when it is time to stop.
    async fn open(&mut self) -> Option<Box<dyn Session>> {
        loop {
            match self.until_needed().await {
                Event::Stop => return None,
                Event::Tick => {}
                Event::Ask(request) => self.want_session(request),
                Event::Needed | Event::Due(_) | Event::Pushed(_) => {
                    let mut stop = self.stop.clone();
                    let opened = tokio::select! {
                        biased;
                        () = told_to_stop(&mut stop) => return None,
                        opened = self.connect() => opened,
                    };
                    if let Some(session) = opened {
                        return Some(session);
                    }
                }
            }
        }
    }

    /// Waits until a session is needed or something else is to be done.
    async fn until_needed(&mut self) -> Event {
        self.tick();
        if self.stop.borrow().is_some() {
            return Event::Stop;
        }
        let now = self.now();
        let needed = match self.schedule.next(now) {
            _ if self.state.has_pushed || self.state.asked.is_some() || !self.schedule.all_silent() => now,
            Turn::Read(_) => now,
            Turn::Wait(at) => at,
            Turn::Idle => Duration::MAX,
        };
        let needed = needed.max(self.state.retry_at.map_or(Duration::ZERO, |at| at.duration_since(self.began)));
        if needed <= now {
            return Event::Needed;
        }
        self.live.lock().enter(ConnectionState::Waiting);
        let wake = self.wakes_at().min(needed);
        self.back_at(wake);
        tokio::select! {
            biased;
            () = told_to_stop(&mut self.stop) => Event::Stop,
            Ok(()) = self.numbers.changed() => Event::Tick,
            Some(request) = self.requests.recv(), if self.state.asked.is_none() => Event::Ask(request),
            Some(request) = self.transfers.recv(), if self.state.asked.is_none() => Event::Ask(request),
            () = sleep_until(self.began, wake) => Event::Tick,
        }
    }

    /// Tries the connection for somebody who asked, unless it was tried just now.
    fn want_session(&mut self, request: Request) {
        let rested = self.state.last_attempt.is_none_or(|at| at.elapsed() >= ASKED_PAUSE);
        if !rested {
            let error = self.live.lock().last_error.clone().unwrap_or_default();
            request.answer(Err(AskError::NotConnected(error)));
        } else {
            self.state.asked = Some(request);
            self.state.retry_at = None;
        }
    }

    async fn connect(&mut self) -> Option<Box<dyn Session>> {
        self.live.lock().enter(ConnectionState::Connecting);
        self.state.last_attempt = Some(Instant::now());
        let (plan, tap) = (Arc::clone(&self.plan), Arc::clone(&self.tap));
        let connected = self.guarded(CONNECT_LIMIT, async { plan.connect(tap).await }).await;
        match connected {
            Ok(session) => {
                self.connected();
                Some(session)
            }
            Err(fault) => {
                self.connect_failed(fault.into());
                None
            }
        }
    }

    fn connected(&mut self) {
        self.counters.sessions.add(1);
        (self.state.answered, self.state.retry_at) = (false, None);
        if self.state.told.take().is_some() {
            info!(connection = %self.live.name, endpoint = %self.live.endpoint, "connected again");
        }
        let mut live = self.live.lock();
        live.sessions += 1;
        live.enter(ConnectionState::Connected);
        debug!(connection = %self.live.name, endpoint = %self.live.endpoint, "connected");
    }

    fn connect_failed(&mut self, error: SessionError) {
        let wait = self.state.backoff.failed(self.rng.f64());
        self.state.retry_at = Some(Instant::now() + wait);
        // "can not connect: disconnected" says one thing twice.
        let text = match error {
            SessionError::Disconnected(why) => why,
            other => other.to_string(),
        };
        if let Some(request) = self.state.asked.take() {
            request.answer(Err(AskError::NotConnected(text.clone())));
        }
        if self.is_news(&text) {
            warn!(connection = %self.live.name, endpoint = %self.live.endpoint, error = text, "can not connect; will try again");
        } else {
            debug!(connection = %self.live.name, error = text, ?wait, "can not connect; next try after the wait");
        }
        {
            let mut live = self.live.lock();
            live.failed_connects += 1;
            live.last_error = Some(text);
            live.enter(ConnectionState::Waiting);
        }
        self.all_bad(Reason::NotConnected);
    }

    /// The same trouble is told once, not at each try.
    fn is_news(&mut self, trouble: &str) -> bool {
        let news = self.state.told.as_deref() != Some(trouble);
        if news {
            self.state.told = Some(trouble.to_owned());
        }
        news
    }

    /// Talks until the session ends or it is time to stop.
    async fn converse(&mut self, mut session: Box<dyn Session>) {
        let began = Instant::now();
        let fault = loop {
            let event = self.next_event(session.as_mut()).await;
            self.publish_pushed();
            // A driver that answers at once would keep all other tasks from their turn.
            tokio::task::coop::consume_budget().await;
            let step = match event {
                Event::Stop => break Fault::Stopped,
                Event::Tick | Event::Needed => Ok(()),
                Event::Due(group) => self.scan(session.as_mut(), group).await,
                Event::Ask(request) => self.serve(session.as_mut(), request).await,
                Event::Pushed(result) => result,
            };
            if let Err(fault) = step {
                self.state.cut_off |= matches!(fault, Fault::Stopped);
                break fault;
            }
        };
        let panicked = matches!(fault, Fault::Panicked(_));
        self.ended(fault, began.elapsed());
        if panicked {
            discard(session);
        } else {
            self.close(session).await;
        }
    }

    async fn next_event(&mut self, session: &mut dyn Session) -> Event {
        self.tick();
        if let Some(request) = self.state.asked.take() {
            return Event::Ask(request);
        }
        let now = self.now();
        let turn = self.schedule.next(now);
        let (due, wake) = match turn {
            Turn::Read(group) => (Some(group), Duration::MAX),
            Turn::Wait(at) => (None, at.min(self.wakes_at())),
            Turn::Idle => (None, self.wakes_at()),
        };
        let sending = !(due.is_some() && std::mem::take(&mut self.state.sent_last));
        let listen = !(due.is_some() && std::mem::take(&mut self.state.pushed_last));
        self.back_at(if due.is_some() { now } else { wake });
        tokio::select! {
            biased;
            () = told_to_stop(&mut self.stop) => Event::Stop,
            Ok(()) = self.numbers.changed() => Event::Tick,
            Some(request) = self.requests.recv() => Event::Ask(request),
            Some(request) = self.transfers.recv(), if sending => {
                self.state.sent_last = true;
                Event::Ask(request)
            }
            result = caught(watched(self.duty.pulse(), session.pushed(&mut self.state.pushed))), if listen => {
                self.state.pushed_last = true;
                Event::Pushed(flat(result))
            }
            // Not a sleep until now: that is rounded up to the next millisecond, and costs two wakings of its own.
            Some(group) = std::future::ready(due) => Event::Due(group),
            () = sleep_until(self.began, wake) => Event::Tick,
        }
    }

    /// Decides when to try again and tells why the conversation ended.
    fn ended(&mut self, fault: Fault, lasted: Duration) {
        if matches!(fault, Fault::Stopped) {
            return;
        }
        let error = SessionError::from(fault);
        // A device that closes after each answer, or a silent one on a shared line, must not slow the others down:
        // the schedule and the breakers set the pace then.
        let paced = self.state.answered || matches!(error, SessionError::Timeout(_)) && !self.state.has_pushed;
        let wait = if paced { Duration::ZERO } else { self.state.backoff.broke(lasted, self.rng.f64()) };
        if self.state.answered {
            self.state.backoff = Backoff::default();
        }
        self.state.retry_at = Some(Instant::now() + wait);
        self.live.lock().last_error = Some(error.to_string());
        if self.state.has_pushed && self.is_news(&error.to_string()) {
            // Nobody reads these devices, so no scan will find out.
            warn!(connection = %self.live.name, endpoint = %self.live.endpoint, %error, "the connection broke; will try again");
        } else {
            debug!(connection = %self.live.name, %error, ?wait, "the conversation ended");
        }
        if self.state.has_pushed {
            self.all_bad(error.reason());
        }
    }

    async fn close(&mut self, session: Box<dyn Session>) {
        let limit = match *self.stop.borrow() {
            Some(deadline) => CLOSE_LIMIT.min(deadline.duration_since(Instant::now()).saturating_sub(END_SHARE)),
            None => CLOSE_LIMIT,
        };
        let closed = self.guarded(limit, async {
            session.close().await;
            Ok(())
        });
        if let Err(fault) = closed.await {
            let error = SessionError::from(fault);
            info!(connection = %self.live.name, %error, "the session did not close; dropped");
            self.state.cut_off |= self.stop.borrow().is_some();
        }
    }

    /// Runs one call of the driver. Told to stop, it may finish unless that would leave no time for closing.
    pub(super) async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, Fault> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            result = self.guarded(limit, call) => result,
            () = out_of_time(&mut stop) => Err(Fault::Stopped),
        }
    }

    /// One call of the driver, of which the watchdog knows by when it is over.
    fn guarded<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, SessionError>>,
    ) -> impl Future<Output = Result<T, Fault>> {
        let pulse = self.duty.pulse();
        pulse.back_by((Instant::now() + limit).into_std());
        guarded(limit, watched(pulse, call))
    }

    /// The task gets on at this time, or when somebody asks.
    fn back_at(&self, at: Duration) {
        match self.began.checked_add(at) {
            Some(at) => self.duty.pulse().back_by(at.into_std()),
            None => self.duty.pulse().rests(),
        }
    }

    /// Between two batches: a package that was applied may number the devices anew. Session, schedule, memory stay.
    fn renumber(&mut self) {
        let Numbers { epoch, live } = self.numbers.borrow_and_update().clone();
        if epoch == self.outbound.epoch() {
            return;
        }
        self.outbound.use_epoch(epoch);
        for (mapper, info) in self.mappers.iter_mut().zip(&live.devices) {
            mapper.renumber(info.device);
        }
        self.live = live;
        self.seen.send_replace(epoch);
    }

    /// Sends what waited for its interval.
    fn tick(&mut self) {
        if self.numbers.has_changed().unwrap_or(false) || self.numbers.borrow().epoch != self.outbound.epoch() {
            self.renumber();
        }
        let now = self.now();
        // Not at each of ten thousand scans a second: nothing is due before that time.
        if now >= self.state.ticks_at {
            for mapper in &mut self.mappers {
                mapper.tick(now, &mut self.outbound);
            }
            let due = self.mappers.iter().filter_map(DeviceMapper::wakes_at).min();
            self.state.ticks_at = due.unwrap_or(Duration::MAX);
        }
        self.outbound.flush();
    }

    fn wakes_at(&self) -> Duration {
        self.state.ticks_at
    }

    fn refuse_requests(&mut self) {
        self.requests.close();
        if let Some(request) = self.state.asked.take() {
            request.answer(Err(AskError::Stopped));
        }
        self.transfers.close();
        while let Ok(request) = self.requests.try_recv().or_else(|_| self.transfers.try_recv()) {
            request.answer(Err(AskError::Stopped));
        }
    }
}

fn flat(result: Result<Result<(), SessionError>, String>) -> Result<(), Fault> {
    result.map_err(Fault::Panicked)?.map_err(Fault::Said)
}

/// Resolves when the task is told to stop, or nobody is left who could tell it. Cancel-safe.
async fn told_to_stop(stop: &mut watch::Receiver<Option<Instant>>) {
    // An error means that the sender is gone.
    let _ = stop.wait_for(Option::is_some).await;
}

async fn out_of_time(stop: &mut watch::Receiver<Option<Instant>>) {
    let deadline = match stop.wait_for(Option::is_some).await {
        Ok(deadline) => *deadline,
        Err(_) => None,
    };
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline.checked_sub(CLOSE_SHARE).unwrap_or(deadline)).await;
    }
}

async fn sleep_until(began: Instant, at: Duration) {
    match began.checked_add(at) {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
