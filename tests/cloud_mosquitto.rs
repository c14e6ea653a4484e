//! The link against a real mosquitto that is killed in mid-stream. Needs `mosquitto` on the path:
//! `cargo test --test cloud_mosquitto -- --ignored`

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "cloud_link/outlet.rs"]
#[allow(dead_code)]
mod outlet;

use enos_edge::cloud::{self, CloudPorts, CloudSite};
use enos_edge::config::{Acknowledge, CloudConfig, LateDataConfig, Secret};
use enos_edge::model::{Credential, Timestamp};
use outlet::{Store, batch, names};
use rumqttc::{AsyncClient, Broker, Event, MqttOptions, Packet, QoS};
use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

struct Mosquitto {
    child: Child,
    port: u16,
    configuration: tempfile::NamedTempFile,
}

impl Mosquitto {
    fn start() -> Mosquitto {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = tempfile::NamedTempFile::new().unwrap();
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser root\n");
        std::fs::write(configuration.path(), text).unwrap();
        let child = spawn(&configuration);
        Mosquitto { child, port, configuration }
    }

    fn kill_and_start_again(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.configuration);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(configuration: &tempfile::NamedTempFile) -> Child {
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(configuration.path()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("mosquitto is installed")
}

fn config(port: u16) -> CloudConfig {
    CloudConfig {
        acknowledge: Acknowledge::Puback,
        sub_device_login: false,
        reply_timeout: Duration::from_secs(10),
        late_data: LateDataConfig { threshold: Duration::from_secs(7200), ..LateDataConfig::default() },
        upstream_bytes_per_second: None,
        linger: Duration::ZERO,
        max_message_bytes: 500_000,
        in_flight: 16,
        ..CloudConfig::new("127.0.0.1", port, "gwPK", "gw")
    }
}

/// Counts what the broker passed on. It may miss what was acknowledged in the instant of the kill: that is the
/// broker's loss, and the test allows for it by name.
async fn subscribe(port: u16, seen: Arc<Mutex<HashMap<i64, u32>>>) {
    let mut options = MqttOptions::new("ledger", Broker::tcp("127.0.0.1", port));
    options.set_max_packet_size(1 << 20, 1 << 20).set_clean_session(false);
    let (client, mut events) = AsyncClient::builder(options).capacity(10).build();
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                client.try_subscribe("/sys/gwPK/gw/thing/measurepoint/post/batch", QoS::AtLeastOnce).unwrap();
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                let payload: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
                for item in payload["params"].as_array().unwrap() {
                    *seen.lock().unwrap().entry(item["time"].as_i64().unwrap()).or_default() += 1;
                }
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto"]
async fn a_broker_killed_in_mid_stream_costs_no_reading() {
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let mut mosquitto = Mosquitto::start();
    let names = names(1, 50);
    let store = Store::new(Arc::clone(&names));
    let seen = Arc::new(Mutex::new(HashMap::new()));
    let ledger = tokio::spawn(subscribe(mosquitto.port, Arc::clone(&seen)));
    let (stop, stopped) = watch::channel(false);
    let credentials = vec![Credential::Device { secret: Secret::new("x".to_owned()) }];
    let site = CloudSite { names: Arc::clone(&names), credentials };
    let (counters, status) = (Arc::default(), Arc::default());
    let task = tokio::spawn(cloud::run(
        config(mosquitto.port),
        site,
        CloudPorts::simple(Arc::clone(&store) as _, None, Arc::clone(&counters), status),
        stopped,
    ));
    let first = Timestamp::now().0;
    let mut sent = 0;
    let mut gaps = Vec::new();
    for round in 0..rounds {
        let lasts = Duration::from_millis(300 + fastrand::u64(0..700));
        let began = Instant::now();
        while began.elapsed() < lasts {
            for _ in 0..10 {
                store.add(true, batch(&names, &[0], 50, first + sent));
                sent += 1;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        mosquitto.kill_and_start_again();
        let back = Instant::now();
        let before = store.acknowledged();
        store.add(true, batch(&names, &[0], 50, first + sent));
        sent += 1;
        while store.acknowledged() == before {
            assert!(back.elapsed() < Duration::from_secs(20), "round {round}: nothing arrives any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gaps.push(back.elapsed());
    }
    store.until_acknowledged(usize::try_from(sent).unwrap()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(true).unwrap();
    task.await.unwrap().unwrap();
    ledger.abort();
    let seen = seen.lock().unwrap();
    let missing = (0..sent).filter(|n| !seen.contains_key(&(first + n))).count();
    let twice = seen.values().filter(|n| **n > 1).count();
    gaps.sort();
    println!(
        "{rounds} kills, {sent} parcels, connects {}, not passed on {missing}, twice {twice}, back after {:?} (median) {:?} (longest)",
        counters.cloud_connects.get(),
        gaps[gaps.len() / 2],
        gaps[gaps.len() - 1]
    );
    assert!(missing <= rounds * 16, "more than the broker can have had in its hands: {missing}");
}

/// How fast the backlog leaves, in this build.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto"]
async fn a_backlog_drains() {
    let mosquitto = Mosquitto::start();
    let names = names(10, 1000);
    let store = Store::new(Arc::clone(&names));
    let base = Timestamp::now().0;
    let parcels = 300;
    for n in 0..parcels {
        store.add(false, batch(&names, &[n % 10], 1000, base + i64::from(n)));
    }
    let (stop, stopped) = watch::channel(false);
    let credentials = vec![Credential::Device { secret: Secret::new("x".to_owned()) }; 10];
    let site = CloudSite { names: Arc::clone(&names), credentials };
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    let counters: Arc<enos_edge::telemetry::Counters> = Arc::default();
    let task = tokio::spawn(cloud::run(
        config(mosquitto.port),
        site,
        CloudPorts::simple(Arc::clone(&store) as _, None, Arc::clone(&counters), Arc::default()),
        stopped,
    ));
    store.until_acknowledged(parcels as usize).await;
    let rate = f64::from(parcels) * 1000.0 / began.elapsed().as_secs_f64();
    println!("{rate:.0} values/s in {} messages, {} bytes", counters.messages.get(), counters.message_bytes.get());
    stop.send(true).unwrap();
    task.await.unwrap().unwrap();
}
