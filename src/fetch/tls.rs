//! TLS toward a server of packages: its authority, or one pinned certificate; and what the gateway shows.

use super::journal::{Chance, Step, Trouble};
use crate::config::Trust;
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

/// Files are read anew for each attempt: whoever renews them only writes them.
///
/// # Errors
/// Which file is not as it should be.
pub(super) fn client(trust: &Trust) -> Result<Arc<ClientConfig>, Trouble> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(format!("choose tls versions: {error}")))?;
    let builder = match (&trust.pin, &trust.ca_file) {
        (Some(pin), _) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Pinned { pin: *pin, provider: provider() }))
        }
        (None, Some(file)) => builder.with_root_certificates(roots(file)?),
        (None, None) => builder.with_root_certificates(system_roots()?),
    };
    let Some(files) = &trust.client else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let pair = files.load(0).map_err(setup)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| setup(format!("client certificate: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.reveal().as_bytes());
    let key = key.map_err(|error| setup(format!("client key: {error}")))?;
    builder
        .with_client_auth_cert(chain, key)
        .map(Arc::new)
        .map_err(|error| setup(format!("client certificate: {error}")))
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn setup(problem: String) -> Trouble {
    Trouble::new(Step::Setup, problem)
}

/// The authorities of a PEM file.
///
/// # Errors
/// When it holds none.
pub(super) fn roots(file: &Path) -> Result<RootCertStore, Trouble> {
    let complain = |problem: String| setup(format!("authorities {}: {problem}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| complain(error.to_string()))? {
        let certificate = certificate.map_err(|error| complain(error.to_string()))?;
        roots.add(certificate).map_err(|error| complain(error.to_string()))?;
    }
    if roots.is_empty() { Err(complain("holds no certificate".to_owned())) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, Trouble> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(setup("the system trusts no authority".to_owned()).help("name ca_file or certificate_sha256"));
    }
    Ok(roots)
}

/// What to do about a handshake that failed.
pub(super) fn trouble(error: &std::io::Error) -> Trouble {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let remedy = match cause {
        Some(Error::General(told)) if told.contains("pinned") => {
            "if the server's certificate was renewed, write its new fingerprint into certificate_sha256"
        }
        Some(Error::InvalidCertificate(_)) => {
            "name the authority in ca_file or the certificate in certificate_sha256; check the host in url and this gateway's clock"
        }
        Some(Error::AlertReceived(_)) => "the server refuses: perhaps it wants client_cert_file and client_key_file",
        Some(Error::InvalidMessage(_)) => "this port speaks no tls; check port and scheme in url",
        _ => "",
    };
    let chance = if cause.is_some_and(distrusts) { Chance::Slim } else { Chance::Good };
    Trouble::new(Step::Tls, cause.map_or_else(|| error.to_string(), Error::to_string)).help(remedy).chance(chance)
}

fn distrusts(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(_) => true,
        Error::General(told) => told.contains("pinned"),
        _ => false,
    }
}

type AnyError = dyn std::error::Error + 'static;

/// What another attempt is worth after an error of somebody else's client.
#[must_use]
pub fn chance(error: &AnyError) -> Chance {
    let is_distrust = |cause: &AnyError| cause.downcast_ref::<Error>().is_some_and(distrusts);
    if std::iter::successors(Some(error), |cause| below(*cause)).any(is_distrust) { Chance::Slim } else { Chance::Good }
}

/// An io::Error passes over what it holds when it is asked for its source.
fn below(cause: &AnyError) -> Option<&AnyError> {
    match cause.downcast_ref::<std::io::Error>() {
        Some(error) => error.get_ref().map(|held| held as &AnyError),
        None => cause.source(),
    }
}

/// Exactly one certificate, whoever signed it and whatever name it bears; the server proves that it has the key.
#[derive(Debug)]
struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = digest(&SHA256, end_entity);
        if found.as_ref() == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General(format!(
            "the server's certificate {} is not the pinned one",
            super::digest::hex(found.as_ref())
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
