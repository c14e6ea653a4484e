//! Commands to devices. They are pushed without a subscription, as EnOS does.

use super::Cloud;
use super::world::{Outbound, World};
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::oneshot;

/// Why a command got no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("device is not known")]
    Unknown,
    #[error("device is offline")]
    Offline,
    #[error("connection takes no more commands")]
    Busy,
    #[error("no reply in time")]
    Timeout,
}

/// The id under which a raw reply, which has none, is waited for.
const RAW: &str = "unknown";

impl World {
    /// Gives a reply to whoever waits for it.
    pub fn take_reply(&mut self, topic: &str, payload: &Bytes) {
        let id = if topic.ends_with("/down_raw_reply") {
            RAW.to_owned()
        } else {
            let Ok(reply) = serde_json::from_slice::<Value>(payload) else { return };
            match reply.get("id") {
                Some(Value::String(id)) => id.clone(),
                Some(id) => id.to_string(),
                None => return,
            }
        };
        if let Some(waiting) = self.waiting.remove(&(topic.to_owned(), id)) {
            // Whoever waited may have given up; then nobody wants the reply.
            let _ = waiting.send(payload.clone());
        }
    }

    fn push(&mut self, device: u32, topic: String, payload: Bytes) -> Result<(), CommandError> {
        let link = self.link_of(device).and_then(|link| self.links.get(&link)).ok_or(CommandError::Offline)?;
        link.outbound.try_send(Outbound::Publish { topic, payload, qos: 1 }).map_err(|_| CommandError::Busy)
    }
}

impl Cloud {
    /// Sends `method` on `topic` (below the device) and waits for the reply.
    ///
    /// # Errors
    /// When the device is not known or offline, or does not answer in time.
    pub async fn command(
        &self,
        device: (&str, &str),
        topic: &str,
        params: Value,
        timeout: Duration,
    ) -> Result<Value, CommandError> {
        let space =
            if topic.starts_with("combine/") || topic.starts_with("thing/activate") { "/ext/session" } else { "/sys" };
        let topic_text = format!("{space}/{}/{}/{topic}", device.0, device.1);
        let (id, receiver) = {
            let mut world = self.lock();
            world.next_command += 1;
            let id = world.next_command.to_string();
            let method = topic.replace('/', ".");
            let payload = json!({"id": id, "version": "1.0", "method": method, "params": params}).to_string();
            let receiver = world.send_command(device, &topic_text, &id, payload.into())?;
            (id, receiver)
        };
        let reply = self.await_reply(&topic_text, &id, receiver, timeout).await?;
        Ok(serde_json::from_slice(&reply).unwrap_or(Value::Null))
    }

    /// Sets measurement points of a device.
    ///
    /// # Errors
    /// As [`Cloud::command`].
    pub async fn set(&self, device: (&str, &str), points: Value, timeout: Duration) -> Result<Value, CommandError> {
        self.command(device, "thing/service/measurepoint/set", points, timeout).await
    }

    /// Asks for measurement points of a device.
    ///
    /// # Errors
    /// As [`Cloud::command`].
    pub async fn get(&self, device: (&str, &str), points: &[&str], timeout: Duration) -> Result<Value, CommandError> {
        self.command(device, "thing/service/measurepoint/get", json!(points), timeout).await
    }

    /// Offers an upgrade: `{"version","signMethod","sign","fileUrl","fileSize"}`.
    ///
    /// # Errors
    /// As [`Cloud::command`]; no reply is no failure for EnOS, so a time-out still leaves the job open.
    pub async fn upgrade(&self, device: (&str, &str), params: Value, timeout: Duration) -> Result<Value, CommandError> {
        {
            let mut world = self.lock();
            let number = world.registry.find(device.0, device.1).ok_or(CommandError::Unknown)?;
            world.registry.devices[number as usize].ota.job = true;
        }
        self.command(device, "ota/device/upgrade", params, timeout).await
    }

    /// Sends bytes (`down_raw`) and waits for the bytes of the answer.
    ///
    /// # Errors
    /// As [`Cloud::command`].
    pub async fn raw(&self, device: (&str, &str), payload: Bytes, timeout: Duration) -> Result<Bytes, CommandError> {
        let topic = format!("/sys/{}/{}/thing/model/down_raw", device.0, device.1);
        let receiver = self.lock().send_command(device, &topic, RAW, payload)?;
        self.await_reply(&topic, RAW, receiver, timeout).await
    }

    async fn await_reply(
        &self,
        topic: &str,
        id: &str,
        receiver: oneshot::Receiver<Bytes>,
        timeout: Duration,
    ) -> Result<Bytes, CommandError> {
        if let Ok(Ok(reply)) = tokio::time::timeout(timeout, receiver).await {
            return Ok(reply);
        }
        self.lock().waiting.remove(&(format!("{topic}_reply"), id.to_owned()));
        Err(CommandError::Timeout)
    }
}

impl World {
    fn send_command(
        &mut self,
        device: (&str, &str),
        topic: &str,
        id: &str,
        payload: Bytes,
    ) -> Result<oneshot::Receiver<Bytes>, CommandError> {
        let device = self.registry.find(device.0, device.1).ok_or(CommandError::Unknown)?;
        self.push(device, topic.to_owned(), payload)?;
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert((format!("{topic}_reply"), id.to_owned()), sender);
        Ok(receiver)
    }
}
