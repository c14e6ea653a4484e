//! `certificate:` of `edge.yaml`: the client certificate that the gateway applies for and renews by itself.

use super::numbers::whole;
use crate::diagnostic::Diagnostic;
use crate::yaml::fields::{Faults, Fields, misfit};
use std::path::{Path, PathBuf};

/// What is applied for, and when it is renewed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateConfig {
    pub key_type: KeyType,
    pub subject: Subject,
    /// Without it the cloud finds the gateway by its keys.
    pub asset_id: Option<String>,
    pub valid_days: u32,
    /// Renewed when this part of its life is left.
    pub renew_percent_left: u32,
    /// What the new certificate must lead to; `None`: whatever the cloud says.
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// P-256.
    Ecc,
    /// 2048 bits.
    Rsa,
}

/// The names in the request; the cloud wants country, state and organisation as in its root certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    pub country: Option<String>,
    pub state: Option<String>,
    pub locality: Option<String>,
    pub organization: Option<String>,
    pub unit: Option<String>,
    /// Default: the asset id, else the device key.
    pub common_name: Option<String>,
}

impl Default for CertificateConfig {
    fn default() -> CertificateConfig {
        CertificateConfig {
            key_type: KeyType::Ecc,
            subject: Subject::default(),
            asset_id: None,
            valid_days: 730,
            renew_percent_left: 33,
            ca_file: None,
        }
    }
}

pub(super) const KEYS: &[&str] = &[
    "key_type",
    "country",
    "state",
    "locality",
    "organization",
    "organizational_unit",
    "common_name",
    "asset_id",
    "valid_days",
    "renew_percent_left",
    "ca_file",
];

const KEY_TYPES: &[(&str, KeyType)] = &[("ecc", KeyType::Ecc), ("rsa", KeyType::Rsa)];

/// The upper bounds of X.520 that authorities hold requests to.
const NAME_LIMIT: usize = 64;

/// Every key is looked at.
pub(super) fn read(fields: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> CertificateConfig {
    let country = name(fields, "country", faults);
    if let Some(country) = &country
        && !(country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase()))
        && let Some(text) = fields.text("country", faults)
    {
        faults.push(misfit("country", &text, "write the two capital letters of ISO 3166, for example CN"));
    }
    let subject = Subject {
        country,
        state: name(fields, "state", faults),
        locality: name(fields, "locality", faults),
        organization: name(fields, "organization", faults),
        unit: name(fields, "organizational_unit", faults),
        common_name: name(fields, "common_name", faults),
    };
    CertificateConfig {
        key_type: fields.word("key_type", KEY_TYPES, faults).unwrap_or(KeyType::Ecc),
        subject,
        asset_id: fields.text("asset_id", faults).map(|text| text.text).filter(|text| !text.is_empty()),
        valid_days: whole(fields, "valid_days", 730, 1..=36_500, faults) as u32,
        renew_percent_left: whole(fields, "renew_percent_left", 33, 1..=90, faults) as u32,
        ca_file: fields.text("ca_file", faults).map(|text| folder.join(text.text)),
    }
}

fn name(fields: &Fields<'_, '_>, key: &str, faults: &mut Faults) -> Option<String> {
    let text = fields.text(key, faults)?;
    let good = (1..=NAME_LIMIT).contains(&text.text.chars().count()) && !text.text.chars().any(char::is_control);
    if !good {
        faults.push(
            Diagnostic::error(text.place.clone(), format!("{key} does not fit into a certificate"))
                .help(format!("write 1 to {NAME_LIMIT} characters")),
        );
    }
    good.then_some(text.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::joined;

    fn parse(text: &str) -> Result<CertificateConfig, String> {
        let file = "edge.yaml".into();
        let (node, found) = crate::yaml::parse(&file, text);
        let mut faults = Faults::from(found);
        let fields = Fields::open(&file, node.as_ref().unwrap(), "certificate", KEYS, &mut faults).unwrap();
        let config = read(&fields, Path::new("/etc"), &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(joined(&faults.finish())) }
    }

    #[test]
    fn everything_has_a_default() {
        assert_eq!(parse("{}").unwrap(), CertificateConfig::default());
        let config = parse("{key_type: RSA, country: CN, state: 上海, valid_days: 90, ca_file: ca.pem}").unwrap();
        assert_eq!((config.key_type, config.valid_days), (KeyType::Rsa, 90));
        assert_eq!(config.subject.state.as_deref(), Some("上海"));
        assert_eq!(config.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    }

    #[test]
    fn what_no_authority_takes_is_refused_here() {
        let long = "x".repeat(65);
        let text =
            format!("country: China\norganization: {long}\nkey_type: dsa\nvalid_days: 0\nrenew_percent_left: 100\n");
        let faults = parse(&text).unwrap_err();
        for expected in
            ["country: \"China\"", "organization does not fit", "key_type \"dsa\"", "valid_days", "renew_percent_left"]
        {
            assert!(faults.contains(expected), "{expected} is missing in\n{faults}");
        }
    }
}
