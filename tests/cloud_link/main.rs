//! The link to the cloud against a scripted MQTT server on loopback.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod adopt;
mod broker;
mod identity;
mod mutual;
mod outlet;
mod trust;

use broker::{Broker, Say, code, ok};
use enos_edge::cloud::{self, CloudPorts, CloudSite, State, Status};
use enos_edge::config::{Acknowledge, CloudConfig, LateDataConfig, Secret};
use enos_edge::model::{Credential, Identity, Names, Timestamp};
use enos_edge::telemetry::Counters;
use outlet::{Store, batch, names};
use rumqttc::mqttbytes::v4::ConnectReturnCode;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

struct Gateway {
    store: Arc<Store>,
    status: Arc<Status>,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

fn config(address: SocketAddr) -> CloudConfig {
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

fn plain(address: SocketAddr) -> CloudConfig {
    CloudConfig { acknowledge: Acknowledge::Puback, sub_device_login: false, device_secret: None, ..config(address) }
}

fn credentials(names: &Names) -> Vec<Credential> {
    let device = |_| Credential::Device { secret: Secret::new("planted-of-sub".to_owned()) };
    names.devices.iter().map(device).collect()
}

impl Gateway {
    fn start(config: CloudConfig, names: &Arc<Names>) -> Gateway {
        Gateway::start_with(config, names, credentials(names))
    }

    fn start_with(config: CloudConfig, names: &Arc<Names>, credentials: Vec<Credential>) -> Gateway {
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
    fn start_as(config: CloudConfig, names: &Arc<Names>, identity: Arc<dyn Identity>) -> Gateway {
        let (store, status, counters) = (Store::new(Arc::clone(names)), Arc::default(), Arc::default());
        let (stop, stopped) = watch::channel(false);
        let site = CloudSite { names: Arc::clone(names), credentials: credentials(names) };
        let outlet = Arc::clone(&store);
        let simple = CloudPorts::simple(outlet, None, Arc::clone(&counters), Arc::clone(&status));
        let task = tokio::spawn(cloud::run(config, site, CloudPorts { identity, ..simple }, stopped));
        Gateway { store, status, counters, stop, task }
    }

    /// The first error shown that fits.
    async fn until_error(&self, fits: impl Fn(&str) -> bool) -> String {
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

    async fn until_state(&self, fits: impl Fn(&State) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while !fits(&self.status.snapshot().state) {
                tokio::task::yield_now().await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("the state does not come: {:?}", self.status.snapshot()));
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(4), self.task).await;
        ended.expect("stops in time").unwrap().unwrap();
    }
}

fn now() -> i64 {
    Timestamp::now().0
}

/// A cloud in good health: every sub-device may log in.
fn healthy(topic: &str, payload: &Value) -> Say {
    if topic.ends_with("combine/login/batch") {
        let each = payload["params"]["subDevices"].clone();
        return Say::Reply(json!({ "code": 200, "data": { "loginedSubDevices": each, "failedSubDevices": [] } }));
    }
    ok()
}

fn items(payload: &Value) -> impl Iterator<Item = &Value> {
    payload["params"].as_array().into_iter().flatten()
}

fn is_data(topic: &str) -> bool {
    topic.ends_with("post/batch") || topic.ends_with("resume/batch")
}

#[tokio::test]
async fn devices_are_added_and_logged_in_before_data_and_a_reply_acknowledges() {
    let broker = Broker::start(healthy).await;
    let names = names(3, 4);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 1, 2], 4, now()));
    gateway.store.until_acknowledged(1).await;
    {
        let seen = broker.seen.lock().unwrap();
        let version = |t: &&str| !t.ends_with("ota/device/inform");
        let topics: Vec<&str> = seen.published.iter().map(|(t, _)| t.as_str()).filter(version).collect();
        assert_eq!(topics.len() + 1, seen.published.len(), "the version is told once");
        assert_eq!(
            topics,
            [
                "/sys/gwPK/gw/thing/topo/get",
                "/sys/gwPK/gw/thing/topo/add",
                "/ext/session/gwPK/gw/combine/login/batch",
                "/sys/gwPK/gw/thing/measurepoint/post/batch"
            ]
        );
        assert_eq!(seen.ledger.len(), 12);
        let connect = &seen.connects[0];
        assert!(connect.client_id.starts_with("gw|securemode=2,signmethod=sha256,timestamp="));
        assert_eq!((connect.keep_alive, connect.clean_session), (60, true));
        assert!(seen.subscriptions.contains(&"/sys/gwPK/gw/thing/measurepoint/post/batch_reply".to_owned()));
    }
    let status = gateway.status.snapshot();
    assert_eq!(status.state, State::Online);
    assert!(status.sub_devices.iter().all(|d| d.login == cloud::Login::Online));
    assert_eq!((gateway.counters.messages.get(), gateway.counters.sub_devices_online.get()), (1, 3));
    gateway.stop().await;
}

#[tokio::test]
async fn a_sub_device_the_cloud_refuses_is_named_and_the_rest_goes_on() {
    let broker = Broker::start(|topic: &str, payload: &Value| {
        if !topic.ends_with("combine/login/batch") {
            return ok();
        }
        let all = payload["params"]["subDevices"].as_array().unwrap();
        let (bad, good): (Vec<Value>, Vec<Value>) = all.iter().cloned().partition(|d| d["deviceKey"] == "d1");
        let code = if bad.is_empty() { 200 } else { 740 };
        Say::Reply(json!({ "code": code.to_string(), "message": "pk&d1 is not a sub-device",
            "data": { "loginedSubDevices": good, "failedSubDevices": bad } }))
    })
    .await;
    let names = names(3, 1);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 2], 1, now()));
    gateway.store.until_acknowledged(1).await;
    let logins: Vec<_> = gateway.status.snapshot().sub_devices.into_iter().map(|d| d.login).collect();
    let refused = cloud::Login::Refused { code: 740, message: "pk&d1 is not a sub-device".to_owned() };
    assert_eq!(logins, [cloud::Login::Online, refused, cloud::Login::Online]);
    assert_eq!(gateway.counters.sub_devices_refused.get(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn late_readings_travel_as_resume_and_fresh_ones_as_post() {
    let broker = Broker::start(healthy).await;
    let names = names(1, 2);
    let gateway = Gateway::start(config(broker.address), &names);
    let (old, fresh) = (now() - 3 * 3_600_000, now());
    let mut builder = enos_edge::model::BatchBuilder::default();
    for time in [old, fresh] {
        builder.begin(0, Timestamp(time));
        builder.push(0, 0, &enos_edge::model::Value::Int(1));
    }
    gateway.store.add(false, builder.finish(names.epoch).unwrap());
    gateway.store.until_acknowledged(1).await;
    let seen = broker.seen.lock().unwrap();
    assert_eq!(seen.topics("post/batch")[0]["params"][0]["time"], fresh);
    let resume = seen.topics("resume/batch")[0];
    assert_eq!(
        (&resume["params"][0]["time"], &resume["method"]),
        (&json!(old), &json!("thing.measurepoint.resume.batch"))
    );
}

#[tokio::test]
async fn one_guilty_value_is_found_and_set_aside_and_all_others_arrive() {
    let guilty = |item: &Value| item["deviceKey"] == "d3" && item["measurepoints"].get("p17").is_some();
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if is_data(topic) && items(payload).any(guilty) { code(1204, "no such point") } else { healthy(topic, payload) }
    })
    .await;
    let names = names(8, 50);
    let gateway = Gateway::start(config(broker.address), &names);
    for n in 0..20 {
        gateway.store.add(n % 2 == 0, batch(&names, &[0, 1, 2, 3, 4, 5, 6, 7], 50, now() + n));
    }
    gateway.store.until_acknowledged(20).await;
    let aside = gateway.store.aside();
    assert_eq!(aside.len(), 20, "{aside:?}");
    assert!(aside.iter().all(|a| *a == ("d3".to_owned(), "p17".to_owned(), 1204)));
    let before = {
        let seen = broker.seen.lock().unwrap();
        assert_eq!(seen.ledger.len(), 20 * (8 * 50 - 1));
        seen.published.len()
    };
    // What was found out is remembered: the next parcel costs one message.
    gateway.store.add(true, batch(&names, &[3], 50, now() + 99));
    gateway.store.until_acknowledged(21).await;
    assert_eq!(broker.seen.lock().unwrap().published.len(), before + 1);
    assert_eq!(gateway.store.aside().len(), 21);
    gateway.stop().await;
}

#[tokio::test]
async fn others_flow_while_a_message_is_searched() {
    // The cloud never gets to an end with device d0: its parts are refused for lack of capacity now and then.
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if is_data(topic) && items(payload).any(|i| i["deviceKey"] == "d0") {
            code(1212, "offline")
        } else {
            healthy(topic, payload)
        }
    })
    .await;
    let names = names(2, 10);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 1], 10, now()));
    broker.until("the refused message", |seen| !seen.topics("post/batch").is_empty()).await;
    gateway.store.add(true, batch(&names, &[1], 10, now() + 1));
    gateway.store.until_acknowledged(1).await;
    assert_eq!(gateway.store.aside().len(), 0, "the device is logged in again first");
    gateway.store.until_acknowledged(2).await;
    let held = gateway.store.held_values();
    assert!(held.len() == 10 && held.iter().all(|a| a.0 == "d0" && a.2 == 1212), "{held:?}");
    assert_eq!(gateway.store.aside().len(), 0, "what waits for its device is not given up");
    let logins = broker.seen.lock().unwrap().topics("login/batch").len();
    assert!(logins >= 2, "{logins}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_busy_cloud_gets_pauses_and_loses_nothing() {
    let came = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&came);
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if is_data(topic) {
            let mut times = times.lock().unwrap();
            times.push(Instant::now());
            if times.len() <= 3 {
                return code(429, "slow down");
            }
        }
        healthy(topic, payload)
    })
    .await;
    let names = names(1, 5);
    let mut slow = config(broker.address);
    slow.in_flight = 1;
    let gateway = Gateway::start(slow, &names);
    gateway.store.add(true, batch(&names, &[0], 5, now()));
    gateway.store.until_acknowledged(1).await;
    let came = came.lock().unwrap().clone();
    let waits: Vec<Duration> = came.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(waits.len(), 3, "never hammered");
    // Chance takes away up to half of 0.5, 1 and 2 s.
    for (wait, least) in waits.iter().zip([250, 500, 1000]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
    {
        let seen = broker.seen.lock().unwrap();
        assert_eq!(seen.ledger.len(), 5);
        assert!(seen.ledger.values().all(|n| *n == 1));
    }
    assert_eq!(gateway.store.aside(), []);
    assert!(gateway.counters.slowed.get() > 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_message_too_large_for_the_cloud_is_halved() {
    let broker = Broker::start(|topic: &str, payload: &Value| {
        if is_data(topic) && payload.to_string().len() > 3000 {
            code(1008, "too large")
        } else {
            healthy(topic, payload)
        }
    })
    .await;
    let names = names(4, 200);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 1, 2, 3], 200, now()));
    gateway.store.until_acknowledged(1).await;
    assert_eq!(broker.seen.lock().unwrap().ledger.len(), 800);
    assert_eq!(gateway.store.aside(), []);
    gateway.stop().await;
}

#[tokio::test]
async fn a_parcel_larger_than_a_message_is_split_and_acknowledged_once() {
    let broker = Broker::start(healthy).await;
    let names = names(40, 500);
    let mut small = config(broker.address);
    small.max_message_bytes = 20_000;
    let gateway = Gateway::start(small, &names);
    gateway.store.add(true, batch(&names, &(0..40).collect::<Vec<_>>(), 500, now()));
    gateway.store.until_acknowledged(1).await;
    let seen = broker.seen.lock().unwrap();
    assert_eq!(seen.ledger.len(), 20_000);
    assert!(seen.ledger.values().all(|n| *n == 1));
    assert!(seen.largest <= 20_000, "{}", seen.largest);
}

#[tokio::test]
async fn a_message_without_an_answer_is_sent_again_with_another_id() {
    let mut first = true;
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if is_data(topic) && std::mem::take(&mut first) { Say::Nothing } else { healthy(topic, payload) }
    })
    .await;
    let names = names(1, 1);
    let mut hasty = config(broker.address);
    hasty.reply_timeout = Duration::from_millis(300);
    let gateway = Gateway::start(hasty, &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    let seen = broker.seen.lock().unwrap();
    let posts = seen.topics("post/batch");
    assert_eq!((posts.len(), seen.connects.len()), (2, 1));
    assert_eq!(posts[0]["params"], posts[1]["params"]);
    assert_ne!(posts[0]["id"], posts[1]["id"]);
}

#[tokio::test]
async fn what_was_under_way_when_the_link_broke_comes_again() {
    let mut countdown = 5;
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if is_data(topic) {
            countdown -= 1;
            if countdown == 0 {
                return Say::Drop;
            }
        }
        healthy(topic, payload)
    })
    .await;
    let names = names(2, 10);
    let gateway = Gateway::start(config(broker.address), &names);
    for n in 0..50 {
        gateway.store.add(true, batch(&names, &[0, 1], 10, now() + n));
        if n % 5 == 0 {
            tokio::task::yield_now().await;
            let sent = n as usize / 5;
            broker.until("messages", |seen| seen.topics("post/batch").len() > sent.min(3)).await;
        }
    }
    gateway.store.until_acknowledged(50).await;
    assert_eq!(broker.seen.lock().unwrap().ledger.len(), 1000);
    assert_eq!(gateway.counters.cloud_connects.get(), 2);
    assert!(gateway.store.ups() == 2);
    gateway.stop().await;
}

#[tokio::test]
async fn the_first_reconnect_after_a_restart_is_quick() {
    let names = names(1, 1);
    let first = Broker::start(healthy).await;
    let address = first.address;
    let gateway = Gateway::start(config(address), &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    first.stop().await;
    let second = Broker::start_at(address, healthy).await;
    let began = Instant::now();
    gateway.store.add(true, batch(&names, &[0], 1, now() + 1));
    gateway.store.until_acknowledged(2).await;
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    assert_eq!(second.seen.lock().unwrap().connects.len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_refused_login_is_shown_with_its_reason_and_not_repeated_soon() {
    let broker = Broker::start(healthy).await;
    *broker.connack.lock().unwrap() = Some(ConnectReturnCode::BadUserNamePassword);
    let names = names(1, 1);
    let gateway = Gateway::start(config(broker.address), &names);
    broker.until("the connect", |seen| !seen.connects.is_empty()).await;
    let shown = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            if let State::Refused { code, until, .. } = gateway.status.snapshot().state
                && until > 0
            {
                return (code, until - now());
            }
            tokio::task::yield_now().await;
        }
    });
    let (code, wait) = shown.await.unwrap();
    assert_eq!(code, 4);
    assert!(wait > 10_000, "{wait}");
    let text = serde_json::to_string(&gateway.status.snapshot()).unwrap();
    assert!(!text.contains("planted"), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_plain_broker_acknowledges_with_puback_and_needs_no_login() {
    let broker = Broker::start(|_: &str, _: &Value| Say::Nothing).await;
    let names = names(2, 10);
    let gateway = Gateway::start(plain(broker.address), &names);
    for n in 0..100 {
        gateway.store.add(n % 2 == 0, batch(&names, &[0, 1], 10, now() + n));
    }
    gateway.store.until_acknowledged(100).await;
    {
        let seen = broker.seen.lock().unwrap();
        assert_eq!(seen.ledger.len(), 2000);
        assert!(seen.published.iter().all(|(topic, _)| is_data(topic)));
        assert!(seen.subscriptions.contains(&"/sys/pk/d1/thing/service/+".to_owned()));
        assert_eq!(seen.connects[0].client_id, "gw");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn held_back_pubacks_hold_back_the_window_and_no_more() {
    let broker = Broker::start(|_: &str, _: &Value| Say::Silence).await;
    let names = names(1, 10);
    let gateway = Gateway::start(plain(broker.address), &names);
    for n in 0..100 {
        gateway.store.add(true, batch(&names, &[0], 10, now() + n));
    }
    broker.until("the first message", |seen| !seen.published.is_empty()).await;
    // Many parcels share the messages; each slot is filled at most once.
    let sent = broker.seen.lock().unwrap().published.len();
    assert!(sent <= 8, "{sent}");
    assert_eq!(gateway.store.acknowledged(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn unanswered_publishes_to_a_plain_broker_end_the_connection_and_arrive_on_the_next() {
    let silent = Arc::new(Mutex::new(true));
    let held = Arc::clone(&silent);
    let broker =
        Broker::start(move |_: &str, _: &Value| if *held.lock().unwrap() { Say::Silence } else { Say::Nothing }).await;
    let names = names(1, 10);
    let mut hasty = plain(broker.address);
    hasty.reply_timeout = Duration::from_millis(300);
    let gateway = Gateway::start(hasty, &names);
    gateway.store.add(true, batch(&names, &[0], 10, now()));
    broker.until("a second connect", |seen| seen.connects.len() >= 2).await;
    *silent.lock().unwrap() = false;
    gateway.store.until_acknowledged(1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn commands_are_answered_and_notices_obeyed_without_a_subscription() {
    let broker = Broker::start(healthy).await;
    let names = names(2, 1);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    broker.push("/sys/pk/d0/thing/service/measurepoint/set", json!({ "id": "5", "params": { "p0": 1 } })).await;
    broker.until("the answer", |seen| !seen.topics("measurepoint/set_reply").is_empty()).await;
    {
        let seen = broker.seen.lock().unwrap();
        let answer = seen.topics("measurepoint/set_reply")[0];
        assert!(answer["code"].as_i64().unwrap() >= 2000 && answer["id"] == "5");
    }
    let both = json!({ "id": "6", "params": [{ "productKey": "pk", "deviceKey": "d0" }] });
    broker.push("/ext/session/gwPK/gw/combine/disable", both.clone()).await;
    broker.until("the answer", |seen| !seen.topics("combine/disable_reply").is_empty()).await;
    gateway.store.add(true, batch(&names, &[0, 1], 1, now() + 1));
    gateway.store.until_acknowledged(2).await;
    assert_eq!(gateway.store.held_values(), [("d0".to_owned(), "p0".to_owned(), 723)]);
    broker.push("/ext/session/gwPK/gw/combine/enable", both).await;
    broker.until("the new login", |seen| seen.topics("login/batch").len() == 2).await;
    gateway.store.add(true, batch(&names, &[0], 1, now() + 2));
    // With what waited for the device.
    gateway.store.until_acknowledged(4).await;
    assert_eq!((gateway.store.aside().len(), gateway.store.held_values().len()), (0, 0));
    gateway.stop().await;
}

#[tokio::test]
async fn readings_of_a_logic_asset_are_set_aside_with_their_reason() {
    let broker = Broker::start(healthy).await;
    let base = names(2, 1);
    let mut devices = base.devices.clone();
    (devices[1].product_key, devices[1].device_key) = (String::new(), String::new());
    let names = Arc::new(Names::new(devices));
    let mut credentials = credentials(&names);
    credentials[1] = Credential::Logic;
    let gateway = Gateway::start_with(config(broker.address), &names, credentials);
    gateway.store.add(true, batch(&names, &[0, 1], 1, now()));
    gateway.store.until_acknowledged(1).await;
    assert_eq!(gateway.store.aside().len(), 1);
    assert_eq!(broker.seen.lock().unwrap().ledger.len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn stopping_waits_for_what_is_under_way() {
    let broker = Broker::start(|topic: &str, payload: &Value| healthy(topic, payload)).await;
    let names = names(1, 5);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0], 5, now()));
    gateway.store.until_acknowledged(1).await;
    let store = Arc::clone(&gateway.store);
    let status = Arc::clone(&gateway.status);
    gateway.stop().await;
    assert_eq!((store.handed_out(), status.snapshot().state), (0, State::Stopped));
}

#[tokio::test]
async fn a_half_open_link_is_noticed_within_one_and_a_half_keep_alives() {
    for data in [false, true] {
        let broker = Broker::start(|_: &str, _: &Value| Say::Nothing).await;
        let names = names(1, 1);
        let mut brisk = plain(broker.address);
        brisk.keep_alive = Duration::from_secs(3);
        let gateway = Gateway::start(brisk, &names);
        gateway.store.add(true, batch(&names, &[0], 1, now()));
        gateway.store.until_acknowledged(1).await;
        broker.deaf.store(true, std::sync::atomic::Ordering::Relaxed);
        let began = Instant::now();
        if data {
            gateway.store.add(true, batch(&names, &[0], 1, now() + 1));
        }
        let noticed = tokio::time::timeout(Duration::from_millis(4500), async {
            while gateway.status.snapshot().last_error.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(noticed.await.is_ok(), "{:?}", began.elapsed());
        broker.deaf.store(false, std::sync::atomic::Ordering::Relaxed);
        if data {
            gateway.store.until_acknowledged(2).await;
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn nobody_there_is_no_reason_to_end() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let names = names(1, 1);
    let gateway = Gateway::start(config(address), &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    // The server comes up later, and is found within two seconds.
    let broker = Broker::start_at(address, healthy).await;
    gateway.store.until_acknowledged(1).await;
    drop(broker);
    gateway.stop().await;
}
