//! PURE. Brings the site's devices under the gateway: registered where that is asked for, then into the topology, then
//! logged in; those that fail again and again at growing distances while the others work. Time is an argument.
//!
//! Every device waits in one place at most (its [`Stage`]), so a step costs what has changed and not what there is.

mod adopt;
mod answers;
mod field;
mod next;
mod pace;
mod register;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod tests;

use super::status::Login;
use super::upstream::Whose;
use crate::config::{Secret, SubDevicesConfig};
use crate::model::{Credential, DeviceDetails, Names};
use pace::{Capacity, Pace};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Product key and device key of a device the package does not know.
pub type Keys = (String, String);

/// A request about sub-devices; the numbers are positions in the list of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    TopoGet,
    Register(Vec<u32>),
    TopoAdd(Vec<u32>),
    Login(Vec<u32>),
    Logout(u32),
    /// Devices of the topology that the package does not have.
    Remove(Vec<Keys>),
    /// One of those is online somewhere: it is logged out before it is removed.
    Expel(Keys),
}

/// Where a device waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For nothing.
    Rest,
    Register,
    Add,
    Login,
    /// For a login of its own: the code of the answer is then its own.
    Alone,
    Logout,
    Later(Duration),
    /// For an answer.
    Asked,
    /// For its new secret to be on disk.
    Storing,
}

#[derive(Clone, Debug)]
struct Device {
    /// Its index in the names of the package.
    index: u32,
    secret: Option<Secret>,
    /// Signs the first login of a device that has no secret yet.
    product_secret: Option<Secret>,
    login: Login,
    stage: Stage,
    under_us: bool,
    /// The cloud has answered a login of it on this connection.
    answered: bool,
    alone: bool,
    /// Registered a moment ago: the cloud takes some seconds until all of it knows the device.
    fresh: bool,
    tries: u32,
    /// The refusal that was told last; the same one is not told at each try.
    told: Option<Box<(i64, String)>>,
    /// In the field; until somebody has looked it is taken to answer.
    answers: bool,
    /// It is silent, and is logged out at this time.
    silent_until: Option<Duration>,
    /// Logged out because it is silent.
    away: bool,
    flaps: u8,
    went_away: Option<Duration>,
}

/// The devices of the site that have a login.
#[derive(Debug)]
pub struct SubDevices {
    config: SubDevicesConfig,
    gateway: Keys,
    names: Arc<Names>,
    details: Vec<DeviceDetails>,
    message_bytes: usize,
    devices: Vec<Device>,
    /// Index in the names -> position; `u32::MAX` for a logic asset.
    positions: Vec<u32>,
    /// Positions in the order of the keys.
    by_keys: Vec<u32>,
    topology_known: bool,
    topology_asked: bool,
    under_way: usize,
    adding: usize,
    unanswered: usize,
    first_login: bool,
    online: u64,
    refused: u64,
    register: BTreeSet<u32>,
    add: BTreeSet<u32>,
    login: BTreeSet<u32>,
    alone: BTreeSet<u32>,
    logout: BTreeSet<u32>,
    later: BTreeSet<(Duration, u32)>,
    silences: BTreeSet<(Duration, u32)>,
    unknown: VecDeque<Vec<Keys>>,
    expel: VecDeque<Keys>,
    /// No longer in the package, and when they are logged out.
    parting: VecDeque<(Duration, Keys)>,
    /// Their logout was asked for and not answered.
    departing: Vec<Keys>,
    paces: Paces,
    capacity: Capacity,
    changed: Vec<u32>,
    field_changed: Vec<u32>,
    came_online: Vec<u32>,
    /// Their first steps were answered, well or not.
    settled: Vec<u32>,
    new_secrets: Vec<(u32, Secret)>,
}

/// How fast each kind of request may go.
#[derive(Debug)]
struct Paces {
    add: Pace,
    login: Pace,
    alone: Pace,
    logout: Pace,
}

/// What the list is made of.
#[derive(Clone, Debug)]
pub struct Roster {
    pub names: Arc<Names>,
    /// In the order of the names.
    pub credentials: Vec<Credential>,
    /// In the order of the names, or empty.
    pub details: Vec<DeviceDetails>,
}

impl SubDevices {
    /// `stored` finds secrets that were received earlier.
    #[must_use]
    pub fn new(
        roster: Roster,
        gateway: Keys,
        config: SubDevicesConfig,
        message_bytes: usize,
        stored: impl Fn(&str, &str) -> Option<Secret>,
    ) -> SubDevices {
        let Roster { names, credentials, details } = roster;
        let (mut devices, mut positions) = (Vec::new(), vec![u32::MAX; names.devices.len()]);
        for (index, (each, credential)) in names.devices.iter().zip(credentials).enumerate() {
            let kept = || stored(&each.product_key, &each.device_key);
            let (secret, product_secret) = match credential {
                Credential::Logic => continue,
                Credential::Device { secret } => (Some(secret), None),
                Credential::Register => (kept(), None),
                Credential::Product { secret } => (kept(), Some(secret)),
            };
            positions[index] = number(devices.len());
            devices.push(Device::new(number(index), secret, product_secret));
        }
        let mut by_keys: Vec<u32> = (0..number(devices.len())).collect();
        by_keys.sort_unstable_by_key(|at| keys_of(&names, &devices[*at as usize]));
        let rate = config.login_rate;
        SubDevices {
            gateway,
            details,
            message_bytes,
            positions,
            by_keys,
            topology_known: false,
            topology_asked: false,
            under_way: 0,
            adding: 0,
            unanswered: devices.len(),
            first_login: false,
            online: 0,
            refused: 0,
            register: BTreeSet::new(),
            add: BTreeSet::new(),
            login: BTreeSet::new(),
            alone: BTreeSet::new(),
            logout: BTreeSet::new(),
            later: BTreeSet::new(),
            silences: BTreeSet::new(),
            unknown: VecDeque::new(),
            expel: VecDeque::new(),
            parting: VecDeque::new(),
            departing: Vec::new(),
            paces: Paces {
                // Data waits for these, and for nobody's login.
                add: Pace::new(rate.saturating_mul(4)),
                login: Pace::new(rate),
                alone: Pace::new(rate.min(pace::ALONE)),
                logout: Pace::new(rate.min(pace::LOGOUT)),
            },
            capacity: Capacity::Room,
            changed: Vec::new(),
            field_changed: Vec::new(),
            came_online: Vec::new(),
            settled: Vec::new(),
            new_secrets: Vec::new(),
            names,
            devices,
            config,
        }
    }

    /// A new connection: no login outlives the old one.
    pub fn connected(&mut self) {
        (self.topology_known, self.topology_asked, self.under_way, self.adding) = (false, false, 0, 0);
        self.first_login = false;
        self.capacity = Capacity::Room;
        self.unanswered = 0;
        self.unknown.clear();
        self.expel.clear();
        self.departing.clear();
        self.came_online.clear();
        self.settled.clear();
        for at in 0..number(self.devices.len()) {
            let device = &mut self.devices[at as usize];
            let (wanted, away, storing) = (device.wanted(), device.away, device.stage == Stage::Storing);
            // Nobody waits for those that are not asked for.
            (device.under_us, device.answered) = (false, !wanted || storing || away);
            // That it was enabled may have been said while nobody listened: the login tells.
            let disabled = device.login == Login::Disabled;
            if !(wanted || disabled) || storing {
                continue;
            }
            self.wait_in(at, Stage::Rest);
            if away {
                self.set_login(at, Login::Away);
            } else {
                self.unanswered += usize::from(!disabled);
                self.set_login(at, Login::Waiting);
                self.begin(at);
            }
        }
    }

    /// The way of a device that is to be online begins, or goes on.
    fn begin(&mut self, at: u32) {
        let device = &self.devices[at as usize];
        let stage = match (&device.secret, &device.product_secret) {
            (None, None) => Stage::Register,
            // Only its own secret could add it: it stands in the topology already, or the login says that it does not.
            (None, Some(_)) => device.login_stage(),
            (Some(_), _) if !device.under_us => Stage::Add,
            (Some(_), _) => device.login_stage(),
        };
        self.wait_in(at, stage);
    }

    fn wait_in(&mut self, at: u32, stage: Stage) {
        let before = std::mem::replace(&mut self.devices[at as usize].stage, stage);
        if let Stage::Later(due) = before {
            self.later.remove(&(due, at));
        } else if let Some(set) = self.set_of(before) {
            set.remove(&at);
        }
        if let Stage::Later(due) = stage {
            self.later.insert((due, at));
        } else if let Some(set) = self.set_of(stage) {
            set.insert(at);
        }
    }

    fn set_of(&mut self, stage: Stage) -> Option<&mut BTreeSet<u32>> {
        match stage {
            Stage::Register => Some(&mut self.register),
            Stage::Add => Some(&mut self.add),
            Stage::Login => Some(&mut self.login),
            Stage::Alone => Some(&mut self.alone),
            Stage::Logout => Some(&mut self.logout),
            Stage::Rest | Stage::Later(_) | Stage::Asked | Stage::Storing => None,
        }
    }

    fn set_login(&mut self, at: u32, login: Login) {
        let device = &mut self.devices[at as usize];
        if device.login == login {
            return;
        }
        let before = std::mem::replace(&mut device.login, login);
        self.count(&before, -1);
        let now = self.devices[at as usize].login.clone();
        self.count(&now, 1);
        if now == Login::Online {
            self.came_online.push(at);
        }
        self.changed.push(at);
    }

    fn count(&mut self, login: &Login, by: i64) {
        match login {
            Login::Online => self.online = self.online.saturating_add_signed(by),
            Login::Refused { .. } => self.refused = self.refused.saturating_add_signed(by),
            _ => {}
        }
    }

    /// The cloud asks to stop, or to begin again. Returns whether the device is one of ours.
    pub fn notice(&mut self, product_key: &str, device_key: &str, login: Login) -> bool {
        let Some(at) = self.find(product_key, device_key) else {
            return false;
        };
        let again = login == Login::Waiting;
        let device = &mut self.devices[at as usize];
        device.tries = 0;
        device.under_us &= login != Login::Deleted;
        let answered = std::mem::replace(&mut device.answered, true);
        self.unanswered -= usize::from(!answered);
        let (asked, away) = (device.stage == Stage::Asked, device.away);
        self.set_login(at, if again && away { Login::Away } else { login });
        // What is under way comes to its end first.
        if !asked {
            self.wait_in(at, Stage::Rest);
            if again && !away {
                self.begin(at);
            }
        }
        true
    }

    /// A message was refused because of this device: its login is made again.
    pub fn log_in_again(&mut self, product_key: &str, device_key: &str) {
        if let Some(at) = self.find(product_key, device_key)
            && self.devices[at as usize].login == Login::Online
            && self.devices[at as usize].stage == Stage::Rest
        {
            self.set_login(at, Login::Waiting);
            self.begin(at);
        }
    }

    /// Whether data may flow: the topology is known and a login was answered. The others come in meanwhile; what is read
    /// of those that are still [absent](Self::absent) waits for them.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.unanswered == 0 || self.topology_known && self.first_login
    }

    /// Keys of devices that are still being registered or added to the topology for the first time.
    #[must_use]
    pub fn absent(&self) -> Vec<Keys> {
        let absent = |device: &&Device| {
            let coming = matches!(device.stage, Stage::Register | Stage::Add | Stage::Asked | Stage::Storing);
            coming && !device.under_us && !(device.secret.is_none() && device.product_secret.is_some())
        };
        let keys = self.devices.iter().filter(absent).map(|device| keys_of(&self.names, device));
        keys.map(|(product_key, device_key)| (product_key.to_owned(), device_key.to_owned())).collect()
    }

    /// Keys of devices that are not absent any more since the last call: they were added, or it failed.
    pub fn settled(&mut self) -> Vec<Keys> {
        let settled = std::mem::take(&mut self.settled);
        let keys = settled.into_iter().map(|at| keys_of(&self.names, &self.devices[at as usize]));
        keys.map(|(product_key, device_key)| (product_key.to_owned(), device_key.to_owned())).collect()
    }

    #[must_use]
    pub fn owns(&self, product_key: &str, device_key: &str) -> bool {
        self.find(product_key, device_key).is_some()
    }

    /// No longer in the package, and not logged out yet: the cloud may still send it commands.
    #[must_use]
    pub fn takes_leave(&self, product_key: &str, device_key: &str) -> bool {
        let parting = self.parting.iter().map(|(_, keys)| keys);
        let mut all = parting.chain(&self.expel).chain(&self.departing);
        all.any(|(product, device)| product == product_key && device == device_key)
    }

    fn find(&self, product_key: &str, device_key: &str) -> Option<u32> {
        let wanted = (product_key, device_key);
        let found = self.by_keys.binary_search_by(|at| keys_of(&self.names, &self.devices[*at as usize]).cmp(&wanted));
        found.ok().map(|place| self.by_keys[place])
    }

    /// Position of a device by the name people use, or by its device key.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<u32> {
        let fits = |at: &u32| {
            let names = &self.names.devices[self.devices[*at as usize].index as usize];
            names.name == name || names.device_key == name
        };
        (0..number(self.devices.len())).find(fits)
    }

    /// It is ours, and logged in where it has to be.
    #[must_use]
    pub fn may_be_told_of(&self, product_key: &str, device_key: &str, login: bool) -> bool {
        self.find(product_key, device_key).is_some_and(|at| !login || self.is_online(at))
    }

    #[must_use]
    pub fn whose(&self, at: u32) -> Whose<'_> {
        let (product_key, device_key) = keys_of(&self.names, &self.devices[at as usize]);
        Whose { product_key, device_key }
    }

    /// What the package says of a device, by its index in the names.
    #[must_use]
    pub fn details(&self, index: u32) -> Option<&DeviceDetails> {
        self.details.get(index as usize)
    }

    /// Its index in the names of the package.
    #[must_use]
    pub fn index(&self, at: u32) -> u32 {
        self.devices[at as usize].index
    }

    fn gateway(&self) -> Whose<'_> {
        Whose { product_key: &self.gateway.0, device_key: &self.gateway.1 }
    }

    fn name(&self, at: u32) -> &str {
        &self.names.devices[self.devices[at as usize].index as usize].name
    }

    #[must_use]
    pub fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// Keys of all devices.
    pub fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        self.devices.iter().map(|device| keys_of(&self.names, device))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// How many are logged in, and how many were refused.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.online, self.refused)
    }

    /// Devices (by their index in the names) whose login has changed since the last call.
    pub fn changed(&mut self) -> Vec<(u32, Login)> {
        let changed = std::mem::take(&mut self.changed);
        let now = |at: u32| (self.devices[at as usize].index, self.devices[at as usize].login.clone());
        changed.into_iter().map(now).collect()
    }

    /// Positions of the devices that came online since the last call.
    pub fn came_online(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.came_online)
    }

    #[must_use]
    pub fn is_online(&self, at: u32) -> bool {
        self.devices[at as usize].login == Login::Online
    }

    /// All, by their index in the names.
    pub fn logins(&self) -> impl Iterator<Item = (u32, Login)> {
        self.devices.iter().map(|device| (device.index, device.login.clone()))
    }
}

impl Device {
    fn new(index: u32, secret: Option<Secret>, product_secret: Option<Secret>) -> Device {
        Device {
            index,
            secret,
            product_secret,
            login: Login::Waiting,
            stage: Stage::Rest,
            under_us: false,
            answered: false,
            alone: false,
            fresh: false,
            tries: 0,
            told: None,
            answers: true,
            silent_until: None,
            away: false,
            flaps: 0,
            went_away: None,
        }
    }

    /// Neither disabled nor deleted by the cloud.
    fn wanted(&self) -> bool {
        !matches!(self.login, Login::Disabled | Login::Deleted)
    }

    /// Its first failure is not told (R39): after ten seconds it is tried again.
    fn is_fresh(&self) -> bool {
        self.fresh && self.tries == 0
    }

    fn login_stage(&self) -> Stage {
        if self.alone { Stage::Alone } else { Stage::Login }
    }
}

fn keys_of<'n>(names: &'n Names, device: &Device) -> (&'n str, &'n str) {
    let names = &names.devices[device.index as usize];
    (&names.product_key, &names.device_key)
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("devices of a site are counted in 32 bits")
}
