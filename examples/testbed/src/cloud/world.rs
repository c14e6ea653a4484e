//! The state of the cloud: who is connected, who is logged in, what was received.

use super::commands::Commands;
use super::connect_rules::ConnectHistory;
use super::knobs::Knobs;
use super::model::Model;
use super::pace::Pace;
use super::registry::{Registry, Triple};
use super::subscriptions::Subscriptions;
use super::topic;
use crate::ledger::Ledger;
use bytes::Bytes;
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Everything behind the cloud's one lock.
pub(super) struct World {
    pub registry: Registry,
    pub ledger: Ledger,
    /// Devices the ledger knows: the first so many of the registry.
    books: usize,
    pub knobs: Knobs,
    pub stats: Stats,
    pub links: HashMap<u64, Link>,
    next_link: u64,
    /// Directly connected device -> its link.
    pub device_links: HashMap<u32, u64>,
    /// Logged-in sub-device -> the link of its gateway.
    pub online: HashMap<u32, u64>,
    pub histories: HashMap<u32, ConnectHistory>,
    /// Product -> the link of its integration channel.
    pub channels: HashMap<u32, u64>,
    pub commands: Commands,
    journal: Journal,
    pub events: VecDeque<Event>,
    pub reports: VecDeque<Report>,
    pub monitor: Option<(String, String)>,
    /// Scratch of the measurement-point path: the resolved points of one message.
    pub resolved: Vec<u32>,
}

/// One connection.
pub(super) struct Link {
    pub outbound: mpsc::Sender<Outbound>,
    pub kick: Arc<Notify>,
    pub peer: Option<Peer>,
    pub subscriptions: Subscriptions,
    /// Sub-devices logged in over it.
    pub online: usize,
    pub pace: Pace,
    /// Serial number, in hex, of the certificate its client showed.
    pub certificate: Option<String>,
    /// Both sides compress their payloads.
    pub gzip: bool,
    /// Its device logged in with the product's secret, to be sent its own.
    pub activating: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Device(u32),
    /// The integration channel of a product.
    Channel(u32),
    /// A client that only looks (and may publish anything), known by the monitor's password.
    Monitor,
}

/// What others hand to a connection's task.
#[derive(Debug)]
pub(super) enum Outbound {
    Publish { topic: String, payload: Bytes, qos: u8 },
    ReleasePubacks,
}

/// Counters of the cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stats {
    pub connects: u64,
    pub connects_refused: u64,
    pub takeovers: u64,
    pub messages: u64,
    pub message_bytes: u64,
    pub live_messages: u64,
    pub late_messages: u64,
    pub values: u64,
    /// Values that `skipInvalidMeasurepoints` let pass away.
    pub values_skipped: u64,
    /// Requests answered with a code other than 200.
    pub refused: u64,
    /// Messages for other clients that did not fit their queue.
    pub not_routed: u64,
    pub logins: u64,
    pub activations: u64,
    /// Requests whose method is one of the vendor's Python SDK's misspellings.
    pub misspelt_methods: u64,
    /// Messages beyond the rate limit.
    pub over_limit: u64,
    /// Commands that could not be handed to their connection.
    pub commands_not_sent: u64,
}

/// A log, network status or connection state a device posted.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    pub product_key: String,
    pub device_key: String,
    /// The topic below the device.
    pub kind: String,
    pub params: Value,
}

/// An event a device posted.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Event {
    pub product_key: String,
    pub device_key: String,
    pub event: String,
    pub outputs: Value,
    pub time: Option<i64>,
}

/// The last messages as they came.
struct Journal {
    entries: VecDeque<(String, Bytes)>,
    limit: usize,
}

/// Events, and reports, kept for a test to look at; older ones go.
const EVENTS_KEPT: usize = 10_000;

impl World {
    pub fn new(registry: Registry, journal: usize, monitor: Option<(String, String)>) -> World {
        let mut world = World {
            ledger: Ledger::default(),
            books: 0,
            knobs: Knobs::default(),
            stats: Stats::default(),
            links: HashMap::new(),
            next_link: 0,
            device_links: HashMap::new(),
            online: HashMap::new(),
            histories: HashMap::new(),
            channels: HashMap::new(),
            commands: Commands::default(),
            journal: Journal { entries: VecDeque::new(), limit: journal },
            events: VecDeque::new(),
            reports: VecDeque::new(),
            monitor,
            resolved: Vec::new(),
            registry,
        };
        world.open_books();
        world
    }

    /// Adds a device that became known while running.
    pub fn add_device(&mut self, triple: Triple, is_gateway: bool, gateway: Option<u32>) -> u32 {
        let number = self.registry.add(triple, is_gateway, gateway, None);
        self.open_books();
        number
    }

    /// Adds a registered device, in no topology yet.
    pub fn add_loose_device(&mut self, triple: Triple, model: Option<Arc<Model>>) -> u32 {
        let number = self.registry.loose_device(triple, model);
        self.open_books();
        number
    }

    /// Opens the ledger for every device that came into the registry since.
    pub fn open_books(&mut self) {
        while self.books < self.registry.devices.len() {
            self.open_book(u32::try_from(self.books).expect("fewer than 4 billion devices"));
            self.books += 1;
        }
    }

    /// Ledger and registry count devices and points alike.
    fn open_book(&mut self, number: u32) {
        let device = self.registry.get(number);
        let name = format!("{}/{}", device.triple.product_key, device.triple.device_key);
        let book = self.ledger.device(&name);
        assert_eq!(book, number, "invariant: every device is added to registry and ledger together");
        let model: Option<Arc<Model>> = device.model.clone();
        for point in model.iter().flat_map(|model| &model.points) {
            self.ledger.add_point(number, &point.id);
        }
    }

    pub fn open_link(
        &mut self,
        outbound: mpsc::Sender<Outbound>,
        kick: Arc<Notify>,
        certificate: Option<String>,
    ) -> u64 {
        self.next_link += 1;
        let link = Link {
            outbound,
            kick,
            peer: None,
            subscriptions: Subscriptions::default(),
            online: 0,
            pace: Pace::default(),
            certificate,
            gzip: false,
            activating: false,
        };
        self.links.insert(self.next_link, link);
        self.next_link
    }

    /// The connection ended: its device and the sub-devices behind it are offline.
    pub fn close_link(&mut self, link: u64) {
        self.links.remove(&link);
        self.device_links.retain(|_, owner| *owner != link);
        self.channels.retain(|_, owner| *owner != link);
        self.online.retain(|_, owner| *owner != link);
    }

    /// A sub-device is logged in over this link.
    pub fn set_online(&mut self, device: u32, link: u64) {
        self.set_offline(device);
        self.online.insert(device, link);
        if let Some(link) = self.links.get_mut(&link) {
            link.online += 1;
        }
    }

    pub fn set_offline(&mut self, device: u32) {
        if let Some(link) = self.online.remove(&device)
            && let Some(link) = self.links.get_mut(&link)
        {
            link.online -= 1;
        }
    }

    /// All logins are forgotten.
    pub fn forget_logins(&mut self) {
        self.online.clear();
        self.links.values_mut().for_each(|link| link.online = 0);
    }

    /// A device that is known and, if it is a new one, can be seen already.
    pub fn find(&self, product_key: &str, device_key: &str) -> Option<u32> {
        let device = self.registry.find(product_key, device_key)?;
        let hidden = self.registry.get(device).visible_from.is_some_and(|from| Instant::now() < from);
        (!hidden).then_some(device)
    }

    pub fn peer(&self, link: u64) -> Option<Peer> {
        self.links.get(&link)?.peer
    }

    /// The link that speaks for a device: its own, or that of the gateway it is logged in through.
    pub fn link_of(&self, device: u32) -> Option<u64> {
        self.device_links.get(&device).or_else(|| self.online.get(&device)).copied()
    }

    /// Whether this link may speak for the device now.
    pub fn speaks_for(&self, link: u64, device: u32) -> bool {
        self.device_links.get(&device) == Some(&link) || self.online.get(&device) == Some(&link)
    }

    /// QoS a link asked for on a topic; `None` when it did not subscribe.
    pub fn granted(&self, link: u64, to: &str) -> Option<u8> {
        self.links.get(&link)?.subscriptions.qos(to)
    }

    /// Hands a message to whoever else should see it: monitors that subscribed to its topic and, when a monitor
    /// publishes it, the device it is for, subscribed or not, as EnOS pushes its commands.
    pub fn route(&mut self, from: u64, to: &str, payload: &Bytes) {
        let from_monitor = self.peer(from) == Some(Peer::Monitor);
        let pushed = if from_monitor { self.device_link(to) } else { None };
        let mut missed = 0;
        for (number, link) in &self.links {
            let subscribed = || link.subscriptions.qos(to);
            let qos = match link.peer {
                _ if pushed == Some(*number) => Some(1),
                Some(Peer::Monitor) => subscribed(),
                Some(Peer::Device(_)) if from_monitor => subscribed(),
                _ => None,
            };
            if let Some(qos) = qos {
                let publish = Outbound::Publish { topic: to.to_owned(), payload: payload.clone(), qos };
                missed += u64::from(link.outbound.try_send(publish).is_err());
            }
        }
        self.stats.not_routed += missed;
    }

    /// The link that speaks for the device a topic names.
    pub fn device_link(&self, to: &str) -> Option<u64> {
        let parts = topic::parse(to)?;
        self.link_of(self.registry.find(parts.product_key, parts.device_key)?)
    }

    pub fn has_monitors(&self) -> bool {
        self.monitor.is_some() && self.links.values().any(|link| link.peer == Some(Peer::Monitor))
    }

    pub fn journal(&mut self, to: &str, payload: &Bytes) {
        if self.journal.limit == 0 {
            return;
        }
        if self.journal.entries.len() == self.journal.limit {
            self.journal.entries.pop_front();
        }
        self.journal.entries.push_back((to.to_owned(), payload.clone()));
    }

    pub fn journal_entries(&self) -> Vec<(String, Bytes)> {
        self.journal.entries.iter().cloned().collect()
    }

    pub fn keep_event(&mut self, event: Event) {
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub fn keep_report(&mut self, report: Report) {
        if self.reports.len() == EVENTS_KEPT {
            self.reports.pop_front();
        }
        self.reports.push_back(report);
    }
}
