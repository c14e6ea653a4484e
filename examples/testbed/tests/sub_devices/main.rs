//! Sub-devices of a running link against the stand-in cloud: thousands at once, registration, silence, questions.

#![allow(clippy::unwrap_used, reason = "helpers of tests, where a failed step is the failed test")]

#[allow(dead_code, reason = "shared with the stories of the link")]
#[path = "../../../../tests/cloud_link/outlet.rs"]
mod outlet;

mod held;

use enos_edge::cloud::{self, CloudExtras, CloudPorts, CloudSite, Login, Status};
use enos_edge::config::{CloudConfig, SubDevicesConfig};
use enos_edge::identity::device_secrets::DeviceSecrets;
use enos_edge::model::cloud_ask::{CloudAsk, Wish};
use enos_edge::model::{
    Credential, DeviceDetails, DeviceNames, Field, Names, Notice, Notices, PointName, PointNames, Secret, Timestamp,
};
use enos_edge::store::RealDisk;
use enos_edge::telemetry::Counters;
use outlet::{Store, batch};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testbed::cloud::{Cloud, Options, Registry, Triple};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(60);

fn names(count: usize) -> Arc<Names> {
    let point = PointName { id: "p0".to_owned(), has_quality: false };
    let points = Arc::new(PointNames { model: "m".to_owned(), points: vec![point] });
    let devices = (0..count).map(|n| DeviceNames {
        name: format!("Device {n}"),
        product_key: "subPK".to_owned(),
        device_key: format!("d{n}"),
        asset_id: None,
        points: Arc::clone(&points),
    });
    Arc::new(Names::new(devices.collect()))
}

/// A gateway, and devices that are known but not below it.
async fn start_cloud(devices: usize) -> Cloud {
    start_cloud_with(devices, false).await
}

async fn start_cloud_with(devices: usize, below: bool) -> Cloud {
    let mut registry = Registry::default();
    let gateway = registry.gateway(Triple::new("gwPK", "gw", "secret"));
    for n in 0..devices {
        let triple = Triple::new("subPK", &format!("d{n}"), "s");
        let _ = if below { registry.sub_device(gateway, triple, None) } else { registry.loose_device(triple, None) };
    }
    let cloud = Cloud::start(Options { journal: 4000, ..Options::default() }, registry).await.unwrap();
    cloud.knobs(|knobs| knobs.online_limit = usize::MAX);
    cloud
}

struct Link {
    store: Arc<Store>,
    status: Arc<Status>,
    extras: CloudExtras,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Link {
    fn start(
        cloud: &Cloud,
        names: &Arc<Names>,
        credentials: Vec<Credential>,
        sub_devices: SubDevicesConfig,
        extras: CloudExtras,
    ) -> Link {
        let address = cloud.address();
        let secret = Secret::new("secret".to_owned());
        let config = CloudConfig {
            device_secret: Some(secret.clone()),
            sub_devices,
            linger: Duration::ZERO,
            ..CloudConfig::new(&address.ip().to_string(), address.port(), "gwPK", "gw")
        };
        let (store, status) = (Store::new(Arc::clone(names)), Arc::new(Status::default()));
        let (stop, stopped) = watch::channel(false);
        let simple = CloudPorts::simple(
            Arc::clone(&store) as _,
            Some(secret),
            Arc::new(Counters::default()),
            Arc::clone(&status),
        );
        let ports = CloudPorts { extras: extras.clone(), ..simple };
        let site = CloudSite { names: Arc::clone(names), credentials };
        let task = tokio::spawn(cloud::run(config, site, ports, stopped));
        Link { store, status, extras, stop, task }
    }

    /// Every login is as wanted.
    async fn until(&self, wanted: impl Fn(&[Login]) -> bool) {
        let look = || self.status.snapshot().sub_devices.into_iter().map(|each| each.login).collect::<Vec<_>>();
        let begun = Instant::now();
        while !wanted(&look()) {
            assert!(begun.elapsed() < PATIENCE, "it does not come to this: {:?}", look().first());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap().unwrap();
    }
}

async fn until(mut wanted: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !wanted() {
        assert!(begun.elapsed() < PATIENCE, "it does not come to this");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn known(count: usize) -> Vec<Credential> {
    vec![Credential::Device { secret: Secret::new("s".to_owned()) }; count]
}

fn now() -> i64 {
    Timestamp::now().0
}

fn all_online(logins: &[Login]) -> bool {
    !logins.is_empty() && logins.iter().all(|login| *login == Login::Online)
}

fn sent(cloud: &Cloud, path: &str) -> Vec<Value> {
    let journal = cloud.journal();
    let these = journal.iter().filter(|(topic, _)| topic.ends_with(path));
    these.map(|(_, payload)| serde_json::from_slice(payload).unwrap()).collect()
}

/// Resident memory of this process, stand-in cloud included, in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

#[tokio::test]
async fn data_flows_while_ten_thousand_log_in() {
    const COUNT: usize = 10_000;
    let cloud = start_cloud_with(COUNT, true).await;
    let names = names(COUNT);
    let before = resident();
    let begun = Instant::now();
    let config = SubDevicesConfig { login_rate: 2000, ..SubDevicesConfig::default() };
    let link = Link::start(&cloud, &names, known(COUNT), config, CloudExtras::default());
    link.store.add(true, batch(&names, &[0], 1, now()));
    link.store.until_acknowledged(1).await;
    let first = begun.elapsed();
    let online = cloud.sub_devices_online();
    link.until(all_online).await;
    assert_eq!(cloud.sub_devices_online(), COUNT);
    assert!(online < COUNT, "data waited for all logins");
    println!(
        "10,000 sub-devices: first data acknowledged after {:.1} s with {online} online, all online after {:.1} s; \
         {} MiB more in this process, {} messages",
        first.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        resident().saturating_sub(before),
        cloud.stats().messages,
    );
    assert!(
        sent(&cloud, "combine/login/batch").iter().all(|m| m["params"]["subDevices"].as_array().unwrap().len() <= 200)
    );
    link.stop().await;
}

#[tokio::test]
async fn a_cloud_that_takes_two_hundred_is_not_hammered_and_gets_all_data() {
    let cloud = start_cloud(700).await;
    cloud.knobs(|knobs| knobs.online_limit = 200);
    let names = names(700);
    let link = Link::start(&cloud, &names, known(700), SubDevicesConfig::default(), CloudExtras::default());
    let online = |logins: &[Login]| logins.iter().filter(|login| **login == Login::Online).count();
    link.until(|logins| online(logins) == 200).await;
    let everyone: Vec<u32> = (0..700).collect();
    for n in 0..20 {
        link.store.add(true, batch(&names, &everyone, 1, now() + n));
        link.store.until_acknowledged(usize::try_from(n).unwrap() + 1).await;
    }
    assert!(link.store.aside().is_empty(), "data of devices that are offline is data");
    until(|| link.store.held_values().is_empty()).await;
    let logins = sent(&cloud, "combine/login/batch").len();
    assert!(logins <= 5, "{logins} requests to log in");
    link.stop().await;
}

#[tokio::test]
async fn a_device_without_a_secret_is_registered_once_for_ever() {
    let cloud = start_cloud(0).await;
    cloud.registry(|registry| registry.product("subPK").device_limit = 3);
    let home = tempfile::tempdir().unwrap();
    let names = names(3);
    let details = DeviceDetails {
        names: vec![("zh_CN".to_owned(), "电表".to_owned())],
        timezone: Some("+08:00".to_owned()),
        ..DeviceDetails::default()
    };
    for run in 0..2 {
        let shelf = DeviceSecrets::open(home.path(), Arc::new(RealDisk)).0;
        let extras =
            CloudExtras { shelf: Some(Arc::new(shelf)), details: vec![details.clone(); 3], ..CloudExtras::default() };
        let link = Link::start(&cloud, &names, vec![Credential::Register; 3], SubDevicesConfig::default(), extras);
        link.until(all_online).await;
        link.store.add(true, batch(&names, &[0, 1, 2], 1, now()));
        link.store.until_acknowledged(1).await;
        link.stop().await;
        let registered = sent(&cloud, "thing/device/register");
        assert_eq!(registered.len(), 1, "run {run}");
        assert_eq!(registered[0]["params"][0]["deviceName"]["i18nValue"], json!({ "zh_CN": "电表" }));
    }
}

/// Whether the second device answers.
#[derive(Default)]
struct Switch(AtomicBool, Mutex<Option<Instant>>);

impl Field for Switch {
    fn silences(&self, report: &mut dyn FnMut(u32, Option<Duration>)) {
        report(0, None);
        let silent = self.0.load(Ordering::Relaxed);
        let mut since = self.1.lock().unwrap();
        *since = silent.then(|| since.unwrap_or_else(Instant::now));
        report(1, since.map(|at| at.elapsed()));
    }
}

#[tokio::test]
async fn a_device_that_falls_silent_is_offline_in_the_cloud_until_it_answers() {
    let cloud = start_cloud(2).await;
    let names = names(2);
    let field = Arc::new(Switch::default());
    let extras = CloudExtras { field: Some(Arc::clone(&field) as _), ..CloudExtras::default() };
    let config = SubDevicesConfig {
        offline_after: Some(Duration::from_millis(200)),
        connection_state: true,
        ..SubDevicesConfig::default()
    };
    let link = Link::start(&cloud, &names, known(2), config, extras);
    link.until(all_online).await;
    until(|| !sent(&cloud, "connection/state/post").is_empty()).await;
    field.0.store(true, Ordering::Relaxed);
    link.until(|logins| logins == [Login::Online, Login::Away]).await;
    assert!(!cloud.is_online("subPK", "d1") && cloud.is_online("subPK", "d0"));
    link.store.add(true, batch(&names, &[0, 1], 1, now()));
    link.store.until_acknowledged(1).await;
    field.0.store(false, Ordering::Relaxed);
    link.until(all_online).await;
    assert!(cloud.is_online("subPK", "d1"));
    until(|| sent(&cloud, "connection/state/post").len() >= 3).await;
    let reports = sent(&cloud, "connection/state/post");
    assert_eq!(reports[0]["params"]["isFull"], true);
    assert_eq!(reports[0]["params"]["relations"]["gwPK.gw"].as_array().unwrap().len(), 2);
    assert_eq!(reports[1]["params"]["nodes"][0]["state"], 2);
    assert_eq!(reports[2]["params"]["nodes"][0]["state"], 1);
    link.stop().await;
}

#[tokio::test]
async fn attributes_are_set_people_are_answered_and_notices_survive_a_reconnect() {
    let cloud = start_cloud(2).await;
    let names = names(2);
    let attributes = json!({ "Rated": 5, "Maker": "ACME" });
    let details = DeviceDetails {
        attributes: attributes.as_object().unwrap().clone(),
        tags: vec![("hall".to_owned(), "3".to_owned())],
        ..DeviceDetails::default()
    };
    let extras = CloudExtras { details: vec![details; 2], ..CloudExtras::default() };
    let notice = Notice {
        event: "certificateExpiring".to_owned(),
        fields: serde_json::Map::new(),
        at: Timestamp(5),
        device: None,
    };
    extras.notices.tell(notice.clone());
    let config = SubDevicesConfig { publish_attributes: true, ..SubDevicesConfig::default() };
    let link = Link::start(&cloud, &names, known(2), config, extras);
    link.until(all_online).await;
    until(|| sent(&cloud, "thing/tag/update").len() == 2).await;
    let desk = Arc::clone(&link.extras.desk);
    let device = Some("Device 1".to_owned());
    let told = desk.ask(Wish::Attributes { device: device.clone(), names: Vec::new() }).await.unwrap();
    assert_eq!(told, attributes);
    let told = desk.ask(Wish::Tags { device, names: vec!["hall".to_owned()] }).await.unwrap();
    assert_eq!(told, json!({ "hall": "3" }));
    assert_eq!(desk.ask(Wish::Topology).await.unwrap().as_array().unwrap().len(), 2);
    assert!(desk.ask(Wish::Template { device: None }).await.unwrap()["tslMeasurepointMap"].is_object());
    let why = desk.ask(Wish::Template { device: Some("Devise 1".to_owned()) }).await.unwrap_err();
    assert!(why.contains("Device 1"), "{why}");
    until(|| cloud.events().len() == 1).await;
    cloud.knobs(|knobs| knobs.lose_requests = 1);
    link.extras.notices.tell(Notice { at: Timestamp(6), ..notice });
    until(|| cloud.knobs(|knobs| knobs.lose_requests) == 0).await;
    cloud.drop_connections();
    until(|| cloud.events().len() == 2).await;
    let event = cloud.events().pop().unwrap();
    assert_eq!((event.event.as_str(), event.time), ("certificateExpiring", Some(6)));
    // The cloud has the event before its answer has come back.
    until(|| link.extras.notices.counts() == (0, 0)).await;
    assert_eq!(sent(&cloud, "ota/device/inform").len(), 2, "the version is told after every connect");
    link.stop().await;
}
