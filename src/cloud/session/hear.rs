//! What the cloud sends: answers, commands, notices, and the secret of a device.

use super::SAID_CODES;
use super::Session;
use crate::cloud::activation;
use crate::cloud::activation::Message as ActivationMessage;
use crate::cloud::answers::Reply as CommandReply;
use crate::cloud::downstream;
use crate::cloud::downstream::Action;
use crate::cloud::downstream::Notice;
use crate::cloud::first_login;
use crate::cloud::publisher::Now;
use crate::cloud::reply::Receipt;
use crate::cloud::run::REMINDER;
use crate::cloud::status::Login;
use crate::cloud::topics::reply;
use crate::config::Acknowledge;
use crate::mqtt::connection::Heard;
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;
use tokio::time::Instant;
use tracing::debug;
use tracing::warn;

impl Session<'_> {
    pub(super) fn hear(&mut self, heard: Heard) {
        let now = self.link.now();
        match heard {
            Heard::Connected => {}
            Heard::Subscribed { refused } => {
                self.subscribing = self.subscribing.saturating_sub(1);
                self.requests.subscribed();
                if refused > 0 {
                    debug!(refused, "some subscriptions were refused; the cloud may send without them");
                }
            }
            Heard::Acknowledged(id) => {
                self.delivered |= self.link.config.acknowledge == Acknowledge::Puback;
                self.link.publisher.acknowledged(id, now);
            }
            Heard::Message { topic, payload, retained, again } => self.read(&topic, &payload, (retained, again), now),
        }
    }

    pub(super) fn read(&mut self, topic: &str, payload: &Bytes, flags: (bool, bool), now: Now) {
        if topic == reply(&self.link.topics.post_batch) || topic == reply(&self.link.topics.resume_batch) {
            self.receipt(payload, now);
        } else if topic == self.link.topics.activation {
            self.activation(payload);
        } else if topic.ends_with("_reply") {
            self.answer(topic, payload, now);
        } else {
            self.command(topic, payload, flags);
        }
    }

    pub(super) fn receipt(&mut self, payload: &Bytes, now: Now) {
        let Some(receipt) = Receipt::parse(payload) else {
            debug!(bytes = payload.len(), "an answer to data that can not be read");
            return;
        };
        if self.link.config.acknowledge == Acknowledge::Reply && self.link.publisher.awaits(receipt.id) {
            if receipt.code == crate::cloud::reply::OK {
                self.delivered = true;
            } else {
                let reason: String = receipt.message.chars().take(200).collect();
                self.say_refusal(receipt.code, &reason);
                self.link.status.update(|s| s.last_error = Some(format!("code {}: {reason}", receipt.code)));
            }
            self.link.publisher.answered(receipt.id, receipt.code, &receipt.message, now);
        }
    }

    /// Each code once in a while: a point that the model does not know is refused for ever.
    pub(super) fn say_refusal(&mut self, code: i64, reason: &str) {
        let said = &mut self.link.said_codes;
        said.retain(|_, at| at.elapsed() < REMINDER);
        // Full: a cloud that invents codes is told of in status only.
        let news = !said.contains_key(&code) && said.len() < SAID_CODES;
        if news {
            said.insert(code, Instant::now());
            warn!(code, reason, "the cloud refused data; what is to blame is searched and set aside");
        } else {
            debug!(code, reason, "the cloud refused a message");
        }
    }

    pub(super) fn command(&mut self, topic: &str, payload: &Bytes, (retained, again): (bool, bool)) {
        let (config, sub_devices) = (&self.link.config, &self.link.sub_devices);
        let itself = |p: &str, d: &str| p == config.product_key && d == config.device_key;
        // A removed device is logged out later: until then it is said that it is not in the package.
        let ours = |p: &str, d: &str| itself(p, d) || sub_devices.owns(p, d) || sub_devices.takes_leave(p, d);
        for action in downstream::decide(topic, payload, retained, ours) {
            match action {
                Action::Answer { topic, payload } => {
                    if self.connection.publish(None, &topic, payload).is_err() {
                        warn!(topic, "more commands than can be answered; this one is not");
                    }
                }
                Action::Command { mut command, to } => {
                    command.again = again;
                    let commands = Arc::clone(&self.link.commands);
                    if let Some(busy) = self.link.answers.start(commands.as_ref(), *command, to) {
                        self.reply(busy);
                    }
                }
                Action::Notice { notice, product_key, device_key } => {
                    self.notice(notice, &product_key, &device_key);
                }
            }
        }
    }

    /// Sends the answer to a command. False when it waits for another time, because the client takes nothing more.
    pub(super) fn reply(&mut self, reply: CommandReply) -> bool {
        for (topic, payload) in &reply.messages {
            if self.connection.publish(None, topic, payload.clone()).is_err() {
                self.link.answers.keep(reply);
                return false;
            }
        }
        self.link.answers.sent(reply);
        true
    }

    pub(super) fn notice(&mut self, notice: Notice, product_key: &str, device_key: &str) {
        let (login, shut) = match notice {
            Notice::Enable => (Login::Waiting, false),
            Notice::Disable => (Login::Disabled, true),
            Notice::Delete => (Login::Deleted, true),
        };
        if self.link.sub_devices.notice(product_key, device_key, login) {
            warn!(product_key, device_key, ?notice, "the cloud changed what a sub-device may do");
            self.link.publisher.shut(product_key, device_key, shut);
        }
    }

    /// The cloud sends the device's own secret, again or anew.
    pub(super) fn activation(&mut self, payload: &[u8]) {
        let config = &self.link.config;
        match activation::read(payload, &config.product_key, &config.device_key) {
            // While one is stored the cloud waits for its answer; a second one then is the same again.
            ActivationMessage::Secret { .. } if self.storing.is_some() => {}
            ActivationMessage::Secret { id, activation } => {
                let identity = Arc::clone(&self.link.identity);
                self.storing = Some(Box::pin(async move { (id, first_login::store(&*identity, activation).await) }));
            }
            ActivationMessage::Unfit { answer, problem } => {
                warn!(problem, "an activation message is not taken");
                self.answer_activation(answer);
            }
            ActivationMessage::Refused { problem, .. } => {
                warn!("{problem}");
                self.link.status.update(|s| s.last_error = Some(problem));
            }
        }
    }

    pub(super) fn stored(&mut self, id: &Value, stored: Result<(), String>) {
        self.storing = None;
        if let Err(problem) = &stored {
            warn!(problem, "the device secret that the cloud sent is not taken");
        }
        self.answer_activation(activation::answer(id, &stored));
    }

    pub(super) fn answer_activation(&mut self, answer: Vec<u8>) {
        let topic = activation::answers(&self.link.topics.activation);
        // Best effort: the cloud may send it again.
        if self.connection.publish(None, &topic, answer).is_err() {
            debug!("the answer to an activation did not fit into the client's queue");
        }
    }
}
