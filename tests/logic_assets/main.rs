//! Logic assets: their readings go by REST and by REST only, whatever stands behind the same connection, and none is lost.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../outbox_support/mod.rs"]
mod outbox_support;
mod server;
#[path = "../watching/mod.rs"]
mod watching;

use enos_edge::config::{IntegrationConfig, OutboxConfig, RestConfig};
use enos_edge::forward::integration::{self, IntegrationPorts, State};
use enos_edge::model::{
    AssetKind, Batch, BatchBuilder, DeviceNames, LinkPulses, Names, Outlet, PointName, PointNames, Secret, Selection,
    Timestamp, Value,
};
use enos_edge::outbox::{self, DestinationSettings, Outbox};
use enos_edge::south::South;
use enos_edge::south::protocols::Protocols;
use enos_edge::telemetry::Counters;
use outbox_support::{PATIENCE, balanced};
use server::{Mood, Server};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use watching::watched;

const ENOS: &str = "enos";
const INTEGRATION: &str = "integration";

struct Gateway {
    outbox: Outbox,
    status: Arc<integration::Status>,
    pulses: LinkPulses,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

fn settings() -> [DestinationSettings; 2] {
    let of = |name: &str, kind| DestinationSettings { selection: Selection::of_kind(kind), ..name.into() };
    [of(ENOS, AssetKind::Device), of(INTEGRATION, AssetKind::Logic)]
}

fn start(folder: &Path, server: &Server, names: Arc<Names>, config: IntegrationConfig) -> Gateway {
    let kept = OutboxConfig { ..outbox_support::config() };
    let outbox = outbox::open(folder, &kept, &settings(), names, Arc::default()).unwrap();
    let status = Arc::new(integration::Status::new(INTEGRATION, server.url.clone()));
    let pulses = LinkPulses::default();
    let ports = IntegrationPorts {
        outlet: outbox.outlet(INTEGRATION),
        status: Arc::clone(&status),
        pulses: LinkPulses::default(),
    };
    let mut rest = RestConfig::new(&server.url, "ak", Secret::new("sk".into()), "o1");
    rest.timeout = Duration::from_secs(5);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(integration::run(config, rest, ports, stopped));
    Gateway { outbox, status, pulses, stop, task }
}

impl Gateway {
    fn waiting(&self) -> u64 {
        self.outbox.status().destinations[1].readings.waiting
    }

    async fn until(&self, what: &str, mut happened: impl FnMut(&Gateway) -> bool) {
        let end = std::time::Instant::now() + PATIENCE;
        while !happened(self) {
            assert!(
                std::time::Instant::now() < end,
                "{what} never happened: {:?} {:?}",
                self.status.snapshot(),
                self.outbox.status()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
        balanced(&self.outbox);
        self.outbox.close(PATIENCE).unwrap();
    }
}

/// Device 0 is a device asset, the others are logic assets.
fn names() -> Arc<Names> {
    let points = (0..5).map(|i| PointName { id: format!("p{i}"), has_quality: i == 4 }).collect();
    let points = Arc::new(PointNames { model: "M".into(), points });
    let device = |i: u32| DeviceNames {
        name: format!("Asset {i}"),
        product_key: if i == 0 { "pk".into() } else { String::new() },
        device_key: if i == 0 { "dk".into() } else { String::new() },
        asset_id: (i > 0).then(|| format!("asset-{i}")),
        points: points.clone(),
    };
    Arc::new(Names::new((0..4).map(device).collect()))
}

/// Of all four assets, at this time; `bad` makes the first point of that asset negative.
fn batch(time: i64, bad: Option<u32>) -> Batch {
    let mut builder = BatchBuilder::default();
    for device in 0..4 {
        builder.begin(device, Timestamp(time));
        for point in 0..5 {
            let sign = if bad == Some(device) && point == 0 { -1.0 } else { 1.0 };
            builder.push(point, 0, &Value::Double(sign * f64::from(point + 1)));
        }
    }
    builder.finish(names().epoch).unwrap()
}

fn now() -> i64 {
    Timestamp::now().0
}

#[tokio::test]
async fn readings_of_logic_assets_travel_by_rest_and_only_they_do() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let gateway = start(folder.path(), &server, names(), IntegrationConfig::default());
    let inlet = gateway.outbox.inlet();
    let begun = now();
    (0..50).for_each(|i| inlet.append(batch(begun + i, None)));
    // An hour old: late data.
    (0..10).for_each(|i| inlet.append(batch(begun - 3_600_000 + i, None)));
    gateway.until("all of it arrives", |g| g.waiting() == 0).await;
    {
        let ledger = server.ledger.lock().unwrap();
        assert_eq!(ledger.wrong, Vec::<String>::new());
        assert_eq!(ledger.readings.len(), 60 * 3 * 5);
        for ((asset, _, time), (times, realtime)) in &ledger.readings {
            assert!(asset.starts_with("asset-"));
            assert_eq!((*times, *realtime), (1, *time >= begun));
        }
    }
    let readings = gateway.outbox.status().destinations[0].readings;
    assert_eq!((readings.produced, readings.waiting), (60 * 5, 60 * 5), "the device's share waits for mqtt");
    assert_eq!(gateway.status.snapshot().state, State::Online);
    gateway.end().await;
}

#[tokio::test]
async fn a_refused_value_is_found_and_set_aside_and_its_neighbours_arrive() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    server.mood(Mood::RefusesNegative("p0"));
    let gateway = start(folder.path(), &server, names(), IntegrationConfig::default());
    let inlet = gateway.outbox.inlet();
    let begun = now();
    (0..20).for_each(|i| inlet.append(batch(begun + i, (i % 5 == 0).then_some(2))));
    gateway.until("all of it is decided", |g| g.waiting() == 0).await;
    gateway.until("the refused are noted", |g| g.outbox.set_aside_rows(100).unwrap().len() == 4).await;
    let rows = gateway.outbox.set_aside_rows(100).unwrap();
    assert!(rows.iter().all(|r| (r.device.as_str(), r.point.as_str(), r.code) == ("Asset 2", "p0", 1204)));
    assert_eq!(server.ledger.lock().unwrap().readings.len(), 20 * 15 - 4);
    gateway.end().await;
}

#[tokio::test]
async fn when_everything_is_refused_nothing_is_set_aside() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    server.mood(Mood::Code(24001, "orgId is not known"));
    let gateway = start(folder.path(), &server, names(), IntegrationConfig::default());
    (0..20).for_each(|i| gateway.outbox.inlet().append(batch(now() + i, None)));
    let refused = |g: &Gateway| matches!(g.status.snapshot().state, State::Refused { code: 24001, .. });
    gateway.until("the state says so", refused).await;
    assert_eq!((gateway.waiting(), gateway.outbox.set_aside_rows(9).unwrap().len()), (20 * 15, 0));
    server.mood(Mood::Well);
    gateway.until("all of it arrives", |g| g.waiting() == 0).await;
    assert_eq!(server.ledger.lock().unwrap().readings.len(), 20 * 15);
    gateway.end().await;
}

#[tokio::test]
async fn overload_outage_and_missing_authority_lose_nothing() {
    for mood in [Mood::Http(429), Mood::Http(503), Mood::Http(403), Mood::Code(99429, "rate limit"), Mood::HangsUp] {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::start().await);
        server.mood(mood.clone());
        let gateway = start(folder.path(), &server, names(), IntegrationConfig::default());
        (0..20).for_each(|i| gateway.outbox.inlet().append(batch(now() + i, None)));
        let state = |g: &Gateway| g.status.snapshot().state;
        gateway.until("the state says so", |g| !matches!(state(g), State::Connecting | State::Online)).await;
        let expected = match (&mood, state(&gateway)) {
            (Mood::Http(403), state) => matches!(state, State::NotAuthorised { .. }),
            (Mood::HangsUp, state) => matches!(state, State::Waiting { .. }),
            (_, state) => matches!(state, State::Slowed { .. }),
        };
        assert!(expected, "{mood:?}: {:?}", state(&gateway));
        assert!(
            server.ledger.lock().unwrap().refused <= 1 && server.ledger.lock().unwrap().messages <= 1,
            "no hammering"
        );
        assert_eq!(gateway.waiting(), 20 * 15);
        server.mood(Mood::Well);
        gateway.until("all of it arrives", |g| g.waiting() == 0).await;
        assert_eq!(server.ledger.lock().unwrap().readings.len(), 20 * 15, "{mood:?}");
        assert!(gateway.outbox.set_aside_rows(9).unwrap().is_empty());
        gateway.end().await;
    }
}

/// A package with both kinds behind one connection, run by the real south side.
#[tokio::test]
async fn both_kinds_behind_one_connection_find_their_doors_and_an_outage_costs_nothing() {
    let (folder, package, server) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Server::start().await);
    write_package(package.path());
    let site = enos_edge::package::load(package.path(), &Protocols::new(folder.path()).list(), None).unwrap();
    let gateway = start(folder.path(), &server, site.names.clone(), IntegrationConfig::default());
    let enos = gateway.outbox.outlet(ENOS);
    enos.link(true);
    let devices = tokio::spawn(drain(enos, gateway.outbox.outlet(ENOS)));
    let south = South::start(&site, gateway.outbox.inlet(), Arc::new(Counters::default()));
    let arrived = |g: &Gateway| g.outbox.status().destinations[1].readings.acknowledged;
    gateway.until("it runs", |g| arrived(g) >= 20).await;
    server.mood(Mood::Http(502));
    gateway.until("an outage builds a backlog", |g| g.waiting() >= 40).await;
    let fine = gateway.outbox.status().destinations[0].readings;
    assert!(fine.waiting < 20, "the other door is not delayed: {fine:?}");
    server.mood(Mood::Well);
    gateway.until("the backlog is gone", |g| g.waiting() < 10).await;
    south.stop(PATIENCE).await;
    gateway
        .until("all of it arrives", |g| g.waiting() == 0 && g.outbox.status().destinations[0].readings.waiting == 0)
        .await;
    devices.abort();
    let produced = gateway.outbox.status().destinations.map_produced();
    assert!(produced.0 > 0 && produced.1 > 0);
    {
        let ledger = server.ledger.lock().unwrap();
        assert_eq!(ledger.readings.len() as u64, produced.1, "every reading of the logic asset arrived");
        assert!(ledger.readings.keys().all(|(asset, _, _)| asset == "AbC123"));
    }
    let dropped: u64 =
        gateway.outbox.status().destinations.iter().map(|d| d.readings.dropped + d.readings.set_aside).sum();
    assert_eq!(dropped, 0);
    gateway.end().await;
}

trait Produced {
    fn map_produced(&self) -> (u64, u64);
}

impl Produced for Vec<outbox::DestinationStatus> {
    fn map_produced(&self) -> (u64, u64) {
        (self[0].readings.produced, self[1].readings.produced)
    }
}

/// The MQTT side: takes everything at once, and only readings of the device asset.
async fn drain(outlet: Arc<dyn Outlet>, acknowledge: Arc<dyn Outlet>) {
    loop {
        let parcels = tokio::select! {
            parcels = outlet.live(1 << 20) => parcels,
            parcels = outlet.backlog(1 << 20) => parcels,
        };
        for parcel in &parcels {
            let blocks = parcel.batch.blocks().map(Result::unwrap);
            assert!(blocks.into_iter().all(|b| parcel.names.devices[b.device as usize].kind() == AssetKind::Device));
        }
        acknowledge.acknowledge(&parcels.iter().map(|p| p.seq).collect::<Vec<_>>());
    }
}

fn write_package(folder: &Path) {
    let files = [
        ("package.yaml", "format: 1\nname: both\nversion: 1.0.0\nengine: 0.1.0\n"),
        (
            "assets.yaml",
            "sites:\n  - { id: plant, name: Plant }\ndevices:\n  - { name: Meter, product_key: pk, device_key: dk, device_secret: s, site: plant, template: t, connection: c, address: \"1\" }\n  - { name: Server, kind: logic, asset_id: AbC123, site: plant, template: t, connection: c, address: \"2\" }\n",
        ),
        (
            "models/m.yaml",
            "models:\n  - id: M\n    name: M\n    measurepoints:\n      - { id: temperature, name: Temperature, type: AI, data_type: double, mandatory: true }\n      - { id: pieces, name: Pieces, type: AI, data_type: double }\n",
        ),
        ("connections/c.yaml", "name: c\nprotocol: virtual\nprotocol.sys:\n  scan_period_ms: 20\n"),
        ("templates/t/template.yaml", "model: M\n"),
        (
            "templates/t/point.csv",
            "name,number,value type,point type,coefficient,base value,alias,low,high,period_ms\nTemperature,sine,double,AI,1,0,T,18,24,600000\nPieces,counter,double,AI,1,0,,0,1000000,\n",
        ),
        ("templates/t/mapping.yaml", "mapping:\n  temperature: ai.sine\n  pieces: ai.counter\n"),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_is_busy_away_or_refuses_is_no_hang_and_an_idle_integration_neither() {
    for mood in [Mood::Well, Mood::Http(429), Mood::Http(403), Mood::Code(24001, "orgId is not known"), Mood::HangsUp] {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::start().await);
        server.mood(mood.clone());
        let gateway = start(folder.path(), &server, names(), IntegrationConfig::default());
        (0..20).for_each(|i| gateway.outbox.inlet().append(batch(now() + i, None)));
        assert_eq!(watched(&gateway.pulses, Duration::from_secs(3600)).await, [], "{mood:?}");
        gateway.end().await;
    }
}
