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
/// How each public key of a file begins.
const PUBLIC_MARK: &[u8] = b"-----BEGIN PUBLIC KEY";
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
        if pem.windows(PUBLIC_MARK.len()).filter(|part| *part == PUBLIC_MARK).count() > 1 {
            return Err(refuse(path, "holds more than one key, of which only the first would count")
                .help("write each key into a file of its own, and name their folder"));
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(&pem).map_err(|_| no_key(path, &pem, "public"))?;
        let key = der.strip_prefix(&PUBLIC_START).and_then(|key| key.try_into().ok());
        key.map(PublicKey).ok_or_else(|| other_algorithm(path, &der, "public"))
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
        let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| no_key(path, &pem, "private"))?;
        let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
        if mode & 0o077 != 0 {
            return Err(refuse(path, "others may read this private key").help(format!("chmod 600 {}", path.display())));
        }
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        pair.map(SigningKey).map_err(|_| other_algorithm(path, der.secret_pkcs8_der(), "private"))
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
    // Editors of other systems write a mark before the first letter.
    let text = bytes.strip_prefix("\u{feff}".as_bytes()).map(<[u8]>::to_vec);
    Ok(text.unwrap_or(bytes))
}

fn refuse(path: &Path, problem: impl Into<String>) -> Diagnostic {
    Diagnostic::error(Place::new(&path.display().to_string().into(), 0, 0), problem)
}

/// What people hand over instead of a key of ours: how it begins, what it is, what to do.
const OTHERS: &[(&str, &str, &str)] = &[
    ("-----BEGIN OPENSSH PRIVATE KEY", "is an OpenSSH private key", MAKE),
    (
        "-----BEGIN ENCRYPTED PRIVATE KEY",
        "is a private key with a password",
        "take it off with `openssl pkey`, or make a pair with `enos-edge package keygen -o FILE`",
    ),
    ("-----BEGIN RSA", "is an RSA key", MAKE),
    ("-----BEGIN EC ", "is an EC key", MAKE),
    ("-----BEGIN DSA", "is a DSA key", MAKE),
    ("-----BEGIN CERTIFICATE REQUEST", "is a certificate request", MAKE),
    (
        "-----BEGIN CERTIFICATE",
        "is a certificate",
        "packages are signed with a bare key; make a pair with `enos-edge package keygen -o FILE`",
    ),
    ("-----BEGIN PGP", "is a PGP key", MAKE),
    ("-----BEGIN PUBLIC KEY", "is a public key", "name the private key: the file of the same name without .pub"),
    ("PuTTY-User-Key-File", "is a PuTTY key", MAKE),
    ("ssh-", "is an OpenSSH public key", MAKE),
    ("ecdsa-", "is an OpenSSH public key", MAKE),
    ("untrusted comment:", "is a minisign key", MAKE),
    (
        "0",
        "is DER, or no key at all",
        "convert it: openssl pkey -inform DER -in KEY -out KEY.pem (with -pubin -pubout for a public one)",
    ),
];
const MAKE: &str = "make a pair with `enos-edge package keygen -o FILE`";

/// Object identifiers of other algorithms, in DER (RFC 8017, RFC 5480, RFC 8410).
const ALGORITHMS: &[(&[u8], &str)] = &[
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01], "an RSA key"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01], "an EC key"),
    (&[0x2b, 0x65, 0x6e], "an X25519 key; it agrees on secrets and signs nothing"),
    (&[0x2b, 0x65, 0x6f], "an X448 key"),
    (&[0x2b, 0x65, 0x71], "an Ed448 key"),
];

/// A key of the right wrapping and another algorithm.
fn other_algorithm(path: &Path, der: &[u8], which: &str) -> Diagnostic {
    let start = &der[..der.len().min(40)];
    let found = ALGORITHMS.iter().find(|(id, _)| start.windows(id.len()).any(|part| part == *id));
    let what = found.map_or_else(|| "a damaged key".to_owned(), |(_, what)| (*what).to_owned());
    refuse(path, format!("is {what}, no Ed25519 {which} key")).help(MAKE)
}

fn no_key(path: &Path, bytes: &[u8], which: &str) -> Diagnostic {
    let text = bytes.trim_ascii_start();
    let known = OTHERS.iter().find(|(start, ..)| text.starts_with(start.as_bytes()));
    let (what, help) = match known {
        Some((_, what, help)) => (*what, *help),
        None if bytes.is_empty() => ("is empty", MAKE),
        None => ("is no key", MAKE),
    };
    refuse(path, format!("{what}; an Ed25519 {which} key in PEM is needed")).help(help)
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

    #[test]
    fn a_mark_of_an_editor_is_no_part_of_a_key_and_a_second_key_is_never_left_out_silently() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let public = generate(&path).unwrap();
        let (other, text) = (folder.path().join("x.pub"), std::fs::read_to_string(public_file(&path)).unwrap());
        for good in [format!("\u{feff}{text}"), text.replace('\n', "\r\n"), format!("of the plant\n{text}")] {
            std::fs::write(&other, &good).unwrap();
            assert_eq!(PublicKey::read(&other).unwrap(), public, "{good:?}");
        }
        std::fs::write(&other, text.repeat(2)).unwrap();
        let fault = PublicKey::read(&other).unwrap_err();
        assert!(
            fault.problem.contains("more than one key") && fault.to_string().contains("file of its own"),
            "{fault}"
        );
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

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn other_keys_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pub");
        let rsa = pem("PUBLIC KEY", &hex("30820122300d06092a864886f70d01010105000382010f00"));
        let x25519 = pem("PUBLIC KEY", &[&hex("302a300506032b656e032100")[..], &[7; 32]].concat());
        for (text, what) in [
            ("", "is empty"),
            ("ssh-ed25519 AAAA", "OpenSSH public key"),
            ("-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n", "a damaged key"),
            ("-----BEGIN CERTIFICATE-----\nMCow\n-----END CERTIFICATE-----\n", "is a certificate"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "this is a private key"),
            (rsa.as_str(), "an RSA key"),
            (x25519.as_str(), "an X25519 key"),
            ("hello", "is no key"),
        ] {
            std::fs::write(&path, text).unwrap();
            let refused = PublicKey::read(&path).unwrap_err();
            assert!(refused.problem.contains(what) && refused.help.is_some(), "{text}: {refused}");
        }
    }

    #[test]
    fn files_that_hold_no_private_key_of_ours_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.key");
        let public = generate(&folder.path().join("y.key")).unwrap();
        let ec = pem("PRIVATE KEY", &hex("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b"));
        for (text, what) in [
            (public.pem().as_str(), "is a public key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n-----END OPENSSH PRIVATE KEY-----\n", "OpenSSH private key"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMCow\n-----END ENCRYPTED PRIVATE KEY-----\n", "with a password"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMCow\n-----END RSA PRIVATE KEY-----\n", "RSA key"),
            (ec.as_str(), "an EC key"),
            ("0.\u{2}", "DER"),
            ("PuTTY-User-Key-File-3: ssh-ed25519", "PuTTY"),
        ] {
            write_new(&path, 0o600, text).unwrap();
            let refused = SigningKey::read(&path).err().unwrap();
            assert!(refused.problem.contains(what) && refused.help.is_some(), "{text}: {refused}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}
