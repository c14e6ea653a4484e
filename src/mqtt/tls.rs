//! TLS toward a broker: the server is always verified, host name included, and nothing falls back to plain text. With a
//! client certificate it is mutual.

use crate::config::TlsConfig;
use crate::model::identity::ClientCertificate;
use anyhow::{Context, ensure};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use std::sync::Arc;

/// Read anew for every connection, so a renewed authority file counts at once.
///
/// # Errors
/// When the file can not be read or no authority is left to trust.
pub fn client_config(tls: &TlsConfig) -> anyhow::Result<Arc<ClientConfig>> {
    client_config_with(tls, None)
}

/// As [`client_config`], and shows a certificate to a server that asks for one. A configuration serves one connection:
/// no session is resumed, so each connection really tries the certificate.
///
/// # Errors
/// When the file can not be read or no authority is left to trust.
pub fn client_config_with(tls: &TlsConfig, own: Option<OwnCertificate>) -> anyhow::Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .context("choose tls versions")?
        .with_root_certificates(roots(tls)?);
    Ok(Arc::new(match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.0))),
        None => builder.with_no_client_auth(),
    }))
}

/// A certificate and its key, parsed and found to belong together.
#[derive(Clone, Debug)]
pub struct OwnCertificate(Arc<CertifiedKey>);

impl OwnCertificate {
    /// RSA from 2048 bits, ECC P-256 and P-384; the key as PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    /// In words for a person; then it is the pair that is to blame.
    pub fn parse(pair: &ClientCertificate) -> anyhow::Result<OwnCertificate> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.chain.as_bytes())
            .collect::<Result<_, _>>()
            .context("read the client certificate")?;
        ensure!(!chain.is_empty(), "the client certificate holds no PEM certificate");
        let key = pair.key.reveal();
        let locked = key.contains("ENCRYPTED PRIVATE KEY") || key.contains("Proc-Type: 4,ENCRYPTED");
        ensure!(!locked, "the client key is protected by a password; store it without one");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .context("the client key is no PEM private key (PKCS#8, PKCS#1 or SEC1)")?;
        let signer = provider()
            .key_provider
            .load_private_key(key)
            .context("use the client key (RSA from 2048 bits, ECC P-256 or P-384)")?;
        ensure!(belong_together(&chain[0], &*signer)?, "the client key does not belong to the client certificate");
        let pair = CertifiedKey::new(chain, signer);
        Ok(OwnCertificate(Arc::new(pair)))
    }
}

/// Not rustls' own check: it does not read certificates of version 1, as `openssl x509 -req` makes them.
fn belong_together(certificate: &CertificateDer<'_>, key: &dyn SigningKey) -> anyhow::Result<bool> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).context("read the client certificate")?;
    Ok(key.public_key().is_none_or(|ours| ours.as_ref() == certificate.public_key().raw))
}

/// What the peer says about our certificate when it closes the connection because of it; `None` when it was for
/// something else. A bare `handshake_failure` has many reasons and blames nobody.
#[must_use]
pub fn blame(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::AlertReceived(alert)) = error.downcast_ref::<rustls::Error>() {
            return ALERTS.iter().find(|(known, _)| known == alert).map(|(_, words)| *words);
        }
        // An io::Error answers with the source of what it wraps, not with what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// RFC 8446 6.2.
const ALERTS: &[(AlertDescription, &str)] = &[
    (AlertDescription::CertificateExpired, "it has expired"),
    (AlertDescription::CertificateRevoked, "it is revoked"),
    (AlertDescription::CertificateUnknown, "it is not accepted"),
    (AlertDescription::BadCertificate, "it is damaged or does not fit its key"),
    (AlertDescription::UnsupportedCertificate, "its kind is not supported"),
    (AlertDescription::UnknownCA, "its authority is not known there"),
    (AlertDescription::AccessDenied, "it gives no access"),
    (AlertDescription::DecryptError, "its signature or its key does not fit"),
    (AlertDescription::CertificateRequired, "one is required, and none was shown"),
];

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(tls: &TlsConfig) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &tls.ca_file {
        Some(file) => {
            let name = file.display();
            for certificate in
                CertificateDer::pem_file_iter(file).with_context(|| format!("read authorities from {name}"))?
            {
                let certificate = certificate.with_context(|| format!("read a certificate of {name}"))?;
                roots.add(certificate).with_context(|| format!("trust a certificate of {name}"))?;
            }
            ensure!(!roots.is_empty(), "{name} holds no certificate");
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            ensure!(!roots.is_empty(), "the system trusts no authority; give tls.ca_file");
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let tls = TlsConfig { ca_file: Some(file.path().to_owned()) };
        assert!(client_config(&tls).unwrap_err().to_string().contains("holds no certificate"));
        let missing = TlsConfig { ca_file: Some("/nowhere/ca.pem".into()) };
        assert!(client_config(&missing).is_err());
    }

    fn pair(chain: &str, key: &str) -> ClientCertificate {
        ClientCertificate { slot: 0, chain: chain.to_owned(), key: Secret::new(key.to_owned()) }
    }

    fn certificate(key: &KeyPair) -> String {
        rcgen::CertificateParams::new(vec!["gw".to_owned()]).unwrap().self_signed(key).unwrap().pem()
    }

    fn refused(pair: &ClientCertificate) -> String {
        format!("{:#}", OwnCertificate::parse(pair).unwrap_err())
    }

    #[test]
    fn ecc_keys_of_both_curves_are_taken_and_a_foreign_key_is_not() {
        let make = |algorithm: &'static SignatureAlgorithm| KeyPair::generate_for(algorithm).unwrap();
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
            let key = make(algorithm);
            OwnCertificate::parse(&pair(&certificate(&key), &key.serialize_pem())).unwrap();
            let other = make(algorithm);
            let wrong = pair(&certificate(&key), &other.serialize_pem());
            assert!(refused(&wrong).contains("does not belong"), "{}", refused(&wrong));
        }
    }

    #[test]
    fn rsa_keys_are_taken_in_both_forms_and_short_ones_refused() {
        use rsa::pkcs1::EncodeRsaPrivateKey;
        use rsa::pkcs8::EncodePrivateKey;
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        let pkcs8 = key.to_pkcs8_pem(rsa::pkcs8::LineEnding::LF).unwrap();
        let pkcs1 = key.to_pkcs1_pem(rsa::pkcs8::LineEnding::CRLF).unwrap();
        let chain = certificate(&KeyPair::from_pem(&pkcs8).unwrap());
        OwnCertificate::parse(&pair(&chain, &pkcs8)).unwrap();
        OwnCertificate::parse(&pair(&chain, &pkcs1)).unwrap();
        let short = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 1024).unwrap();
        let short = short.to_pkcs8_pem(rsa::pkcs8::LineEnding::LF).unwrap();
        assert!(refused(&pair(&chain, &short)).contains("RSA from 2048 bits"));
    }

    #[test]
    fn a_certificate_of_version_1_and_a_sec1_key_behind_its_parameters_are_taken() {
        OwnCertificate::parse(&pair(VERSION_1, SEC1)).unwrap();
        let other = KeyPair::generate().unwrap();
        assert!(refused(&pair(VERSION_1, &other.serialize_pem())).contains("does not belong"));
    }

    /// `openssl x509 -req` without extensions.
    const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBGzCBwgIUEi1fDNPh5/BepcRZtV8B80f00MQwCgYIKoZIzj0EAwIwEjEQMA4G
A1UEAwwHZGV2aWNlczAgFw0yNjExMjIxNDQ5NTNaGA8yMTI2MTAyOTE0NDk1M1ow
DTELMAkGA1UEAwwCdjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARlqoi1fDOd
piEKM98Z4Ok8+ArKMKvnxweyzl4WCwf0qXxt1ac5Y8JghT4tGRm/6+K8Bi4fN5Jc
h8ypzGdlbhalMAoGCCqGSM49BAMCA0gAMEUCID2jrkohDzv19k5wFhjm5bTEPp3+
Py/IjiVGREZfavoMAiEAtY7Z7vFlPj2ssVeF8/r0LOAAO/AbRzY+8+RmcYnKSso=
-----END CERTIFICATE-----
";
    /// `openssl ecparam -genkey`; used nowhere else.
    const SEC1: &str = "\
-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIMwJFwI4wstambg8f4ifVOyb9AyMe6AH6ayCmd56UxMLoAoGCCqGSM49
AwEHoUQDQgAEZaqItXwznaYhCjPfGeDpPPgKyjCr58cHss5eFgsH9Kl8bdWnOWPC
YIU+LRkZv+vivAYuHzeSXIfMqcxnZW4WpQ==
-----END EC PRIVATE KEY-----
";

    #[test]
    fn a_key_with_a_password_and_what_is_no_key_are_told_in_words() {
        let key = KeyPair::generate().unwrap();
        let chain = certificate(&key);
        for locked in
            ["-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"]
        {
            assert!(refused(&pair(&chain, locked)).contains("password"));
        }
        assert!(refused(&pair(&chain, "hello")).contains("no PEM private key"));
        assert!(refused(&pair("hello", &key.serialize_pem())).contains("no PEM certificate"));
    }

    #[test]
    fn an_alert_is_found_below_wrapped_errors_and_blames_only_the_certificate() {
        let wrapped = |alert| std::io::Error::other(std::io::Error::other(rustls::Error::AlertReceived(alert)));
        assert_eq!(blame(&wrapped(AlertDescription::CertificateExpired)), Some("it has expired"));
        assert_eq!(blame(&wrapped(AlertDescription::HandshakeFailure)), None);
        assert_eq!(
            blame(&std::io::Error::other("certificate expired")),
            None,
            "our own check of the server is not theirs"
        );
    }
}
