//! Update files of the HTTP broker, fetched by the gateway's own updates: login, parts, sessions that end, refusals, links.

use driver::Answer;
use enos_edge::config::UpdateConfig;
use enos_edge::fetch::tls_client;
use enos_edge::model::Secret;
use enos_edge::model::identity::Fixed;
use enos_edge::model::update::{Deaf, Method, Offer, Offers as _};
use enos_edge::package::trust::{SigningKey, generate};
use enos_edge::store::{RealDisk, sha256};
use enos_edge::update::build::{Wanted, build};
use enos_edge::update::conditions::Warned;
use enos_edge::update::runner::{self, Around, Ports, Updates};
use enos_edge::update::shelf::Shelf;
use enos_edge::update::{Activation, Failure, Kind, Staged, Standing, Target, Tell, limits};
use serde_json::Value as Json;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testbed::cloud::{HttpBroker, Options};
use testbed::rest::Authority;
use tokio::sync::watch;

const URI: &str = "enos-connect://1a2b/panel firmware.tar.gz";
/// Of the payload: does not compress.
const SIZE: usize = 600_000;
/// Twice this is more than the file.
const CUT: usize = SIZE / 2 + 10_000;

/// Takes everything, and remembers what it was.
#[derive(Default)]
struct Panel(Mutex<Vec<u8>>);

struct Here(Arc<Panel>);

impl Target for Panel {
    fn running(&self) -> Answer<'_, Option<String>> {
        Box::pin(async { None })
    }

    fn prepare<'a>(&'a self, _: &'a Staged, _: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn install<'a>(&'a self, update: &'a Staged, _: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        *self.0.lock().unwrap() = std::fs::read(&update.payload).unwrap();
        Box::pin(async { Ok(()) })
    }

    fn activate<'a>(&'a self, _: &'a Staged) -> Answer<'a, Result<Activation, Failure>> {
        Box::pin(async { Ok(Activation::Now) })
    }

    fn standing<'a>(&'a self, _: &'a Staged) -> Answer<'a, Result<Standing, Failure>> {
        Box::pin(async { Ok(Standing::Proven) })
    }

    fn confirm<'a>(&'a self, _: &'a Staged) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn roll_back<'a>(&'a self, _: &'a Staged, _: &'a str) -> Answer<'a, Result<Activation, Failure>> {
        Box::pin(async { Ok(Activation::Now) })
    }
}

impl Around for Here {
    fn target(&self, _: &Kind) -> Result<Arc<dyn Target>, Failure> {
        Ok(Arc::clone(&self.0) as _)
    }

    fn device(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn restart(&self) {}
}

struct Bench {
    _site: crate::Site,
    http: HttpBroker,
    home: tempfile::TempDir,
    payload: Vec<u8>,
    file: Vec<u8>,
    panel: Arc<Panel>,
    key: SigningKey,
}

impl Bench {
    async fn new(tls: Option<&Authority>) -> Bench {
        let site = crate::site(Options::default()).await;
        let http = HttpBroker::start(SocketAddr::from(([127, 0, 0, 1], 0)), &site.cloud, tls).await.unwrap();
        let home = tempfile::tempdir().unwrap();
        generate(&home.path().join("key")).unwrap();
        let key = SigningKey::read(&home.path().join("key")).unwrap();
        let mut noise = 1_u64;
        let payload = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 40) as u8
        });
        let payload: Vec<u8> = payload.take(SIZE).collect();
        let (raw, out) = (home.path().join("raw"), home.path().join("panel.tar.gz"));
        std::fs::write(&raw, &payload).unwrap();
        let kind = Kind::Firmware { target: "panel".into(), device: None };
        let version = "2.0.0".parse().unwrap();
        let wanted = Wanted { kind, name: "panel", version, replaces_from: None, payload: &raw };
        build(&wanted, &key, &out, &limits(8 << 20, None)).unwrap();
        let file = std::fs::read(&out).unwrap();
        http.keep(URI, file.clone());
        Bench { _site: site, http, home, payload, file, panel: Arc::default(), key }
    }

    fn config(&self) -> UpdateConfig {
        let broker = Some(format!("{}/", self.http.url()));
        UpdateConfig { http_broker: broker, reserve_bytes: 0, cleartext: true, ..UpdateConfig::default() }
    }

    fn start(&self, config: UpdateConfig, secret: Option<&'static str>) -> (Updates, watch::Sender<bool>) {
        let (stop, stopped) = watch::channel(false);
        let ports = Ports {
            config,
            shelf: Shelf::new(Arc::new(RealDisk), &self.home.path().join("state")),
            keys: Ok(vec![self.key.public()]),
            ear: Arc::new(Deaf),
            around: Arc::new(Here(Arc::clone(&self.panel))),
            gateway: Some(("gwPK".into(), "gwDK".into())),
            identity: Some(Arc::new(Fixed(secret.map(|secret| Secret::new(secret.to_owned()))))),
            ask: None,
            warned: Warned::default(),
        };
        (runner::start(ports, stopped).0, stop)
    }

    /// For the gateway, or for a sub-device of its.
    fn offer(&self, uri: &str, (product_key, device_key): (&str, &str)) -> Offer {
        Offer {
            product_key: product_key.into(),
            device_key: device_key.into(),
            version: "2.0.0".into(),
            method: Method::Sha256,
            sign: sha256(&self.file),
            url: uri.into(),
            size: self.file.len() as u64,
        }
    }
}

const GATEWAY: (&str, &str) = ("gwPK", "gwDK");

async fn end(updates: &Updates) -> Json {
    let found = async {
        loop {
            let job = updates.status()["job"].clone();
            if job["end"] == true {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap_or_else(|_| panic!("{}", updates.status()))
}

#[tokio::test]
async fn a_file_of_the_broker_is_fetched_once_over_cuts_and_sessions_that_end() {
    // With and without an ETag: the vendor's SDK asks for ranges with nothing that proves them.
    for without_proof in [false, true] {
        let bench = Bench::new(None).await;
        bench.http.knobs(|knobs| {
            knobs.cut = Some(CUT);
            knobs.session_for_one = true;
            knobs.without_proof = without_proof;
        });
        let (updates, _stop) = bench.start(bench.config(), Some("gwSecret"));
        assert_eq!(updates.offered(bench.offer(URI, GATEWAY), true).await.code, 200);
        let job = end(&updates).await;
        assert_eq!(job["state"], "done", "{job}");
        let stats = bench.http.stats();
        assert!(*bench.panel.0.lock().unwrap() == bench.payload);
        assert_eq!((stats.logins, stats.downloads, stats.refused_logins), (2, 2, 0), "{stats:?}");
        assert_eq!(stats.bytes, bench.file.len() as u64, "not a byte twice: {stats:?}");
        assert_eq!(stats.ranges, ["".to_owned(), format!("bytes={}-", CUT)]);
    }
}

#[tokio::test]
async fn a_file_that_changes_between_two_parts_is_never_put_together_of_both() {
    for without_proof in [false, true] {
        let bench = Bench::new(None).await;
        let mut other = bench.file.clone();
        other[..SIZE / 2].fill(7);
        bench.http.keep(URI, other);
        bench.http.knobs(|knobs| {
            knobs.cut = Some(CUT);
            knobs.without_proof = without_proof;
        });
        let (updates, _stop) = bench.start(bench.config(), Some("gwSecret"));
        assert_eq!(updates.offered(bench.offer(URI, GATEWAY), true).await.code, 200);
        while bench.http.stats().downloads == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bench.http.keep(URI, bench.file.clone());
        bench.http.knobs(|knobs| knobs.cut = None);
        let job = end(&updates).await;
        assert_eq!(job["state"], "done", "{job}");
        assert!(*bench.panel.0.lock().unwrap() == bench.payload);
    }
}

#[tokio::test]
async fn a_broker_without_ranges_and_one_that_refuses_with_status_200_are_understood() {
    let bench = Bench::new(None).await;
    bench.http.knobs(|knobs| (knobs.without_ranges, knobs.refuse_politely) = (true, true));
    bench.http.knobs(|knobs| knobs.cut = Some(1000));
    let (updates, _stop) = bench.start(bench.config(), Some("gwSecret"));
    assert_eq!(updates.offered(bench.offer(URI, ("subPK", "sub1")), false).await.code, 200);
    while bench.http.stats().downloads == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.http.knobs(|knobs| knobs.cut = None);
    assert_eq!(end(&updates).await["state"], "done", "firmware of a sub-device is read by the gateway");
    let missing = "enos-connect://nowhere.zip";
    assert_eq!(updates.offered(bench.offer(missing, ("subPK", "sub2")), false).await.code, 200);
    let words = async {
        loop {
            let words = updates.status()["job"]["doing"].to_string();
            if words.contains("code 1404 no such file") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), words).await.unwrap();
}

#[tokio::test]
async fn a_login_that_is_refused_ends_after_three_attempts_with_its_own_words() {
    let bench = Bench::new(None).await;
    let (updates, _stop) = bench.start(bench.config(), Some("not it"));
    assert_eq!(updates.offered(bench.offer(URI, GATEWAY), true).await.code, 200);
    let job = end(&updates).await;
    assert_eq!((&job["state"], &job["step"]), (&"failed".into(), &(-2).into()), "{job}");
    assert!(
        job["why"].as_str().unwrap().contains("refuses the login: status 401, code 742 sign check failed"),
        "{job}"
    );
    assert_eq!(bench.http.stats().refused_logins, 3);
}

#[tokio::test]
async fn a_file_of_the_store_is_fetched_by_its_link_within_the_hosts_that_are_allowed() {
    let uri = "enos-lark://x/panel.tar.gz";
    let bench = Bench::new(None).await;
    bench.http.keep(uri, bench.file.clone());
    bench.http.knobs(|knobs| knobs.cut = Some(CUT));
    let (updates, stop) = bench.start(bench.config(), Some("gwSecret"));
    assert_eq!(updates.offered(bench.offer(uri, GATEWAY), true).await.code, 200);
    let job = end(&updates).await;
    assert_eq!((&job["state"], &job["step"]), (&"refused".into(), &(-5).into()), "the link is to this machine: {job}");
    stop.send_replace(true);
    let config = UpdateConfig { hosts: vec!["127.0.0.1".into()], ..bench.config() };
    let (updates, _stop) = bench.start(config, Some("gwSecret"));
    assert_eq!(updates.offered(bench.offer(uri, GATEWAY), true).await.code, 200);
    let ended = async {
        while end(&updates).await["state"] == "refused" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
    assert_eq!(updates.status()["job"]["state"], "done", "{}", updates.status());
    let stats = bench.http.stats();
    assert_eq!(
        (stats.bytes, stats.downloads),
        (bench.file.len() as u64, 2),
        "it goes on under another link: {stats:?}"
    );
}

#[tokio::test]
async fn the_broker_has_to_prove_who_it_is() {
    let authority = Authority::new("some authority").unwrap();
    let bench = Bench::new(Some(&authority)).await;
    let ca_file = bench.home.path().join("ca.pem");
    std::fs::write(&ca_file, Authority::new("another").unwrap().pem()).unwrap();
    let mut config = bench.config();
    config.trust.ca_file = Some(ca_file.clone());
    assert!(tls_client(&config.trust).is_ok());
    let (updates, stop) = bench.start(config.clone(), Some("gwSecret"));
    assert_eq!(updates.offered(bench.offer(URI, GATEWAY), true).await.code, 200);
    let job = end(&updates).await;
    assert_eq!((&job["state"], &job["step"]), (&"failed".into(), &(-2).into()), "{job}");
    assert!(job["why"].as_str().unwrap().contains("UnknownIssuer"), "{job}");
    assert_eq!(bench.http.stats().logins, 0);
    stop.send_replace(true);
    std::fs::write(&ca_file, authority.pem()).unwrap();
    let (updates, _stop) = bench.start(config, Some("gwSecret"));
    assert_eq!(updates.offered(bench.offer(URI, GATEWAY), true).await.code, 200);
    while end(&updates).await["state"] == "failed" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(updates.status()["job"]["state"], "done");
}
