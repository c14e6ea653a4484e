//! Ed25519 keys as files: PKCS#8 and SubjectPublicKeyInfo in PEM, as openssl writes and reads them (RFC 8410).

use crate::diagnostic::{Diagnostic, Place};
use ring::rand::SecureRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A key is a few lines.
const FILE_BYTES: u64 = 4096;
/// What stands before the 32 bytes of a public key: its algorithm, 1.3.101.112.
const PUBLIC_START: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// What stands before the 32 bytes of a private key.
const PRIVATE_START: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The key that checks signatures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// The key that signs. It never shows itself.
pub struct SigningKey(Ed25519KeyPair);

impl PublicKey {
    /// Names the key: the first 16 hex digits of its SHA-256.
    #[must_use]
    pub fn id(&self) -> String {
        crate::package::source::sha256(&self.0)[..16].to_owned()
    }

    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }

    /// Reads a `.pub` file.
    ///
    /// # Errors
    /// When it is no Ed25519 public key, and what it is then.
    pub fn read(path: &Path) -> Result<PublicKey, Diagnostic> {
        let pem = read_file(path)?;
        if pem.windows(11).any(|part| part == b"PRIVATE KEY") {
            return Err(refuse(path, "this is a private key; it has no business on a gateway")
                .help("install the .pub file that keygen wrote beside it"));
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(&pem).map_err(|_| no_key(path, "public"))?;
        let key = der.strip_prefix(&PUBLIC_START).and_then(|key| key.try_into().ok());
        key.map(PublicKey).ok_or_else(|| no_key(path, "public"))
    }

    fn pem(&self) -> String {
        pem("PUBLIC KEY", &[&PUBLIC_START[..], &self.0].concat())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

impl SigningKey {
    /// Reads a private key; one that others may read is refused.
    ///
    /// # Errors
    /// When it is no Ed25519 private key, or not private.
    pub fn read(path: &Path) -> Result<SigningKey, Diagnostic> {
        use std::os::unix::fs::PermissionsExt;
        let pem = read_file(path)?;
        let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
        if mode & 0o077 != 0 {
            return Err(refuse(path, "others may read this private key").help(format!("chmod 600 {}", path.display())));
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| no_key(path, "private"))?;
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        pair.map(SigningKey).map_err(|_| no_key(path, "private"))
    }

    #[must_use]
    pub fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref().try_into();
        PublicKey(bytes.expect("an Ed25519 public key has 32 bytes"))
    }

    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// Writes a new private key to `path` (0600) and its public key to `path` with `.pub` after it. Nothing is replaced.
///
/// # Errors
/// When a file is there already, or can not be written.
pub fn generate(path: &Path) -> Result<PublicKey, Diagnostic> {
    let mut seed = [0u8; 32];
    ring::rand::SystemRandom::new().fill(&mut seed).map_err(|_| refuse(path, "the system has no random numbers"))?;
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| refuse(path, "the new key does not work"))?;
    let public = SigningKey(pair).public();
    let public_path = public_file(path);
    for path in [path, &public_path] {
        if path.symlink_metadata().is_ok() {
            return Err(refuse(path, "is there already, and a lost key can not be made again")
                .help("name another file, or move this one away"));
        }
    }
    let private = pem("PRIVATE KEY", &[&PRIVATE_START[..], &seed].concat());
    write_new(path, 0o600, &private).map_err(|e| refuse(path, format!("write the key: {e}")))?;
    write_new(&public_path, 0o644, &public.pem()).map_err(|e| refuse(&public_path, format!("write the key: {e}")))?;
    Ok(public)
}

/// `plant.key` -> `plant.key.pub`, as ssh-keygen names it.
#[must_use]
pub fn public_file(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn write_new(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn read_file(path: &Path) -> Result<Vec<u8>, Diagnostic> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES).read_to_end(&mut bytes))
        .map_err(|e| refuse(path, format!("read the key: {e}")))?;
    Ok(bytes)
}

fn refuse(path: &Path, problem: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Place::new(&path.display().to_string().into(), 0, 0), problem)
}

fn no_key(path: &Path, which: &str) -> Diagnostic {
    refuse(path, format!("is no Ed25519 {which} key in PEM"))
        .help("make a pair with `enos-edge package keygen -o FILE`")
}

fn pem(label: &str, der: &[u8]) -> String {
    let lines = base64(der);
    let lines: Vec<&str> =
        lines.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let bits = part.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for at in 0..4 {
            let sextet = (bits >> (18 - 6 * at)) & 63;
            text.push(if at <= part.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_pair_signs_and_verifies_and_the_private_half_stays_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plant.key");
        let public = generate(&path).unwrap();
        let key = SigningKey::read(&path).unwrap();
        assert_eq!((key.public(), PublicKey::read(&public_file(&path)).unwrap()), (public, public));
        assert!(public.verifies(b"text", &key.sign(b"text")) && !public.verifies(b"test", &key.sign(b"text")));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(generate(&path).unwrap_err().problem.contains("there already"));
        assert!(PublicKey::read(&path).unwrap_err().problem.contains("private key"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(SigningKey::read(&path).err().unwrap().problem.contains("others may read"));
    }

    /// RFC 8410, clause 10: the public key of the examples, and RFC 8032, clause 7.1, test 1.
    #[test]
    fn keys_are_those_of_the_standard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rfc.pub");
        let text = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(PublicKey::read(&path).unwrap().pem(), text);
        let path = folder.path().join("rfc.key");
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let seed: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&seed[2 * at..2 * at + 2], 16).unwrap()).collect();
        write_new(&path, 0o600, &pem("PRIVATE KEY", &[&PRIVATE_START[..], &seed].concat())).unwrap();
        let signature = SigningKey::read(&path).unwrap().sign(b"");
        assert_eq!(signature[..4], [0xe5, 0x56, 0x43, 0x00]);
    }

    #[test]
    fn other_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pub");
        for text in ["", "ssh-ed25519 AAAA", "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(PublicKey::read(&path).unwrap_err().problem.contains("no Ed25519 public key"), "{text}");
        }
    }
}
