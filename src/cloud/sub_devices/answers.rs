//! PURE. What the cloud's answers mean for sub-devices.

use super::pace::{Capacity, lacks_room};
use super::{Ask, Keys, Stage, SubDevices};
use crate::cloud::reply::{OK, Reply};
use crate::cloud::status::Login;
use crate::model::Secret;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

pub(super) const FIRST_RETRY: Duration = Duration::from_secs(10);
pub(super) const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// Keys in one request to remove devices.
const REMOVED_AT_ONCE: usize = 200;

impl SubDevices {
    /// The cloud's answer, or `None` when it did not come in time. Returns what a person should read.
    pub fn answered(&mut self, ask: &Ask, reply: Option<&Reply>, now: Duration) -> Vec<String> {
        self.under_way = self.under_way.saturating_sub(1);
        match ask {
            Ask::TopoGet => self.topology(reply),
            Ask::Register(some) => self.registered(some, reply, now),
            Ask::TopoAdd(some) => self.added(some, reply),
            Ask::Login(some) => self.logged_in(some, reply, now),
            Ask::Logout(at) => self.logged_out(*at, now),
            Ask::Expel(keys) => {
                self.departing.retain(|departing| departing != keys);
                Vec::new()
            }
            Ask::Remove(keys) => self.removed(keys, reply),
        }
    }

    fn topology(&mut self, reply: Option<&Reply>) -> Vec<String> {
        self.topology_known = true;
        let Some(reply) = reply.filter(|reply| reply.code == OK) else {
            // 1200 often means that the caller is no gateway; adding tells more precisely.
            return vec!["topology is not known; all sub-devices are added".to_owned()];
        };
        let mut strangers = Vec::new();
        for keys in keys_in(&reply.data) {
            match self.find(&keys.0, &keys.1) {
                Some(at) => {
                    self.devices[at as usize].under_us = true;
                    // What was read of it may wait already: a gateway without a package asks for no topology.
                    self.settled.push(at);
                    if self.devices[at as usize].stage == Stage::Add {
                        self.begin(at);
                    }
                }
                None => strangers.push(keys),
            }
        }
        if strangers.is_empty() {
            return Vec::new();
        }
        let count = strangers.len();
        if self.config.remove_unknown {
            self.unknown.extend(strangers.chunks(REMOVED_AT_ONCE).map(<[Keys]>::to_vec));
            return vec![format!("{count} sub-devices of the topology are not in the package and are removed from it")];
        }
        vec![format!("{count} sub-devices of the topology are not in the package; `remove_unknown: true` removes them")]
    }

    /// Whatever the answer, the login decides: who is not under the gateway fails there and comes here again.
    fn added(&mut self, some: &[u32], reply: Option<&Reply>) -> Vec<String> {
        self.adding = self.adding.saturating_sub(1);
        let known = |at: &u32| self.devices[*at as usize].told.is_some() || self.devices[*at as usize].is_fresh();
        let told = some.iter().all(known);
        for at in some {
            self.devices[*at as usize].under_us = true;
            self.settled.push(*at);
            if self.goes_on(*at) {
                self.begin(*at);
            }
        }
        match reply {
            Some(reply) if reply.code == OK => Vec::new(),
            _ if told => Vec::new(),
            Some(reply) => vec![format!("topology add: code {}: {}", reply.code, cut(&reply.message))],
            None => vec!["topology add: no answer".to_owned()],
        }
    }

    /// Whether a device that was asked about is still to be brought online; what came between is done here.
    pub(super) fn goes_on(&mut self, at: u32) -> bool {
        let device = &self.devices[at as usize];
        let (wanted, away) = (device.wanted(), device.away);
        if !wanted || away {
            self.wait_in(at, Stage::Rest);
            self.answered_once(at);
            if wanted {
                self.set_login(at, Login::Away);
            }
        }
        wanted && !away
    }

    fn answered_once(&mut self, at: u32) {
        let first = !std::mem::replace(&mut self.devices[at as usize].answered, true);
        self.unanswered -= usize::from(first);
    }

    fn logged_in(&mut self, some: &[u32], reply: Option<&Reply>, now: Duration) -> Vec<String> {
        self.first_login = true;
        let said = Said::of(reply);
        // One alone answers for itself; many without lists are in trouble together, and no one of them is to blame.
        let blame = some.len() > 1 && reply.is_some() && (said.has_lists() || !(429..600).contains(&said.code));
        let (mut news, mut full) = (Vec::new(), 0);
        for at in some {
            let whose = self.whose(*at);
            let keys = (whose.product_key.to_owned(), whose.device_key.to_owned());
            let secret = said.logged_in.get(&keys).cloned().flatten();
            if let Some(secret) = secret.filter(|_| self.devices[*at as usize].secret.is_none()) {
                self.new_secrets.push((*at, secret));
            }
            if said.all || said.logged_in.contains_key(&keys) {
                self.is_in(*at);
            } else if self.goes_on(*at) {
                let reason = reason_for(said.message, &keys.0, &keys.1);
                let room = !lacks_room(said.code_for(some.len(), &reason), &reason);
                full += usize::from(!room);
                if !self.devices[*at as usize].is_fresh() {
                    news.extend(self.told(*at, said.code, &reason, "login"));
                }
                self.answered_once(*at);
                self.set_login(*at, Login::Refused { code: said.code, message: reason });
                if room {
                    self.devices[*at as usize].alone |= blame;
                    self.retry(*at, now);
                } else {
                    let stage = self.devices[*at as usize].login_stage();
                    self.wait_in(*at, stage);
                }
            }
        }
        if full > 0 {
            self.capacity.refused(now);
            news.truncate(1);
            news.push(
                "the cloud takes no more sub-devices online; the others are tried again later, one at a time, and \
                       their data goes on meanwhile"
                    .to_owned(),
            );
        } else if said.all || !said.logged_in.is_empty() {
            if matches!(self.capacity, Capacity::Probing { .. }) {
                self.capacity = Capacity::Room;
            }
        } else {
            self.capacity.undecided(now);
        }
        news
    }

    fn is_in(&mut self, at: u32) {
        self.answered_once(at);
        let device = &mut self.devices[at as usize];
        (device.tries, device.told, device.alone, device.fresh) = (0, None, false, false);
        if !device.wanted() {
            self.wait_in(at, Stage::Rest);
            return;
        }
        let away = device.away;
        self.set_login(at, Login::Online);
        self.wait_in(at, if away { Stage::Logout } else { Stage::Rest });
    }

    /// The same refusal is told once.
    pub(super) fn told(&mut self, at: u32, code: i64, reason: &str, what: &str) -> Option<String> {
        let told = Some(Box::new((code, reason.to_owned())));
        if self.devices[at as usize].told == told {
            return None;
        }
        self.devices[at as usize].told = told;
        Some(format!("{what} of {} refused: code {code}: {reason}", self.name(at)))
    }

    /// Later again, from the topology on: perhaps it is missing there, or was moved.
    pub(super) fn retry(&mut self, at: u32, now: Duration) {
        let device = &mut self.devices[at as usize];
        let wait = FIRST_RETRY.saturating_mul(1 << device.tries.min(16)).min(LONGEST_RETRY);
        device.tries += 1;
        device.under_us = false;
        self.settled.push(at);
        self.wait_in(at, Stage::Later(now + wait));
    }

    /// A device that is not below us although it should not be, or one that is gone: both are what was wanted.
    fn removed(&mut self, keys: &[Keys], reply: Option<&Reply>) -> Vec<String> {
        match reply {
            Some(reply) if reply.code == OK => Vec::new(),
            None => vec!["topology delete: no answer".to_owned()],
            Some(_) if keys.len() > 1 => {
                // One of them is online, perhaps: each is logged out, and then removed alone.
                self.expel.extend(keys.iter().cloned());
                self.unknown.extend(keys.iter().map(|keys| vec![keys.clone()]));
                Vec::new()
            }
            Some(reply) => {
                vec![format!(
                    "{}&{} stays in the topology: code {}: {}",
                    keys[0].0,
                    keys[0].1,
                    reply.code,
                    cut(&reply.message)
                )]
            }
        }
    }
}

/// The answer to a login, taken apart.
struct Said<'r> {
    code: i64,
    message: &'r str,
    logged_in: HashMap<Keys, Option<Secret>>,
    failed: usize,
    /// An answer of success without lists is taken at its word.
    all: bool,
}

impl Said<'_> {
    fn of(reply: Option<&Reply>) -> Said<'_> {
        let (code, message) = reply.map_or((0, "no answer"), |reply| (reply.code, reply.message.as_str()));
        let data = reply.map_or(&Value::Null, |reply| &reply.data);
        let logged_in: HashMap<Keys, Option<Secret>> = secrets_in(&data["loginedSubDevices"]).collect();
        let failed = keys_in(&data["failedSubDevices"]).count();
        let all = code == OK && logged_in.is_empty() && failed == 0;
        Said { code, message, logged_in, failed, all }
    }

    fn has_lists(&self) -> bool {
        self.failed > 0 || !self.logged_in.is_empty()
    }

    /// The code of an answer is that of one failing device; the words name each.
    fn code_for(&self, devices: usize, reason: &str) -> i64 {
        if devices == 1 || self.message.is_empty() || reason == self.message { self.code } else { 0 }
    }
}

fn text<'v>(each: &'v Value, key: &str) -> Option<&'v str> {
    each.get(key)?.as_str()
}

fn keys_in(list: &Value) -> impl Iterator<Item = Keys> {
    secrets_in(list).map(|(keys, _)| keys)
}

/// Devices of a list, with the secret where the cloud sends one.
pub(super) fn secrets_in(list: &Value) -> impl Iterator<Item = (Keys, Option<Secret>)> {
    list.as_array().into_iter().flatten().filter_map(|each| {
        let keys = (text(each, "productKey")?.to_owned(), text(each, "deviceKey")?.to_owned());
        let secret = text(each, "deviceSecret").filter(|secret| !secret.is_empty());
        Some((keys, secret.map(|secret| Secret::new(secret.to_owned()))))
    })
}

/// As much as people read.
pub(super) fn cut(message: &str) -> String {
    message.trim().chars().take(200).collect()
}

/// The part of the message that speaks of this device (`{pk}&{dk}`), or all of it, cut to a length people read.
fn reason_for(message: &str, product_key: &str, device_key: &str) -> String {
    let name = format!("{product_key}&{device_key}");
    let names = |part: &&str| part.find(&name).is_some_and(|at| !continues(&part[at + name.len()..]));
    cut(message.split([';', ',', '\n']).find(names).unwrap_or(message))
}

/// `pk&dev1` is no part of `pk&dev10`.
fn continues(rest: &str) -> bool {
    rest.chars()
        .next()
        .is_some_and(|c| c.is_alphanumeric() || "-_.".contains(c) && rest.len() > 1 && !rest[1..].starts_with(' '))
}
