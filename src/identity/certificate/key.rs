//! The key of a certificate and the request that names it, both made here. The key never leaves the gateway.

use super::IdentityNames;
use crate::config::{CertificateConfig, KeyType};
use crate::model::Secret;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use ring::rand::{SecureRandom, SystemRandom};
use rsa::pkcs8::{EncodePrivateKey, LineEnding};
use rsa::rand_core::{CryptoRng, Error as RandomError, RngCore};

/// The vendor's tool makes these; smaller ones are refused, larger ones are slow on a gateway.
const RSA_BITS: usize = 2048;

/// A new key as PKCS#8 PEM. An RSA key takes seconds on a small processor: not for the runtime's thread.
///
/// # Errors
/// When the operating system gives no random numbers.
pub(super) fn make(key_type: KeyType) -> Result<Secret, String> {
    let told = |error: &dyn std::fmt::Display| format!("make a key: {error}");
    match key_type {
        KeyType::Ecc => {
            let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|e| told(&e))?;
            Ok(Secret::new(key.serialize_pem()))
        }
        KeyType::Rsa => {
            let key = rsa::RsaPrivateKey::new(&mut System(SystemRandom::new()), RSA_BITS).map_err(|e| told(&e))?;
            let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|e| told(&e))?;
            Ok(Secret::new(pem.as_str().to_owned()))
        }
    }
}

/// The request for a certificate of this key, PEM, signed with SHA-256.
///
/// # Errors
/// When the key can not be read.
pub(super) fn request(config: &CertificateConfig, names: &IdentityNames, key: &Secret) -> Result<String, String> {
    let told = |error: rcgen::Error| format!("make a certificate request: {error}");
    let pair = KeyPair::from_pem(key.reveal()).map_err(told)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(told)?;
    params.distinguished_name = subject(config, names);
    params.serialize_request(&pair).and_then(|request| request.pem()).map_err(told)
}

/// The public half as it stands in a certificate.
///
/// # Errors
/// When the key can not be read.
pub(super) fn public(key: &Secret) -> Result<Vec<u8>, String> {
    let pair = KeyPair::from_pem(key.reveal()).map_err(|error| format!("read the key: {error}"))?;
    Ok(pair.subject_public_key_info())
}

fn subject(config: &CertificateConfig, names: &IdentityNames) -> DistinguishedName {
    let given = &config.subject;
    let common_name = given.common_name.clone().or_else(|| config.asset_id.clone()).unwrap_or(names.device_key.clone());
    let mut subject = DistinguishedName::new();
    for (kind, name) in [
        (DnType::CountryName, &given.country),
        (DnType::StateOrProvinceName, &given.state),
        (DnType::LocalityName, &given.locality),
        (DnType::OrganizationName, &given.organization),
        (DnType::OrganizationalUnitName, &given.unit),
        (DnType::CommonName, &Some(common_name)),
    ] {
        if let Some(name) = name {
            subject.push(kind, name.as_str());
        }
    }
    subject
}

/// The operating system's random numbers, in the form that the RSA crate wants.
struct System(SystemRandom);

impl CryptoRng for System {}

impl RngCore for System {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes).expect("the operating system gives random numbers");
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RandomError> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::{FromDer, X509CertificationRequest};

    fn names() -> IdentityNames {
        IdentityNames { product_key: "产品".into(), device_key: "网关-1".into() }
    }

    #[test]
    fn a_request_names_the_gateway_and_its_key_in_both_kinds() {
        let mut config = CertificateConfig::default();
        config.subject.country = Some("CN".into());
        config.subject.organization = Some("EnOS".into());
        for key_type in [KeyType::Ecc, KeyType::Rsa] {
            let key = make(key_type).unwrap();
            assert!(key.reveal().starts_with("-----BEGIN PRIVATE KEY-----"));
            let pem = request(&config, &names(), &key).unwrap();
            let der = x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes()).next().unwrap().unwrap();
            let (_, csr) = X509CertificationRequest::from_der(&der.contents).unwrap();
            let info = &csr.certification_request_info;
            assert_eq!(info.subject.to_string(), "C=CN, O=EnOS, CN=网关-1");
            assert_eq!(info.subject_pki.raw, public(&key).unwrap());
            let algorithm = csr.signature_algorithm.algorithm.to_id_string();
            assert!(["1.2.840.10045.4.3.2", "1.2.840.113549.1.1.11"].contains(&algorithm.as_str()), "{algorithm}");
        }
    }

    #[test]
    fn the_asset_id_is_the_name_unless_another_is_configured() {
        let key = make(KeyType::Ecc).unwrap();
        let mut config = CertificateConfig { asset_id: Some("asset-7".into()), ..CertificateConfig::default() };
        assert!(format!("{:?}", subject(&config, &names())).contains("asset-7"));
        config.subject.common_name = Some("own".into());
        let subject = format!("{:?}", subject(&config, &names()));
        assert!(subject.contains("own") && !subject.contains("asset-7"), "{subject}");
        assert!(request(&config, &names(), &key).is_ok());
    }
}
