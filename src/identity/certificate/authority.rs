//! Where certificates come from: the cloud's certificate interface.

use super::IdentityNames;
use crate::config::{CertificateConfig, KeyType};
use crate::rest::{Call, Client, RestError};
use driver::Answer;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

const PATH: &str = "/connect-service/v2.0/certificates";

/// What the cloud answered, not yet looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// PEM of the authority.
    pub authority: Option<String>,
    /// As the cloud writes it.
    pub serial: Option<String>,
}

/// Asks for certificates. Every question ends within a dead-line of its own.
pub trait Authority: Send + Sync {
    /// # Errors
    /// See [`RestError`].
    fn apply<'a>(&'a self, request: &'a str) -> Answer<'a, Result<Issued, RestError>>;
    /// `serial` is of the certificate in use, which must still count.
    ///
    /// # Errors
    /// See [`RestError`].
    fn renew<'a>(&'a self, serial: &'a str, request: &'a str) -> Answer<'a, Result<Issued, RestError>>;
}

/// The cloud over REST.
pub struct Cloud {
    /// Why there is none: a wrong authority file does not keep the gateway from starting.
    client: Result<Arc<Client>, RestError>,
    names: IdentityNames,
    asset_id: Option<String>,
    valid_days: u32,
    issue_authority: &'static str,
}

impl Cloud {
    #[must_use]
    pub fn new(client: Result<Arc<Client>, RestError>, config: &CertificateConfig, names: IdentityNames) -> Cloud {
        let issue_authority = match config.key_type {
            KeyType::Ecc => "ECC",
            KeyType::Rsa => "RSA",
        };
        Cloud { client, names, asset_id: config.asset_id.clone(), valid_days: config.valid_days, issue_authority }
    }

    async fn ask(&self, action: &str, request: &str, serial: Option<&str>) -> Result<Issued, RestError> {
        let client = self.client.as_ref().map_err(Clone::clone)?;
        let mut query = vec![("action", action), ("orgId", client.org_id())];
        match &self.asset_id {
            Some(asset_id) => query.push(("assetId", asset_id)),
            None => query.extend([
                ("productKey", self.names.product_key.as_str()),
                ("deviceKey", self.names.device_key.as_str()),
            ]),
        }
        let mut body = Map::new();
        body.insert("csr".into(), json!(request));
        body.insert("validDay".into(), json!(self.valid_days));
        body.insert("issueAuthority".into(), json!(self.issue_authority));
        if let Some(serial) = serial {
            body.insert("certSn".into(), serial_json(serial));
        }
        let body = Json::Object(body);
        read(&client.signed(&Call { path: PATH, query: &query, body: Some(&body) }).await?)
    }
}

impl Authority for Cloud {
    fn apply<'a>(&'a self, request: &'a str) -> Answer<'a, Result<Issued, RestError>> {
        Box::pin(self.ask("apply", request, None))
    }

    fn renew<'a>(&'a self, serial: &'a str, request: &'a str) -> Answer<'a, Result<Issued, RestError>> {
        Box::pin(self.ask("renew", request, Some(serial)))
    }
}

/// Requests carry a number; one that is none, or too large for one, stays text.
fn serial_json(serial: &str) -> Json {
    serial.parse::<u64>().map_or_else(|_| json!(serial), |number| json!(number))
}

fn read(data: &Json) -> Result<Issued, RestError> {
    let text = |key: &str| data[key].as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let certificate = text("cert").ok_or_else(|| RestError::Garbled {
        host: "the certificate interface".to_owned(),
        reason: "it has no certificate".to_owned(),
    })?;
    let serial = ["certSN", "certSn"].iter().find_map(|key| match &data[*key] {
        Json::Number(number) => Some(number.to_string()),
        Json::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    });
    Ok(Issued { certificate, authority: text("caCert"), serial })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_read_in_every_form_and_sent_as_a_number_when_it_is_one() {
        for (data, serial) in [
            (json!({"cert": "c", "certSN": 12}), Some("12")),
            (json!({"cert": "c", "certSn": "12"}), Some("12")),
            (json!({"cert": "c", "certSN": "0a:ff"}), Some("0a:ff")),
            (json!({"cert": "c"}), None),
        ] {
            assert_eq!(read(&data).unwrap().serial.as_deref(), serial, "{data}");
        }
        assert_eq!(serial_json("12"), json!(12));
        assert_eq!(serial_json("0a:ff"), json!("0a:ff"));
        assert_eq!(serial_json("99999999999999999999999"), json!("99999999999999999999999"));
    }

    #[test]
    fn an_answer_without_a_certificate_is_an_error() {
        for data in [json!({}), json!(null), json!({"cert": " "}), json!({"cert": 5})] {
            assert!(read(&data).is_err(), "{data}");
        }
    }
}
