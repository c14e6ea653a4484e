//! A certificate authority of our own and a server certificate for loopback, made anew at each start.

use super::world::World;
use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use std::sync::{Arc, Mutex};

/// What a TLS listener needs, and what its clients need to trust it.
pub(super) struct Tls {
    pub acceptor: tokio_rustls::TlsAcceptor,
    /// PEM of the authority.
    pub ca_pem: String,
}

/// Makes the authority and the server's certificate for `localhost` and `127.0.0.1`. Clients may show a certificate of the
/// authorities in `client_ca` (PEM); whether they must is the business of their product.
///
/// # Errors
/// When a key or certificate cannot be made.
pub(super) fn make(client_ca: Option<&str>, world: &Arc<Mutex<World>>) -> anyhow::Result<Tls> {
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
    let config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("TLS versions")?;
    let config = match client_ca {
        Some(pem) => config.with_client_cert_verifier(verifier(pem, provider, world)?),
        None => config.with_no_client_auth(),
    };
    let config = config.with_single_cert(vec![server_cert.der().clone()], key).context("server's certificate")?;
    Ok(Tls { acceptor: Arc::new(config).into(), ca_pem: authority_cert.pem() })
}

fn verifier(
    pem: &str,
    provider: Arc<rustls::crypto::CryptoProvider>,
    world: &Arc<Mutex<World>>,
) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.context("authority of clients")?).context("authority of clients")?;
    }
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .context("authority of clients")?;
    Ok(Arc::new(Verifier { inner, world: Arc::clone(world) }))
}

/// Serial number, in lower-case hex without leading zeros, of the certificate a client showed.
pub(super) fn serial_of(chain: Option<&[CertificateDer<'_>]>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(chain?.first()?).ok()?;
    Some(format!("{:x}", certificate.tbs_certificate.serial))
}

/// What the authority vouches for, less what the knobs distrust now.
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    world: Arc<Mutex<World>>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        let serial = serial_of(Some(std::slice::from_ref(end_entity)));
        let world = self.world.lock().expect("the cloud's lock is not poisoned");
        if world.knobs.distrust_certificates {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let revoked = |serial: &String| world.knobs.revoked_certificates.iter().any(|r| r.eq_ignore_ascii_case(serial));
        if serial.as_ref().is_none_or(revoked) {
            return Err(CertificateError::Revoked.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
