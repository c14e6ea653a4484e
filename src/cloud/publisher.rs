//! PURE. Makes messages of parcels, and decides what an answer means for the readings it speaks of. Time and ids are
//! arguments; what must happen outside is collected in [`Effects`].

mod answers;
mod screen;
#[cfg(test)]
mod tests;

use super::in_flight::{Content, InFlight, Piece};
use super::refusal::Refusals;
use super::upstream::KeyCache;
use super::upstream::measurepoints::{Message, NotAdded, Route};
use crate::config::{Acknowledge, CloudConfig};
use crate::model::{Batch, Lane, Parcel, SetAside, Timestamp};
use crate::mqtt::window::{Pace, Pause, Window};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// EnOS takes 512 KiB a PUBLISH; the topic counts.
const HARD_LIMIT: usize = (512 << 10) - 512;
/// Well below the packet ids of the MQTT client.
const MOST_SLOTS: usize = 1024;
/// How many bytes of JSON one byte of a batch becomes, about.
const EXPANSION: usize = 5;

/// What has to be done outside, in this order.
#[derive(Debug, Default)]
pub struct Effects {
    pub set_aside: Vec<SetAside>,
    pub acknowledge: Vec<u64>,
    /// Product and device keys of sub-devices that should log in again.
    pub log_in_again: Vec<(String, String)>,
}

/// A message to be sent now.
#[derive(Debug)]
pub struct Outgoing {
    pub route: Route,
    pub text: Vec<u8>,
}

/// The wall clock and the running clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub at: Duration,
    pub wall: Timestamp,
}

pub struct Publisher {
    acknowledge: Acknowledge,
    sub_device_login: bool,
    late_after: Duration,
    linger: Duration,
    reply_timeout: Duration,
    slots: usize,
    limit: usize,
    in_flight: InFlight,
    window: Window,
    pause: Pause,
    pace: Pace,
    refusals: Refusals,
    shut: HashSet<(String, String)>,
    keys: KeyCache,
    ready: [VecDeque<Piece>; 4],
    /// Messages that wait for a time of their own.
    parked: Vec<(Duration, Content)>,
    live_since: Option<Duration>,
    delivered: u64,
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
            late_after: config.late_after,
            linger: config.linger,
            reply_timeout: config.reply_timeout,
            slots: config.in_flight.clamp(1, MOST_SLOTS),
            limit,
            in_flight: InFlight::default(),
            window: Window::new(config.in_flight.clamp(1, MOST_SLOTS), limit, config.reply_timeout),
            pause: Pause::default(),
            pace: Pace::new(config.backlog_bytes_per_second),
            refusals: Refusals::default(),
            shut: HashSet::new(),
            keys: KeyCache::default(),
            ready: Default::default(),
            parked: Vec::new(),
            live_since: None,
            delivered: 0,
            again_first: false,
            effects: Effects::default(),
            chance: fastrand::Rng::new(),
        }
    }

    /// The link is gone: what was taken and not acknowledged comes from the outbox again.
    pub fn lost(&mut self) {
        self.in_flight.clear();
        self.ready = Default::default();
        self.parked.clear();
        self.live_since = None;
        self.effects = Effects::default();
        self.refusals.reconnected();
        self.window = Window::new(self.slots, self.limit, self.reply_timeout);
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

    /// Bytes of batches worth asking the outbox for, if this lane may send.
    #[must_use]
    pub fn wants(&self, lane: Lane, now: Now) -> Option<usize> {
        let waiting: usize = [Route::Post, Route::Resume]
            .iter()
            .flat_map(|route| &self.ready[queue(lane, *route)])
            .map(|piece| piece.batch.bytes.len())
            .sum();
        let worth = (self.window.message_bytes() / EXPANSION).max(1);
        let may = match lane {
            Lane::Live => waiting == 0 || !self.linger.is_zero() && waiting < worth,
            Lane::Backlog => waiting == 0 && self.pace.next() <= now.at,
        };
        (may && now.at >= self.pause.until() && self.fits(lane)).then_some(worth)
    }

    fn fits(&self, lane: Lane) -> bool {
        let load = self.in_flight.load();
        match lane {
            Lane::Live => self.window.live_fits(load),
            Lane::Backlog => {
                self.window.backlog_fits(load, self.in_flight.load_of(|content| content.lane == Lane::Backlog))
            }
        }
    }

    /// Parcels from the outbox.
    pub fn take(&mut self, parcels: Vec<Parcel>, now: Now) {
        let late = i64::try_from(self.late_after.as_millis()).unwrap_or(i64::MAX);
        let cut = Timestamp(now.wall.0.saturating_sub(late));
        for parcel in parcels {
            let routed = routed(&parcel.batch, cut);
            self.in_flight.take(parcel.seq, u32::try_from(routed.len()).expect("two routes at most"));
            for (route, batch) in routed {
                let piece = Piece { seq: parcel.seq, names: Arc::clone(&parcel.names), batch };
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
        while self.fits(Lane::Live) && self.suspects() < (self.slots / 2).max(1) {
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

    fn unpark(&mut self, now: Duration) {
        for (_, content) in self.parked.extract_if(.., |(due, _)| *due <= now) {
            self.in_flight.send_again(content);
        }
    }

    fn suspects(&self) -> usize {
        self.in_flight.load_of(|content| content.suspect || content.trial).messages
    }

    fn may_go(&self, lane: Lane, route: Route, now: Now) -> bool {
        if self.ready[queue(lane, route)].is_empty() || !self.fits(lane) {
            return false;
        }
        match lane {
            Lane::Live => self.linger_ends().is_none_or(|end| end <= now.at),
            Lane::Backlog => self.pace.next() <= now.at,
        }
    }

    /// When live readings have waited long enough for company; `None` when they need not wait.
    fn linger_ends(&self) -> Option<Duration> {
        let since = self.live_since.filter(|_| !self.linger.is_zero())?;
        let waiting: usize =
            self.ready[..2].iter().flatten().map(|piece| piece.batch.bytes.len().saturating_mul(EXPANSION)).sum();
        (waiting < self.window.message_bytes()).then_some(since + self.linger)
    }

    /// One message from the front of a queue.
    fn compose(&mut self, id: u16, lane: Lane, route: Route, now: Now) -> Option<Outgoing> {
        let limit = self.window.message_bytes();
        let mut message = Message::begin(id, route, limit, limit);
        let mut pieces = Vec::new();
        while let Some(piece) = self.ready[queue(lane, route)].pop_front() {
            let Some(piece) = self.screened(piece, lane, route, now) else {
                continue;
            };
            let keys = self.keys.of(&piece.names);
            match message.add(&keys, &piece.batch) {
                Ok(()) => pieces.push(piece),
                Err(NotAdded::Unfit) => self.set_unfit_aside(piece, lane, route, now),
                Err(NotAdded::Full) if !pieces.is_empty() => {
                    self.ready[queue(lane, route)].push_front(piece);
                    break;
                }
                Err(NotAdded::Full) => {
                    let alone = Content::new(lane, route, vec![piece]);
                    let Some(halves) = alone.halves() else {
                        return self.send_again(id, alone, now);
                    };
                    self.put_back(alone, halves);
                }
            }
        }
        if lane == Lane::Live && self.ready[..2].iter().all(VecDeque::is_empty) {
            self.live_since = None;
        }
        if pieces.is_empty() {
            return None;
        }
        Some(self.sent(id, message, Content::new(lane, route, pieces), now))
    }

    /// A piece too large for one message becomes two at the front of its queue.
    fn put_back(&mut self, whole: Content, halves: [Content; 2]) {
        for half in halves.into_iter().rev() {
            self.in_flight.pieces_added(&half.pieces);
            for piece in half.pieces.into_iter().rev() {
                self.ready[queue(whole.lane, whole.route)].push_front(piece);
            }
        }
        self.in_flight.done(&whole.pieces);
    }

    /// A message of exactly this content; cut again when it has become too large meanwhile.
    fn send_again(&mut self, id: u16, mut content: Content, now: Now) -> Option<Outgoing> {
        let mut message = Message::begin(id, content.route, 0, self.limit);
        let pieces = std::mem::take(&mut content.pieces);
        for piece in pieces {
            let screened =
                if content.trial { Some(piece) } else { self.screened(piece, content.lane, content.route, now) };
            let Some(piece) = screened else {
                continue;
            };
            let keys = self.keys.of(&piece.names);
            match message.add(&keys, &piece.batch) {
                Ok(()) => content.pieces.push(piece),
                Err(NotAdded::Unfit) => self.set_unfit_aside(piece, content.lane, content.route, now),
                Err(NotAdded::Full) => {
                    let rest = Content { pieces: vec![piece], ..content.clone() };
                    self.too_large(rest, "larger than the largest message", now);
                }
            }
        }
        if content.pieces.is_empty() {
            return None;
        }
        Some(self.sent(id, message, content, now))
    }

    fn sent(&mut self, id: u16, message: Message, content: Content, now: Now) -> Outgoing {
        let text = message.finish();
        if content.lane == Lane::Backlog {
            self.pace.sent(text.len(), now.at);
        }
        let route = content.route;
        self.in_flight.sent(id, content, text.len(), now.at);
        Outgoing { route, text }
    }

    /// Whether this id is under way.
    #[must_use]
    pub fn awaits(&self, id: u16) -> bool {
        self.in_flight.awaits(id)
    }

    /// The broker has a message. For a plain broker that is all we learn.
    pub fn acknowledged(&mut self, id: u16, now: Now) {
        if self.acknowledge == Acknowledge::Puback {
            self.answered(id, 200, "", now);
        }
    }

    /// Messages without an answer are sent again. Returns whether the connection is to be given up.
    pub fn time_out(&mut self, now: Now) -> bool {
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
                // MQTT 3.1.1 4.4: a PUBLISH is only sent again on a new connection.
                hopeless |= self.acknowledge == Acknowledge::Puback || sent.content.timeouts >= 2;
                self.in_flight.send_again(sent.content);
            }
        }
        hopeless
    }

    /// When something changes by itself.
    #[must_use]
    pub fn wake(&self, now: Now) -> Option<Duration> {
        let pause = Some(self.pause.until()).filter(|until| *until > now.at);
        let pace = Some(self.pace.next()).filter(|next| *next > now.at);
        let timeout = self.in_flight.oldest().map(|at| at + self.reply_timeout);
        let parked =
            self.parked.iter().map(|(due, _)| (*due).max(self.pause.until())).min().filter(|due| *due > now.at);
        let linger = self.linger_ends().filter(|end| *end > now.at);
        [pause, pace, timeout, parked, linger].into_iter().flatten().min()
    }

    #[must_use]
    pub fn messages_in_flight(&self) -> usize {
        self.in_flight.load().messages
    }

    /// What has to be done outside since the last call.
    pub fn effects(&mut self) -> Effects {
        let mut effects = std::mem::take(&mut self.effects);
        effects.acknowledge = self.in_flight.finished();
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

/// The batch, or its late and its fresh part. Damaged bytes stay whole; the encoder finds them.
fn routed(batch: &Batch, cut: Timestamp) -> Vec<(Route, Batch)> {
    if batch.oldest >= cut {
        return vec![(Route::Post, batch.clone())];
    }
    if batch.newest < cut {
        return vec![(Route::Resume, batch.clone())];
    }
    let fresh = batch.filter(|_, time, _| time >= cut);
    let late = batch.filter(|_, time, _| time < cut);
    match (fresh, late) {
        (Ok(fresh), Ok(late)) => {
            fresh.map(|b| (Route::Post, b)).into_iter().chain(late.map(|b| (Route::Resume, b))).collect()
        }
        _ => vec![(Route::Post, batch.clone())],
    }
}
