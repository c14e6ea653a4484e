//! Commands to devices: pushed without a subscription, as EnOS does, cached while a device is away, and accounted for.

mod api;
mod book;

pub use api::{Change, Form, Order};
pub use book::{CommandError, CommandRecord, CommandReport, CommandState};

use super::topic;
use super::world::{Outbound, World};
use book::{Answered, Book, Entry, id_of, is_raw};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// EnOS limits: commands cached for one device.
const CACHE: usize = 50;
/// How long EnOS waits for an answer when the caller does not say.
const TIMEOUT: Duration = Duration::from_secs(30);

/// All commands of the cloud.
#[derive(Default)]
pub(super) struct Commands {
    book: Book,
    queues: HashMap<u32, Queue>,
    next_id: u64,
    /// Something may be due earlier than before.
    wake: Arc<Notify>,
}

/// The cache of one device: strictly in order, the next only when the one before was answered or timed out.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<u64>,
    outstanding: Option<u64>,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.outstanding.is_none()
    }
}

impl World {
    pub fn next_command_id(&mut self) -> String {
        self.commands.next_id += 1;
        self.commands.next_id.to_string()
    }

    /// Takes a command in. With `pending` it may wait for the device; without, it goes at once, unless others wait already.
    fn issue(&mut self, entry: Entry, pending: Duration) -> Result<(u64, oneshot::Receiver<Answered>), CommandError> {
        let device = entry.device;
        let idle = self.commands.queues.get(&device).is_none_or(Queue::is_idle);
        let online = self.link_of(device).is_some();
        if !online && pending.is_zero() {
            return Err(CommandError::Offline);
        }
        if idle && pending.is_zero() {
            let (number, receiver) = self.commands.book.enter(entry);
            self.send(number)?;
            return Ok((number, receiver));
        }
        if self.commands.queues.get(&device).is_some_and(|queue| queue.waiting.len() >= CACHE) {
            return Err(CommandError::CacheFull);
        }
        let (number, receiver) = self.commands.book.enter(entry);
        if !pending.is_zero() {
            self.commands.book.set_deadline(number, Instant::now() + pending);
        }
        self.commands.queues.entry(device).or_default().waiting.push_back(number);
        self.pump(device);
        self.commands.wake.notify_one();
        Ok((number, receiver))
    }

    /// Sends what waits for a device, if it is its turn.
    pub fn pump(&mut self, device: u32) {
        while self.link_of(device).is_some()
            && let Some(queue) = self.commands.queues.get_mut(&device)
            && queue.outstanding.is_none()
            && let Some(number) = queue.waiting.pop_front()
        {
            // One that could not be sent makes room for the next.
            if self.send(number).is_ok()
                && let Some(queue) = self.commands.queues.get_mut(&device)
            {
                queue.outstanding = Some(number);
            }
        }
        if self.commands.queues.get(&device).is_some_and(Queue::is_idle) {
            self.commands.queues.remove(&device);
        }
    }

    fn send(&mut self, number: u64) -> Result<(), CommandError> {
        let page = self.commands.book.page(number).ok_or(CommandError::Unknown)?;
        let message = Outbound::Publish { topic: page.record.topic.clone(), payload: page.payload.clone(), qos: 1 };
        let link = self.link_of(page.device).and_then(|link| self.links.get(&link));
        let sent = match link {
            Some(link) => link.outbound.try_send(message).map_err(|_| CommandError::Busy),
            None => Err(CommandError::Offline),
        };
        match sent {
            Ok(()) => self.commands.book.sent(number, Instant::now()),
            Err(why) => {
                self.stats.commands_not_sent += 1;
                self.commands.book.close(number, CommandState::NotSent, why);
            }
        }
        self.commands.wake.notify_one();
        sent
    }

    /// Writes down what goes to a device by other ways: a monitor's command, the message that brings a secret.
    pub fn note_command(&mut self, device: u32, topic: &str, payload: &Bytes) {
        let id = if is_raw(topic) { None } else { Some(id_of(serde_json::from_slice(payload).ok().as_ref())) };
        let entry = Entry { device, id, topic: topic.to_owned(), payload: payload.clone(), timeout: TIMEOUT };
        let (number, _nobody_waits) = self.commands.book.enter(entry);
        self.commands.book.sent(number, Instant::now());
        self.commands.wake.notify_one();
    }

    /// Whether a topic is one of those that commands come on.
    pub fn is_command_topic(to: &str) -> bool {
        const EXACT: &[&str] = &[
            "thing/model/down_raw",
            "thing/enable",
            "thing/disable",
            "thing/delete",
            "combine/enable",
            "combine/disable",
            "combine/delete",
            "ota/device/upgrade",
            "thing/activate/info",
        ];
        topic::parse(to).is_some_and(|parts| {
            EXACT.contains(&parts.rest)
                || parts.rest.starts_with("rrpc/request/")
                || parts.rest.starts_with("thing/service/") && !parts.rest.ends_with("_reply")
        })
    }

    /// An answer of a device: to whoever waits for it, and into the book.
    pub fn take_reply(&mut self, topic: &str, payload: &Bytes) {
        let activation = topic.ends_with("/thing/activate/info_reply");
        if activation && super::Knobs::spend(&mut self.knobs.activation.lose_replies) {
            return;
        }
        let Some(number) = self.commands.book.answer(topic, payload, Instant::now()) else { return };
        let Some(page) = self.commands.book.page(number) else { return };
        let (device, open) = (page.device, page.record.state == CommandState::Sent);
        if activation && page.record.code == Some(200) {
            self.registry.devices[device as usize].activated = true;
        }
        if !open {
            self.release(device, number);
        }
    }

    /// The queue of a device may go on if this is what it waited for.
    fn release(&mut self, device: u32, number: u64) {
        if let Some(queue) = self.commands.queues.get_mut(&device)
            && queue.outstanding == Some(number)
        {
            queue.outstanding = None;
            self.pump(device);
        }
    }

    /// Ends what is due.
    fn end_due_commands(&mut self, now: Instant) {
        while let Some(number) = self.commands.book.pop_due(now) {
            let Some(page) = self.commands.book.page(number) else { continue };
            let device = page.device;
            if page.record.state == CommandState::Sent {
                self.commands.book.close(number, CommandState::TimedOut, CommandError::Timeout);
                self.release(device, number);
            } else {
                self.commands.book.close(number, CommandState::Expired, CommandError::Expired);
                self.drop_waiting(device, number);
            }
        }
    }

    fn drop_waiting(&mut self, device: u32, number: u64) -> bool {
        let Some(queue) = self.commands.queues.get_mut(&device) else { return false };
        let before = queue.waiting.len();
        queue.waiting.retain(|waiting| *waiting != number);
        queue.waiting.len() < before
    }
}

/// Ends commands whose time is over, until the cloud is gone and this task with it.
pub(super) async fn watch_deadlines(world: Weak<Mutex<World>>) {
    loop {
        let (next, wake) = {
            let Some(world) = world.upgrade() else { return };
            let mut world = world.lock().expect("the cloud's lock is not poisoned");
            world.end_due_commands(Instant::now());
            (world.commands.book.next_deadline(), Arc::clone(&world.commands.wake))
        };
        match next {
            // Late by nothing: a new deadline that is earlier wakes it.
            Some(next) => drop(tokio::time::timeout_at(next, wake.notified()).await),
            None => wake.notified().await,
        }
    }
}
