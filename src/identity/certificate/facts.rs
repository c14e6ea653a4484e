//! PURE. What stands in a certificate.

use serde::Serialize;
use x509_parser::parse_x509_certificate;
use x509_parser::pem::Pem;
use x509_parser::public_key::PublicKey;

/// What people and the schedule want to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Hexadecimal, as openssl prints it.
    pub serial: String,
    pub subject: String,
    pub issuer: String,
    /// Milliseconds UTC.
    pub not_before: i64,
    pub not_after: i64,
    pub key_type: String,
}

/// A certificate in both forms.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub der: Vec<u8>,
    /// The public key as it stands there.
    pub public: Vec<u8>,
    pub self_signed: bool,
    pub facts: Facts,
}

/// A chain is some certificates; more of them is something else.
const MOST: usize = 10;

/// All certificates of a PEM text.
///
/// # Errors
/// In words, without the text.
pub(super) fn parse(pem: &str) -> Result<Vec<Parsed>, String> {
    let mut all = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|_| "is no whole PEM text".to_owned())?;
        if block.label != "CERTIFICATE" {
            return Err("holds something other than certificates".to_owned());
        }
        all.push(one(block.contents)?);
        if all.len() > MOST {
            return Err(format!("holds more than {MOST} certificates"));
        }
    }
    if all.is_empty() { Err("holds no certificate".to_owned()) } else { Ok(all) }
}

fn one(der: Vec<u8>) -> Result<Parsed, String> {
    let (rest, certificate) = parse_x509_certificate(&der).map_err(|_| "holds what is no certificate".to_owned())?;
    if !rest.is_empty() {
        return Err("holds a certificate with something behind it".to_owned());
    }
    let validity = certificate.validity();
    let facts = Facts {
        serial: certificate.raw_serial_as_string(),
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_before: validity.not_before.timestamp().saturating_mul(1000),
        not_after: validity.not_after.timestamp().saturating_mul(1000),
        key_type: match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
            Ok(PublicKey::EC(point)) => format!("ECC {}", point.key_size()),
            _ => "other".to_owned(),
        },
    };
    let self_signed = certificate.subject() == certificate.issuer();
    let public = certificate.public_key().raw.to_vec();
    Ok(Parsed { public, self_signed, facts, der })
}

/// PEM of certificates, one below the other.
pub(super) fn pem<'a>(certificates: impl IntoIterator<Item = &'a Parsed>) -> String {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = base64(&certificate.der);
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * position) & 63) as usize];
            text.push(if position <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_survives_the_way_through_both_forms() {
        for names in ["a", "ab", "abc"] {
            let made = rcgen::generate_simple_self_signed([names.to_owned()]).unwrap();
            let parsed = parse(&made.cert.pem()).unwrap();
            assert_eq!(parsed[0].der, made.cert.der().to_vec());
            assert_eq!(parse(&pem(&parsed)).unwrap()[0].der, parsed[0].der);
            assert!(parsed[0].self_signed && parsed[0].facts.key_type == "ECC 256", "{:?}", parsed[0].facts);
        }
    }

    #[test]
    fn what_is_no_certificate_is_told_and_never_a_panic() {
        let good = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem();
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let torn = &good[..good.len() / 2];
        for text in ["", "garbage", torn, &key, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let problem = parse(text).unwrap_err();
            assert!(!problem.contains("AAAA") && !problem.contains(&key), "{problem}");
        }
        assert!(parse(&good.repeat(11)).is_err());
    }
}
