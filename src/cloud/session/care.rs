//! What is done for sub-devices once they are online: commands subscribed, attributes and tags set, models compared; and
//! what people ask about them.

use super::ask::Purpose;
use super::{Now, Session};
use crate::cloud::desk::Told;
use crate::cloud::properties;
use crate::cloud::requests::Answer;
use crate::cloud::topics::sub_device_commands;
use crate::cloud::upstream::{Message, Whose, attribute, ota, tag, topology, tsl_template};
use crate::model::cloud_ask::Wish;
use serde_json::Value as Json;
use tracing::warn;

impl Session<'_> {
    pub(super) fn welcome(&mut self, now: Now) {
        let online = self.link.sub_devices.came_online();
        if online.is_empty() {
            return;
        }
        for at in &online {
            let whose = self.link.sub_devices.whose(*at);
            let keys = (whose.product_key.to_owned(), whose.device_key.to_owned());
            // Who may log in may send, whatever was asked on an earlier connection.
            self.link.publisher.shut(&keys.0, &keys.1, false);
            if self.link.publisher.is_well(&keys.0, &keys.1, now) {
                self.release(keys);
            }
        }
        let settings = &self.link.config.sub_devices;
        for at in &online {
            let index = self.link.sub_devices.index(*at);
            if settings.publish_attributes
                && let Some(details) = self.link.sub_devices.details(index)
            {
                self.link.properties.came_online(*at, index, details);
            }
            if settings.check_models
                && let Some(names) = self.link.sub_devices.names().devices.get(index as usize)
            {
                self.link.templates.came_online(*at, &names.points.model);
            }
        }
        self.subscribe_commands(&online, now);
    }

    /// The real cloud sends commands without; a plain broker needs it.
    fn subscribe_commands(&mut self, online: &[u32], now: Now) {
        let devices = &self.link.sub_devices;
        let whose = online.iter().map(|at| devices.whose(*at));
        let topics: Vec<String> = whose.flat_map(|w| sub_device_commands(w.product_key, w.device_key)).collect();
        // They are no reply topics: only the SUBACK is waited for.
        match self.connection.subscribe(&topics) {
            Ok(packets) => self.requests.subscribe_sent(Vec::new(), packets, now.at),
            Err(_) => warn!(topics = topics.len(), "commands of some sub-devices could not be subscribed"),
        }
    }

    /// Attributes, tags and models; data goes first, so only once it flows.
    pub(super) fn submit_care(&mut self, now: Now) {
        if !self.flowing || self.link.extras.rosters.is_waiting() {
            return;
        }
        while self.requests.room() > 0
            && let Some(setting) = self.link.properties.next(now.at)
        {
            let devices = &self.link.sub_devices;
            let Some(details) = devices.details(setting.index) else { continue };
            let message = properties::message(setting.part, devices.whose(setting.at), details);
            self.requests.submit(message, Purpose::Setting(setting));
        }
        if self.requests.room() > 0
            && let Some((model, at)) = self.link.templates.next()
        {
            let message = tsl_template::get(self.link.sub_devices.whose(at));
            self.requests.submit(message, Purpose::Template(model));
        }
    }

    /// Questions of people.
    pub(super) fn submit_wishes(&mut self) {
        while self.requests.room() > 0
            && let Some((wish, told)) = self.link.extras.desk.take()
        {
            match self.message_of(&wish) {
                Ok(message) => self.requests.submit(message, Purpose::Wish(told)),
                // Whoever asked has gone, at worst.
                Err(why) => drop(told.send(Err(why))),
            }
        }
    }

    fn message_of(&self, wish: &Wish) -> Result<Message, String> {
        let gateway = self.link.gateway();
        Ok(match wish {
            Wish::Attributes { device, names } => attribute::query(self.whose(device.as_deref())?, names),
            Wish::Tags { device, names } => tag::query(self.whose(device.as_deref())?, names),
            Wish::Template { device } => tsl_template::get(self.whose(device.as_deref())?),
            Wish::Topology => topology::get(gateway),
            Wish::Versions { device } => ota::get_version(self.whose(device.as_deref())?),
        })
    }

    fn whose(&self, device: Option<&str>) -> Result<Whose<'_>, String> {
        let devices = &self.link.sub_devices;
        let Some(name) = device else { return Ok(self.link.gateway()) };
        let Some(at) = devices.named(name) else {
            let known = devices.names().devices.iter().map(|device| device.name.as_str());
            return Err(format!(
                "no sub-device is called \"{name}\"; {}",
                crate::diagnostic::did_you_mean(name, known)
            ));
        };
        if self.link.config.sub_device_login && !devices.is_online(at) {
            return Err(format!("sub-device \"{name}\" is not logged in; `enos-edge status` says why"));
        }
        Ok(devices.whose(at))
    }
}

/// Whoever asked has gone, at worst.
pub(super) fn grant(told: Told, answer: Option<Answer>) {
    let answer = match answer {
        Some(Answer::Json(reply)) if reply.code == 200 => Ok(reply.data),
        Some(Answer::Json(reply)) => Err(format!("the cloud refused: code {}: {}", reply.code, reply.message)),
        Some(Answer::Raw(_)) => Ok(Json::Null),
        None => Err("the cloud did not answer".to_owned()),
    };
    drop(told.send(answer));
}
