//! PURE. `thing/device/register`: devices the cloud does not know yet get their secret.

use super::{Message, Whose};
use serde_json::{Map, Value, json};

/// Most in one request (EnOS limit).
pub const MOST: usize = 1000;

/// What the cloud shall know of a new device.
#[derive(Clone, Debug)]
pub struct NewDevice<'a> {
    pub whose: Whose<'a>,
    pub name: &'a str,
    /// The name in other languages, by `zh_CN`, `en_US` …
    pub names: &'a [(String, String)],
    pub description: Option<&'a str>,
    /// `+08:00`
    pub timezone: &'a str,
    pub attributes: &'a Map<String, Value>,
}

/// The answer's data has the secrets in the order of the request; 702: the key exists, 714, 739: too many in the product.
#[must_use]
pub fn register<'d>(gateway: Whose<'_>, devices: impl IntoIterator<Item = NewDevice<'d>>) -> Message {
    let each = devices.into_iter().map(|device| {
        let i18n: Map<String, Value> =
            device.names.iter().map(|(language, name)| (language.clone(), json!(name))).collect();
        let mut json = json!({
            "productKey": device.whose.product_key,
            "deviceKey": device.whose.device_key,
            "deviceName": { "defaultValue": device.name, "i18nValue": i18n },
            "timezone": device.timezone,
        });
        if let Some(words) = device.description {
            json["deviceDesc"] = json!(words);
        }
        if !device.attributes.is_empty() {
            json["deviceAttributes"] = json!(device.attributes);
        }
        json
    });
    Message::sys(gateway, "thing/device/register", Value::Array(each.collect()))
}

#[cfg(test)]
mod tests {
    use super::super::Body;
    use super::super::vectors::{GATEWAY, row};
    use super::*;

    #[test]
    fn a_registration_equals_the_vendors() {
        let theirs = row("device register");
        let names = [("zh_CN".to_owned(), "设备01".to_owned()), ("en_US".to_owned(), "dev_01".to_owned())];
        let one = NewDevice {
            whose: Whose { product_key: "subPK01", device_key: "newDK" },
            name: "dev 1",
            names: &names,
            description: Some("desc"),
            timezone: "+08:00",
            attributes: &Map::new(),
        };
        let attributes = json!({ "attr": 1 });
        let whose = Whose { product_key: "subPK01", device_key: "newDK2" };
        let two = NewDevice { whose, attributes: attributes.as_object().unwrap(), ..one.clone() };
        let ours = register(GATEWAY, [one, two]);
        assert_eq!(ours.topic, theirs["topic"]);
        let Body::Json { method, params } = ours.body else { panic!("no json") };
        assert_eq!(method, theirs["method"]);
        assert_eq!(params[0], theirs["params"][0]);
        for key in ["deviceAttributes", "deviceKey", "deviceName", "timezone"] {
            assert_eq!(params[1][key], theirs["params"][1][key], "{key}");
        }
    }
}
