//! PURE. What is signed, and the file package.sig that carries it.

use serde::{Deserialize, Serialize};

pub const FORMAT: u32 = 1;
/// The only one. A field that chose between several would be a field to attack.
pub const ALGORITHM: &str = "ed25519";
/// Bytes of an Ed25519 signature (RFC 8032, clause 5.1.6).
const SIGNATURE_BYTES: usize = 64;

/// package.sig.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    pub format: u32,
    pub algorithm: String,
    pub key_id: String,
    pub name: String,
    pub version: String,
    /// SHA-256 of the signed list: says whether files changed or the signature did. It proves nothing by itself.
    pub list: String,
    /// In hex.
    pub signature: String,
}

/// One file as it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    pub path: &'a str,
    pub length: u64,
    pub sha256: String,
}

/// The files, one a line; no path holds a line end. `files` is sorted by path.
#[must_use]
pub fn list(files: &[Listed<'_>]) -> String {
    files.iter().map(|file| format!("{} {} {}\n", file.sha256, file.length, file.path)).collect()
}

/// What a signature is for stands in front of what is signed: one of a package is none of anything else.
pub const PACKAGE: &str = "enos-edge package signature 1";

/// The bytes that are signed. Lengths stand before texts: no two different packages come to the same bytes.
#[must_use]
pub fn message(purpose: &str, name: &str, version: &str, list: &str) -> Vec<u8> {
    let part = |text: &str| format!("{}:{text}\n", text.len());
    format!("{purpose}\n{}{}{}", part(name), part(version), part(list)).into_bytes()
}

impl Signature {
    /// Reads package.sig.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(bytes: &[u8]) -> Result<(Signature, [u8; SIGNATURE_BYTES]), String> {
        let read: Signature = serde_json::from_slice(bytes).map_err(|e| format!("is no signature: {e}"))?;
        if read.format != FORMAT {
            return Err(format!("format {} is not known; this engine reads format {FORMAT}", read.format));
        }
        if read.algorithm != ALGORITHM {
            return Err(format!("algorithm \"{}\" is not accepted, only {ALGORITHM}", read.algorithm));
        }
        let bytes = unhex(&read.signature).ok_or("the signature is no hex text")?;
        let found = bytes.len();
        let signature = bytes
            .try_into()
            .map_err(|_| format!("the signature has {found} bytes; one of {ALGORITHM} has {SIGNATURE_BYTES}"))?;
        Ok((read, signature))
    }

    #[must_use]
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("texts and numbers are JSON");
        text.push('\n');
        text
    }
}

#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One spelling only: lower case, no blanks.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let value = |digit: u8| b"0123456789abcdef".iter().position(|known| *known == digit);
    let pairs = digits.chunks(2).map(|pair| Some(value(pair[0])? * 16 + value(*pair.get(1)?)?));
    pairs.map(|byte| byte.and_then(|byte| u8::try_from(byte).ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let text = |text: &str| text.to_owned();
        Signature {
            format: 1,
            algorithm: text("ed25519"),
            key_id: text("k"),
            name: text("p"),
            version: text("1.0.0"),
            list: text("d"),
            signature: "ab".repeat(64),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(Signature::parse(signature().text().as_bytes()).unwrap(), (signature(), [0xab; 64]));
    }

    #[test]
    fn every_other_shape_is_refused_in_its_own_words() {
        let refused = |change: fn(&mut Signature)| {
            let mut signature = signature();
            change(&mut signature);
            Signature::parse(signature.text().as_bytes()).unwrap_err()
        };
        assert!(refused(|s| s.algorithm = "none".into()).contains("algorithm \"none\" is not accepted"));
        assert!(refused(|s| s.signature.truncate(64)).contains("32 bytes"));
        assert!(refused(|s| s.signature.truncate(127)).contains("no hex"));
        assert!(refused(|s| s.signature = "AB".repeat(64)).contains("no hex"));
        assert!(refused(|s| s.format = 2).contains("format 2"));
        let twice = signature().text().replace("\"format\": 1,", "\"format\": 1, \"format\": 1,");
        assert!(Signature::parse(twice.as_bytes()).unwrap_err().contains("duplicate field"));
        let more = signature().text().replace("\"format\": 1,", "\"format\": 1, \"x\": 1,");
        assert!(Signature::parse(more.as_bytes()).unwrap_err().contains("unknown field"));
        assert!(Signature::parse(b"").unwrap_err().contains("is no signature"));
    }

    #[test]
    fn nothing_can_move_from_one_part_to_the_next() {
        assert_ne!(message(PACKAGE, "a", "1\n1:x", ""), message(PACKAGE, "a\n1:1", "x", ""));
        assert_ne!(message(PACKAGE, "ab", "c", ""), message(PACKAGE, "a", "bc", ""));
    }
}
