//! PURE. Brings the site's devices under the gateway: topology first, then their logins, and those that fail again
//! and again at growing distances while the others work. Time is an argument.

use super::reply::{OK, Reply};
use super::sign::{METHOD, sign};
use super::status::{self, Login};
use crate::config::Secret;
use crate::model::{Credential, DeviceNames};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Devices in one request: about 50 KB of text.
const CHUNK: usize = 200;
/// Requests under way at once.
const AT_ONCE: usize = 4;
const FIRST_RETRY: Duration = Duration::from_secs(10);
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// The clientId that all signs of one batch login share, as the vendor's clients have it.
const LOGIN_CLIENT: &str = "login.batch";

/// A request about sub-devices; the numbers are positions in the list of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    TopoGet,
    TopoAdd(Vec<usize>),
    Login(Vec<usize>),
}

#[derive(Debug)]
struct Device {
    name: String,
    product_key: String,
    device_key: String,
    secret: Secret,
    login: Login,
    under_us: bool,
    asked: bool,
    tries: u32,
    due: Duration,
    /// The refusal that was told last; the same one is not told at each try.
    told: Option<(i64, String)>,
}

/// The devices of the site that have a login.
#[derive(Debug)]
pub struct SubDevices {
    devices: Vec<Device>,
    by_keys: HashMap<(String, String), usize>,
    topology_known: bool,
    topology_asked: bool,
    under_way: usize,
}

impl SubDevices {
    #[must_use]
    pub fn new(names: &[DeviceNames], credentials: &[Credential]) -> SubDevices {
        let devices: Vec<Device> = names
            .iter()
            .zip(credentials)
            .filter_map(|(names, credential)| match credential {
                Credential::Device { secret } => Some(Device {
                    name: names.name.clone(),
                    product_key: names.product_key.clone(),
                    device_key: names.device_key.clone(),
                    secret: secret.clone(),
                    login: Login::Waiting,
                    under_us: false,
                    asked: false,
                    tries: 0,
                    due: Duration::ZERO,
                    told: None,
                }),
                Credential::Logic => None,
            })
            .collect();
        let by_keys = devices
            .iter()
            .enumerate()
            .map(|(at, device)| ((device.product_key.clone(), device.device_key.clone()), at))
            .collect();
        SubDevices { devices, by_keys, topology_known: false, topology_asked: false, under_way: 0 }
    }

    /// A new connection: no login outlives the old one.
    pub fn connected(&mut self, now: Duration) {
        (self.topology_known, self.topology_asked, self.under_way) = (false, false, 0);
        for device in &mut self.devices {
            (device.asked, device.under_us) = (false, false);
            if device.wanted() {
                device.login = Login::Waiting;
                device.due = now;
            }
        }
    }

    /// The next request that may be sent now.
    pub fn next(&mut self, now: Duration) -> Option<Ask> {
        if self.under_way >= AT_ONCE || !self.devices.iter().any(|device| device.is_due(now)) {
            return None;
        }
        if !self.topology_known {
            let first = !std::mem::replace(&mut self.topology_asked, true);
            return first.then(|| self.under_way(Ask::TopoGet));
        }
        let add = self.chunk(now, |device| !device.under_us);
        if !add.is_empty() {
            return Some(self.under_way(Ask::TopoAdd(add)));
        }
        let login = self.chunk(now, |device| device.under_us);
        (!login.is_empty()).then(|| self.under_way(Ask::Login(login)))
    }

    fn under_way(&mut self, ask: Ask) -> Ask {
        self.under_way += 1;
        ask
    }

    /// Devices that failed before are asked for alone: the code of the answer is then theirs.
    fn chunk(&mut self, now: Duration, which: impl Fn(&Device) -> bool) -> Vec<usize> {
        let mut chunk: Vec<usize> = Vec::new();
        for (at, device) in self.devices.iter().enumerate() {
            if !device.is_due(now) || !which(device) {
                continue;
            }
            if device.tries > 0 && !chunk.is_empty() {
                continue;
            }
            chunk.push(at);
            if device.tries > 0 || chunk.len() == CHUNK {
                break;
            }
        }
        for at in &chunk {
            self.devices[*at].asked = true;
        }
        chunk
    }

    /// When something becomes due, if it is not under way already.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        let open = |device: &&Device| device.wanted() && device.login != Login::Online && !device.asked;
        self.devices.iter().filter(open).map(|device| device.due).min()
    }

    /// Whether every device has had its first answer, so that data meets devices that are known.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.devices.iter().all(|device| device.login != Login::Waiting || device.tries > 0)
    }

    /// `params` of a request. `timestamp` is in milliseconds UTC.
    #[must_use]
    pub fn params(&self, ask: &Ask, timestamp: i64) -> Value {
        let timestamp = timestamp.to_string();
        match ask {
            Ask::TopoGet => json!({}),
            Ask::TopoAdd(some) => some.iter().map(|at| self.devices[*at].topology(&timestamp)).collect(),
            Ask::Login(some) => {
                let each: Vec<Value> = some.iter().map(|at| self.devices[*at].batch_login(&timestamp)).collect();
                json!({ "clientId": LOGIN_CLIENT, "timestamp": timestamp, "signMethod": METHOD, "subDevices": each })
            }
        }
    }

    /// The cloud's answer, or `None` when it did not come in time. Returns what a person should read.
    pub fn answered(&mut self, ask: &Ask, reply: Option<&Reply>, now: Duration) -> Vec<String> {
        self.under_way = self.under_way.saturating_sub(1);
        match ask {
            Ask::TopoGet => self.topology(reply),
            Ask::TopoAdd(some) => self.added(some, reply),
            Ask::Login(some) => self.logged_in(some, reply, now),
        }
    }

    fn topology(&mut self, reply: Option<&Reply>) -> Vec<String> {
        self.topology_known = true;
        let Some(reply) = reply.filter(|reply| reply.code == OK) else {
            // 1200 often means that the caller is no gateway; adding tells more precisely.
            return vec!["topology is not known; all sub-devices are added".to_owned()];
        };
        for keys in keys_in(&reply.data) {
            if let Some(at) = self.by_keys.get(&keys) {
                self.devices[*at].under_us = true;
            }
        }
        Vec::new()
    }

    /// Whatever the answer, the login decides: who is not under the gateway fails there and comes here again, alone.
    fn added(&mut self, some: &[usize], reply: Option<&Reply>) -> Vec<String> {
        for at in some {
            (self.devices[*at].under_us, self.devices[*at].asked) = (true, false);
        }
        let told = some.iter().all(|at| self.devices[*at].told.is_some());
        match reply {
            Some(reply) if reply.code == OK => Vec::new(),
            _ if told => Vec::new(),
            Some(reply) => vec![format!("topology add: code {}: {}", reply.code, reply.message)],
            None => vec!["topology add: no answer".to_owned()],
        }
    }

    fn logged_in(&mut self, some: &[usize], reply: Option<&Reply>, now: Duration) -> Vec<String> {
        let (code, message) = reply.map_or((0, "no answer"), |reply| (reply.code, reply.message.as_str()));
        let data = reply.map_or(&Value::Null, |reply| &reply.data);
        let logged_in: HashSet<_> = keys_in(&data["loginedSubDevices"]).collect();
        let failed: HashSet<_> = keys_in(&data["failedSubDevices"]).collect();
        // An answer of success without lists is taken at its word.
        let all = code == OK && logged_in.is_empty() && failed.is_empty();
        let mut news = Vec::new();
        for at in some {
            let device = &mut self.devices[*at];
            device.asked = false;
            let keys = (device.product_key.clone(), device.device_key.clone());
            if !device.wanted() {
                continue;
            }
            if all || logged_in.contains(&keys) {
                device.login = Login::Online;
                (device.tries, device.told) = (0, None);
            } else {
                let reason = reason_for(message, &keys.0, &keys.1);
                let told = Some((code, reason.clone()));
                if device.told != told {
                    news.push(format!("login of {} refused: code {code}: {reason}", device.name));
                    device.told = told;
                }
                device.refused(code, reason, now);
            }
        }
        news
    }

    /// The cloud asks to stop, or to begin again. Returns whether the device is one of ours.
    pub fn notice(&mut self, product_key: &str, device_key: &str, login: Login, now: Duration) -> bool {
        let Some(at) = self.by_keys.get(&(product_key.to_owned(), device_key.to_owned())) else {
            return false;
        };
        let device = &mut self.devices[*at];
        (device.login, device.tries, device.due) = (login, 0, now);
        if device.login == Login::Deleted {
            device.under_us = false;
        }
        true
    }

    /// A message was refused because of this device: its login is made again.
    pub fn log_in_again(&mut self, product_key: &str, device_key: &str, now: Duration) {
        if let Some(at) = self.by_keys.get(&(product_key.to_owned(), device_key.to_owned())) {
            let device = &mut self.devices[*at];
            if device.login == Login::Online {
                (device.login, device.due) = (Login::Waiting, now);
            }
        }
    }

    #[must_use]
    pub fn owns(&self, product_key: &str, device_key: &str) -> bool {
        self.by_keys.contains_key(&(product_key.to_owned(), device_key.to_owned()))
    }

    /// Keys of all devices.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.devices.iter().map(|device| (device.product_key.as_str(), device.device_key.as_str()))
    }

    /// Keys of the devices of a request.
    #[must_use]
    pub fn keys_of(&self, ask: &Ask) -> Vec<(&str, &str)> {
        match ask {
            Ask::TopoGet => Vec::new(),
            Ask::TopoAdd(some) | Ask::Login(some) => some
                .iter()
                .map(|at| (self.devices[*at].product_key.as_str(), self.devices[*at].device_key.as_str()))
                .collect(),
        }
    }

    /// How many are logged in, and how many were refused.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let count = |which: fn(&Login) -> bool| self.devices.iter().filter(|d| which(&d.login)).count() as u64;
        (count(|l| *l == Login::Online), count(|l| matches!(l, Login::Refused { .. })))
    }

    #[must_use]
    pub fn status(&self) -> Vec<status::SubDevice> {
        self.devices
            .iter()
            .map(|device| status::SubDevice {
                device: device.name.clone(),
                product_key: device.product_key.clone(),
                device_key: device.device_key.clone(),
                login: device.login.clone(),
            })
            .collect()
    }
}

impl Device {
    /// Neither disabled nor deleted by the cloud.
    fn wanted(&self) -> bool {
        !matches!(self.login, Login::Disabled | Login::Deleted)
    }

    fn is_due(&self, now: Duration) -> bool {
        self.wanted() && self.login != Login::Online && !self.asked && self.due <= now
    }

    fn refused(&mut self, code: i64, message: String, now: Duration) {
        self.login = Login::Refused { code, message };
        self.due = now + FIRST_RETRY.saturating_mul(1 << self.tries.min(16)).min(LONGEST_RETRY);
        self.tries += 1;
        // Perhaps it is missing in the topology, or was moved: it is added again before the next login.
        self.under_us = false;
    }

    fn topology(&self, timestamp: &str) -> Value {
        let client = format!("{}.{}.{timestamp}", self.product_key, self.device_key);
        json!({
            "productKey": self.product_key,
            "deviceKey": self.device_key,
            "sign": sign(&client, &self.product_key, &self.device_key, timestamp, self.secret.reveal()),
            "clientId": client,
            "timestamp": timestamp,
            "signMethod": METHOD,
        })
    }

    fn batch_login(&self, timestamp: &str) -> Value {
        json!({
            "productKey": self.product_key,
            "deviceKey": self.device_key,
            "secureMode": "2",
            "sign": sign(LOGIN_CLIENT, &self.product_key, &self.device_key, timestamp, self.secret.reveal()),
        })
    }
}

fn keys_in(list: &Value) -> impl Iterator<Item = (String, String)> {
    list.as_array().into_iter().flatten().filter_map(|each| {
        Some((each.get("productKey")?.as_str()?.to_owned(), each.get("deviceKey")?.as_str()?.to_owned()))
    })
}

/// The part of the message that speaks of this device (`{pk}&{dk}`), or all of it, cut to a length people read.
fn reason_for(message: &str, product_key: &str, device_key: &str) -> String {
    let name = format!("{product_key}&{device_key}");
    let part = message.split([';', ',', '\n']).find(|part| part.contains(&name)).unwrap_or(message);
    part.trim().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PointNames;
    use std::sync::Arc;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn devices(count: usize) -> SubDevices {
        let names: Vec<DeviceNames> = (1..=count)
            .map(|n| DeviceNames {
                name: format!("Device {n}"),
                product_key: format!("subPK0{n}"),
                device_key: format!("subDK0{n}"),
                asset_id: None,
                points: Arc::new(PointNames { model: String::new(), points: Vec::new() }),
            })
            .collect();
        let credentials: Vec<Credential> = (1..=count)
            .map(|n| Credential::Device {
                secret: Secret::new(if n == 1 { "subDS01SecretXYZ".into() } else { "x".into() }),
            })
            .collect();
        SubDevices::new(&names, &credentials)
    }

    fn reply(code: i64, data: Value, message: &str) -> Reply {
        Reply { id: 1, code, data, message: message.to_owned() }
    }

    fn ok() -> Reply {
        reply(200, Value::Null, "")
    }

    #[test]
    fn requests_equal_the_vendors() {
        let vectors: Value = serde_json::from_str(include_str!("../../testcases/sdk-vectors/requests.json")).unwrap();
        let theirs = |name: &str| {
            vectors["requests"].as_array().unwrap().iter().find(|r| r["name"] == name).unwrap()["payload"]["params"]
                .clone()
        };
        let devices = devices(1);
        let ours = devices.params(&Ask::TopoAdd(vec![0]), 1_700_000_000_123);
        let their = &theirs("topo add")[0];
        for key in ["productKey", "deviceKey", "clientId", "timestamp"] {
            assert_eq!(ours[0][key], their[key], "{key}");
        }
        assert_eq!(ours[0]["sign"].as_str().unwrap(), their["sign"].as_str().unwrap().to_uppercase());
        let ours = devices.params(&Ask::Login(vec![0]), 1_700_000_000_123);
        let their = theirs("sub-device login batch (explicit ms timestamp)");
        assert_eq!((&ours["clientId"], &ours["timestamp"]), (&their["clientId"], &their["timestamp"]));
        let (ours, their) = (&ours["subDevices"][0], &their["subDevices"][0]);
        assert_eq!(ours["secureMode"], their["secureMode"]);
        assert_eq!(ours["sign"].as_str().unwrap(), their["sign"].as_str().unwrap().to_uppercase());
    }

    #[test]
    fn topology_comes_before_login_and_only_for_those_it_lacks() {
        let mut d = devices(3);
        d.connected(S(0));
        assert_eq!(d.next(S(0)), Some(Ask::TopoGet));
        assert_eq!(d.next(S(0)), None, "nothing goes on before the topology is known");
        let known = json!([{ "productKey": "subPK02", "deviceKey": "subDK02" }]);
        d.answered(&Ask::TopoGet, Some(&reply(200, known, "")), S(0));
        assert_eq!(d.next(S(0)), Some(Ask::TopoAdd(vec![0, 2])));
        assert_eq!(d.next(S(0)), Some(Ask::Login(vec![1])));
        d.answered(&Ask::TopoAdd(vec![0, 2]), Some(&reply(1255, Value::Null, "details")), S(0));
        assert_eq!(d.next(S(0)), Some(Ask::Login(vec![0, 2])));
        assert!(!d.settled());
        d.answered(&Ask::Login(vec![1]), Some(&ok()), S(0));
        d.answered(&Ask::Login(vec![0, 2]), Some(&ok()), S(0));
        assert!(d.settled());
        assert_eq!((d.counts(), d.next(S(99))), ((3, 0), None));
    }

    #[test]
    fn a_partial_failure_keeps_the_others_and_retries_the_failed_one_alone() {
        let mut d = devices(3);
        d.connected(S(0));
        d.next(S(0));
        d.answered(&Ask::TopoGet, None, S(0));
        let all = d.next(S(0)).unwrap();
        d.answered(&all, Some(&ok()), S(0));
        let login = d.next(S(0)).unwrap();
        let data = json!({
            "loginedSubDevices": [{"productKey": "subPK01", "deviceKey": "subDK01", "assetId": "a"},
                                  {"productKey": "subPK03", "deviceKey": "subDK03", "assetId": "b"}],
            "failedSubDevices": [{"productKey": "subPK02", "deviceKey": "subDK02"}]});
        let news = d.answered(&login, Some(&reply(723, data.clone(), "subPK02&subDK02 is disabled; 1 failed")), S(0));
        assert_eq!(news.len(), 1);
        assert_eq!(d.counts(), (2, 1));
        assert!(d.settled());
        assert_eq!(
            d.status()[1].login,
            Login::Refused { code: 723, message: "subPK02&subDK02 is disabled".to_owned() }
        );
        let mut now = S(0);
        for wait in [10, 20, 40, 80, 160, 320, 600, 600] {
            assert_eq!(d.wake(), Some(now + S(wait)));
            now += S(wait);
            assert_eq!(d.next(now), Some(Ask::TopoAdd(vec![1])));
            d.answered(&Ask::TopoAdd(vec![1]), Some(&reply(1255, Value::Null, "")), now);
            assert_eq!(d.next(now), Some(Ask::Login(vec![1])));
            d.answered(&Ask::Login(vec![1]), Some(&reply(740, Value::Null, "no")), now);
        }
        assert_eq!(d.status()[1].login, Login::Refused { code: 740, message: "no".to_owned() });
    }

    #[test]
    fn a_disabled_device_is_left_alone_until_it_is_enabled() {
        let mut d = devices(1);
        d.connected(S(0));
        assert!(d.notice("subPK01", "subDK01", Login::Disabled, S(0)));
        assert!(!d.notice("other", "x", Login::Disabled, S(0)));
        assert!(d.next(S(9)).is_none() && d.settled());
        d.connected(S(10));
        assert_eq!(d.next(S(10)), None);
        d.notice("subPK01", "subDK01", Login::Waiting, S(20));
        assert_eq!(d.next(S(20)), Some(Ask::TopoGet));
    }

    #[test]
    fn many_devices_go_in_chunks() {
        let mut d = devices(450);
        d.connected(S(0));
        d.next(S(0));
        d.answered(&Ask::TopoGet, None, S(0));
        let asks: Vec<Ask> = std::iter::from_fn(|| d.next(S(0))).collect();
        let sizes: Vec<usize> = asks.iter().map(|ask| d.keys_of(ask).len()).collect();
        assert_eq!(sizes, [200, 200, 50]);
    }

    #[test]
    fn a_refusal_is_told_once_until_it_changes_or_the_login_succeeds() {
        let mut some = devices(1);
        some.connected(S(0));
        let ask = Ask::Login(vec![0]);
        let refused = |code, message: &str| Reply { id: 1, code, message: message.to_owned(), data: Value::Null };
        assert_eq!(some.answered(&ask, Some(&refused(742, "sign")), S(0)).len(), 1);
        assert_eq!(some.answered(&ask, Some(&refused(742, "sign")), S(10)), Vec::<String>::new());
        assert_eq!(some.answered(&Ask::TopoAdd(vec![0]), Some(&refused(1255, "no")), S(10)), Vec::<String>::new());
        assert_eq!(some.answered(&ask, Some(&refused(705, "gone")), S(30)).len(), 1);
        assert_eq!(some.answered(&ask, Some(&refused(OK, "")), S(60)), Vec::<String>::new());
        assert_eq!(some.answered(&ask, Some(&refused(705, "gone")), S(70)).len(), 1);
    }
}
