//! PURE. Another package by difference: a device with the same keys and secrets keeps its login and its place in the
//! queues; new ones begin their way; those that are gone are logged out after a while.

use super::{Roster, Stage, SubDevices, keys_of, number};
use crate::model::Secret;
use std::time::Duration;

/// What was read of a removed device is sent first.
const PARTING: Duration = Duration::from_secs(30);

impl SubDevices {
    /// True when no request holds positions of this list.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.under_way == 0 && !self.devices.iter().any(|device| device.stage == Stage::Storing)
    }

    /// The list of another package, with what is known of its devices already. Only when [`SubDevices::is_settled`], or
    /// before [`SubDevices::connected`].
    #[must_use]
    pub fn adopt(
        mut self,
        roster: Roster,
        stored: impl Fn(&str, &str) -> Option<Secret>,
        now: Duration,
    ) -> SubDevices {
        let mut next =
            SubDevices::new(roster, self.gateway.clone(), self.config.clone(), self.message_bytes, stored);
        (next.topology_known, next.topology_asked) = (self.topology_known, self.topology_asked);
        (next.first_login, next.capacity, next.unanswered) = (self.first_login, self.capacity, 0);
        std::mem::swap(&mut next.paces, &mut self.paces);
        std::mem::swap(&mut next.unknown, &mut self.unknown);
        std::mem::swap(&mut next.expel, &mut self.expel);
        std::mem::swap(&mut next.parting, &mut self.parting);
        for at in 0..number(next.devices.len()) {
            let (product_key, device_key) = keys_of(&next.names, &next.devices[at as usize]);
            match self.find(product_key, device_key).filter(|before| self.is_same(*before, &next, at)) {
                Some(before) => next.take_over(at, &self, before),
                None => {
                    next.unanswered += 1;
                    next.begin(at);
                }
            }
        }
        let stays = |keys: &(String, String)| next.owns(&keys.0, &keys.1);
        let mut parting: Vec<_> = next.parting.iter().filter(|(_, keys)| !stays(keys)).cloned().collect();
        for device in &self.devices {
            let keys = keys_of(&self.names, device);
            if device.login == super::Login::Online && !next.owns(keys.0, keys.1) {
                parting.push((now + PARTING, (keys.0.to_owned(), keys.1.to_owned())));
            }
        }
        next.parting = parting.into();
        next
    }

    fn is_same(&self, before: u32, next: &SubDevices, at: u32) -> bool {
        let (old, new) = (&self.devices[before as usize], &next.devices[at as usize]);
        // A secret that the cloud gave meanwhile is on the shelf, so both have it.
        old.secret == new.secret && old.product_secret == new.product_secret
    }

    fn take_over(&mut self, at: u32, from: &SubDevices, before: u32) {
        let (old, old_details) = (&from.devices[before as usize], from.details(from.index(before)));
        let index = self.devices[at as usize].index;
        let stage = old.stage;
        self.devices[at as usize] = super::Device { index, stage: Stage::Rest, ..old.clone() };
        // Asked: the connection with the question is gone; the next one begins anew.
        self.wait_in(at, if stage == Stage::Asked { Stage::Rest } else { stage });
        let login = old.login.clone();
        self.count(&login, 1);
        self.unanswered += usize::from(!old.answered);
        if let Some(until) = old.silent_until {
            self.silences.insert((until, at));
        }
        if login == super::Login::Online && old_details != self.details(index) {
            // Attributes and tags have changed: they are set anew.
            self.came_online.push(at);
        }
    }

    /// Those that are gone, when their time has come.
    pub(super) fn pass_partings(&mut self, now: Duration) {
        while self.parting.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, keys)) = self.parting.pop_front()
        {
            if self.config.remove_unknown {
                self.unknown.push_back(vec![keys.clone()]);
            }
            self.expel.push_back(keys);
        }
    }
}
