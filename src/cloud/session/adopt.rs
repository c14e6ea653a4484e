//! Another package on a standing connection: nobody who stays is logged out, and data goes on meanwhile.

use super::ask::Chores;
use super::{Link, Now, Session};
use crate::cloud::properties::Properties;
use crate::cloud::roster::CloudUpdate;
use crate::cloud::run::CloudSite;
use crate::cloud::sub_devices::{Roster, SubDevices};
use crate::cloud::templates::Templates;
use crate::cloud::topics::sub_device_commands;
use crate::mqtt::connection::Lost;
use std::sync::Arc;
use tracing::info;

impl Link {
    /// Goes on with another package. Nothing under way may hold positions of devices.
    pub fn adopt(&mut self, update: CloudUpdate, now: Now) {
        let CloudUpdate { site: CloudSite { names, credentials }, field, models, details } = update;
        if credentials.len() != names.devices.len() {
            tracing::error!("a package whose devices have no credentials is not adopted");
            return;
        }
        self.extras.field = field;
        self.extras.details.clone_from(&details);
        let roster = Roster { names, credentials, details };
        let shelf = self.extras.shelf.clone();
        let stored = |product_key: &str, device_key: &str| shelf.as_ref()?.find(product_key, device_key);
        let gateway = (self.config.product_key.clone(), self.config.device_key.clone());
        let nothing = Roster { names: Arc::clone(&roster.names), credentials: Vec::new(), details: Vec::new() };
        let config = self.config.sub_devices.clone();
        let empty = SubDevices::new(nothing, gateway, config, self.config.max_message_bytes, |_, _| None);
        self.sub_devices = std::mem::replace(&mut self.sub_devices, empty).adopt(roster, stored, now.at);
        self.status.list(self.sub_devices.names(), self.sub_devices.logins());
        let (online, refused) = self.sub_devices.counts();
        self.counters.sub_devices_online.set(online);
        self.counters.sub_devices_refused.set(refused);
        self.properties = Properties::default();
        self.templates = Templates::new(&models);
        self.extras.models = models;
        info!(devices = self.sub_devices.len(), online, "the link goes on with another package");
    }
}

impl Session<'_> {
    /// Takes a package that waits, as soon as no answer about sub-devices is out.
    pub(super) fn adopt(&mut self, now: Now) -> Result<(), Lost> {
        let rosters = Arc::clone(&self.link.extras.rosters);
        if rosters.is_waiting()
            && self.stopping.is_none()
            && self.holds_no_positions()
            && let Some(update) = rosters.take()
        {
            self.let_in();
            self.link.adopt(update, now);
            if self.flowing {
                self.wait_for_absent();
            }
            self.chores = Chores::begun_anew(&self.chores);
            if !self.link.config.sub_device_login {
                let keys: Vec<_> = self.link.sub_devices.keys().map(|(p, d)| (p.to_owned(), d.to_owned())).collect();
                let topics = keys.iter().flat_map(|(p, d)| sub_device_commands(p, d)).collect();
                self.subscribe(topics, now)?;
            }
            self.look_at_the_field(now);
            self.welcome(now);
        }
        if self.flowing
            && !rosters.is_waiting()
            && (!self.link.config.sub_device_login || self.link.sub_devices.ready())
        {
            rosters.set_ready(self.link.sub_devices.names().epoch);
        }
        Ok(())
    }

    fn holds_no_positions(&self) -> bool {
        self.link.sub_devices.is_settled() && !self.requests.any(super::ask::Purpose::holds_positions)
    }
}
