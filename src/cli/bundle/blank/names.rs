//! PURE. Which names stand before a secret.

/// Parts of names of keys whose value is a secret, without `_` and `-`.
const SECRET: &[&str] = &[
    "secret",
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "passcode",
    "token",
    "private",
    "authorization",
    "cookie",
    "credential",
    "apikey",
    "accesskey",
    "authkey",
    "sessionid",
    "密码",
    "口令",
    "密钥",
];
/// Ends of such names, where the word in the middle of another one means something else.
const ENDS: &[&str] = &["pass", "psk", "jwt"];
const HARMLESS: &[&str] = &["bypass", "compass"];
/// The whole of such names: what a login to EnOS is signed with may be used once more.
const WHOLE: &[&str] = &["sign"];
/// Such a key names a place, not the secret itself.
const PLACE: &[&str] = &["_file", "_credential", "_dir", "_folder"];
/// Headers whose value goes to the end of the line.
const HEADERS: &[&str] = &["authorization", "cookie"];

/// Whether the value of such a key of a configuration is a secret.
pub(in super::super) fn is_secret(key: &str) -> bool {
    key.eq_ignore_ascii_case("key") || is_secret_word(key)
}

/// The same of a name in a line of text, where `key=` may be anything.
pub(super) fn is_secret_word(name: &str) -> bool {
    let name = name.to_lowercase();
    let plain = name.replace(['_', '-'], "");
    let place = name.replace('-', "_");
    let ends = ENDS.iter().any(|end| plain.ends_with(end)) && !HARMLESS.iter().any(|word| plain.ends_with(word));
    let word = ends || WHOLE.contains(&plain.as_str()) || SECRET.iter().any(|part| plain.contains(part));
    word && !PLACE.iter().any(|end| place.ends_with(end))
}

pub(super) fn is_header(name: &str) -> bool {
    let name = name.to_lowercase();
    HEADERS.iter().any(|header| name.ends_with(header))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_and_names_of_places_are_none() {
        for name in [
            "passwd",
            "PWD",
            "token",
            "api_key",
            "api-key",
            "apiKey",
            "secret_key",
            "device_secret",
            "productSecret",
            "AWS_SECRET_ACCESS_KEY",
            "access-key",
            "DB_PASS",
            "pass",
            "wifi_psk",
            "sign",
            "sessionId",
            "Proxy-Authorization",
            "密码",
        ] {
            assert!(is_secret_word(name), "{name}");
        }
        for name in ["secret_file", "token-dir", "device_key", "product_key", "key", "bypass", "signMethod", "designed"]
        {
            assert!(!is_secret_word(name), "{name}");
        }
        assert!(is_secret("key") && is_header("proxy-authorization") && is_header("Set-Cookie"));
    }
}
