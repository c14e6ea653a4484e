//! PURE. `thing/topo/{add,delete,get}`: which devices stand below the gateway.

use super::{Message, Whose};
use crate::cloud::sign::{METHOD, sign};
use serde_json::{Value, json};

/// Each device proves with its own secret that it wants to. `timestamp` is in milliseconds UTC.
#[must_use]
pub fn add<'d>(gateway: Whose<'_>, devices: impl IntoIterator<Item = (Whose<'d>, &'d str)>, timestamp: i64) -> Message {
    let timestamp = timestamp.to_string();
    let each = devices.into_iter().map(|(whose, secret)| {
        let Whose { product_key, device_key } = whose;
        let client = format!("{product_key}.{device_key}.{timestamp}");
        json!({
            "productKey": product_key,
            "deviceKey": device_key,
            "sign": sign(&client, product_key, device_key, &timestamp, secret),
            "clientId": client,
            "timestamp": timestamp,
            "signMethod": METHOD,
        })
    });
    Message::sys(gateway, "thing/topo/add", Value::Array(each.collect()))
}

/// 1256 when one of them is online, missing or not below this gateway.
#[must_use]
pub fn delete<'d>(gateway: Whose<'_>, devices: impl IntoIterator<Item = Whose<'d>>) -> Message {
    let each = devices.into_iter().map(|d| json!({ "productKey": d.product_key, "deviceKey": d.device_key }));
    Message::sys(gateway, "thing/topo/delete", Value::Array(each.collect()))
}

/// The answer's data is an array of keys; 1200 when the caller is no gateway.
#[must_use]
pub fn get(gateway: Whose<'_>) -> Message {
    Message::sys(gateway, "thing/topo/get", json!({}))
}

#[cfg(test)]
mod tests {
    use super::super::Body;
    use super::super::vectors::{GATEWAY, TIME, check, row};
    use super::*;

    #[test]
    fn topology_equals_the_vendors_but_for_the_form_of_the_sign() {
        let one = Whose { product_key: "subPK01", device_key: "subDK01" };
        let two = Whose { product_key: "subPK02", device_key: "subDK02" };
        check(&delete(GATEWAY, [one]), "topo delete");
        check(&get(GATEWAY), "topo get");
        let ours = add(GATEWAY, [(one, "subDS01SecretXYZ"), (two, "subDS02SecretXYZ")], TIME);
        let mut theirs = row("topo add");
        assert_eq!(ours.topic, theirs["topic"]);
        for each in theirs["params"].as_array_mut().unwrap() {
            each["sign"] = json!(each["sign"].as_str().unwrap().to_uppercase());
            each["signMethod"] = json!("sha256");
        }
        let params = theirs["params"].take();
        assert_eq!(ours.body, Body::Json { method: "thing.topo.add".to_owned(), params });
    }
}
