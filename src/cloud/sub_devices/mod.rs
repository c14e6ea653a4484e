//! PURE. Brings the site's devices under the gateway: registered where that is asked for, then into the topology, then
//! logged in; those that fail again and again at growing distances while the others work. Time is an argument.
//!
//! Every device waits in one place at most (its [`Stage`]), so a step costs what has changed and not what there is.

mod adopt;
mod answers;
mod device;
mod field;
mod list;
mod next;
mod pace;
mod register;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod tests;

use super::status::Login;
use crate::config::{Secret, SubDevicesConfig};
use crate::model::{Credential, DeviceDetails, Names};
use device::{Device, Stage};
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
}

fn keys_of<'n>(names: &'n Names, device: &Device) -> (&'n str, &'n str) {
    let names = &names.devices[device.index as usize];
    (&names.product_key, &names.device_key)
}

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("devices of a site are counted in 32 bits")
}
