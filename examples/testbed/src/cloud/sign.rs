//! PURE. Who is at the other end: the CONNECT fields and the sign, as EnOS reads them.

use super::md5;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

/// What the fields of a CONNECT say, before anything is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub product_key: String,
    pub device_key: String,
    pub client_id: String,
    pub secure_mode: String,
    pub sign_method: String,
    /// Opaque: vendor clients send milliseconds, float text and constants.
    pub timestamp: String,
}

/// Reads `clientId = cid|securemode=2,signmethod=sha256,timestamp=…|` and `userName = dk&pk`.
#[must_use]
pub fn claim(client_id: &str, user_name: &str) -> Option<Claim> {
    let (device_key, product_key) = user_name.split_once('&')?;
    let (cid, rest) = client_id.split_once('|')?;
    let rest = rest.strip_suffix('|').unwrap_or(rest);
    let (mut secure_mode, mut sign_method, mut timestamp) = (None, None, None);
    for pair in rest.split(',') {
        // The documentation prints a space after the first comma; no SDK sends it, both are taken.
        let (name, value) = pair.trim().split_once('=')?;
        match name {
            "securemode" => secure_mode = Some(value.to_owned()),
            "signmethod" => sign_method = Some(value.to_owned()),
            "timestamp" => timestamp = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(Claim {
        product_key: product_key.to_owned(),
        device_key: device_key.to_owned(),
        client_id: cid.to_owned(),
        secure_mode: secure_mode?,
        sign_method: sign_method.unwrap_or_default(),
        timestamp: timestamp?,
    })
}

/// The four signed fields.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    pub client_id: &'a str,
    pub device_key: &'a str,
    pub product_key: &'a str,
    pub timestamp: &'a str,
}

/// Whether `given` is the sign of the fields with this secret, hex in either case.
#[must_use]
pub fn verify(method: &str, fields: Signed<'_>, secret: &str, given: &str) -> bool {
    sign(method, fields, secret).is_some_and(|expected| expected.eq_ignore_ascii_case(given))
}

/// Lower-case hex of the plain hash (it is no HMAC, whatever the method is called); `None` for an unknown method.
#[must_use]
pub fn sign(method: &str, fields: Signed<'_>, secret: &str) -> Option<String> {
    let text = format!(
        "clientId{}deviceKey{}productKey{}timestamp{}{secret}",
        fields.client_id, fields.device_key, fields.product_key, fields.timestamp
    );
    let method = method.trim().to_ascii_lowercase();
    match method.strip_prefix("hmac").unwrap_or(&method) {
        "sha256" => Some(hex(digest(&SHA256, text.as_bytes()).as_ref())),
        "sha1" | "" => Some(hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()).as_ref())),
        "md5" => Some(hex(&md5::digest(text.as_bytes()))),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Signed<'_> =
        Signed { client_id: "gwDK01", device_key: "gwDK01", product_key: "gwPK01", timestamp: "1700000000123" };

    #[test]
    fn signs_are_those_of_the_vendor_sdk() {
        for (method, expected) in [
            ("hmacsha256", "8ae9a2d917dc91dfc051c9cfc993b274357c9698c1d8050db0f39f8f62e4c5a7"),
            ("sha256", "8AE9A2D917DC91DFC051C9CFC993B274357C9698C1D8050DB0F39F8F62E4C5A7"),
            ("hmacmd5", "042dbb961391a7e32a5a2e0aec17a357"),
            ("HmacSha1", "79AD2C92F1E836B1AA91615608CB3F3DB4A2F8AE"),
        ] {
            assert!(verify(method, FIELDS, "gwDS01SecretXYZ", expected), "{method}");
        }
        assert!(!verify("sha256", FIELDS, "wrong", "8ae9a2d917dc91dfc051c9cfc993b274357c9698c1d8050db0f39f8f62e4c5a7"));
        assert!(!verify("rot13", FIELDS, "gwDS01SecretXYZ", ""));
    }

    #[test]
    fn the_connect_of_the_vendor_sdk_is_understood() {
        let got =
            claim("gwDK01|securemode=2,signmethod=hmacsha256,timestamp=1700000000123.0|", "gwDK01&gwPK01").unwrap();
        assert_eq!((got.client_id.as_str(), got.timestamp.as_str()), ("gwDK01", "1700000000123.0"));
        let fields = Signed {
            client_id: &got.client_id,
            device_key: &got.device_key,
            product_key: &got.product_key,
            timestamp: &got.timestamp,
        };
        let password = "04223e22bfd45cdbc8c5f40b12b84d6aa6230837c8f53a1965fafd823b0d3bf0";
        assert!(verify(&got.sign_method, fields, "gwDS01SecretXYZ", password));
        let spaced = claim("x|securemode=2, signmethod=sha256,timestamp=1|", "a&b").unwrap();
        assert_eq!((spaced.sign_method.as_str(), spaced.secure_mode.as_str()), ("sha256", "2"));
        assert_eq!(claim("plain-client", "a&b"), None);
    }

    /// What the vendor's SDKs hash, and what comes out.
    #[test]
    fn hashes_and_connects_are_those_of_the_vectors() {
        let text = include_str!("../../../../testcases/sdk-vectors/connects.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let connects = vectors["connects"].as_array().unwrap();
        for row in connects {
            let of = |name: &str| row[name].as_str().unwrap();
            let got = claim(of("clientId"), of("username")).unwrap();
            assert_eq!(got.secure_mode, row["securemode"].to_string());
            let fields = Signed {
                client_id: &got.client_id,
                device_key: &got.device_key,
                product_key: &got.product_key,
                timestamp: &got.timestamp,
            };
            let signed = format!(
                "clientId{}deviceKey{}productKey{}timestamp{}",
                got.client_id, got.device_key, got.product_key, got.timestamp
            );
            let secret = of("string_to_sign").strip_prefix(&signed).unwrap();
            assert!(verify(&got.sign_method, fields, secret, of("password")), "{}", row["name"]);
        }
        assert_eq!(connects.len(), 10);
    }

    #[test]
    fn md5_is_that_of_the_rfc() {
        assert_eq!(hex(&md5::digest(b"")), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(
            hex(&md5::digest(b"12345678901234567890123456789012345678901234567890123456789012345678901234567890")),
            "57edf4a22be3c955ac49da2e2107b67a"
        );
    }
}
