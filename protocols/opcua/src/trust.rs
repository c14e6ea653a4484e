//! Decides whether a server's certificate is accepted. Fails closed.

use crate::identity;
use crate::settings::{Endpoint, Settings, Trust};
use opcua::crypto::X509;
use opcua::types::{ByteString, DateTime};
use std::path::{Path, PathBuf};

/// A server that shows a new certificate each time must not fill the disk.
const MOST_REJECTED: usize = 32;

/// Checks the certificate the endpoint shows. Reads files: call it on a blocking thread.
pub(crate) fn check(settings: &Settings, certificate: &ByteString, application_uri: &str) -> Result<(), String> {
    let der = certificate.value.as_deref().unwrap_or_default();
    if der.is_empty() {
        return Err("the server shows no certificate".to_owned());
    }
    // A chain may follow; only the first certificate is the server's own.
    let parsed = X509::from_der(der).map_err(|e| format!("the server's certificate can not be read: {e}"))?;
    let fingerprint = parsed.thumbprint().as_hex_string();
    accepted(settings, der, &fingerprint)?;
    let named = |e| format!("server certificate {fingerprint}: {e}");
    parsed.is_time_valid(&DateTime::now().as_chrono()).map_err(named)?;
    if identity::uri_in(der).as_deref() != Some(application_uri) {
        return Err(format!(
            "server certificate {fingerprint}: it does not belong to the application {application_uri}"
        ));
    }
    Ok(())
}

fn accepted(settings: &Settings, der: &[u8], fingerprint: &str) -> Result<(), String> {
    let pki = &settings.pki_dir;
    match &settings.trust {
        Trust::Pinned(file) => match read(file) {
            Ok(pinned) if pinned == der => Ok(()),
            Ok(_) => {
                Err(format!("the server shows certificate {fingerprint}, which is not the one in {}", file.display()))
            }
            Err(e) => Err(format!("server_certificate {}: {e}", file.display())),
        },
        Trust::Folder if in_folder(&pki.join("trusted"), der) => Ok(()),
        Trust::Folder => Err(refuse(pki, der, fingerprint)),
        Trust::FirstUse => first_use(pki, &settings.endpoint, der, fingerprint),
    }
}

/// Keeps the unknown certificate where an engineer can look at it, and says what to do.
fn refuse(pki: &Path, der: &[u8], fingerprint: &str) -> String {
    let rejected = pki.join("rejected");
    let file = rejected.join(format!("{fingerprint}.der"));
    let full = std::fs::read_dir(&rejected).is_ok_and(|files| files.count() >= MOST_REJECTED);
    if !full
        && !file.exists()
        && let Err(error) = identity::write(&file, der, 0o644)
    {
        tracing::warn!(%error, "the refused certificate could not be kept for inspection");
    }
    format!(
        "server certificate {fingerprint} is not trusted; compare the fingerprint at the server, then move {} to {}",
        file.display(),
        pki.join("trusted").display()
    )
}

fn first_use(pki: &Path, endpoint: &Endpoint, der: &[u8], fingerprint: &str) -> Result<(), String> {
    let file = first_use_file(pki, endpoint);
    match std::fs::read(&file) {
        Ok(known) if known == der => Ok(()),
        Ok(_) => Err(format!(
            "the server shows certificate {fingerprint}, another one than at first use; if that is right, remove {}",
            file.display()
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(fingerprint, endpoint = %endpoint.url, "first use: this server certificate is trusted from now on");
            identity::write(&file, der, 0o644)
        }
        Err(e) => Err(format!("{}: {e}", file.display())),
    }
}

fn first_use_file(pki: &Path, endpoint: &Endpoint) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
    let host: String = endpoint.host.chars().map(plain).collect();
    pki.join("first-use").join(format!("{host}_{}.der", endpoint.port))
}

fn in_folder(folder: &Path, der: &[u8]) -> bool {
    let Ok(files) = std::fs::read_dir(folder) else { return false };
    files.flatten().any(|file| read(&file.path()).is_ok_and(|known| known == der))
}

/// DER of a certificate file, which may be DER or PEM.
fn read(file: &Path) -> Result<Vec<u8>, String> {
    /// No certificate is larger; a folder may hold anything.
    const LARGEST: u64 = 64 * 1024;
    let size = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if size > LARGEST {
        return Err("too large for a certificate".to_owned());
    }
    let bytes = std::fs::read(file).map_err(|e| e.to_string())?;
    if !bytes.starts_with(b"-----") {
        return Ok(bytes);
    }
    X509::from_pem(&bytes).and_then(|c| c.to_der()).map_err(|e| e.to_string())
}
