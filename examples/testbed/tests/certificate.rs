//! The life of a certificate on real sockets: applied for over HTTPS, shown in mutual TLS to the stand-in cloud, renewed,
//! promoted by the connection that stands with it, and applied for anew after its end. Its life is seconds.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use enos_edge::cloud::{CloudPorts, CloudSite, Status};
use enos_edge::config::{CertificateConfig, CloudConfig, OutboxConfig, RestConfig, Secret, TlsConfig};
use enos_edge::identity::certificate::{Cloud as Authority, Handle, IdentityNames, Renewer, Slots, SystemClock};
use enos_edge::identity::{Certificates, Keeper};
use enos_edge::model::notice::NobodyListens;
use enos_edge::model::{Names, Timestamp};
use enos_edge::outbox::{self, Outbox};
use enos_edge::rest::Client;
use enos_edge::store::RealDisk;
use enos_edge::telemetry::Counters;
use serde_json::Value as Json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::cloud::{Cloud, Options, Registry, Triple};
use testbed::rest::{RestCloud, RestOptions, Wrong};
use tokio::sync::watch;

const LIFE: Duration = Duration::from_secs(6);

struct Site {
    rest: RestCloud,
    cloud: Cloud,
    home: tempfile::TempDir,
    stop: watch::Sender<bool>,
    stopped: watch::Receiver<bool>,
}

struct Gateway {
    slots: Arc<Slots>,
    handle: Handle,
    _outbox: Outbox,
}

impl Site {
    async fn start() -> Site {
        let options = RestOptions { tls: true, life: Some(LIFE), ..RestOptions::default() };
        let rest = RestCloud::start(options).await.unwrap();
        let mut registry = Registry::default();
        registry.gateway(Triple::new("pk", "dk", "secret"));
        registry.product("pk").needs_certificate = true;
        let options = Options {
            tls_address: Some("127.0.0.1:0".parse().unwrap()),
            client_ca: Some(rest.authority().pem().to_owned()),
            ..Options::default()
        };
        let cloud = Cloud::start(options, registry).await.unwrap();
        cloud.knobs(|knobs| knobs.connect_limit = false);
        let (stop, stopped) = watch::channel(false);
        Site { rest, cloud, home: tempfile::tempdir().unwrap(), stop, stopped }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn gateway(&self) -> Gateway {
        let options = RestOptions::default();
        let device_ca = self.file("device-ca.pem", self.rest.authority().pem());
        let (address, cloud_ca) = self.cloud.tls().unwrap();
        let mut rest = RestConfig::new(
            &self.rest.url(),
            &options.access_key,
            Secret::new(options.secret_key.clone()),
            &options.org_id,
        );
        rest.ca_file = Some(device_ca.clone());
        let mut config = CloudConfig::new("127.0.0.1", address.port(), "pk", "dk");
        config.tls = Some(TlsConfig { ca_file: Some(self.file("cloud-ca.pem", cloud_ca)) });
        config.device_secret = Some(Secret::new("secret".into()));
        config.sub_device_login = false;

        let state = self.home.path().join("state");
        let slots = Arc::new(Slots::open(Arc::new(RealDisk), &state.join("identity"), "pk", "dk"));
        let counters = Arc::<Counters>::default();
        let wanted = CertificateConfig { ca_file: Some(device_ca), ..CertificateConfig::default() };
        let names = IdentityNames { product_key: "pk".into(), device_key: "dk".into() };
        let renewer = Renewer {
            authority: Arc::new(Authority::new(Client::new(rest).map(Arc::new), &wanted, names.clone())),
            config: wanted,
            names,
            slots: Arc::clone(&slots),
            clock: Arc::new(SystemClock),
            notices: Arc::new(NobodyListens),
            counters: Arc::clone(&counters),
        };
        let (handle, task) = renewer.start(self.stopped.clone());
        tokio::spawn(task);
        let keeper = Keeper::open(&config, &state, Arc::new(RealDisk)).with_certificates(Arc::clone(&slots) as _);
        let site_names = Arc::new(Names { epoch: 1, devices: Vec::new(), late: Default::default() });
        let outbox = outbox::open(
            &state.join("outbox"),
            &OutboxConfig::default(),
            &["enos".into()],
            Arc::clone(&site_names),
            Arc::clone(&counters),
        )
        .unwrap();
        let status = Arc::new(Status::default());
        let mut ports = CloudPorts::simple(outbox.outlet("enos"), None, Arc::clone(&counters), status);
        ports.identity = Arc::new(keeper);
        let site = CloudSite { names: site_names, credentials: Vec::new() };
        tokio::spawn(enos_edge::cloud::run(config, site, ports, self.stopped.clone()));
        Gateway { slots, handle, _outbox: outbox }
    }
}

impl Gateway {
    fn role(&self, role: &str) -> Option<Json> {
        self.slots.status()["slots"].as_array()?.iter().find(|slot| slot["role"] == role).cloned()
    }

    /// The number of the pair in use, when a connection stands with it.
    fn in_use(&self) -> Option<u64> {
        self.role("current").filter(|slot| slot["in_use"] == true)?["slot"].as_u64()
    }
}

async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "never: {what}");
        ticks.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_of_seconds_is_renewed_promoted_in_mutual_tls_and_begun_anew_after_its_end() {
    let site = Site::start().await;
    let gateway = site.gateway();
    let first = until("a first connection", || gateway.in_use()).await;
    assert!(site.cloud.is_online("pk", "dk"));

    let second = until("a renewed pair in use", || gateway.in_use().filter(|number| *number > first)).await;
    let actions = site.rest.asked();
    assert!(actions.iter().any(|line| line.contains("action=renew")), "{actions:?}");
    assert!(gateway.role("before").is_some(), "the old one stays");

    // The REST side fails until the certificate has expired; then it answers again.
    site.rest.knobs(|knobs| knobs.status = Some(503));
    let expired = || gateway.role("current")?["not_after"].as_i64().filter(|end| *end < Timestamp::now().0);
    until("the end of its life", expired).await;
    let newest = gateway.in_use().unwrap();
    assert!(newest >= second);
    site.rest.knobs(|knobs| knobs.status = None);
    until("a pair applied for anew", || gateway.in_use().filter(|number| *number > newest)).await;
    let last = site.rest.asked().into_iter().rfind(|line| line.contains("/certificates")).unwrap();
    assert!(last.contains("action=apply"), "{last}");
    site.stop.send(true).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificates_and_lost_tokens_never_end_a_connection_that_works() {
    let site = Site::start().await;
    site.rest.set_life(None);
    let gateway = site.gateway();
    let first = until("a first connection", || gateway.in_use()).await;
    for wrong in [Wrong::OtherKey, Wrong::OtherAuthority, Wrong::NotYet, Wrong::Expired, Wrong::Garbage] {
        site.rest.knobs(|knobs| knobs.wrong = Some(wrong));
        let problem = gateway.handle.renew().await.unwrap_err();
        assert!(problem.contains("is not used"), "{wrong:?}: {problem}");
    }
    site.rest.knobs(|knobs| knobs.wrong = None);
    site.rest.knobs(|knobs| knobs.unauthorised = true);
    assert!(gateway.handle.renew().await.unwrap_err().contains("not authorised"));
    site.rest.knobs(|knobs| knobs.unauthorised = false);
    site.rest.knobs(|knobs| knobs.down = true);
    assert!(gateway.handle.renew().await.unwrap_err().contains("can not be reached"));
    site.rest.knobs(|knobs| knobs.down = false);
    assert_eq!(gateway.in_use(), Some(first));
    assert!(site.cloud.is_online("pk", "dk"), "nothing wrong has touched the connection");

    site.rest.expire_tokens();
    let asked = gateway.handle.renew().await;
    // Certificates count in whole seconds: one of the same second does not live longer.
    assert!(asked.is_ok() || asked.unwrap_err().contains("does not live longer"));
    // A pair that was promoted is shown by a new connection: for a moment there is none.
    until("a connection with the newest pair", || site.cloud.is_online("pk", "dk").then_some(())).await;
    site.stop.send(true).unwrap();
}
