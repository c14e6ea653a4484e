//! PURE. `combine/login`, `combine/login/batch` and `combine/logout`: sub-devices come and go on the gateway's connection.

use super::{Message, Whose};
use crate::cloud::sign::{METHOD, sign};
use serde_json::{Value, json};

/// The clientId that all signs of one batch share, as the vendor's clients have it.
const BATCH_CLIENT: &str = "login.batch";

/// How a device proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof<'a> {
    /// Secure mode 2.
    Device(&'a str),
    /// Secure mode 3: the answer brings the device's own secret.
    Product(&'a str),
}

impl Proof<'_> {
    fn parts(&self) -> (&'static str, &str) {
        match self {
            Proof::Device(secret) => ("2", secret),
            Proof::Product(secret) => ("3", secret),
        }
    }
}

/// One device. `cleanSession` is left out: it is not signed, and queued commands shall come.
#[must_use]
pub fn login(gateway: Whose<'_>, device: Whose<'_>, proof: Proof<'_>, timestamp: i64) -> Message {
    let Whose { product_key, device_key } = device;
    let (mode, secret) = proof.parts();
    let timestamp = timestamp.to_string();
    let client = format!("{product_key}.{device_key}.{timestamp}");
    let params = json!({
        "productKey": product_key,
        "deviceKey": device_key,
        "sign": sign(&client, product_key, device_key, &timestamp, secret),
        "clientId": client,
        "timestamp": timestamp,
        "signMethod": METHOD,
        "secureMode": mode,
    });
    Message::session(gateway, "combine/login", params)
}

/// Many at once: those that are good are logged in whatever becomes of the others.
#[must_use]
pub fn batch<'d>(
    gateway: Whose<'_>,
    devices: impl IntoIterator<Item = (Whose<'d>, Proof<'d>)>,
    timestamp: i64,
) -> Message {
    let timestamp = timestamp.to_string();
    let each = devices.into_iter().map(|(device, proof)| {
        let (mode, secret) = proof.parts();
        json!({
            "productKey": device.product_key,
            "deviceKey": device.device_key,
            "secureMode": mode,
            "sign": sign(BATCH_CLIENT, device.product_key, device.device_key, &timestamp, secret),
        })
    });
    let each: Vec<Value> = each.collect();
    let params = json!({ "clientId": BATCH_CLIENT, "timestamp": timestamp, "signMethod": METHOD, "subDevices": each });
    Message::session(gateway, "combine/login/batch", params)
}

/// One device.
#[must_use]
pub fn logout(gateway: Whose<'_>, device: Whose<'_>) -> Message {
    let params = json!({ "productKey": device.product_key, "deviceKey": device.device_key });
    Message::session(gateway, "combine/logout", params)
}

#[cfg(test)]
mod tests {
    use super::super::Body;
    use super::super::vectors::{GATEWAY, TIME, check, row};
    use super::*;

    const ONE: Whose<'static> = Whose { product_key: "subPK01", device_key: "subDK01" };
    const TWO: Whose<'static> = Whose { product_key: "subPK02", device_key: "subDK02" };

    #[test]
    fn a_logout_and_a_batch_equal_the_vendors() {
        check(&logout(GATEWAY, ONE), "sub-device logout");
        let both = [(ONE, Proof::Device("subDS01SecretXYZ")), (TWO, Proof::Device("subDS02SecretXYZ"))];
        let Body::Json { params, .. } = batch(GATEWAY, both, TIME).body else { panic!("no json") };
        let mut theirs = row("sub-device login batch (explicit ms timestamp)")["params"].take();
        theirs["signMethod"] = json!("sha256");
        for each in theirs["subDevices"].as_array_mut().unwrap() {
            each["sign"] = json!(each["sign"].as_str().unwrap().to_uppercase());
        }
        assert_eq!(params, theirs);
    }

    /// Ours has dots in the client id, as the Java client; the sign follows it.
    #[test]
    fn a_single_login_has_the_vendors_fields_in_both_modes() {
        let rows = [
            (Proof::Device("subDS01SecretXYZ"), "sub-device login (static)"),
            (Proof::Product("subPS01SecretXYZ"), "sub-device login (dynamic, product secret)"),
        ];
        for (proof, name) in rows {
            let ours = login(GATEWAY, ONE, proof, TIME);
            let theirs = row(name);
            assert_eq!(ours.topic, theirs["topic"]);
            let Body::Json { params, .. } = ours.body else { panic!("no json") };
            for key in ["productKey", "deviceKey", "timestamp", "secureMode"] {
                assert_eq!(params[key], theirs["params"][key], "{name} {key}");
            }
            let client = format!("subPK01.subDK01.{TIME}");
            assert_eq!(params["clientId"], json!(client));
            let expected = sign(&client, "subPK01", "subDK01", &TIME.to_string(), proof.parts().1);
            assert_eq!(params["sign"], json!(expected));
            assert_eq!(params.get("cleanSession"), None);
        }
    }
}
