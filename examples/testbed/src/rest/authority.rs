//! A small certificate authority that signs requests for as long as one likes.

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use std::time::Duration;

/// Key and certificate of the authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// # Errors
    /// When the key can not be made.
    pub fn new(name: &str) -> anyhow::Result<Authority> {
        let mut params = CertificateParams::new(Vec::new()).context("authority's certificate")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().context("authority's key")?;
        let pem = params.self_signed(&key).context("authority's certificate")?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), pem })
    }

    /// What clients trust, and what servers verify their clients against.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A client certificate for the key of a request; times in milliseconds UTC.
    ///
    /// # Errors
    /// When the request is none, or its signature is wrong.
    pub fn sign(&self, request: &str, serial: u64, from: i64, to: i64) -> anyhow::Result<String> {
        let mut request = CertificateSigningRequestParams::from_pem(request).context("certificate request")?;
        fit(&mut request.params, serial, from, to);
        Ok(request.signed_by(&self.issuer).context("sign")?.pem())
    }

    /// The same for a key that nobody has.
    pub(super) fn sign_other(&self, serial: u64, from: i64, to: i64) -> anyhow::Result<String> {
        let mut params = CertificateParams::new(Vec::new())?;
        fit(&mut params, serial, from, to);
        Ok(params.signed_by(&KeyPair::generate()?, &self.issuer)?.pem())
    }

    pub(crate) fn acceptor(&self) -> anyhow::Result<tokio_rustls::TlsAcceptor> {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).context("server names")?;
        let key = KeyPair::generate().context("server's key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("server's certificate")?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("TLS versions")?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .context("server's certificate")?;
        Ok(Arc::new(config).into())
    }
}

fn fit(params: &mut CertificateParams, serial: u64, from: i64, to: i64) {
    let at = |ms: i64| date_time_ymd(1970, 1, 1) + Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    (params.not_before, params.not_after) = (at(from), at(to));
    params.serial_number = Some(SerialNumber::from(serial));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}
