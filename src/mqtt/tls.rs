//! TLS toward the cloud: the server is always verified, host name included, and nothing falls back to plain text.

use crate::config::TlsConfig;
use anyhow::{Context, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// Read anew for every connection, so a renewed authority file counts at once.
///
/// # Errors
/// When the file can not be read or no authority is left to trust.
pub fn client_config(tls: &TlsConfig) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose tls versions")?
        .with_root_certificates(roots(tls)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
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

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let tls = TlsConfig { ca_file: Some(file.path().to_owned()) };
        assert!(client_config(&tls).unwrap_err().to_string().contains("holds no certificate"));
        let missing = TlsConfig { ca_file: Some("/nowhere/ca.pem".into()) };
        assert!(client_config(&missing).is_err());
    }
}
