//! The doors that the gateway opens from inside, one task each.

use crate::config::{Config, host_and_port};
use crate::doors::outward::{self, Hello, Status};
use crate::operate::Gateway;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// One for each door of the configuration, in its order.
pub(super) fn statuses(config: &Config) -> Vec<Arc<Status>> {
    let endpoint = |door: &crate::config::DoorConfig| {
        let scheme = if door.tls.is_some() { "ssl" } else { "tcp" };
        format!("{scheme}://{}", host_and_port(&door.host, door.port))
    };
    config.doors.iter().map(|door| Arc::new(Status::new(&door.name, endpoint(door)))).collect()
}

pub(super) fn start(
    config: &Config,
    gateway: &Arc<dyn Gateway>,
    statuses: Vec<Arc<Status>>,
    stopped: &watch::Receiver<bool>,
) -> Vec<JoinHandle<()>> {
    let cloud = config.cloud.as_ref();
    let hello = Hello {
        product_key: cloud.map(|cloud| cloud.product_key.clone()),
        device_key: cloud.map(|cloud| cloud.device_key.clone()),
    };
    let doors = config.doors.iter().cloned().zip(statuses);
    doors
        .map(|(door, status)| {
            tokio::spawn(outward::run(door, hello.clone(), Arc::clone(gateway), status, stopped.clone()))
        })
        .collect()
}
