//! PURE. How EnOS knows a device: client id, user name and the sign that proves the secret.
//!
//! The sign is a plain SHA-256 over the four names in alphabetical order, each followed by its value, and the secret;
//! it is not an HMAC, whatever some names in the documentation say.

use crate::config::Compress;
use crate::mqtt::connection::Login;
use ring::digest::{Context, SHA256};

/// The word for the algorithm, in the client id and in requests.
pub const METHOD: &str = "sha256";

/// Upper-case hexadecimal sign of one device.
#[must_use]
pub fn sign(client_id: &str, product_key: &str, device_key: &str, timestamp: &str, secret: &str) -> String {
    let mut hash = Context::new(&SHA256);
    for part in
        ["clientId", client_id, "deviceKey", device_key, "productKey", product_key, "timestamp", timestamp, secret]
    {
        hash.update(part.as_bytes());
    }
    hex(hash.finish().as_ref())
}

/// Whose secret signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureMode {
    Device = 2,
    Product = 3,
}

/// What stands before the first `|` of the client id, and is signed. The vendor's Java client asks for compression
/// there.
#[must_use]
pub fn client(device_key: &str, compress: Compress) -> String {
    match compress {
        Compress::None => device_key.to_owned(),
        Compress::Gzip => format!("{device_key}{{compress=GZIP}}"),
    }
}

/// The login of a gateway. `timestamp` is in milliseconds; the cloud does not compare it with its clock, so a gateway
/// with a wrong clock can log in. `client` is what [`client`] says.
#[must_use]
pub fn login(
    client: &str,
    mode: SecureMode,
    product_key: &str,
    device_key: &str,
    secret: &str,
    timestamp: i64,
) -> Login {
    let (timestamp, mode) = (timestamp.to_string(), mode as u8);
    Login {
        client_id: format!("{client}|securemode={mode},signmethod={METHOD},timestamp={timestamp}|"),
        user_name: user_name(product_key, device_key),
        password: sign(client, product_key, device_key, &timestamp, secret),
    }
}

/// `{deviceKey}&{productKey}`.
#[must_use]
pub fn user_name(product_key: &str, device_key: &str) -> String {
    format!("{device_key}&{product_key}")
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../testcases/sdk-vectors/sign.json")).unwrap()
    }

    fn text<'a>(row: &'a Value, key: &str) -> &'a str {
        row[key].as_str().unwrap()
    }

    #[test]
    fn signs_equal_those_of_the_vendors_clients() {
        let vectors = vectors();
        let rows = vectors["sign"].as_array().unwrap();
        assert_eq!(rows.len(), 2);
        for row in rows {
            let p = &row["params"];
            let ours = sign(
                text(p, "clientId"),
                text(p, "productKey"),
                text(p, "deviceKey"),
                text(p, "timestamp"),
                text(row, "secret"),
            );
            assert!(ours.eq_ignore_ascii_case(text(row, "output")), "{}: {ours}", row["name"]);
            assert!(!ours.bytes().any(|b| b.is_ascii_lowercase()), "the documented form is upper case");
        }
    }

    #[test]
    fn a_connect_carries_the_documented_form() {
        let vectors = vectors();
        let row = &vectors["connect"][0];
        let ours = login("gwDK01", SecureMode::Device, "gwPK01", "gwDK01", "gwDS01SecretXYZ", 1_700_000_000_123);
        assert_eq!(ours.client_id, text(row, "clientId"));
        assert_eq!(ours.user_name, text(row, "username"));
        assert_eq!(ours.password, text(row, "password"));
    }

    #[test]
    fn both_secure_modes_equal_the_documented_form_byte_by_byte() {
        let vectors: Value = serde_json::from_str(include_str!("../../testcases/sdk-vectors/connects.json")).unwrap();
        for (name, mode, secret) in [
            ("docs form (static, upper-case, signmethod=sha256)", SecureMode::Device, "gwDS01SecretXYZ"),
            ("docs form (dynamic)", SecureMode::Product, "gwPS01SecretXYZ"),
        ] {
            let row = vectors["connects"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
            let ours = login("gwDK01", mode, "gwPK01", "gwDK01", secret, 1_700_000_000_123);
            let told = (ours.client_id.as_str(), ours.user_name.as_str(), ours.password.as_str());
            assert_eq!(told, (text(row, "clientId"), text(row, "username"), text(row, "password")), "{name}");
        }
    }

    #[test]
    fn compression_is_asked_for_in_the_part_that_is_signed() {
        let client = client("gwDK01", Compress::Gzip);
        let ours = login(&client, SecureMode::Device, "gwPK01", "gwDK01", "gwDS01SecretXYZ", 1_700_000_000_123);
        assert_eq!(ours.client_id, "gwDK01{compress=GZIP}|securemode=2,signmethod=sha256,timestamp=1700000000123|");
        let signed = sign("gwDK01{compress=GZIP}", "gwPK01", "gwDK01", "1700000000123", "gwDS01SecretXYZ");
        assert_eq!((ours.user_name.as_str(), ours.password), ("gwDK01&gwPK01", signed));
    }

    #[test]
    fn the_documentations_sample_gives_its_sign() {
        assert_eq!(
            sign("123456", "654321", "test", "1548753362502", "abcdefg"),
            "B99032D49C706F7B27B22AB5CD2DD3C56A31E1BCBBC83BA0A2A6BB3272FBB166"
        );
    }

    #[test]
    fn dynamic_activation_signs_with_the_product_s_secret() {
        let ours = login("test", SecureMode::Product, "123", "test", "abcdefg", 1_524_448_722_000);
        assert_eq!(ours.client_id, "test|securemode=3,signmethod=sha256,timestamp=1524448722000|");
        assert_eq!(ours.user_name, "test&123");
        // The documentation's sample has another client id.
        let documented = sign("123", "123", "test", "1524448722000", "abcdefg");
        assert_eq!(documented, "A4F9AD91051E3CA89440E0157029DD358C3A2C556D3C543B9FD5A38484785AC9");
    }

    #[test]
    fn chinese_keys_are_hashed_as_utf_8() {
        // sha256("clientId网关-1deviceKey网关-1productKey产品timestamp1密"), computed with another program.
        assert_eq!(
            sign("网关-1", "产品", "网关-1", "1", "密"),
            "2A89C0ED0540B76779F5C1EB9EA68D61F0636F1A3EA0F9BE35FC7A66E968B5B5"
        );
    }
}
