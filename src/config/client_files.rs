//! `client_cert_file` and `client_key_file`: what the gateway shows in mutual TLS.

use crate::diagnostic::Diagnostic;
use crate::model::Secret;
use crate::model::identity::ClientCertificate;
use crate::yaml::fields::{Faults, Fields};
use std::path::{Path, PathBuf};

/// A certificate with what leads to its authority, and its key, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl ClientFiles {
    /// Reads both files.
    ///
    /// # Errors
    /// When one can not be read, holds something else, or the key has a password.
    pub fn load(&self, slot: u32) -> Result<ClientCertificate, String> {
        // DER is no text; what is in it is not shown.
        let read = |path: &Path| match std::fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                Err(format!("{}: is no PEM; DER is made PEM with openssl (-inform DER)", path.display()))
            }
            read => read.map_err(|e| format!("{}: {e}", path.display())),
        };
        let chain = read(&self.certificate).map_err(|e| format!("client certificate {e}"))?;
        if !chain.contains("-----BEGIN CERTIFICATE-----") {
            return Err(format!("client certificate {}: holds no PEM certificate", self.certificate.display()));
        }
        let key = Secret::new(read(&self.key).map_err(|e| format!("client key {e}"))?);
        let told = |problem: &str| Err(format!("client key {}: {problem}", self.key.display()));
        if is_locked(key.reveal()) {
            return told(
                "is protected by a password; store it without one, readable by the daemon alone \
                         (openssl pkey -in KEY -out NEW)",
            );
        }
        if !key.reveal().contains("PRIVATE KEY-----") {
            return told("holds no PEM private key (PKCS#8, PKCS#1 or SEC1)");
        }
        Ok(ClientCertificate { slot, chain, key })
    }
}

/// PKCS#8 says it in its label, the older forms in a header.
fn is_locked(pem: &str) -> bool {
    pem.contains("ENCRYPTED PRIVATE KEY-----")
        || pem.lines().any(|l| l.starts_with("Proc-Type:") && l.contains("ENCRYPTED"))
}

/// Both files or none, and only with TLS.
pub(super) fn read(fields: &Fields<'_, '_>, folder: &Path, secure: bool, faults: &mut Faults) -> Option<ClientFiles> {
    let certificate = fields.text("client_cert_file", faults);
    let key = fields.text("client_key_file", faults);
    let (certificate, key) = match (certificate, key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) => return None,
        (Some(one), None) | (None, Some(one)) => {
            let problem = "a client certificate needs client_cert_file and client_key_file";
            faults.push(Diagnostic::error(one.place, problem).help("name both files, or none"));
            return None;
        }
    };
    if !secure {
        let fault = Diagnostic::error(certificate.place, "client_cert_file has no use with tcp://");
        faults.push(fault.help("write ssl:// in url to encrypt"));
        return None;
    }
    let files = ClientFiles { certificate: folder.join(certificate.text), key: folder.join(&key.text) };
    super::secret::complain_if_open(&files.key, &key.place, "client_key_file", faults);
    if let Err(problem) = files.load(0) {
        faults.push(Diagnostic::error(key.place, problem));
        return None;
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_der_is_told_in_words_with_its_file() {
        let home = tempfile::tempdir().unwrap();
        let (certificate, key) = (home.path().join("c.pem"), home.path().join("key.der"));
        std::fs::write(&certificate, "-----BEGIN CERTIFICATE-----\n").unwrap();
        std::fs::write(&key, [0x30, 0x81, 0x87, 0xff, 0xfe]).unwrap();
        let told = ClientFiles { certificate, key }.load(0).unwrap_err();
        assert!(told.contains("key.der: is no PEM; DER is made PEM"), "{told}");
    }
}
