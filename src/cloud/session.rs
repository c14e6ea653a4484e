//! One connection from CONNACK to its end: subscribes, brings the sub-devices under the gateway, then moves data.

mod adopt;
mod ask;
mod care;
mod hear;
mod turns;

use super::answers::Answers;
use super::properties::Properties;
use super::publisher::{Now, Publisher};
use super::requests::Requests;
use super::run::CloudExtras;
use super::status::{State, Status};
use super::sub_devices::SubDevices;
use super::templates::Templates;
use super::topics::{Topics, sub_device_commands};
use super::upstream::Whose;
use super::upstream::measurepoints::Route;
use crate::config::{Acknowledge, CloudConfig};
use crate::model::accounting::{Accounting, Count, Kind};
use crate::model::{Commands, Identity, Lane, Outlet, Parcel, Timestamp};
use crate::mqtt::connection::{Connection, Lost, NotTaken};
use crate::telemetry::Counters;
pub use ask::Storing;

use ask::Chores;
use serde_json::Value;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

/// How long what is under way may take when the daemon stops: with the farewell it fits into the time of one part.
const FAREWELL: Duration = Duration::from_millis(800);
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// A SUBACK that does not come in this time is not waited for: the real cloud answers without subscriptions.
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(10);

/// Different codes of refusals remembered so that each is told once.
const SAID_CODES: usize = 64;

/// What outlives a connection.
pub struct Link {
    pub config: CloudConfig,
    pub topics: Topics,
    pub outlet: Arc<dyn Outlet>,
    pub commands: Arc<dyn Commands>,
    pub answers: Answers,
    pub identity: Arc<dyn Identity>,
    pub counters: Arc<Counters>,
    pub status: Arc<Status>,
    pub publisher: Publisher,
    pub sub_devices: SubDevices,
    pub properties: Properties,
    pub templates: Templates,
    pub extras: CloudExtras,
    pub storing: Storing,
    pub last_id: u16,
    /// The last trouble that was told, so that it is not told at each try.
    pub said: Option<(String, Instant)>,
    /// Codes the cloud refused data with, and when that was told.
    pub said_codes: HashMap<i64, Instant>,
    pub accounting: Accounting,
    /// Zero of all times given to pure code.
    pub started: Instant,
    /// A connect before this time costs a wait, so a link that stands is not left for a better one.
    pub may_leave_at: Duration,
    /// The last attempt failed because of the client certificate.
    pub certificate_refused: bool,
}

/// How a session ended.
#[derive(Debug)]
pub enum End {
    Stopped,
    /// For a better one.
    Left,
    Lost {
        why: Lost,
        delivered: bool,
    },
}

/// What only this connection knows.
pub struct Session<'a> {
    link: &'a mut Link,
    connection: Connection,
    /// All requests but data, which the publisher accounts for.
    requests: Requests<ask::Purpose>,
    chores: Chores,
    /// SUBACKs to come before anything is sent.
    subscribing: usize,
    since: Duration,
    flowing: bool,
    delivered: bool,
    stopping: Option<Duration>,
    /// When to leave this connection for one that proves itself better.
    leave_at: Option<Duration>,
    leaving: bool,
    /// A device secret on its way to the disk, with the id to be answered.
    storing: Option<Activating>,
}

type Activating = Pin<Box<dyn Future<Output = (Value, Result<(), String>)> + Send>>;

impl Link {
    fn gateway(&self) -> Whose<'_> {
        Whose { product_key: &self.config.product_key, device_key: &self.config.device_key }
    }

    /// Ids are 1…65535 and never those of a request or of data that is under way.
    fn free_id(&mut self, asked: impl Fn(u16) -> bool) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !asked(self.last_id) && !self.publisher.awaits(self.last_id) {
                return self.last_id;
            }
        }
    }

    pub fn now(&self) -> Now {
        Now { at: self.started.elapsed(), wall: Timestamp::now() }
    }

    /// For the watchdog: the link means to get on within this time.
    pub fn back_in(&self, time: Duration) {
        self.extras.pulses.back_in(Instant::now().into_std(), time);
    }

    fn account(&mut self, kind: Kind, count: Count, now: Now) {
        let counters = &self.counters;
        let own = match kind {
            Kind::Post => &counters.messages_post,
            Kind::Resume => &counters.messages_resume,
            Kind::Request => &counters.messages_request,
            Kind::Answer => &counters.messages_answer,
        };
        own.add(count.messages);
        if matches!(kind, Kind::Post | Kind::Resume) {
            counters.messages.add(count.messages);
            counters.message_bytes.add(count.bytes);
        }
        self.accounting.sent(kind, count, now.wall);
    }
}

impl<'a> Session<'a> {
    #[must_use]
    pub fn new(link: &'a mut Link, connection: Connection) -> Session<'a> {
        let since = link.started.elapsed();
        let requests = Requests::new(link.config.reply_timeout);
        Session {
            link,
            connection,
            requests,
            chores: Chores::default(),
            subscribing: 0,
            since,
            flowing: false,
            delivered: false,
            stopping: None,
            leave_at: None,
            leaving: false,
            storing: None,
        }
    }

    /// Runs until the connection is lost or the daemon stops.
    pub async fn run(mut self, stop: &mut watch::Receiver<bool>) -> End {
        match self.converse(stop).await {
            Ok(()) => {
                self.connection.close(Duration::from_millis(500)).await;
                if self.leaving { End::Left } else { End::Stopped }
            }
            Err(why) => End::Lost { why, delivered: self.delivered },
        }
    }

    async fn converse(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Lost> {
        self.greet()?;
        let outlet = Arc::clone(&self.link.outlet);
        let identity = Arc::clone(&self.link.identity);
        let mut better = identity.better();
        let in_order = self.link.publisher.in_order();
        let notices = Arc::clone(&self.link.extras.notices);
        let desk = Arc::clone(&self.link.extras.desk);
        let updates = Arc::clone(&self.link.extras.updates);
        let rosters = Arc::clone(&self.link.extras.rosters);
        loop {
            self.work()?;
            if self.is_finished() {
                return Ok(());
            }
            let now = self.link.now();
            let (live, backlog) = (self.wants(Lane::Live, now), self.wants(Lane::Backlog, now));
            let wake = self.link.started + self.wake(now);
            self.link.extras.pulses.link.back_by(wake.into_std());
            // The order is the order of importance: hear what is done, then live data, then backlog.
            tokio::select! {
                biased;
                heard = self.connection.next() => { let heard = heard?; self.hear(heard); }
                () = stopped(stop), if self.stopping.is_none() || self.leaving => self.begin_to_stop(),
                Some(reply) = self.link.answers.next() => { self.reply(reply); }
                (id, stored) = next_stored(&mut self.storing) => self.stored(&id, stored),
                () = &mut better, if self.leave_at.is_none() => self.leave_at = Some(now.at.max(self.link.may_leave_at)),
                stored = self.link.storing.done() => self.secrets_stored(stored),
                () = notices.news() => {}
                () = desk.news() => {}
                () = updates.news() => {}
                () = rosters.news() => {}
                parcels = outlet.in_order(live.unwrap_or(1)), if in_order && live.is_some() => self.take(parcels),
                parcels = outlet.live(live.unwrap_or(1)), if !in_order && live.is_some() => self.take(parcels),
                parcels = outlet.backlog(backlog.unwrap_or(1)), if backlog.is_some() => self.take(parcels),
                () = sleep_until(wake) => {}
            }
        }
    }

    fn greet(&mut self) -> Result<(), Lost> {
        let now = self.link.now();
        self.link.publisher.holds(self.link.outlet.held());
        // Nothing is under way, so a package that waits is taken at once.
        if let Some(update) = self.link.extras.rosters.take() {
            self.link.adopt(update, now);
        }
        self.look_at_the_field(now);
        self.link.sub_devices.connected();
        self.link.extras.updates.connected(&self.link.config.product_key, &self.link.config.device_key);
        let mut topics = self.link.topics.commands();
        if self.link.config.sub_device_login || self.link.config.acknowledge == Acknowledge::Reply {
            topics.extend(self.link.topics.replies());
        }
        if !self.link.config.sub_device_login {
            let keys: Vec<_> = self.link.sub_devices.keys().map(|(p, d)| (p.to_owned(), d.to_owned())).collect();
            topics.extend(keys.iter().flat_map(|(p, d)| sub_device_commands(p, d)));
        }
        // A plain broker with thousands of sub-devices gets its subscriptions in several packets.
        self.subscribing = self.subscribe(topics, now)?;
        Ok(())
    }

    /// Everything that can be done without waiting.
    fn work(&mut self) -> Result<(), Lost> {
        let now = self.link.now();
        if self.subscribing > 0 && now.at < self.since + SUBSCRIBE_PATIENCE {
            return Ok(());
        }
        while let Some(reply) = self.link.answers.take_unsent() {
            if !self.reply(reply) {
                break;
            }
        }
        self.adopt(now)?;
        self.ask(now)?;
        self.begin_to_flow();
        if self.stopping.is_none() && self.leave_at.is_some_and(|at| at <= now.at) {
            self.begin_to_leave(now);
        }
        if self.flowing {
            if self.link.publisher.time_out(now) {
                return Err(Lost::Broken("messages are not acknowledged".to_owned()));
            }
            self.publish(now)?;
        }
        self.tell_flow(now);
        self.perform(now);
        Ok(())
    }

    /// For the watchdog: whether what is ready moves. What is under way has its own patience.
    fn tell_flow(&self, now: Now) {
        let (link, publisher) = (&self.link, &self.link.publisher);
        let idle = !self.flowing || !publisher.has_ready() || publisher.messages_in_flight() > 0;
        let at = |time| (link.started + time).into_std();
        link.extras.pulses.tell_flow(idle, publisher.wake(now).map(at), at(now.at));
    }

    fn begin_to_flow(&mut self) {
        let ready = !self.link.config.sub_device_login || self.link.sub_devices.ready();
        if self.flowing || !ready {
            return;
        }
        self.flowing = true;
        self.wait_for_absent();
        self.link.said = None;
        self.link.outlet.link(true);
        self.link.counters.cloud_connected.set(1);
        self.link.status.update(|s| s.state = State::Online);
        let (online, refused) = self.link.sub_devices.counts();
        info!(host = %self.link.config.host, sub_devices = online, refused, "the cloud takes data");
    }

    fn publish(&mut self, now: Now) -> Result<(), Lost> {
        loop {
            let requests = &self.requests;
            let id = self.link.free_id(|id| requests.awaits(id));
            let Some(outgoing) = self.link.publisher.next_message(id, now) else {
                return Ok(());
            };
            let topic = match outgoing.route {
                Route::Post => &self.link.topics.post_batch,
                Route::Resume => &self.link.topics.resume_batch,
            };
            let kind = match outgoing.route {
                Route::Post => Kind::Post,
                Route::Resume => Kind::Resume,
            };
            let count = Count { messages: 1, bytes: outgoing.text.len() as u64, readings: outgoing.readings as u64 };
            self.connection.publish(Some(id), topic, outgoing.text)?;
            self.link.account(kind, count, now);
        }
    }

    /// What the publisher decided and can not do itself. Set aside comes before acknowledge.
    fn perform(&mut self, now: Now) {
        self.account_beside(now);
        let effects = self.link.publisher.effects();
        self.link.counters.late_removed.add(effects.late_removed);
        self.link.counters.slowed.add(effects.slowed);
        self.link.accounting.late_removed(effects.late_removed);
        for refused in effects.set_aside {
            debug!(seq = refused.seq, readings = refused.batch.count, code = refused.code, "readings are set aside");
            self.link.outlet.set_aside(refused);
        }
        for waits in effects.hold {
            debug!(seq = waits.seq, readings = waits.batch.count, code = waits.code, "readings wait for their device");
            self.link.outlet.hold(waits);
        }
        if !effects.acknowledge.is_empty() {
            self.link.outlet.acknowledge(&effects.acknowledge);
        }
        for keys in effects.release {
            self.release(keys);
        }
        for (product_key, device_key) in effects.log_in_again {
            self.link.sub_devices.log_in_again(&product_key, &device_key);
        }
        let in_flight = self.link.publisher.messages_in_flight();
        let slowed_to = self.link.publisher.slowed_to(now);
        let accounting = self.link.accounting.shown(now.wall);
        self.link.status.update(|s| (s.in_flight, s.slowed_to, s.accounting) = (in_flight, slowed_to, accounting));
    }

    /// What is read of devices on their way into the topology waits for them. Without logins nobody is on the way.
    fn wait_for_absent(&mut self) {
        let absent = if self.link.config.sub_device_login { self.link.sub_devices.absent() } else { Vec::new() };
        self.link.publisher.absent(absent);
        self.link.sub_devices.settled();
    }

    /// Devices that stand in the topology now may send.
    fn let_in(&mut self) {
        for keys in self.link.sub_devices.settled() {
            if self.link.publisher.present(&keys) {
                self.release(keys);
            }
        }
    }

    /// What is held for this device is handed out again, some of it at a time.
    fn release(&mut self, keys: (String, String)) {
        if !self.link.outlet.release(&keys.0, &keys.1) {
            self.link.publisher.is_free(&keys);
        }
    }

    /// Requests and answers, wherever they were sent from.
    fn account_beside(&mut self, now: Now) {
        let beside = self.connection.take_beside();
        for (kind, (messages, bytes)) in [(Kind::Request, beside.requests), (Kind::Answer, beside.answers)] {
            if messages > 0 {
                self.link.account(kind, Count { messages, bytes, readings: 0 }, now);
                self.link.publisher.sent_beside(usize::try_from(bytes).unwrap_or(usize::MAX), now);
            }
        }
    }

    fn wants(&self, lane: Lane, now: Now) -> Option<usize> {
        if !self.flowing || self.stopping.is_some() {
            return None;
        }
        self.link.publisher.wants(lane, now)
    }

    fn take(&mut self, parcels: Vec<Parcel>) {
        let now = self.link.now();
        self.link.publisher.take(parcels, now);
    }

    fn begin_to_stop(&mut self) {
        self.leaving = false;
        self.stopping = Some(self.link.now().at + FAREWELL);
    }

    /// Nothing new is sent, and what is under way gets its answers.
    fn begin_to_leave(&mut self, now: Now) {
        info!("the gateway can prove itself better now; this connection ends when its messages are answered");
        self.leaving = true;
        self.stopping = Some(now.at + self.link.config.reply_timeout);
    }

    fn is_finished(&self) -> bool {
        let idle = self.link.publisher.messages_in_flight() == 0 && self.link.answers.is_idle();
        // Who stops has no time for more; who leaves by choice asks nothing twice and leaves no command without its answer.
        let asked = !self.leaving || self.requests.is_idle() && self.storing.is_none();
        self.stopping.is_some_and(|end| idle && asked || self.link.started.elapsed() >= end)
    }

    fn wake(&self, now: Now) -> Duration {
        let request = self.requests.wake();
        let login = self.link.sub_devices.wake().filter(|_| self.link.config.sub_device_login);
        let care = self.link.properties.wake().filter(|_| self.flowing);
        let look = self.looks_at().filter(|_| self.link.extras.field.is_some());
        let subscribe = (self.subscribing > 0).then_some(self.since + SUBSCRIBE_PATIENCE);
        let data = self.link.publisher.wake(now).filter(|_| self.flowing);
        let leave = self.leave_at.filter(|_| self.stopping.is_none());
        let soonest = [request, login, care, look, subscribe, data, self.stopping, leave].into_iter().flatten().min();
        soonest.unwrap_or(Duration::MAX).min(now.at + LONGEST_SLEEP)
    }
}

impl From<NotTaken> for Lost {
    fn from(not_taken: NotTaken) -> Lost {
        Lost::Broken(not_taken.to_string())
    }
}

/// What became of storing a device secret; never when none is stored.
async fn next_stored(storing: &mut Option<Activating>) -> (Value, Result<(), String>) {
    match storing {
        Some(storing) => storing.await,
        None => std::future::pending().await,
    }
}

/// Resolves once the daemon stops, and also when nobody is left who could say so.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
