//! `rest:` of `edge.yaml`: the cloud's REST interface and the service account that may use it.

use super::numbers::millis;
use super::{Secret, secret};
use crate::diagnostic::Diagnostic;
use crate::yaml::fields::{Faults, Fields};
use driver::Text;
use reqwest::Url;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the REST interface is and who asks.
#[derive(Clone, Debug)]
pub struct RestConfig {
    /// Scheme, host, port and perhaps a path, without a slash at the end.
    pub url: String,
    /// Where points of logic assets are posted; the same form.
    pub integration_url: String,
    /// Key of the service account, which EnOS also calls app key.
    pub access_key: String,
    pub secret_key: Secret,
    pub org_id: String,
    /// PEM; `None` trusts the system's authorities.
    pub ca_file: Option<PathBuf>,
    /// Perhaps with user and password, so it is not shown.
    pub proxy: Option<Secret>,
    pub connect_timeout: Duration,
    /// For a whole call: token, connect, question and answer.
    pub timeout: Duration,
}

impl RestConfig {
    /// All defaults.
    #[must_use]
    pub fn new(url: &str, access_key: &str, secret_key: Secret, org_id: &str) -> RestConfig {
        RestConfig {
            url: url.to_owned(),
            integration_url: url.to_owned(),
            access_key: access_key.to_owned(),
            secret_key,
            org_id: org_id.to_owned(),
            ca_file: None,
            proxy: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        }
    }
}

pub(super) const KEYS: &[&str] = &[
    "url",
    "integration_url",
    "access_key",
    "secret_key",
    "secret_key_file",
    "secret_key_credential",
    "org_id",
    "ca_file",
    "proxy",
    "connect_timeout_ms",
    "timeout_ms",
];

/// Every key is looked at, whatever is missing.
pub(super) fn read(fields: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<RestConfig> {
    let url = fields.required("url", faults).and_then(|text| base(&text, "url", faults));
    let integration_url = fields.text("integration_url", faults).and_then(|t| base(&t, "integration_url", faults));
    let access_key = fields.required("access_key", faults);
    let secret_key = secret::read(fields, "secret_key", folder, faults);
    if ["secret_key", "secret_key_file", "secret_key_credential"].iter().all(|key| fields.node(key).is_none()) {
        faults.push(
            Diagnostic::error(fields.place.clone(), "rest has no secret_key")
                .help("name a file with `secret_key_file: …`"),
        );
    }
    let org_id = fields.required("org_id", faults);
    let ca_file = fields.text("ca_file", faults);
    let proxy = fields.text("proxy", faults).and_then(|text| proxy(&text, faults));
    let connect_timeout = millis(fields, "connect_timeout_ms", 10_000, 100..=120_000, faults);
    let timeout = millis(fields, "timeout_ms", 30_000, 500..=300_000, faults);
    let encrypted = |url: &Option<String>| url.as_ref().is_some_and(|url| url.starts_with("https://"));
    if let (Some(ca), Some(_), false) = (&ca_file, &url, encrypted(&url) || encrypted(&integration_url)) {
        faults.push(
            Diagnostic::error(ca.place.clone(), "ca_file has no use with http://")
                .help("write https:// in url to encrypt"),
        );
    }
    let url = url?;
    Some(RestConfig {
        integration_url: integration_url.unwrap_or_else(|| url.clone()),
        url,
        access_key: access_key?.text,
        secret_key: secret_key?,
        org_id: org_id?.text,
        ca_file: ca_file.map(|ca| folder.join(ca.text)),
        proxy,
        connect_timeout,
        timeout,
    })
}

/// An address without a scheme means https. Only who writes `http://` goes without encryption.
pub(super) fn base(text: &Text, key: &str, faults: &mut Faults) -> Option<String> {
    let whole = if text.text.contains("://") { text.text.clone() } else { format!("https://{}", text.text) };
    let problem = match Url::parse(&whole) {
        Ok(url) if !["http", "https"].contains(&url.scheme()) => format!("scheme \"{}\" is not known", url.scheme()),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => "an account has no place here".to_owned(),
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            "only host, port and path are wanted".to_owned()
        }
        Ok(url) if url.has_host() => return Some(url.as_str().trim_end_matches('/').to_owned()),
        Ok(_) => "has no host".to_owned(),
        Err(error) => error.to_string(),
    };
    // Without the text: somebody may have put a password into it.
    faults.push(
        Diagnostic::error(text.place.clone(), format!("{key}: {problem}"))
            .help("write https://host, or http://host without encryption"),
    );
    None
}

pub(super) fn proxy(text: &Text, faults: &mut Faults) -> Option<Secret> {
    let good = Url::parse(&text.text).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    if !good {
        faults
            .push(Diagnostic::error(text.place.clone(), "proxy: no address of a proxy").help("write http://host:3128"));
    }
    good.then(|| Secret::new(text.text.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::joined;

    fn parse(text: &str) -> Result<RestConfig, String> {
        let file = "edge.yaml".into();
        let (node, found) = crate::yaml::parse(&file, text);
        let mut faults = Faults::from(found);
        let fields = Fields::open(&file, node.as_ref().unwrap(), "rest", KEYS, &mut faults).unwrap();
        let config = read(&fields, Path::new("/etc"), &mut faults);
        if faults.is_empty() { Ok(config.unwrap()) } else { Err(joined(&faults.finish())) }
    }

    #[test]
    fn an_address_without_a_scheme_is_encrypted() {
        let config =
            parse("{url: apim.example.com/, access_key: a, secret_key: s, org_id: o, ca_file: ca.pem}").unwrap();
        assert_eq!(config.url, "https://apim.example.com");
        assert_eq!(config.integration_url, config.url);
        assert_eq!(config.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
        let plain = parse("{url: \"http://10.0.0.1:8080/x\", access_key: a, secret_key: s, org_id: o}").unwrap();
        assert_eq!(plain.url, "http://10.0.0.1:8080/x");
    }

    #[test]
    fn every_fault_is_told_and_no_secret_with_it() {
        let faults = parse(
            "url: https://user:hunter2@host\nintegration_url: ftp://host\nproxy: hunter3\ntimeout_ms: 1\nsecret_ky: x\n",
        )
        .unwrap_err();
        for expected in [
            "edge.yaml:1:6: url: an account has no place here",
            "edge.yaml:2:18: integration_url: scheme \"ftp\"",
            "edge.yaml:3:8: proxy: no address",
            "edge.yaml:4:13: timeout_ms",
            "did you mean secret_key?",
            "rest has no access_key",
            "rest has no secret_key",
            "rest has no org_id",
        ] {
            assert!(faults.contains(expected), "{expected} is missing in\n{faults}");
        }
        assert!(!faults.contains("hunter"), "{faults}");
    }

    #[test]
    fn a_configuration_shows_no_secret() {
        let config =
            parse("{url: h, access_key: a, secret_key: hunter2, org_id: o, proxy: \"http://u:hunter3@p:1\"}").unwrap();
        assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
    }
}
