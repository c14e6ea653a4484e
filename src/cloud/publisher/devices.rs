//! PURE. Devices that are shut, on their way, or well again, and the readings that are held for them.

use super::{Now, Publisher};
use crate::cloud::in_flight::Content;

impl Publisher {
    /// The cloud asks to send nothing for a device, or to begin again.
    pub fn shut(&mut self, product_key: &str, device_key: &str, shut: bool) {
        let keys = (product_key.to_owned(), device_key.to_owned());
        if shut {
            self.shut.insert(keys);
        } else {
            self.shut.remove(&keys);
        }
    }

    /// These are on their way into the topology; their readings wait until [`Publisher::present`]. Where sub-devices do
    /// not log in, as at a plain broker, there is no topology to wait for.
    pub fn absent(&mut self, devices: Vec<(String, String)>) {
        self.absent = devices.into_iter().filter(|_| self.sub_device_login).collect();
    }

    /// It is not on its way any more. Returns whether something is held for it.
    #[must_use]
    pub fn present(&mut self, keys: &(String, String)) -> bool {
        self.absent.remove(keys) && self.held.contains(keys) && !self.shut.contains(keys)
    }

    /// Readings of these are held in the outbox already.
    pub fn holds(&mut self, devices: Vec<(String, String)>) {
        self.held.extend(devices);
    }

    /// Nothing is held for it any more.
    pub fn is_free(&mut self, keys: &(String, String)) {
        self.held.remove(keys);
    }

    /// The device has logged in: if its readings were refused, one is tried now. Returns whether some are held for it.
    #[must_use]
    pub fn is_well(&mut self, product_key: &str, device_key: &str, now: Now) -> bool {
        let keys = (product_key.to_owned(), device_key.to_owned());
        self.refusals.try_device(&keys, now.at);
        self.held.contains(&keys) && !self.shut.contains(&keys)
    }

    /// The cloud took readings of these: what is held for them may follow.
    pub(super) fn taken(&mut self, content: &Content) {
        if self.held.is_empty() {
            return;
        }
        for piece in &content.pieces {
            for block in piece.batch.blocks().flatten() {
                let Some(names) = piece.names.devices.get(block.device as usize) else { continue };
                let keys = (names.product_key.clone(), names.device_key.clone());
                if self.held.contains(&keys) && !self.shut.contains(&keys) && !self.effects.release.contains(&keys) {
                    self.effects.release.push(keys);
                }
            }
        }
    }
}
