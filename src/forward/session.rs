//! One connection to a destination from CONNACK to its end: subscribes, then moves data both ways.

use super::command;
use super::composer::{Composer, Message, TopicCache};
use super::ledger::Ledger;
use super::run::{Link, REMINDER};
use super::status::State;
use super::suspicion::{OnItsWay, ReadingId, Suspicion};
use crate::config::DestinationConfig;
use crate::model::accounting::Kind;
use crate::model::command::code;
use crate::model::{BatchBuilder, Command, Lane, Outcome, Parcel, SetAside, Timestamp, order};
use crate::mqtt::connection::{Connection, Heard, Lost};
use crate::mqtt::window::{Load, Window};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

/// How long what is under way may take when the daemon stops.
const FAREWELL: Duration = Duration::from_millis(800);
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// How many bytes of JSON one byte of a batch becomes, about.
const EXPANSION: usize = 8;
/// Encoded bytes asked for at a time at most: with a message for each value they become thousands.
const MOST_BYTES: usize = 16 << 10;
/// Suspects that wait at most; nothing more is taken from the outbox then.
const HELD: usize = 64;
/// Commands under way at a time; more are answered BUSY.
pub(super) const MOST_JOBS: usize = 64;
/// Different reasons for refused messages remembered so that each is told once.
const SAID_REFUSALS: usize = 64;

/// How a session ended.
#[derive(Debug)]
pub(super) enum End {
    Stopped,
    /// `silent`: messages were not acknowledged in time.
    Lost {
        why: Lost,
        delivered: bool,
        silent: bool,
    },
}

/// What was sent and is not acknowledged.
#[derive(Debug)]
struct Sent {
    lane: Lane,
    seqs: Vec<u64>,
    bytes: usize,
    at: Duration,
    single: Option<ReadingId>,
}

/// Parcels on their way to the broker.
pub(super) struct Traffic {
    lanes: [Composer; 2],
    topics: TopicCache,
    ledger: Ledger,
    window: Window,
    suspicion: Suspicion,
    /// Suspects that wait until the broker has taken something else in this connection.
    held: VecDeque<Message>,
    slots: usize,
    limit: usize,
    reply_timeout: Duration,
    sent: HashMap<u16, Sent>,
    load: [Load; 2],
    last_token: u16,
    /// When live readings began to wait for company.
    live_since: Option<Duration>,
    /// When the broker last acknowledged, or had nothing to acknowledge.
    progress: Duration,
}

pub(super) struct Session<'a> {
    link: &'a mut Link,
    connection: Connection,
    since: Duration,
    delivered: bool,
    silent: bool,
    stopping: Option<Duration>,
}

fn index(lane: Lane) -> usize {
    match lane {
        Lane::Live => 0,
        Lane::Backlog => 1,
    }
}

impl Traffic {
    pub(super) fn new(config: &DestinationConfig, lanes: [Composer; 2], topics: TopicCache, ledger: Ledger) -> Traffic {
        let (slots, limit, reply_timeout) = (config.in_flight, config.max_message_bytes, config.reply_timeout);
        Traffic {
            lanes,
            topics,
            ledger,
            window: Window::new(slots, limit, reply_timeout),
            suspicion: Suspicion::new(limit),
            held: VecDeque::new(),
            slots,
            limit,
            reply_timeout,
            sent: HashMap::new(),
            load: [Load::default(); 2],
            last_token: 0,
            live_since: None,
            progress: Duration::ZERO,
        }
    }

    /// The link is gone: what was taken and not acknowledged comes from the outbox again. `closed`: the broker closed
    /// it, or seemed to; `delivered`: it had taken messages before.
    pub(super) fn lost(&mut self, closed: bool, delivered: bool) {
        let mut unanswered = self.sent.values();
        let on_its_way = match (unanswered.next(), unanswered.next()) {
            (None, _) => OnItsWay::Nothing,
            (Some(one), None) => OnItsWay::One { bytes: one.bytes, single: one.single },
            _ => OnItsWay::Several,
        };
        if closed && let Some(id) = self.suspicion.lost(on_its_way, delivered) {
            debug!(?id, "a reading that ends connections will be set aside");
        }
        self.held.clear();
        self.lanes.iter_mut().for_each(Composer::clear);
        self.ledger.clear();
        self.sent.clear();
        self.load = [Load::default(); 2];
        self.live_since = None;
        self.window = Window::new(self.slots, self.limit, self.reply_timeout);
    }

    fn all(&self) -> Load {
        let [live, backlog] = self.load;
        Load { messages: live.messages + backlog.messages, bytes: live.bytes + backlog.bytes }
    }

    fn fits(&self, lane: Lane) -> bool {
        match lane {
            Lane::Live => self.window.live_fits(self.all()),
            Lane::Backlog => self.window.backlog_fits(self.all(), self.load[1]),
        }
    }

    /// How large messages may be now.
    fn message_bytes(&self) -> usize {
        self.window.message_bytes().min(self.suspicion.limit())
    }

    /// Bytes of batches worth asking the outbox for, if this lane may send.
    fn wants(&self, lane: Lane) -> Option<usize> {
        let composer = &self.lanes[index(lane)];
        let drafted = composer.drafted() < self.message_bytes();
        let may = !composer.has_ready() && drafted && self.fits(lane) && self.held.len() < HELD;
        may.then(|| (self.message_bytes() / EXPANSION).clamp(1, MOST_BYTES))
    }

    fn take(&mut self, parcels: &[Parcel], linger: Duration, now: Duration) -> Vec<SetAside> {
        let mut aside = Vec::new();
        let limit = self.message_bytes();
        for parcel in parcels {
            let composer = &mut self.lanes[index(parcel.lane)];
            let (ledger, suspicion, wall) = (&mut self.ledger, &self.suspicion, Timestamp::now());
            aside.extend(composer.take(parcel, &mut self.topics, ledger, suspicion, limit, wall));
            if parcel.lane == Lane::Live && !linger.is_zero() {
                self.live_since.get_or_insert(now);
            } else {
                composer.flush();
            }
        }
        aside
    }

    /// Live readings that have waited long enough for company go.
    fn flush_live(&mut self, linger: Duration, now: Duration, stopping: bool) {
        let Some(since) = self.live_since else { return };
        if stopping || since + linger <= now || self.lanes[0].drafted() >= self.message_bytes() {
            self.lanes[0].flush();
            self.live_since = None;
        }
    }

    /// The next message that may go. `delivered`: the broker has taken one in this connection, which stands for
    /// `connected`.
    fn next(&mut self, delivered: bool, connected: Duration) -> Option<Message> {
        if self.suspicion.is_careful() && !self.sent.is_empty() {
            return None;
        }
        loop {
            let waited = self.held.front().is_some_and(|m| !self.suspicion.holds(m.single, delivered, connected));
            let message = if waited { self.held.pop_front() } else { self.next_composed() }?;
            if !self.suspicion.holds(message.single, delivered, connected) {
                return Some(message);
            }
            self.held.push_back(message);
        }
    }

    fn next_composed(&mut self) -> Option<Message> {
        let lanes = [Lane::Live, Lane::Backlog];
        lanes.into_iter().find_map(|lane| if self.fits(lane) { self.lanes[index(lane)].next() } else { None })
    }

    fn free_token(&mut self) -> u16 {
        loop {
            self.last_token = self.last_token.checked_add(1).unwrap_or(1);
            if !self.sent.contains_key(&self.last_token) {
                return self.last_token;
            }
        }
    }

    fn sent(&mut self, token: u16, sent: Sent) {
        if self.sent.is_empty() {
            self.progress = sent.at;
        }
        let load = &mut self.load[index(sent.lane)];
        load.messages += 1;
        load.bytes += sent.bytes;
        self.sent.insert(token, sent);
    }

    /// False for a message nobody waits for.
    fn acknowledged(&mut self, token: u16, now: Duration) -> bool {
        let Some(sent) = self.sent.remove(&token) else { return false };
        let load = &mut self.load[index(sent.lane)];
        load.messages -= 1;
        load.bytes -= sent.bytes;
        self.window.delivered(sent.bytes, now.saturating_sub(sent.at));
        self.ledger.done(&sent.seqs);
        self.suspicion.acknowledged(sent.single);
        self.progress = now;
        true
    }

    /// Something could go, and nothing is under way: a suspect is held for half a minute at most.
    fn stands(&self) -> bool {
        self.sent.is_empty() && (!self.held.is_empty() || self.lanes.iter().any(Composer::has_ready))
    }

    /// When a broker that acknowledges nothing is given up.
    fn gives_up(&self, patience: Duration) -> Option<Duration> {
        (!self.sent.is_empty()).then_some(self.progress + patience)
    }
}

impl<'a> Session<'a> {
    pub(super) fn new(link: &'a mut Link, connection: Connection) -> Session<'a> {
        let since = link.started.elapsed();
        Session { link, connection, since, delivered: false, silent: false, stopping: None }
    }

    /// Runs until the connection is lost or the daemon stops.
    pub(super) async fn run(mut self, stop: &mut watch::Receiver<bool>) -> End {
        match self.converse(stop).await {
            Ok(()) => {
                self.connection.close(Duration::from_millis(500)).await;
                End::Stopped
            }
            Err(why) => End::Lost { why, delivered: self.delivered, silent: self.silent },
        }
    }

    async fn converse(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Lost> {
        self.greet()?;
        let outlet = Arc::clone(&self.link.ports.outlet);
        loop {
            self.work()?;
            if self.is_finished() {
                return Ok(());
            }
            let (live, backlog) = (self.wants(Lane::Live), self.wants(Lane::Backlog));
            let wake = self.link.started + self.wake();
            self.link.ports.pulses.link.back_by(wake.into_std());
            // The order is the order of importance: hear what is done, then live data, then backlog.
            tokio::select! {
                biased;
                heard = self.connection.next() => { let heard = heard?; self.hear(heard)?; }
                Some(done) = self.link.jobs.join_next(), if !self.link.jobs.is_empty() => {
                    // A command that panicked has no answer; the contract remembers it as interrupted.
                    if let Ok((topic, answer)) = done { self.connection.publish(None, &topic, answer)?; }
                }
                () = stopped(stop), if self.stopping.is_none() => {
                    self.stopping = Some(self.now() + FAREWELL);
                }
                parcels = outlet.live(live.unwrap_or(1)), if live.is_some() => self.take(&parcels),
                parcels = outlet.backlog(backlog.unwrap_or(1)), if backlog.is_some() => self.take(&parcels),
                () = sleep_until(wake) => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.link.started.elapsed()
    }

    /// Subscribes. Nothing waits for the answer: a broker that refuses it still takes data.
    fn greet(&mut self) -> Result<(), Lost> {
        self.link.ports.status.update(|s| {
            s.state = State::Online;
            s.more.connects += 1;
        });
        let mut filters: Vec<String> =
            self.link.config.subscribe.iter().map(|one| one.filter.as_str().to_owned()).collect();
        filters.extend(self.link.config.commands.iter().flat_map(|prefix| command::filters(prefix)));
        filters.sort_unstable();
        filters.dedup();
        if !filters.is_empty() {
            self.connection.subscribe(&filters)?;
        }
        Ok(())
    }

    /// Everything that can be done without waiting.
    fn work(&mut self) -> Result<(), Lost> {
        let now = self.now();
        if self.link.traffic.gives_up(self.link.patience).is_some_and(|end| end <= now) {
            self.silent = true;
            return Err(Lost::Broken("messages are not acknowledged".to_owned()));
        }
        self.link.traffic.flush_live(self.link.config.linger, now, self.stopping.is_some());
        while let Some(message) = self.link.traffic.next(self.delivered, now.saturating_sub(self.since)) {
            self.send(message, now)?;
        }
        let finished = self.link.traffic.ledger.finished();
        if !finished.is_empty() {
            self.link.ports.outlet.acknowledge(&finished);
        }
        let in_flight = self.link.traffic.all().messages;
        self.link.ports.status.update(|s| s.in_flight = in_flight);
        let at = (self.link.started + now).into_std();
        self.link.ports.pulses.tell_flow(!self.link.traffic.stands(), None, at);
        Ok(())
    }

    fn send(&mut self, message: Message, now: Duration) -> Result<(), Lost> {
        let Message { lane, topic, payload, seqs, readings, single } = message;
        let token = self.link.traffic.free_token();
        let bytes = payload.len();
        // What waited is not the newest of its topic any more, so the broker must not keep it as such.
        let retain = self.link.config.retain && lane == Lane::Live;
        self.connection.publish_with(Some(token), &topic, payload, retain)?;
        self.link.traffic.sent(token, Sent { lane, seqs, bytes, at: now, single });
        self.link.ports.counters.messages.add(1);
        self.link.ports.counters.message_bytes.add(bytes as u64);
        let kind = if lane == Lane::Live { Kind::Post } else { Kind::Resume };
        self.link.ports.status.sent(kind, bytes, u64::from(readings));
        Ok(())
    }

    fn hear(&mut self, heard: Heard) -> Result<(), Lost> {
        match heard {
            Heard::Connected => {}
            Heard::Subscribed { refused } => {
                if refused > 0 {
                    self.say("the broker refused a subscription; nothing is received for it");
                }
            }
            Heard::Acknowledged(token) => {
                let now = self.now();
                if self.link.traffic.acknowledged(token, now) {
                    self.acknowledged();
                }
            }
            Heard::Message { topic, payload, retained, again } => {
                if !self.command(&topic, &payload, retained, again)? {
                    self.receive(&topic, &payload, retained);
                }
            }
        }
        Ok(())
    }

    /// False when it is none. An answer always comes: at once for what can not be understood or is too much.
    fn command(&mut self, topic: &str, payload: &[u8], retained: bool, again: bool) -> Result<bool, Lost> {
        let config = &self.link.config;
        let Some(prefix) = &config.commands else { return Ok(false) };
        let Some(asked) = command::read(&config.name, prefix, topic, payload, retained) else { return Ok(false) };
        let refused = match asked.command {
            Ok(command) if self.link.jobs.len() < MOST_JOBS => {
                let command = Command { again, ..command };
                let outcome = self.link.ports.commands.perform(command);
                let (topic, id) = (asked.reply_topic, asked.id);
                self.link.jobs.spawn(async move { (topic, command::answer(id.as_ref(), &outcome.await)) });
                return Ok(true);
            }
            Ok(_) => Outcome::refused(code::BUSY, "too many commands are under way"),
            Err(refused) => refused,
        };
        self.connection.publish(None, &asked.reply_topic, command::answer(asked.id.as_ref(), &refused))?;
        Ok(true)
    }

    fn acknowledged(&mut self) {
        if !self.delivered {
            self.delivered = true;
            self.link.said = None;
            info!(destination = %self.link.config.name, host = %self.link.config.host, "the destination takes data");
        }
        self.link.ports.status.update(|s| s.messages_acknowledged += 1);
    }

    /// A message of the broker that may feed local points.
    fn receive(&mut self, topic: &str, payload: &[u8], retained: bool) {
        let (feed, now) = (self.link.ports.feed.now(), Timestamp::now());
        let read = feed.read(&self.link.config.subscribe, topic, payload, retained, now);
        self.link.ports.status.update(|s| s.more.received.messages += 1);
        for fed in read {
            match fed {
                Ok(mut fed) => {
                    // A message with a time of its own keeps it: delivered twice, it is still one reading.
                    if fed.time == now {
                        let last = self.link.fed.entry((fed.device, fed.point)).or_default();
                        fed.time = order::after(*last, now, false);
                        *last = fed.time;
                    }
                    let mut builder = BatchBuilder::default();
                    builder.begin(fed.device, fed.time);
                    builder.push(fed.point, 0, &fed.value);
                    if let Some(batch) = builder.finish(feed.epoch()) {
                        self.link.ports.counters.readings.add(u64::from(batch.count));
                        self.link.ports.inlet.append(batch);
                    }
                    self.link.ports.status.update(|s| s.more.received.readings += 1);
                }
                Err(why) => self.refuse(topic, why),
            }
        }
    }

    /// Each reason once in a while: a peer that sends nonsense does so again and again.
    fn refuse(&mut self, topic: &str, why: String) {
        let said = &mut self.link.said_refusals;
        said.retain(|_, at| at.elapsed() < REMINDER);
        if !said.contains_key(&why) && said.len() < SAID_REFUSALS {
            warn!(destination = %self.link.config.name, topic, why, "a message feeds no point");
            said.insert(why.clone(), Instant::now());
        } else {
            debug!(destination = %self.link.config.name, topic, why, "a message feeds no point");
        }
        self.link.ports.status.update(|s| {
            s.more.received.refused += 1;
            s.more.received.last_refusal = Some(format!("{topic}: {why}"));
        });
    }

    fn say(&mut self, what: &str) {
        warn!(destination = %self.link.config.name, "{what}");
        self.link.ports.status.update(|s| s.last_error = Some(what.to_owned()));
    }

    fn wants(&self, lane: Lane) -> Option<usize> {
        if self.stopping.is_some() { None } else { self.link.traffic.wants(lane) }
    }

    /// Set aside comes before acknowledge.
    fn take(&mut self, parcels: &[Parcel]) {
        let now = self.now();
        for refused in self.link.traffic.take(parcels, self.link.config.linger, now) {
            debug!(destination = %self.link.config.name, readings = refused.batch.count, reason = %refused.reason,
                "readings are set aside");
            self.link.ports.outlet.set_aside(refused);
        }
    }

    fn is_finished(&self) -> bool {
        self.stopping.is_some_and(|end| self.link.traffic.all().messages == 0 || self.now() >= end)
    }

    fn wake(&self) -> Duration {
        let traffic = &self.link.traffic;
        let linger = traffic.live_since.map(|since| since + self.link.config.linger);
        let soonest = [linger, traffic.gives_up(self.link.patience), self.stopping].into_iter().flatten().min();
        soonest.unwrap_or(Duration::MAX).min(self.now() + LONGEST_SLEEP)
    }
}

/// Resolves once the daemon stops, and also when nobody is left who could say so.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}
