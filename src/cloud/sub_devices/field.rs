//! PURE. Devices that are silent in the field are logged out of the cloud, and logged in again when they answer.

use super::{Stage, SubDevices};
use crate::cloud::status::Login;
use crate::cloud::upstream::connection_state::Node;
use std::time::Duration;

/// Silences closer together than this are flapping,
const FLAPPING: Duration = Duration::from_secs(1800);
/// and the login waits longer each time.
const FIRST_DAMPING: Duration = Duration::from_secs(10);
const LONGEST_DAMPING: Duration = Duration::from_secs(300);

impl SubDevices {
    /// What is seen of a device (by its index in the names) in the field: `None` when it answers, else how long it has
    /// been silent.
    pub fn field(&mut self, index: u32, silent: Option<Duration>, now: Duration) {
        let at = self.positions.get(index as usize).copied().unwrap_or(u32::MAX);
        let Some(device) = self.devices.get_mut(at as usize) else { return };
        if device.answers != silent.is_none() {
            device.answers = silent.is_none();
            self.field_changed.push(at);
        }
        let Some(silent) = silent else {
            if let Some(until) = device.silent_until.take() {
                self.silences.remove(&(until, at));
            }
            if std::mem::take(&mut self.devices[at as usize].away) {
                self.comes_back(at, now);
            }
            return;
        };
        if let Some(patience) = self.config.offline_after
            && device.silent_until.is_none()
        {
            let until = now + patience.saturating_sub(silent);
            device.silent_until = Some(until);
            self.silences.insert((until, at));
        }
    }

    pub(super) fn pass_silences(&mut self, now: Duration) {
        while let Some((until, at)) = self.silences.first().copied().filter(|(until, _)| *until <= now) {
            self.silences.remove(&(until, at));
            self.goes_away(at, now);
        }
    }

    fn goes_away(&mut self, at: u32, now: Duration) {
        let device = &mut self.devices[at as usize];
        let flapping = device.went_away.replace(now).is_some_and(|before| before + FLAPPING > now);
        device.flaps = if flapping { device.flaps.saturating_add(1) } else { 0 };
        device.away = true;
        if !device.wanted() || matches!(device.stage, Stage::Asked | Stage::Storing) {
            return;
        }
        if device.login == Login::Online {
            self.wait_in(at, Stage::Logout);
        } else {
            self.goes_on(at);
        }
    }

    fn comes_back(&mut self, at: u32, now: Duration) {
        let device = &self.devices[at as usize];
        if !device.wanted() {
            return;
        }
        match device.stage {
            // It was not logged out yet.
            Stage::Logout => self.wait_in(at, Stage::Rest),
            Stage::Rest if device.login != Login::Online => {
                let wait = match device.flaps {
                    0 => Duration::ZERO,
                    flaps => FIRST_DAMPING.saturating_mul(1 << u32::from(flaps - 1).min(8)).min(LONGEST_DAMPING),
                };
                self.set_login(at, Login::Waiting);
                self.wait_in(at, Stage::Later(now + wait));
            }
            _ => {}
        }
    }

    /// Whatever the cloud answered, the device counts as logged out: it is silent, and is logged in anew later.
    pub(super) fn logged_out(&mut self, at: u32, now: Duration) -> Vec<String> {
        self.capacity.left(now);
        if !self.devices[at as usize].wanted() {
            self.wait_in(at, Stage::Rest);
            return Vec::new();
        }
        self.wait_in(at, Stage::Rest);
        self.set_login(at, Login::Away);
        if !self.devices[at as usize].away {
            self.comes_back(at, now);
        }
        Vec::new()
    }

    /// Positions of devices that began or ceased to answer since the last call.
    pub fn field_changed(&mut self) -> Vec<u32> {
        let mut changed = std::mem::take(&mut self.field_changed);
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// What the cloud is told of a device in the field.
    #[must_use]
    pub fn node(&self, at: u32) -> Node<'_> {
        let names = &self.names.devices[self.index(at) as usize];
        let connected = Some(self.devices[at as usize].answers);
        Node { whose: self.whose(at), name: &names.name, asset_id: names.asset_id.as_deref(), connected }
    }
}
