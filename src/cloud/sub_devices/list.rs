//! PURE. What others ask of the list of sub-devices: who is who, who is online, what has changed.

use super::device::{Device, Stage};
use super::{Keys, SubDevices, keys_of, number};
use crate::cloud::status::Login;
use crate::cloud::upstream::Whose;
use crate::model::{DeviceDetails, Names};
use std::sync::Arc;

impl SubDevices {
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

    pub(super) fn find(&self, product_key: &str, device_key: &str) -> Option<u32> {
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

    pub(super) fn gateway(&self) -> Whose<'_> {
        Whose { product_key: &self.gateway.0, device_key: &self.gateway.1 }
    }

    pub(super) fn name(&self, at: u32) -> &str {
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
