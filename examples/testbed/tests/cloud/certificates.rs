//! Client certificates: asked for where a product needs one, distrusted on demand.

use crate::client::{Device, options};
use crate::{Site, site};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P384_SHA384, SerialNumber};
use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use testbed::cloud::Options;

/// Issues certificates for clients.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, serial: u64) -> Shown {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

async fn secured(authority: &Authority) -> Site {
    let tls_address = Some(([127, 0, 0, 1], 0).into());
    let client_ca = Some(authority.pem.clone());
    let site = site(Options { tls_address, client_ca, ..Options::default() }).await;
    site.cloud.knobs(|knobs| knobs.connect_limit = false);
    site.cloud.registry(|registry| registry.product("gwPK").needs_certificate = true);
    site
}

async fn connect(site: &Site, shown: Option<Shown>) -> Result<Device, String> {
    let (address, ca) = site.cloud.tls().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match shown {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => config.with_no_client_auth(),
    };
    let mut options = options(address, &site.gateway);
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
    Device::open(options, &site.gateway).await
}

#[tokio::test]
async fn a_product_that_needs_a_certificate_takes_one_of_the_authority_and_no_other() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let site = secured(&authority).await;
    let none = connect(&site, None).await.err().unwrap();
    assert!(none.contains("NotAuthorized"), "{none}");
    let plain = Device::connect(site.cloud.address(), &site.gateway).await.err().unwrap();
    assert!(plain.contains("NotAuthorized"), "{plain}");
    assert!(connect(&site, Some(foreign.issue(1))).await.is_err());
    let _device = connect(&site, Some(authority.issue(0x2a))).await.unwrap();
    assert_eq!(site.cloud.certificate_of("gwPK", "gwDK").as_deref(), Some("2a"));
    site.cloud.registry(|registry| registry.product("gwPK").needs_certificate = false);
    let _without = connect(&site, None).await.unwrap();
    assert_eq!(site.cloud.certificate_of("gwPK", "gwDK"), None);
}

#[tokio::test]
async fn a_revoked_certificate_and_then_all_of_them_fail_the_handshake() {
    let authority = Authority::new();
    let site = secured(&authority).await;
    connect(&site, Some(authority.issue(7))).await.unwrap();
    site.cloud.knobs(|knobs| knobs.revoked_certificates.push("07".trim_start_matches('0').to_owned()));
    let revoked = connect(&site, Some(authority.issue(7))).await.err().unwrap();
    assert!(revoked.contains("CertificateRevoked"), "{revoked}");
    connect(&site, Some(authority.issue(8))).await.unwrap();
    site.cloud.knobs(|knobs| knobs.distrust_certificates = true);
    let distrusted = connect(&site, Some(authority.issue(8))).await.err().unwrap();
    assert!(distrusted.contains("UnknownCA"), "{distrusted}");
}
