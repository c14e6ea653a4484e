//! Mutual TLS: the server asks for a certificate. The one that is good is taken, whatever its kind; one that is not is
//! blamed, and nothing else is.

use crate::broker::Broker;
use crate::gateway::{Gateway, config, healthy, now};
use crate::outlet::{batch, names};
use driver::Answer;
use enos_edge::config::{CloudConfig, Secret, TlsConfig};
use enos_edge::model::Identity;
use enos_edge::model::identity::{Activation, ClientCertificate, Failed, LoginSecret, Proof};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::io::Write;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

struct Server {
    authority: Authority,
    trusted: tempfile::NamedTempFile,
    broker: Broker,
}

impl Server {
    async fn start(versions: &'static [&'static SupportedProtocolVersion]) -> Server {
        let authority = authority("plant");
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let mut trusted = tempfile::NamedTempFile::new().unwrap();
        trusted.write_all(authority.pem().as_bytes()).unwrap();
        let broker = Broker::start_tls(TlsAcceptor::from(Arc::new(config)), healthy).await;
        Server { authority, trusted, broker }
    }

    fn config(&self) -> CloudConfig {
        let tls = Some(TlsConfig { ca_file: Some(self.trusted.path().to_owned()) });
        CloudConfig { tls, ..config(self.broker.address) }
    }
}

/// A certificate for `key`, valid until the year.
fn signed(authority: &Authority, key: &KeyPair, year: i32) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    params.signed_by(key, authority).unwrap().pem()
}

/// Hands out what the test puts in, and remembers what it is told.
struct Hands {
    pair: watch::Sender<Option<ClientCertificate>>,
    better: Notify,
    tried: Mutex<Vec<(u32, Result<(), Failed>)>>,
    told: Notify,
}

impl Hands {
    fn with(pair: Option<ClientCertificate>) -> Arc<Hands> {
        let (better, told) = (Notify::new(), Notify::new());
        Arc::new(Hands { pair: watch::channel(pair).0, better, tried: Mutex::default(), told })
    }

    async fn until_tried(&self, n: usize) -> Vec<(u32, Result<(), Failed>)> {
        let tried = tokio::time::timeout(std::time::Duration::from_secs(10), async {
            loop {
                let told = self.told.notified();
                let tried = self.tried.lock().unwrap().clone();
                if tried.len() >= n {
                    return tried;
                }
                told.await;
            }
        });
        tried.await.expect("the certificate is tried")
    }
}

impl Identity for Hands {
    fn proof(&self) -> Answer<'_, Result<Proof, String>> {
        let secret = LoginSecret::Device(Secret::new("planted-of-gw".to_owned()));
        let certificate = self.pair.borrow().clone();
        Box::pin(async { Ok(Proof { secret, certificate }) })
    }

    fn activated(&self, _activation: Activation) -> Answer<'_, Result<(), String>> {
        Box::pin(async { Err("none is taken".to_owned()) })
    }

    fn tried(&self, slot: u32, outcome: Result<(), Failed>) {
        self.tried.lock().unwrap().push((slot, outcome));
        self.told.notify_waiters();
    }

    fn better(&self) -> Answer<'_, ()> {
        Box::pin(self.better.notified())
    }
}

fn pair(slot: u32, chain: String, key: String) -> ClientCertificate {
    ClientCertificate { slot, chain, key: Secret::new(key) }
}

/// What the gateway says of one connection with this pair.
async fn outcome(server: &Server, pair: Option<ClientCertificate>) -> (Vec<(u32, Result<(), Failed>)>, String) {
    let wanted = usize::from(pair.is_some());
    let hands = Hands::with(pair);
    let names = names(1, 1);
    let gateway = Gateway::start_as(server.config(), &names, Arc::clone(&hands) as _);
    let mut tried = hands.until_tried(wanted).await;
    tried.truncate(1);
    let error = match tried.first() {
        Some((_, Ok(()))) => String::new(),
        _ => gateway.until_error(|_| true).await,
    };
    gateway.stop().await;
    (tried, error)
}

#[tokio::test]
async fn keys_of_all_kinds_prove_the_gateway_and_the_sign_is_sent_as_well() {
    use rsa::pkcs1::EncodeRsaPrivateKey;
    use rsa::pkcs8::{EncodePrivateKey, LineEnding};
    let p256 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let rsa_key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let rsa_8 = rsa_key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string();
    let rsa_1 = rsa_key.to_pkcs1_pem(LineEnding::LF).unwrap().to_string();
    let rsa_pair = KeyPair::from_pem(&rsa_8).unwrap();
    static NEW: &[&SupportedProtocolVersion] = &[&version::TLS13];
    static OLD: &[&SupportedProtocolVersion] = &[&version::TLS12];
    for versions in [NEW, OLD] {
        let server = Server::start(versions).await;
        for (key, pem) in [
            (&p256, p256.serialize_pem()),
            (&p384, p384.serialize_pem()),
            (&rsa_pair, rsa_8.clone()),
            (&rsa_pair, rsa_1.clone()),
        ] {
            let (tried, error) = outcome(&server, Some(pair(3, signed(&server.authority, key, 2090), pem))).await;
            assert_eq!(tried, [(3, Ok(()))], "{error}");
        }
        let seen = server.broker.seen.lock().unwrap();
        assert!(seen.connects.len() >= 4 && seen.connects.iter().all(|c| c.client_id.contains("securemode=2")));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_blamed_in_words_and_no_sign_is_lost_on_it() {
    static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    static OLD: &[&SupportedProtocolVersion] = &[&version::TLS12];
    for versions in [BOTH, OLD] {
        let server = Server::start(versions).await;
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let good = signed(&server.authority, &key, 2090);
        for (chain, pem, words) in [
            (signed(&server.authority, &key, 2021), key.serialize_pem(), "expired"),
            (signed(&authority("elsewhere"), &key, 2090), key.serialize_pem(), "authority is not known"),
            (good.clone(), other.serialize_pem(), "does not belong"),
            (good.clone(), "-----BEGIN ENCRYPTED PRIVATE KEY-----".to_owned(), "password"),
        ] {
            let (tried, error) = outcome(&server, Some(pair(1, chain, pem))).await;
            let [(1, Err(Failed { certificate_to_blame: true, reason, .. }))] = &tried[..] else { panic!("{tried:?}") };
            assert!(reason.contains(words) && error.contains(words), "{words}: {reason} · {error}");
        }
        let (_, error) = outcome(&server, None).await;
        if versions.len() == 2 {
            assert!(error.contains("client_cert_file"), "{error}");
        }
        assert_eq!(server.broker.seen.lock().unwrap().connects.len(), 0, "no CONNECT reaches the broker");
    }
}

#[tokio::test]
async fn a_server_that_is_not_trusted_or_not_there_is_no_fault_of_the_certificate() {
    static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    let (server, other) = (Server::start(BOTH).await, Server::start(BOTH).await);
    let key = KeyPair::generate().unwrap();
    let good = pair(2, signed(&server.authority, &key, 2090), key.serialize_pem());
    let wrong_trust = CloudConfig { tls: other.config().tls, ..server.config() };
    let nobody = CloudConfig { port: 1, ..server.config() };
    for config in [wrong_trust, nobody] {
        let hands = Hands::with(Some(good.clone()));
        let gateway = Gateway::start_as(config, &names(1, 1), Arc::clone(&hands) as _);
        let tried = hands.until_tried(1).await;
        assert!(matches!(&tried[0], (2, Err(Failed { certificate_to_blame: false, suspect: false, .. }))), "{tried:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_peer_that_hangs_up_without_a_word_makes_the_certificate_suspect_and_no_more() {
    static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    let server = Server::start(BOTH).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = CloudConfig { port: listener.local_addr().unwrap().port(), ..server.config() };
    let mute = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.readable().await.unwrap();
            drop(stream);
        }
    });
    let key = KeyPair::generate().unwrap();
    let hands = Hands::with(Some(pair(2, signed(&server.authority, &key, 2090), key.serialize_pem())));
    let gateway = Gateway::start_as(config, &names(1, 1), Arc::clone(&hands) as _);
    let tried = hands.until_tried(1).await;
    assert!(matches!(&tried[0], (2, Err(Failed { certificate_to_blame: false, suspect: true, .. }))), "{tried:?}");
    gateway.stop().await;
    mute.abort();
}

#[tokio::test]
async fn a_better_certificate_is_used_after_what_is_under_way_is_answered() {
    static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    let server = Server::start(BOTH).await;
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let hands = Hands::with(Some(pair(0, signed(&server.authority, &first, 2090), first.serialize_pem())));
    let names = names(1, 1);
    let gateway = Gateway::start_as(server.config(), &names, Arc::clone(&hands) as _);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    let renewed = pair(1, signed(&server.authority, &second, 2090), second.serialize_pem());
    hands.pair.send_replace(Some(renewed));
    for n in 1..20 {
        gateway.store.add(true, batch(&names, &[0], 1, now() + n));
    }
    hands.better.notify_one();
    gateway.store.until_acknowledged(20).await;
    assert_eq!(hands.until_tried(2).await, [(0, Ok(())), (1, Ok(()))]);
    gateway.stop().await;
    let seen = server.broker.seen.lock().unwrap();
    assert!(seen.ledger.values().all(|n| *n == 1), "nothing is sent twice: {:?}", seen.ledger);
}

#[tokio::test]
async fn a_refused_certificate_gives_the_other_one_its_turn_within_seconds() {
    static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    let server = Server::start(BOTH).await;
    let key = KeyPair::generate().unwrap();
    let expired = pair(1, signed(&server.authority, &key, 2021), key.serialize_pem());
    let good = pair(0, signed(&server.authority, &key, 2090), key.serialize_pem());
    let hands = Hands::with(Some(expired));
    let gateway = Gateway::start_as(server.config(), &names(1, 1), Arc::clone(&hands) as _);
    hands.until_tried(1).await;
    hands.pair.send_replace(Some(good));
    let tried = hands.until_tried(2).await;
    assert!(matches!(&tried[..], [(1, Err(_)), (0, Ok(()))]), "{tried:?}");
    gateway.stop().await;
}
