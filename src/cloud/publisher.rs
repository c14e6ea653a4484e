//! PURE. Makes messages of parcels, and decides what an answer means for the readings it speaks of. Time and ids are
//! arguments; what must happen outside is collected in [`Effects`].

mod answers;
mod compose;
mod devices;
mod late;
mod next;
#[cfg(test)]
mod pace_tests;
mod patience;
mod screen;
#[cfg(test)]
mod story;
#[cfg(test)]
mod tests;

use super::in_flight::{Content, InFlight, Piece};
use super::refusal::Refusals;
use super::upstream::KeyCache;
use super::upstream::measurepoints::Route;
use crate::config::{Acknowledge, CloudConfig, Compress, LateDataConfig};
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
