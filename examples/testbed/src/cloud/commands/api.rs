//! What a test, or a person at the keyboard, can ask of devices through the cloud.

use super::super::Cloud;
use super::super::world::World;
use super::book::{Answered, CommandRecord, CommandReport, Entry};
use super::{CommandError, CommandState, TIMEOUT};
use bytes::Bytes;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::oneshot;

/// One command, to be sent or cached.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub product_key: String,
    pub device_key: String,
    /// Below the device: `thing/service/measurepoint/set`.
    pub topic: String,
    pub params: Value,
    /// Zero: now or never. More: it may wait so long for the device.
    pub pending: Duration,
    pub timeout: Duration,
    /// Instead of one the cloud makes up.
    pub id: Option<String>,
}

impl Order {
    /// Now or never, 30 s for the answer.
    #[must_use]
    pub fn new(device: (&str, &str), topic: &str, params: Value) -> Order {
        Order {
            product_key: device.0.to_owned(),
            device_key: device.1.to_owned(),
            topic: topic.to_owned(),
            params,
            pending: Duration::ZERO,
            timeout: TIMEOUT,
            id: None,
        }
    }
}

/// What the cloud tells of a sub-device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Enable,
    Disable,
    Delete,
}

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `combine/…` of the gateway, as the English documentation has it.
    Array,
    /// `combine/…` of the gateway, as the Chinese documentation has it.
    Object,
    /// `thing/…` of the device itself.
    OwnTopic,
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
        let (_, receiver) = self.issue(Order { timeout, ..Order::new(device, topic, params) })?;
        wait(receiver).await
    }

    /// Takes a command in without waiting for its answer; [`Cloud::command_record`] tells what becomes of it.
    ///
    /// # Errors
    /// When the device is not known, is offline and nothing may wait, or has 50 waiting already.
    pub fn order(&self, order: Order) -> Result<u64, CommandError> {
        self.issue(order).map(|(number, _)| number)
    }

    /// Takes a command in and waits for what becomes of it.
    ///
    /// # Errors
    /// As [`Cloud::order`], and when no answer comes in time.
    pub async fn carry_out(&self, order: Order) -> Result<Value, CommandError> {
        let (_, receiver) = self.issue(order)?;
        wait(receiver).await
    }

    fn issue(&self, order: Order) -> Result<(u64, oneshot::Receiver<Answered>), CommandError> {
        let mut world = self.lock();
        let device = world.registry.find(&order.product_key, &order.device_key).ok_or(CommandError::Unknown)?;
        let id = order.id.unwrap_or_else(|| world.next_command_id());
        let method = order.topic.replace('/', ".");
        let payload = json!({"id": id, "version": "1.0", "method": method, "params": order.params}).to_string();
        let entry = Entry {
            device,
            id: Some(id),
            topic: topic_of(&order.product_key, &order.device_key, &order.topic),
            payload: payload.into(),
            timeout: order.timeout,
        };
        world.issue(entry, order.pending)
    }

    /// Sends a command that was sent before once more, byte for byte.
    ///
    /// # Errors
    /// When there is no such command, or its device is offline.
    pub fn repeat(&self, number: u64) -> Result<(), CommandError> {
        self.lock().send(number)
    }

    /// Takes a waiting command back; false when it does not wait any more.
    pub fn revoke(&self, number: u64) -> bool {
        let mut world = self.lock();
        let Some(device) = world.commands.book.page(number).map(|page| page.device) else { return false };
        let waited = world.drop_waiting(device, number);
        if waited {
            world.commands.book.close(number, CommandState::Revoked, CommandError::Revoked);
        }
        waited
    }

    #[must_use]
    pub fn command_record(&self, number: u64) -> Option<CommandRecord> {
        self.lock().commands.book.page(number).map(|page| page.record.clone())
    }

    /// All commands that are remembered, oldest first.
    #[must_use]
    pub fn command_records(&self) -> Vec<CommandRecord> {
        self.lock().commands.book.records()
    }

    #[must_use]
    pub fn command_report(&self) -> CommandReport {
        self.lock().commands.book.report()
    }

    /// Commands that wait for a device.
    #[must_use]
    pub fn commands_waiting(&self, device: (&str, &str)) -> usize {
        let world = self.lock();
        let number = world.registry.find(device.0, device.1);
        number.and_then(|number| world.commands.queues.get(&number)).map_or(0, |queue| queue.waiting.len())
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

    /// Invokes a service of a device.
    ///
    /// # Errors
    /// As [`Cloud::command`].
    pub async fn invoke(
        &self,
        device: (&str, &str),
        service: &str,
        input: Value,
        timeout: Duration,
    ) -> Result<Value, CommandError> {
        self.command(device, &format!("thing/service/{service}"), input, timeout).await
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
        self.bytes(device, "thing/model/down_raw", payload, timeout).await
    }

    /// Sends bytes on `rrpc/request/{id}` and waits for those on `rrpc/response/{id}`. What they hold is not documented.
    ///
    /// # Errors
    /// As [`Cloud::command`].
    pub async fn rrpc(&self, device: (&str, &str), payload: Bytes, timeout: Duration) -> Result<Bytes, CommandError> {
        let id = self.lock().next_command_id();
        self.bytes(device, &format!("rrpc/request/{id}"), payload, timeout).await
    }

    async fn bytes(
        &self,
        device: (&str, &str),
        topic: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CommandError> {
        let receiver = {
            let mut world = self.lock();
            let number = world.registry.find(device.0, device.1).ok_or(CommandError::Unknown)?;
            let topic = topic_of(device.0, device.1, topic);
            world.issue(Entry { device: number, id: None, topic, payload, timeout }, Duration::ZERO)?.1
        };
        receiver.await.map_err(|_| CommandError::Timeout)?
    }

    /// Enables, disables or deletes a sub-device and tells its gateway; the number is that of the command.
    ///
    /// # Errors
    /// When it is in no topology, or its gateway is offline. It is changed all the same.
    pub fn change(&self, device: (&str, &str), change: Change, form: Form) -> Result<u64, CommandError> {
        let (number, order) = self.lock().telling(device, change, form)?;
        // Told first: on its own topic a device is reached only while it is online.
        let told = self.order(order);
        self.lock().apply(number, change);
        told
    }
}

impl World {
    /// The device a change is about and the command that tells of it.
    fn telling(&self, (pk, dk): (&str, &str), change: Change, form: Form) -> Result<(u32, Order), CommandError> {
        let device = self.registry.find(pk, dk).ok_or(CommandError::Unknown)?;
        let gateway = self.registry.get(device).gateway.ok_or(CommandError::Unknown)?;
        let word = match change {
            Change::Enable => "enable",
            Change::Disable => "disable",
            Change::Delete => "delete",
        };
        let keys = json!({"productKey": pk, "deviceKey": dk});
        let gateway = &self.registry.get(gateway).triple;
        let gateway = (gateway.product_key.as_str(), gateway.device_key.as_str());
        let order = match form {
            Form::Array => Order::new(gateway, &format!("combine/{word}"), json!([keys])),
            Form::Object => Order::new(gateway, &format!("combine/{word}"), keys),
            Form::OwnTopic => Order::new((pk, dk), &format!("thing/{word}"), json!({})),
        };
        Ok((device, order))
    }

    fn apply(&mut self, device: u32, change: Change) {
        self.registry.devices[device as usize].enabled = change == Change::Enable;
        if change != Change::Enable {
            self.set_offline(device);
        }
        if change == Change::Delete {
            self.registry.delete(device);
        }
    }
}

fn topic_of(product_key: &str, device_key: &str, topic: &str) -> String {
    let session = topic.starts_with("combine/") || topic.starts_with("thing/activate");
    let space = if session { "/ext/session" } else { "/sys" };
    format!("{space}/{product_key}/{device_key}/{topic}")
}

async fn wait(receiver: oneshot::Receiver<Answered>) -> Result<Value, CommandError> {
    let reply = receiver.await.map_err(|_| CommandError::Timeout)??;
    Ok(serde_json::from_slice(&reply).unwrap_or(Value::Null))
}
