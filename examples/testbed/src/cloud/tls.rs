//! A certificate authority of our own and a server certificate for loopback, made anew at each start.

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

/// What a TLS listener needs, and what its clients need to trust it.
pub struct Tls {
    pub acceptor: tokio_rustls::TlsAcceptor,
    /// PEM of the authority.
    pub ca_pem: String,
}

/// Makes the authority and the server's certificate for `localhost` and `127.0.0.1`.
///
/// # Errors
/// When a key or certificate cannot be made.
pub fn make() -> anyhow::Result<Tls> {
    let mut authority = CertificateParams::new(Vec::new()).context("authority's certificate")?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "enos-edge testbed CA");
    let authority_key = KeyPair::generate().context("authority's key")?;
    let authority_cert = authority.self_signed(&authority_key).context("authority's certificate")?;
    let issuer = Issuer::new(authority, authority_key);

    let mut server =
        CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).context("server names")?;
    server.distinguished_name.push(DnType::CommonName, "enos-edge testbed cloud");
    let server_key = KeyPair::generate().context("server's key")?;
    let server_cert = server.signed_by(&server_key, &issuer).context("server's certificate")?;

    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_no_client_auth()
        .with_single_cert(vec![server_cert.der().clone()], key)
        .context("server's certificate")?;
    Ok(Tls { acceptor: Arc::new(config).into(), ca_pem: authority_cert.pem() })
}
