//! TLS: the right server is taken, every other is refused, and nothing falls back to plain text.

use crate::broker::Broker;
use crate::gateway::{Gateway, config, healthy, now};
use crate::outlet::{batch, names};
use enos_edge::config::TlsConfig;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A server for `name`, and the file a client must trust.
fn server(name: &str) -> (TlsAcceptor, tempfile::NamedTempFile) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(made.cert.pem().as_bytes()).unwrap();
    (TlsAcceptor::from(Arc::new(config)), file)
}

/// Starts a gateway that trusts `file` and returns the error it shows.
async fn refused(tls: TlsAcceptor, file: &std::path::Path) -> String {
    let broker = Broker::start_tls(tls, healthy).await;
    let names = names(1, 1);
    let mut config = config(broker.address);
    config.tls = Some(TlsConfig { ca_file: Some(file.to_owned()) });
    let gateway = Gateway::start(config, &names);
    let shown = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Some(error) = gateway.status.snapshot().last_error {
                return error;
            }
            tokio::task::yield_now().await;
        }
    });
    let error = shown.await.expect("the failure is shown");
    assert_eq!(broker.seen.lock().unwrap().connects.len(), 0, "no CONNECT, and so no sign, may reach this server");
    gateway.stop().await;
    error
}

#[tokio::test]
async fn the_server_that_is_trusted_gets_the_data() {
    let (tls, file) = server("127.0.0.1");
    let broker = Broker::start_tls(tls, healthy).await;
    let names = names(1, 1);
    let mut config = config(broker.address);
    config.tls = Some(TlsConfig { ca_file: Some(file.path().to_owned()) });
    let gateway = Gateway::start(config, &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let (tls, _) = server("127.0.0.1");
    let (_, other) = server("127.0.0.1");
    let error = refused(tls, other.path()).await;
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_server_with_another_name_is_refused() {
    let (tls, file) = server("elsewhere.example");
    let error = refused(tls, file.path()).await;
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_missing_authority_file_fails_closed() {
    let (tls, _) = server("127.0.0.1");
    let error = refused(tls, std::path::Path::new("/nowhere/ca.pem")).await;
    assert!(error.contains("read authorities from /nowhere/ca.pem"), "{error}");
}
