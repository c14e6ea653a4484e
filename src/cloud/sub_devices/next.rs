//! PURE. Which request about sub-devices goes out next, and what it says.

use super::pace::Capacity;
use super::{Ask, Stage, SubDevices, keys_of};
use crate::cloud::upstream::register::NewDevice;
use crate::cloud::upstream::{Message, Whose, login, register, topology};
use std::collections::BTreeSet;
use std::time::Duration;

/// Devices in one request.
const CHUNK: usize = 200;
/// Requests under way at once.
const AT_ONCE: usize = 4;
/// Text of one device beside its keys and words: signs, time and names of fields.
const ITEM: usize = 260;

impl SubDevices {
    /// The next request that may be sent now.
    pub fn next(&mut self, now: Duration) -> Option<Ask> {
        self.pass(now);
        if self.under_way >= AT_ONCE {
            return None;
        }
        let ask = if self.topology_known { self.next_of_all(now)? } else { self.ask_topology()? };
        self.under_way += 1;
        Some(ask)
    }

    /// What time alone changes.
    fn pass(&mut self, now: Duration) {
        while let Some((_, at)) = self.later.first().copied().filter(|(due, _)| *due <= now) {
            self.wait_in(at, Stage::Rest);
            self.begin(at);
        }
        self.pass_silences(now);
        self.pass_partings(now);
    }

    fn ask_topology(&mut self) -> Option<Ask> {
        let wanted = self.config.remove_unknown
            || [&self.register, &self.add, &self.login, &self.alone].iter().any(|set| !set.is_empty());
        if !wanted || self.topology_asked {
            return None;
        }
        self.topology_asked = true;
        Some(Ask::TopoGet)
    }

    fn next_of_all(&mut self, now: Duration) -> Option<Ask> {
        if self.paces.add.next() <= now && !self.register.is_empty() {
            let some = self.chunk(Stage::Register);
            self.paces.add.sent(some.len(), now);
            return Some(Ask::Register(some));
        }
        if self.paces.add.next() <= now && !self.add.is_empty() {
            let some = self.chunk(Stage::Add);
            self.paces.add.sent(some.len(), now);
            self.adding += 1;
            return Some(Ask::TopoAdd(some));
        }
        self.next_login(now).or_else(|| self.next_farewell(now))
    }

    fn next_login(&mut self, now: Duration) -> Option<Ask> {
        match self.capacity {
            Capacity::Probing { .. } => return None,
            Capacity::Full { until, .. } if until > now => return None,
            Capacity::Full { wait, .. } => {
                let at = *self.login.first().or(self.alone.first())?;
                self.capacity = Capacity::Probing { wait };
                self.wait_in(at, Stage::Asked);
                return Some(Ask::Login(vec![at]));
            }
            Capacity::Room => {}
        }
        if self.paces.login.next() <= now && !self.login.is_empty() {
            let some = self.chunk(Stage::Login);
            self.paces.login.sent(some.len(), now);
            return Some(Ask::Login(some));
        }
        let at = self.alone.first().copied().filter(|_| self.paces.alone.next() <= now)?;
        self.paces.alone.sent(1, now);
        self.wait_in(at, Stage::Asked);
        Some(Ask::Login(vec![at]))
    }

    fn next_farewell(&mut self, now: Duration) -> Option<Ask> {
        if self.paces.logout.next() > now {
            return None;
        }
        let ask = if let Some(at) = self.logout.first().copied() {
            self.wait_in(at, Stage::Asked);
            Ask::Logout(at)
        } else if let Some(keys) = self.expel.pop_front() {
            self.departing.push(keys.clone());
            Ask::Expel(keys)
        } else {
            Ask::Remove(self.unknown.pop_front()?)
        };
        self.paces.logout.sent(1, now);
        Some(ask)
    }

    /// Devices of one queue, as many as fit into one request. Whoever registers alone does so alone.
    fn chunk(&mut self, stage: Stage) -> Vec<u32> {
        let mut chunk = Vec::new();
        let mut bytes = 1024;
        while chunk.len() < CHUNK
            && let Some(at) = self.set_of(stage).and_then(|set: &mut BTreeSet<u32>| set.first().copied())
        {
            let alone = stage == Stage::Register && self.devices[at as usize].alone;
            bytes += self.bytes(stage, at);
            if !chunk.is_empty() && (alone || bytes > self.message_bytes) {
                break;
            }
            self.wait_in(at, Stage::Asked);
            chunk.push(at);
            if alone {
                break;
            }
        }
        chunk
    }

    /// About what a device takes in a request, never less.
    fn bytes(&self, stage: Stage, at: u32) -> usize {
        let (product_key, device_key) = keys_of(&self.names, &self.devices[at as usize]);
        let keys = product_key.len() + device_key.len();
        match stage {
            Stage::Register => {
                let index = self.devices[at as usize].index as usize;
                let details = self.details.get(index).map_or(0, |details| {
                    let names: usize = details.names.iter().map(|(a, b)| a.len() + b.len() + 8).sum();
                    let attributes: usize =
                        details.attributes.iter().map(|(name, value)| name.len() + value.to_string().len() + 8).sum();
                    names + attributes + details.description.as_deref().map_or(0, str::len)
                });
                ITEM + keys + 2 * (self.name(at).len() + details)
            }
            _ => ITEM + 2 * keys,
        }
    }

    /// When something may go out that may not now; requests under way wake the caller with their answers.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        let later = self.later.first().map(|(due, _)| *due);
        let silence = self.silences.first().map(|(due, _)| *due);
        let queued = (self.under_way < AT_ONCE && self.topology_known).then(|| self.queued()).flatten();
        let parting = self.parting.front().map(|(due, _)| *due);
        [later, silence, parting, queued].into_iter().flatten().min()
    }

    fn queued(&self) -> Option<Duration> {
        let add = (!self.add.is_empty() || !self.register.is_empty()).then(|| self.paces.add.next());
        let (login, alone) = match self.capacity {
            Capacity::Room => (
                (!self.login.is_empty()).then(|| self.paces.login.next()),
                (!self.alone.is_empty()).then(|| self.paces.alone.next()),
            ),
            Capacity::Full { until, .. } => ((!self.login.is_empty() || !self.alone.is_empty()).then_some(until), None),
            Capacity::Probing { .. } => (None, None),
        };
        let farewell = !self.logout.is_empty() || !self.unknown.is_empty() || !self.expel.is_empty();
        [add, login, alone, farewell.then(|| self.paces.logout.next())].into_iter().flatten().min()
    }

    /// The message of a request. `timestamp` is in milliseconds UTC.
    #[must_use]
    pub fn message(&self, ask: &Ask, timestamp: i64) -> Message {
        let gateway = self.gateway();
        match ask {
            Ask::TopoGet => topology::get(gateway),
            Ask::Register(some) => register::register(gateway, some.iter().map(|at| self.new_device(*at))),
            Ask::TopoAdd(some) => {
                let secret = |at: &u32| self.devices[*at as usize].secret.as_ref().map_or("", |s| s.reveal());
                topology::add(gateway, some.iter().map(|at| (self.whose(*at), secret(at))), timestamp)
            }
            Ask::Login(some) => {
                login::batch(gateway, some.iter().map(|at| (self.whose(*at), self.proof(*at))), timestamp)
            }
            Ask::Logout(at) => login::logout(gateway, self.whose(*at)),
            Ask::Expel(keys) => login::logout(gateway, whose(keys)),
            Ask::Remove(some) => topology::delete(gateway, some.iter().map(whose)),
        }
    }

    fn proof(&self, at: u32) -> login::Proof<'_> {
        let device = &self.devices[at as usize];
        match (&device.secret, &device.product_secret) {
            (Some(secret), _) => login::Proof::Device(secret.reveal()),
            (None, Some(secret)) => login::Proof::Product(secret.reveal()),
            (None, None) => login::Proof::Device(""),
        }
    }

    fn new_device(&self, at: u32) -> NewDevice<'_> {
        static NOTHING: std::sync::LazyLock<serde_json::Map<String, serde_json::Value>> =
            std::sync::LazyLock::new(serde_json::Map::new);
        let details = self.details.get(self.devices[at as usize].index as usize);
        NewDevice {
            whose: self.whose(at),
            name: self.name(at),
            names: details.map_or(&[], |details| &details.names),
            description: details.and_then(|details| details.description.as_deref()),
            timezone: details.and_then(|details| details.timezone.as_deref()).unwrap_or("+00:00"),
            attributes: details.map_or(&NOTHING, |details| &details.attributes),
        }
    }
}

fn whose(keys: &(String, String)) -> Whose<'_> {
    Whose { product_key: &keys.0, device_key: &keys.1 }
}
