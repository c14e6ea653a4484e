//! PURE. Makes messages of parcels, and decides what an answer means for the readings it speaks of. Time and ids are
//! arguments; what must happen outside is collected in [`Effects`].

use super::in_flight::{Content, InFlight, Piece};
use super::refusal::{ALL_POINTS, BUSY_UNTIL_SUSPECT, Refusals, Screened, Verdict, Who, Why};
use super::upstream::KeyCache;
use super::upstream::measurepoints::{Message, NotAdded, Route, sendable};
use super::window::{Pace, Pause, Window};
use crate::config::{Acknowledge, CloudConfig};
use crate::model::{Batch, BatchBuilder, Lane, Names, Parcel, SetAside, Timestamp};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// EnOS takes 512 KiB a PUBLISH; the topic counts.
const HARD_LIMIT: usize = (512 << 10) - 512;
/// Well below the packet ids of the MQTT client.
const MOST_SLOTS: usize = 1024;
/// How many bytes of JSON one byte of a batch becomes, about.
const EXPANSION: usize = 5;
/// A message refused because of a device waits so long for the device's new login.
const LOGIN_TAKES: Duration = Duration::from_secs(2);
/// What a busy cloud refused waits so much longer than the rest, each time.
const OTHERS_FIRST: Duration = Duration::from_millis(200);
/// Codes of our own for what never went out.
const UNSENDABLE: i64 = 0;
const SHUT: i64 = 723;
const TOO_LARGE: i64 = 1008;

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

    /// The piece without what is known to be refused. What is to be tried once more goes a way of its own.
    fn screened(&mut self, piece: Piece, lane: Lane, route: Route, now: Now) -> Option<Piece> {
        if self.refusals.is_empty() && self.shut.is_empty() {
            return Some(piece);
        }
        let epoch = piece.names.epoch;
        let clear = piece.batch.blocks().flatten().all(|block| {
            self.refusals.clear_of(epoch, block.device) && !is_shut(&self.shut, &piece.names, block.device)
        });
        if clear { Some(piece) } else { self.sorted(piece, lane, route, now) }
    }

    /// Takes out of a piece what can not be sent at all; the rest goes back to be sent.
    fn set_unfit_aside(&mut self, piece: Piece, lane: Lane, route: Route, now: Now) {
        let whole = piece.batch.count;
        if let Some(rest) = self.sorted(piece, lane, route, now) {
            if rest.batch.count == whole {
                // Nothing in it is at fault and still it can not be written: the bytes are damaged.
                self.aside(&rest, UNSENDABLE, "the stored batch is damaged", now);
                self.in_flight.done(&[rest]);
            } else {
                self.ready[queue(lane, route)].push_front(rest);
            }
        }
    }

    fn sorted(&mut self, piece: Piece, lane: Lane, route: Route, now: Now) -> Option<Piece> {
        let keys = self.keys.of(&piece.names);
        let epoch = piece.names.epoch;
        let mut refused: Vec<(Why, BatchBuilder)> = Vec::new();
        let mut retry = BatchBuilder::default();
        let (refusals, shut) = (&mut self.refusals, &self.shut);
        let clean = piece.batch.filter(|device, time, entry| {
            let why = if let Err(reason) = sendable(&keys, device, entry) {
                Why { code: UNSENDABLE, reason: reason.to_owned() }
            } else if is_shut(shut, &piece.names, device) {
                Why { code: SHUT, reason: "the cloud has disabled the device".to_owned() }
            } else {
                match refusals.screen(epoch, device, entry.point, now.at) {
                    Screened::Clean => return true,
                    Screened::Refused(why) => why.clone(),
                    Screened::Retry => {
                        retry.begin(device, time);
                        retry.push_ref(entry.point, entry.quality, entry.value);
                        return false;
                    }
                }
            };
            let at = refused.iter().position(|(w, _)| *w == why).unwrap_or_else(|| {
                refused.push((why, BatchBuilder::default()));
                refused.len() - 1
            });
            refused[at].1.begin(device, time);
            refused[at].1.push_ref(entry.point, entry.quality, entry.value);
            false
        });
        let Ok(clean) = clean else {
            self.aside(&piece, UNSENDABLE, "the stored batch is damaged", now);
            self.in_flight.done(&[piece]);
            return None;
        };
        for (why, mut builder) in refused {
            if let Some(batch) = builder.finish(piece.batch.epoch) {
                self.aside(&Piece { batch, ..piece.clone() }, why.code, &why.reason, now);
            }
        }
        if let Some(batch) = retry.finish(piece.batch.epoch) {
            let trial = Content { trial: true, ..Content::new(lane, route, vec![Piece { batch, ..piece.clone() }]) };
            self.in_flight.pieces_added(&trial.pieces);
            self.in_flight.send_again(trial);
        }
        match clean {
            Some(batch) => Some(Piece { batch, ..piece }),
            None => {
                self.in_flight.done(&[piece]);
                None
            }
        }
    }

    fn aside(&mut self, piece: &Piece, code: i64, reason: &str, now: Now) {
        self.effects.set_aside.push(SetAside {
            seq: piece.seq,
            names: Arc::clone(&piece.names),
            batch: piece.batch.clone(),
            code,
            reason: reason.to_owned(),
            at: now.wall,
        });
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

    /// The cloud's answer to a message.
    pub fn answered(&mut self, id: u16, code: i64, reason: &str, now: Now) {
        let Some(sent) = self.in_flight.answered(id) else {
            return;
        };
        match Verdict::of(code) {
            Verdict::Delivered => {
                self.window.delivered(sent.bytes, now.at.saturating_sub(sent.at));
                self.pause.delivered();
                self.delivered += 1;
                if sent.content.trial {
                    whos(&sent.content).for_each(|who| self.refusals.forgiven(who));
                }
                self.in_flight.done(&sent.content.pieces);
            }
            Verdict::Value => self.search(sent.content, code, reason, now),
            Verdict::Device => self.device_refused(sent.content, code, reason, now),
            Verdict::TooLarge => {
                self.limit = self.limit.min((sent.bytes / 2).max(16 << 10));
                self.window.limit(self.limit);
                self.too_large(sent.content, reason, now);
            }
            Verdict::Busy => self.busy(sent.content, code, reason, now),
        }
    }

    /// Halves the message until the guilty value is alone.
    fn search(&mut self, content: Content, code: i64, reason: &str, now: Now) {
        if let Some(parts) = content.halves_by_device().or_else(|| content.halves()) {
            self.in_flight.cut(&content, parts);
            return;
        }
        for who in whos(&content) {
            self.refusals.refused(who, Why { code, reason: reason.to_owned() }, now.at);
        }
        self.give_up(&content, code, reason, now);
    }

    fn device_refused(&mut self, mut content: Content, code: i64, reason: &str, now: Now) {
        let devices = content.devices();
        if self.sub_device_login && !content.logged_in_again {
            content.logged_in_again = true;
            content.busy_since = self.delivered;
            for piece in &content.pieces {
                for block in piece.batch.blocks().flatten() {
                    if let Some(names) = piece.names.devices.get(block.device as usize) {
                        self.effects.log_in_again.push((names.product_key.clone(), names.device_key.clone()));
                    }
                }
            }
            self.parked.push((now.at + LOGIN_TAKES, content));
        } else if let Some(parts) = content.halves_by_device() {
            self.in_flight.cut(&content, parts);
        } else if self.delivered == content.busy_since && content.busy < BUSY_UNTIL_SUSPECT && self.has_others(&content)
        {
            // Nothing at all comes through: more likely the gateway's own trouble than this device's.
            self.busy(content, code, reason, now);
        } else {
            for (epoch, device) in devices {
                let why = Why { code, reason: reason.to_owned() };
                self.refusals.refused((epoch, device, ALL_POINTS), why, now.at);
            }
            self.give_up(&content, code, reason, now);
        }
    }

    fn has_others(&self, content: &Content) -> bool {
        content.pieces.iter().any(|piece| piece.names.devices.len() > 1)
    }

    fn too_large(&mut self, content: Content, reason: &str, now: Now) {
        match content.halves() {
            Some(parts) => self.in_flight.cut(&content, parts),
            None => {
                // `send_again` calls this for a piece that is still counted.
                self.give_up(&content, TOO_LARGE, reason, now);
            }
        }
    }

    fn busy(&mut self, mut content: Content, code: i64, reason: &str, now: Now) {
        if content.busy == 0 && !content.logged_in_again {
            content.busy_since = self.delivered;
        }
        content.busy += 1;
        self.pause.busy(now.at, self.chance.f64());
        self.window.troubled();
        if content.busy >= BUSY_UNTIL_SUSPECT && self.delivered > content.busy_since {
            self.search(content, code, reason, now);
        } else {
            // After the pause the others go first: it may be this message alone that the cloud stumbles over.
            self.parked.push((self.pause.until() + OTHERS_FIRST * content.busy, content));
        }
    }

    fn give_up(&mut self, content: &Content, code: i64, reason: &str, now: Now) {
        for piece in &content.pieces {
            self.aside(piece, code, reason, now);
        }
        self.in_flight.done(&content.pieces);
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

fn is_shut(shut: &HashSet<(String, String)>, names: &Names, device: u32) -> bool {
    !shut.is_empty()
        && names
            .devices
            .get(device as usize)
            .is_some_and(|d| shut.contains(&(d.product_key.clone(), d.device_key.clone())))
}

fn whos(content: &Content) -> impl Iterator<Item = Who> {
    let pieces = content.pieces.iter();
    pieces.flat_map(|piece| {
        piece.batch.blocks().flatten().flat_map(|block| {
            let epoch = piece.names.epoch;
            block.entries().flatten().map(move |entry| (epoch, block.device, entry.point))
        })
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceNames, PointName, PointNames, Value};
    use serde_json::Value as Json;

    fn config() -> CloudConfig {
        CloudConfig {
            host: String::new(),
            port: 0,
            tls: None,
            product_key: "gwPK".to_owned(),
            device_key: "gw".to_owned(),
            device_secret: None,
            acknowledge: Acknowledge::Reply,
            sub_device_login: true,
            keep_alive: Duration::from_secs(60),
            reply_timeout: Duration::from_secs(30),
            late_after: Duration::from_secs(7200),
            linger: Duration::ZERO,
            max_message_bytes: 500_000,
            in_flight: 4,
            backlog_bytes_per_second: None,
        }
    }

    /// Three devices of four points, a publisher, and a clock that the test moves.
    struct Bench {
        publisher: Publisher,
        names: Arc<Names>,
        now: Duration,
        seq: u64,
        id: u16,
        acknowledged: Vec<u64>,
        aside: Vec<(i64, u32)>,
        log_in_again: usize,
    }

    impl Bench {
        fn new(config: &CloudConfig) -> Bench {
            let points = (0..4).map(|n| PointName { id: format!("p{n}"), has_quality: false }).collect();
            let points = Arc::new(PointNames { model: String::new(), points });
            let devices = (0..3).map(|n| DeviceNames {
                name: format!("d{n}"),
                product_key: "pk".to_owned(),
                device_key: format!("d{n}"),
                asset_id: None,
                points: Arc::clone(&points),
            });
            Bench {
                publisher: Publisher::new(config),
                names: Arc::new(Names::new(devices.collect())),
                now: Duration::from_secs(1),
                seq: 0,
                id: 0,
                acknowledged: Vec::new(),
                aside: Vec::new(),
                log_in_again: 0,
            }
        }

        fn now(&self) -> Now {
            let millis = i64::try_from(self.now.as_millis()).unwrap();
            Now { at: self.now, wall: Timestamp(1_700_000_000_000 + millis) }
        }

        fn take(&mut self, lane: Lane, devices: &[u32]) {
            let mut builder = BatchBuilder::default();
            for device in devices {
                builder.begin(*device, self.now().wall);
                (0..4).for_each(|point| builder.push(point, 0, &Value::Int(1)));
            }
            self.seq += 1;
            let batch = builder.finish(self.names.epoch).unwrap();
            let parcel = Parcel { seq: self.seq, lane, names: Arc::clone(&self.names), batch };
            self.publisher.take(vec![parcel], self.now());
        }

        fn next(&mut self) -> Option<(u16, Json)> {
            self.id += 1;
            let outgoing = self.publisher.next_message(self.id, self.now())?;
            Some((self.id, serde_json::from_slice(&outgoing.text).unwrap()))
        }

        fn answer(&mut self, id: u16, code: i64) {
            self.publisher.answered(id, code, "because", self.now());
            let effects = self.publisher.effects();
            self.aside.extend(effects.set_aside.iter().map(|aside| (aside.code, aside.batch.count)));
            self.acknowledged.extend(effects.acknowledge);
            self.log_in_again += effects.log_in_again.len();
        }

        /// Answers everything until nothing is left to do, moving the clock through all pauses.
        fn settle(&mut self, mut code: impl FnMut(&Json) -> i64) -> usize {
            let mut messages = 0;
            for _ in 0..10_000 {
                while let Some((id, json)) = self.next() {
                    messages += 1;
                    let code = code(&json);
                    self.answer(id, code);
                }
                match self.publisher.wake(self.now()) {
                    Some(wake) => self.now = wake,
                    None => return messages,
                }
            }
            panic!("it never comes to rest");
        }
    }

    fn has(json: &Json, device: &str, point: &str) -> bool {
        json["params"]
            .as_array()
            .unwrap()
            .iter()
            .any(|item| item["deviceKey"] == device && item["measurepoints"].get(point).is_some())
    }

    #[test]
    fn a_mended_model_is_noticed_after_ten_minutes_at_the_price_of_one_message() {
        let mut bench = Bench::new(&config());
        bench.take(Lane::Live, &[0, 1, 2]);
        bench.settle(|json| if has(json, "d1", "p2") { 1204 } else { 200 });
        assert_eq!((bench.aside.as_slice(), bench.acknowledged.as_slice()), ([(1204, 1)].as_slice(), [1].as_slice()));
        bench.now += Duration::from_secs(700);
        bench.take(Lane::Live, &[0, 1, 2]);
        assert_eq!(bench.settle(|json| if has(json, "d1", "p2") { 1204 } else { 200 }), 2, "the trial travels alone");
        assert_eq!(bench.aside.len(), 2);
        bench.now += Duration::from_secs(700);
        bench.take(Lane::Live, &[1]);
        assert_eq!(bench.settle(|_| 200), 2);
        bench.take(Lane::Live, &[1]);
        assert_eq!(bench.settle(|_| 200), 1, "the point is like any other again");
        assert_eq!((bench.aside.len(), bench.acknowledged.len()), (2, 4));
    }

    #[test]
    fn a_cloud_that_stumbles_over_one_value_for_ever_does_not_keep_the_rest() {
        let mut bench = Bench::new(&config());
        let mut sent_bad = 0;
        for round in 0..200 {
            bench.take(Lane::Live, if round < 10 { &[0, 1, 2] } else { &[0] });
            sent_bad += usize::from(round < 10);
            while let Some((id, json)) = bench.next() {
                bench.answer(id, if has(&json, "d2", "p3") { 500 } else { 200 });
            }
            bench.now = bench.publisher.wake(bench.now()).unwrap_or(bench.now + Duration::from_secs(1));
        }
        assert_eq!(bench.acknowledged.len(), 200);
        assert_eq!(bench.aside, vec![(500, 1); sent_bad]);
    }

    #[test]
    fn when_nobody_may_send_no_device_is_blamed_at_once() {
        let mut bench = Bench::new(&config());
        bench.take(Lane::Live, &[0, 1]);
        let mut refusals = 0;
        bench.settle(|_| {
            refusals += 1;
            if refusals > 5 { 200 } else { 1009 }
        });
        assert_eq!((bench.aside.len(), bench.acknowledged.as_slice()), (0, [1].as_slice()));
        assert!(bench.log_in_again >= 2);
    }

    #[test]
    fn live_readings_wait_for_company_as_long_as_asked() {
        let mut bench = Bench::new(&CloudConfig { linger: Duration::from_millis(500), ..config() });
        bench.take(Lane::Live, &[0]);
        assert!(bench.next().is_none());
        assert!(bench.publisher.wants(Lane::Live, bench.now()).is_some(), "company is welcome");
        bench.now += Duration::from_millis(300);
        bench.take(Lane::Live, &[1]);
        assert_eq!(bench.publisher.wake(bench.now()), Some(Duration::from_millis(1500)));
        bench.now += Duration::from_millis(200);
        let (_, json) = bench.next().unwrap();
        assert!(has(&json, "d0", "p0") && has(&json, "d1", "p0"));
    }

    #[test]
    fn backlog_keeps_its_pace_and_leaves_a_slot_to_live_data() {
        let mut bench = Bench::new(&CloudConfig { backlog_bytes_per_second: Some(1000), ..config() });
        bench.take(Lane::Backlog, &[0]);
        assert!(bench.next().is_some());
        assert_eq!(bench.publisher.wants(Lane::Backlog, bench.now()), None, "the pace");
        let mut bench = Bench::new(&config());
        for _ in 0..3 {
            bench.take(Lane::Backlog, &[0]);
            assert!(bench.next().is_some());
        }
        assert_eq!(bench.publisher.wants(Lane::Backlog, bench.now()), None);
        bench.take(Lane::Live, &[0]);
        assert!(bench.next().is_some());
        assert_eq!(bench.publisher.wants(Lane::Live, bench.now()), None, "the window is full");
    }

    #[test]
    fn a_lost_link_forgets_all_and_late_answers_mean_nothing() {
        let mut bench = Bench::new(&config());
        bench.take(Lane::Live, &[0]);
        let (id, _) = bench.next().unwrap();
        bench.publisher.lost();
        bench.answer(id, 200);
        assert!(bench.acknowledged.is_empty());
        assert!(bench.next().is_none());
    }
}
