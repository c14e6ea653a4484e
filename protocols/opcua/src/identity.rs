//! Our own application instance certificate, made on first use (OPC 10000-6, clause 6.2.2).

use opcua::core::sync::RwLock;
use opcua::crypto::{CertificateStore, PrivateKey, X509, X509Data};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Our key, certificate and the URI inside it.
pub(crate) struct Identity {
    pub(crate) certificate: X509,
    pub(crate) key: PrivateKey,
    pub(crate) application_uri: String,
}

/// Two connections must not both make the first certificate.
static MAKING: Mutex<()> = Mutex::new(());

/// Loads the identity from the pki folder, or makes it. Slow: call it on a blocking thread.
pub(crate) fn load_or_make(pki: &Path) -> Result<Identity, String> {
    let _one = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let (certificate, key) = paths(pki);
    if !certificate.exists() || !key.exists() {
        make(&certificate, &key)?;
    }
    load(&certificate, &key)
}

pub(crate) fn paths(pki: &Path) -> (PathBuf, PathBuf) {
    (pki.join("own/certificate.der"), pki.join("private/key.pem"))
}

/// A store the library can work with. It asks for trusted certificates by a file name of its own
/// making; [`crate::trust`] has decided before, so its folder only repeats that decision.
pub(crate) fn store(pki: &Path) -> Arc<RwLock<CertificateStore>> {
    let (certificate, key) = paths(pki);
    let (mut store, _, _) = CertificateStore::new_with_x509_data::<X509Data>(
        &pki.join("accepted"),
        false,
        Some(&absolute(&certificate)),
        Some(&absolute(&key)),
        None,
    );
    // Time and application URI are checked in trust.rs. The host name is not: an engineer who
    // accepts this very certificate for this very address has said more than a name in it can.
    store.set_skip_verify_certs(true);
    store.set_trust_unknown_certs(true);
    Arc::new(RwLock::new(store))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn load(certificate: &Path, key: &Path) -> Result<Identity, String> {
    let shown = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let der = std::fs::read(certificate).map_err(|e| shown(certificate, &e))?;
    let application_uri = uri_in(&der).ok_or_else(|| shown(certificate, &"no application URI inside"))?;
    let parsed = X509::from_der(&der).map_err(|e| shown(certificate, &e))?;
    let key = CertificateStore::read_pkey(key).map_err(|e| shown(key, &e))?;
    Ok(Identity { certificate: parsed, key, application_uri })
}

fn make(certificate: &Path, key: &Path) -> Result<(), String> {
    let host = X509Data::computer_hostnames().into_iter().next().unwrap_or_else(|| "localhost".to_owned());
    tracing::info!(certificate = %certificate.display(), "making our OPC UA certificate");
    let rsa = PrivateKey::new(2048).map_err(|e| format!("make RSA key: {e}"))?;
    let pkcs8 = rsa.to_der().map_err(|e| format!("encode RSA key: {e}"))?;
    let pair = KeyPair::try_from(pkcs8.as_bytes()).map_err(|e| format!("use RSA key: {e}"))?;
    let der = self_signed(&host, &pair).map_err(|e| format!("make certificate: {e}"))?;
    write(key, pair.serialize_pem().as_bytes(), 0o600)?;
    write(certificate, &der, 0o644)
}

fn self_signed(host: &str, pair: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    // The URI comes first: some servers look at the first name only.
    params.subject_alt_names =
        vec![SanType::URI(format!("urn:{host}:enos-edge").try_into()?), SanType::DnsName(host.to_owned().try_into()?)];
    params.distinguished_name.push(DnType::CommonName, format!("enos-edge@{host}"));
    params.distinguished_name.push(DnType::OrganizationName, "enos-edge");
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::ContentCommitment,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::DataEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    // Fixed dates: a gateway without a clock of its own may believe it is 1970 when it makes this.
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2049, 12, 31);
    Ok(params.self_signed(pair)?.der().to_vec())
}

/// Writes beside, syncs, renames: a power cut leaves no half file under the real name.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    let shown = |e: std::io::Error| format!("{}: {e}", path.display());
    let folder = path.parent().expect("every file of the pki lies in a folder");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(shown)?;
    let beside = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside).map_err(shown)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(shown)?;
    std::fs::rename(&beside, path).map_err(shown)?;
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(shown)
}

/// The first URI among the subject alternative names: the identifier 2.5.29.17, then tag \[6\].
pub(crate) fn uri_in(der: &[u8]) -> Option<String> {
    const SUBJECT_ALT_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x1D, 0x11];
    const URI: u8 = 0x86;
    let names = der.windows(5).position(|w| w == SUBJECT_ALT_NAME)? + 5;
    // OCTET STRING and SEQUENCE headers stand between; no byte of theirs is 0x86 in front of ASCII.
    let rest = &der[names..];
    let at = rest.windows(3).position(|w| w[0] == URI && w[1] < 0x80 && w[2].is_ascii_alphabetic())?;
    let length = usize::from(rest[at + 1]);
    let uri = rest.get(at + 2..at + 2 + length)?;
    std::str::from_utf8(uri).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_first_use_makes_a_certificate_and_the_second_finds_it() {
        let pki = tempfile::tempdir().expect("temp folder");
        let first = load_or_make(pki.path()).expect("made");
        assert!(first.application_uri.starts_with("urn:") && first.application_uri.ends_with(":enos-edge"));
        first.certificate.is_application_uri_valid(&first.application_uri).expect("the library finds the same URI");
        let (_, key) = paths(pki.path());
        assert_eq!(std::fs::metadata(key).expect("key").permissions().mode() & 0o777, 0o600);
        let second = load_or_make(pki.path()).expect("found");
        assert_eq!(first.certificate.thumbprint(), second.certificate.thumbprint());
    }
}
