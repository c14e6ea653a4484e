//! PURE. Makes messages of parcels, and decides what an answer means for the readings it speaks of. Time and ids are
//! arguments; what must happen outside is collected in [`Effects`].

mod answers;
mod compose;
mod late;
#[cfg(test)]
mod pace_tests;
mod screen;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;

use super::in_flight::{Content, InFlight, Piece};
use super::refusal::Refusals;
use super::upstream::KeyCache;
use super::upstream::measurepoints::Route;
use crate::config::{Acknowledge, CloudConfig, Compress, LateDataConfig, Order};
use crate::model::{Lane, Parcel, SetAside, Timestamp};
use crate::mqtt::throttle::Throttle;
use crate::mqtt::window::{Pace, Pause, Window};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// EnOS takes 512 KiB a PUBLISH; the topic counts.
const HARD_LIMIT: usize = (512 << 10) - 512;
/// Well below the packet ids of the MQTT client.
const MOST_SLOTS: usize = 1024;
/// `/sys//` and the longest of the two topics' ends, a packet id, and the headers of MQTT and TCP.
const TOPIC_AND_HEADERS: usize = 6 + 35 + 2 + 5 + 40;
/// A connection that ends so soon after something was sent may have ended because of it.
const HANG_UP: Duration = Duration::from_secs(1);
/// A network fails now and then; a peer that has too much hangs up again within this time.
const HANGS_UP_AGAIN: Duration = Duration::from_secs(60);
/// A plain broker that takes longer to acknowledge is no broker any more.
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);
/// How many bytes of JSON one byte of a batch becomes, about.
const EXPANSION: usize = 5;

/// What has to be done outside, in this order.
#[derive(Debug, Default)]
pub struct Effects {
    pub set_aside: Vec<SetAside>,
    /// Readings of devices that are not in order at the cloud: they wait in the outbox until they are.
    pub hold: Vec<SetAside>,
    /// Product and device keys of devices whose readings were taken while others of them are held.
    pub release: Vec<(String, String)>,
    pub acknowledge: Vec<u64>,
    /// Late readings among them that their points wanted removed.
    pub late_removed: u64,
    /// Times the sender slowed down.
    pub slowed: u64,
    /// Product and device keys of sub-devices that should log in again.
    pub log_in_again: Vec<(String, String)>,
}

/// A message to be sent now.
#[derive(Debug)]
pub struct Outgoing {
    pub route: Route,
    pub readings: usize,
    pub text: Vec<u8>,
}

/// The wall clock and the running clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub at: Duration,
    pub wall: Timestamp,
}

/// The peer hung up on what was just sent.
#[derive(Clone, Copy, Debug)]
struct HangUp {
    at: Duration,
    /// How many came before it, each soon after the other.
    nth: u32,
    /// Messages delivered until then.
    delivered: u64,
}

pub struct Publisher {
    acknowledge: Acknowledge,
    sub_device_login: bool,
    late: LateDataConfig,
    linger: Duration,
    reply_timeout: Duration,
    /// How long a plain broker may take; it doubles each time that was too short.
    patience: Duration,
    /// When a plain broker acknowledged last.
    progress: Duration,
    slots: usize,
    limit: usize,
    compress: Compress,
    /// Bytes of text that become one on the way, less a margin; 1 without compression.
    gain: usize,
    in_flight: InFlight,
    window: Window,
    pause: Pause,
    throttle: Throttle,
    pace: Pace,
    /// What a message takes on the wire beside its text.
    overhead: usize,
    refusals: Refusals,
    shut: HashSet<(String, String)>,
    /// Devices that are on their way into the topology: what is sent of them now would be refused.
    absent: HashSet<(String, String)>,
    /// Devices that readings are held for.
    held: HashSet<(String, String)>,
    keys: KeyCache,
    ready: [VecDeque<Piece>; 4],
    /// Messages that wait for a time of their own.
    parked: Vec<(Duration, Content)>,
    live_since: Option<Duration>,
    /// Late readings taken out of parcels that are not finished.
    removed: HashMap<u64, u64>,
    delivered: u64,
    hang_up: Option<HangUp>,
    again_first: bool,
    effects: Effects,
    chance: fastrand::Rng,
}

impl Publisher {
    #[must_use]
    pub fn new(config: &CloudConfig) -> Publisher {
        let limit = config.max_message_bytes.min(HARD_LIMIT);
        Publisher {
            acknowledge: config.acknowledge,
            sub_device_login: config.sub_device_login,
            late: config.late_data,
            linger: config.linger,
            reply_timeout: config.reply_timeout,
            patience: config.reply_timeout,
            progress: Duration::ZERO,
            slots: config.in_flight.clamp(1, MOST_SLOTS),
            limit,
            compress: config.compress,
            gain: 1,
            in_flight: InFlight::default(),
            window: Window::new(config.in_flight.clamp(1, MOST_SLOTS), limit, config.reply_timeout),
            pause: Pause::default(),
            throttle: Throttle::new(config.upstream_bytes_per_second),
            pace: Pace::new(config.backlog_bytes_per_second),
            overhead: TOPIC_AND_HEADERS + config.product_key.len() + config.device_key.len(),
            refusals: Refusals::default(),
            shut: HashSet::new(),
            absent: HashSet::new(),
            held: HashSet::new(),
            keys: KeyCache::default(),
            ready: Default::default(),
            parked: Vec::new(),
            live_since: None,
            removed: HashMap::new(),
            delivered: 0,
            hang_up: None,
            again_first: false,
            effects: Effects::default(),
            chance: fastrand::Rng::new(),
        }
    }

    /// The link is gone: what was taken and not acknowledged comes from the outbox again.
    pub fn lost(&mut self, now: Now) {
        let hung_up = self.in_flight.newest().is_some_and(|at| now.at < at + HANG_UP);
        self.in_flight.clear();
        self.ready = Default::default();
        self.parked.clear();
        self.live_since = None;
        self.removed.clear();
        self.effects = Effects::default();
        if hung_up {
            self.hung_up(now);
        }
        self.refusals.reconnected();
        self.window = Window::new(self.slots, self.limit, self.reply_timeout);
    }

    /// A peer that hangs up on what was just sent has too much, perhaps. Once, it was more likely the network; when it
    /// took nothing in between, it is treated as a refusal.
    fn hung_up(&mut self, now: Now) {
        let last = self.hang_up.filter(|last| now.at < last.at + HANGS_UP_AGAIN);
        let nth = last.map_or(0, |last| last.nth.saturating_add(1));
        self.hang_up = Some(HangUp { at: now.at, nth, delivered: self.delivered });
        match last {
            None => {}
            Some(last) if last.delivered == self.delivered => self.overloaded(now),
            Some(_) => self.effects.slowed += u64::from(self.throttle.hung_up_on(nth, now.at)),
        }
    }

    /// The cloud asks to send nothing for a device, or to begin again.
    pub fn shut(&mut self, product_key: &str, device_key: &str, shut: bool) {
        let keys = (product_key.to_owned(), device_key.to_owned());
        if shut {
            self.shut.insert(keys);
        } else {
            self.shut.remove(&keys);
        }
    }

    /// These are on their way into the topology; their readings wait until [`Publisher::present`]. Where sub-devices do
    /// not log in, as at a plain broker, there is no topology to wait for.
    pub fn absent(&mut self, devices: Vec<(String, String)>) {
        self.absent = devices.into_iter().filter(|_| self.sub_device_login).collect();
    }

    /// It is not on its way any more. Returns whether something is held for it.
    #[must_use]
    pub fn present(&mut self, keys: &(String, String)) -> bool {
        self.absent.remove(keys) && self.held.contains(keys) && !self.shut.contains(keys)
    }

    /// Readings of these are held in the outbox already.
    pub fn holds(&mut self, devices: Vec<(String, String)>) {
        self.held.extend(devices);
    }

    /// Nothing is held for it any more.
    pub fn is_free(&mut self, keys: &(String, String)) {
        self.held.remove(keys);
    }

    /// The device has logged in: if its readings were refused, one is tried now. Returns whether some are held for it.
    #[must_use]
    pub fn is_well(&mut self, product_key: &str, device_key: &str, now: Now) -> bool {
        let keys = (product_key.to_owned(), device_key.to_owned());
        self.refusals.try_device(&keys, now.at);
        self.held.contains(&keys) && !self.shut.contains(&keys)
    }

    /// The cloud took readings of these: what is held for them may follow.
    fn taken(&mut self, content: &Content) {
        if self.held.is_empty() {
            return;
        }
        for piece in &content.pieces {
            for block in piece.batch.blocks().flatten() {
                let Some(names) = piece.names.devices.get(block.device as usize) else { continue };
                let keys = (names.product_key.clone(), names.device_key.clone());
                if self.held.contains(&keys) && !self.shut.contains(&keys) && !self.effects.release.contains(&keys) {
                    self.effects.release.push(keys);
                }
            }
        }
    }

    /// Whether parcels go strictly by age: then [`Lane::Live`] speaks for both lanes.
    #[must_use]
    pub fn in_order(&self) -> bool {
        self.late.order == Order::Fifo
    }

    /// Bytes of batches worth asking the outbox for, if this lane may send.
    #[must_use]
    pub fn wants(&self, lane: Lane, now: Now) -> Option<usize> {
        let queues = match lane {
            _ if self.in_order() => &self.ready[..],
            Lane::Live => &self.ready[..2],
            Lane::Backlog => &self.ready[2..],
        };
        let waiting: usize = queues.iter().flatten().map(|piece| piece.batch.bytes.len()).sum();
        let worth = (self.message_bytes(now.at) / EXPANSION).max(1);
        let may = match lane {
            Lane::Live => waiting == 0 || !self.linger.is_zero() && waiting < worth,
            Lane::Backlog => waiting == 0 && !self.in_order(),
        };
        // What is asked for may wait here for its pace; that is a message at most.
        let paced = lane == Lane::Backlog && self.pace.next() > now.at;
        (may && !paced && now.at >= self.pause.until() && self.fits(lane)).then_some(worth)
    }

    /// When the agreed and the learned pace let this lane go on.
    fn paced_until(&self, lane: Lane) -> Duration {
        match lane {
            Lane::Live => self.throttle.live_from(),
            Lane::Backlog => self.throttle.backlog_from().max(self.pace.next()),
        }
    }

    fn message_bytes(&self, now: Duration) -> usize {
        let on_the_way = self.window.message_bytes().min(self.throttle.room(now).saturating_sub(self.overhead));
        on_the_way.saturating_mul(self.gain)
    }

    fn fits(&self, lane: Lane) -> bool {
        let load = self.in_flight.load();
        match lane {
            Lane::Backlog if !self.in_order() => {
                self.window.backlog_fits(load, self.in_flight.load_of(|content| content.lane == Lane::Backlog))
            }
            _ => self.window.live_fits(load),
        }
    }

    /// Parcels from the outbox.
    pub fn take(&mut self, parcels: Vec<Parcel>, now: Now) {
        for parcel in parcels {
            let piece = Piece { seq: parcel.seq, names: Arc::clone(&parcel.names), batch: parcel.batch };
            let parts = self.by_route(&piece, now);
            self.in_flight.take(parcel.seq, u32::try_from(parts.len()).expect("two routes at most"));
            for (route, piece) in parts {
                self.ready[queue(parcel.lane, route)].push_back(piece);
            }
            if parcel.lane == Lane::Live {
                self.live_since.get_or_insert(now.at);
            }
        }
    }

    /// The next message, if one may go now. `id` is free.
    pub fn next_message(&mut self, id: u16, now: Now) -> Option<Outgoing> {
        if now.at < self.pause.until() {
            return None;
        }
        self.unpark(now.at);
        if self.in_order() {
            return self.next_again(id, now).or_else(|| self.next_oldest(id, now));
        }
        // Turn and turn about, so that neither keeps the other from what a full window or a pause leaves over.
        self.again_first = !self.again_first;
        let again_first = self.again_first;
        let again = if again_first { self.next_again(id, now) } else { None };
        again
            .or_else(|| self.next_of(id, Lane::Live, now))
            .or_else(|| if again_first { None } else { self.next_again(id, now) })
            .or_else(|| self.next_of(id, Lane::Backlog, now))
    }

    fn next_again(&mut self, id: u16, now: Now) -> Option<Outgoing> {
        while self.fits(Lane::Live)
            && self.paced_until(Lane::Live) <= now.at
            && self.suspects() < (self.slots / 2).max(1)
        {
            let content = self.in_flight.next_again()?;
            if let Some(outgoing) = self.send_again(id, content, now) {
                return Some(outgoing);
            }
        }
        None
    }

    fn next_of(&mut self, id: u16, lane: Lane, now: Now) -> Option<Outgoing> {
        for route in [Route::Post, Route::Resume] {
            while self.may_go(lane, route, now) {
                if let Some(outgoing) = self.compose(id, lane, route, now) {
                    return Some(outgoing);
                }
            }
        }
        None
    }

    /// Whatever is oldest, and nothing before it.
    fn next_oldest(&mut self, id: u16, now: Now) -> Option<Outgoing> {
        loop {
            let lanes = [Lane::Live, Lane::Backlog].into_iter();
            let queues = lanes.flat_map(|lane| [Route::Resume, Route::Post].map(|route| (lane, route)));
            let front = |(lane, route)| Some((self.ready[queue(lane, route)].front()?.seq, lane, route));
            let (_, lane, route) = queues.filter_map(front).min_by_key(|(seq, ..)| *seq)?;
            if !self.may_go(lane, route, now) {
                return None;
            }
            if let Some(outgoing) = self.compose(id, lane, route, now) {
                return Some(outgoing);
            }
        }
    }

    fn unpark(&mut self, now: Duration) {
        for (_, content) in self.parked.extract_if(.., |(due, _)| *due <= now) {
            self.in_flight.send_again(content);
        }
    }

    fn suspects(&self) -> usize {
        self.in_flight.load_of(|content| content.suspect || content.trial).messages
    }

    fn may_go(&self, lane: Lane, route: Route, now: Now) -> bool {
        !self.ready[queue(lane, route)].is_empty()
            && self.fits(lane)
            && self.paced_until(lane) <= now.at
            && (lane == Lane::Backlog || self.linger_ends().is_none_or(|end| end <= now.at))
    }

    /// When live readings have waited long enough for company; `None` when they need not wait.
    fn linger_ends(&self) -> Option<Duration> {
        let since = self.live_since.filter(|_| !self.linger.is_zero())?;
        let waiting: usize =
            self.ready[..2].iter().flatten().map(|piece| piece.batch.bytes.len().saturating_mul(EXPANSION)).sum();
        (waiting < self.window.message_bytes() * self.gain).then_some(since + self.linger)
    }

    /// Whether this id is under way.
    #[must_use]
    pub fn awaits(&self, id: u16) -> bool {
        self.in_flight.awaits(id)
    }

    /// The broker has a message. For a plain broker that is all we learn.
    pub fn acknowledged(&mut self, id: u16, now: Now) {
        if self.acknowledge == Acknowledge::Puback {
            self.progress = now.at;
            self.answered(id, 200, "", now);
        }
    }

    /// Messages without an answer are sent again. Returns whether the connection is to be given up.
    pub fn time_out(&mut self, now: Now) -> bool {
        if self.acknowledge == Acknowledge::Puback {
            return self.gives_up(now);
        }
        let Some(since) = now.at.checked_sub(self.reply_timeout) else {
            return false;
        };
        let late = self.in_flight.sent_before(since);
        if late.is_empty() {
            return false;
        }
        self.window.troubled();
        let mut hopeless = false;
        for id in late {
            if let Some(mut sent) = self.in_flight.answered(id) {
                sent.content.timeouts += 1;
                hopeless |= sent.content.timeouts >= 2;
                self.in_flight.send_again(sent.content);
            }
        }
        hopeless
    }

    /// A plain broker acknowledged nothing for too long. MQTT 3.1.1 4.4: a PUBLISH is only sent again on a new
    /// connection, and there it has twice the time, or a slow broker would never be served.
    fn gives_up(&mut self, now: Now) -> bool {
        let silent = self.timeout().is_some_and(|end| end <= now.at);
        if silent {
            self.window.troubled();
            self.patience = (self.patience * 2).min(LONGEST_PATIENCE.max(self.reply_timeout));
        }
        silent
    }

    /// When what is under way has taken too long.
    fn timeout(&self) -> Option<Duration> {
        let oldest = self.in_flight.oldest()?;
        Some(match self.acknowledge {
            Acknowledge::Puback => oldest.max(self.progress) + self.patience,
            Acknowledge::Reply => oldest + self.reply_timeout,
        })
    }

    /// When something changes by itself.
    #[must_use]
    pub fn wake(&self, now: Now) -> Option<Duration> {
        let pause = Some(self.pause.until()).filter(|until| *until > now.at);
        let pace = [Some(self.pace.next()), self.throttled_until()].into_iter().flatten();
        let pace = pace.filter(|next| *next > now.at).min();
        let timeout = self.timeout();
        let parked =
            self.parked.iter().map(|(due, _)| (*due).max(self.pause.until())).min().filter(|due| *due > now.at);
        let linger = self.linger_ends().filter(|end| *end > now.at);
        [pause, pace, timeout, parked, linger].into_iter().flatten().min()
    }

    /// When the next of what is ready may go, as far as the pace is concerned.
    fn throttled_until(&self) -> Option<Duration> {
        let live = self.ready[..2].iter().any(|queue| !queue.is_empty()) || self.in_flight.has_again();
        let backlog = self.ready[2..].iter().any(|queue| !queue.is_empty());
        let live = live.then(|| self.paced_until(Lane::Live));
        live.or_else(|| backlog.then(|| self.paced_until(Lane::Backlog)))
    }

    /// Readings are here to be sent.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.ready.iter().any(|queue| !queue.is_empty()) || self.in_flight.has_again()
    }

    #[must_use]
    pub fn messages_in_flight(&self) -> usize {
        self.in_flight.load().messages
    }

    /// Bytes a second that the cloud is thought to take, while that is less than agreed.
    #[must_use]
    pub fn slowed_to(&self, now: Now) -> Option<u64> {
        self.throttle.slowed_to(now.at)
    }

    /// Something else was sent: it counts for the pace.
    pub fn sent_beside(&mut self, bytes: usize, now: Now) {
        self.throttle.sent(bytes, now.at);
    }

    /// The peer refused the connection for lack of capacity, or hung up on what was just sent.
    pub fn overloaded(&mut self, now: Now) {
        self.effects.slowed += u64::from(self.throttle.refused(now.at));
    }

    /// What has to be done outside since the last call.
    pub fn effects(&mut self) -> Effects {
        let mut effects = std::mem::take(&mut self.effects);
        effects.acknowledge = self.in_flight.finished();
        effects.late_removed = effects.acknowledge.iter().filter_map(|seq| self.removed.remove(seq)).sum();
        effects
    }
}

fn queue(lane: Lane, route: Route) -> usize {
    let lane = match lane {
        Lane::Live => 0,
        Lane::Backlog => 2,
    };
    match route {
        Route::Post => lane,
        Route::Resume => lane + 1,
    }
}
