//! A gateway with its link to the cloud, and what the cloud of these tests says and sees.

use crate::broker::{Say, ok};
use crate::outlet::Store;
use enos_edge::cloud::{self, CloudPorts, CloudSite, State, Status};
use enos_edge::config::{Acknowledge, CloudConfig, LateDataConfig, Secret};
use enos_edge::model::{Credential, Identity, Names, Timestamp};
use enos_edge::telemetry::Counters;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

pub struct Gateway {
    pub store: Arc<Store>,
    pub status: Arc<Status>,
    pub counters: Arc<Counters>,
    pub stop: watch::Sender<bool>,
    pub task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Gateway {
    pub fn start(config: CloudConfig, names: &Arc<Names>) -> Gateway {
        Gateway::start_with(config, names, credentials(names))
    }

    pub fn start_with(config: CloudConfig, names: &Arc<Names>, credentials: Vec<Credential>) -> Gateway {
        let (store, status, counters) = (Store::new(Arc::clone(names)), Arc::default(), Arc::default());
        let (stop, stopped) = watch::channel(false);
        let site = CloudSite { names: Arc::clone(names), credentials };
        let outlet = Arc::clone(&store);
        let secret = config.device_secret.clone();
        let ports = CloudPorts::simple(outlet, secret, Arc::clone(&counters), Arc::clone(&status));
        let task = tokio::spawn(cloud::run(config, site, ports, stopped));
        Gateway { store, status, counters, stop, task }
    }

    /// With an identity of the test's choice.
    pub fn start_as(config: CloudConfig, names: &Arc<Names>, identity: Arc<dyn Identity>) -> Gateway {
        let (store, status, counters) = (Store::new(Arc::clone(names)), Arc::default(), Arc::default());
        let (stop, stopped) = watch::channel(false);
        let site = CloudSite { names: Arc::clone(names), credentials: credentials(names) };
        let outlet = Arc::clone(&store);
        let simple = CloudPorts::simple(outlet, None, Arc::clone(&counters), Arc::clone(&status));
        let task = tokio::spawn(cloud::run(config, site, CloudPorts { identity, ..simple }, stopped));
        Gateway { store, status, counters, stop, task }
    }

    /// The first error shown that fits.
    pub async fn until_error(&self, fits: impl Fn(&str) -> bool) -> String {
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            loop {
                if let Some(error) = self.status.snapshot().last_error.filter(|error| fits(error)) {
                    return error;
                }
                tokio::task::yield_now().await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("the error does not come: {:?}", self.status.snapshot()))
    }

    pub async fn until_state(&self, fits: impl Fn(&State) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while !fits(&self.status.snapshot().state) {
                tokio::task::yield_now().await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("the state does not come: {:?}", self.status.snapshot()));
    }

    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(4), self.task).await;
        ended.expect("stops in time").unwrap().unwrap();
    }
}

pub fn config(address: SocketAddr) -> CloudConfig {
    CloudConfig {
        device_secret: Some(Secret::new("planted-of-gw".to_owned())),
        late_data: LateDataConfig { threshold: Duration::from_secs(7200), ..LateDataConfig::default() },
        upstream_bytes_per_second: None,
        linger: Duration::ZERO,
        max_message_bytes: 500_000,
        in_flight: 8,
        ..CloudConfig::new(&address.ip().to_string(), address.port(), "gwPK", "gw")
    }
}

pub fn plain(address: SocketAddr) -> CloudConfig {
    CloudConfig { acknowledge: Acknowledge::Puback, sub_device_login: false, device_secret: None, ..config(address) }
}

pub fn credentials(names: &Names) -> Vec<Credential> {
    let device = |_| Credential::Device { secret: Secret::new("planted-of-sub".to_owned()) };
    names.devices.iter().map(device).collect()
}

pub fn now() -> i64 {
    Timestamp::now().0
}

/// A cloud in good health: every sub-device may log in.
pub fn healthy(topic: &str, payload: &Value) -> Say {
    if topic.ends_with("combine/login/batch") {
        let each = payload["params"]["subDevices"].clone();
        return Say::Reply(json!({ "code": 200, "data": { "loginedSubDevices": each, "failedSubDevices": [] } }));
    }
    ok()
}

pub fn items(payload: &Value) -> impl Iterator<Item = &Value> {
    payload["params"].as_array().into_iter().flatten()
}

pub fn is_data(topic: &str) -> bool {
    topic.ends_with("post/batch") || topic.ends_with("resume/batch")
}
