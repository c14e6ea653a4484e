//! Every server that the configuration names, once.

use crate::config::{Config, SourceConfig, TlsConfig};
use crate::mqtt::tls;
use rustls::ClientConfig;
use std::sync::Arc;

/// A server, and how the daemon comes to it.
pub struct Place<'c> {
    /// For people: what of the configuration names it.
    pub who: String,
    pub host: String,
    pub port: u16,
    pub way: Way<'c>,
}

/// How it is spoken to.
pub enum Way<'c> {
    Plain,
    Tls(Result<Arc<ClientConfig>, String>),
    /// A way in of packages has steps of its own.
    Source(&'c SourceConfig),
    /// A proxy stands between.
    Proxy(String),
}

/// In the order of the file.
#[must_use]
pub fn all(config: &Config) -> Vec<Place<'_>> {
    let mut all = Vec::new();
    if let Some(cloud) = &config.cloud {
        let pair = cloud.client_files.as_ref().map(|files| files.load(0)).transpose().ok().flatten();
        all.push(broker("cloud".to_owned(), &cloud.host, cloud.port, cloud.tls.as_ref(), pair.as_ref()));
    }
    for one in &config.destinations {
        let pair = one.client_files.as_ref().map(|files| files.load(0)).transpose().ok().flatten();
        all.push(broker(format!("destination {}", one.name), &one.host, one.port, one.tls.as_ref(), pair.as_ref()));
    }
    if let Some(rest) = &config.rest {
        let urls = [("rest", &rest.url), ("rest, integration_url", &rest.integration_url)];
        let same = rest.url == rest.integration_url;
        for (who, url) in urls.into_iter().take(if same { 1 } else { 2 }) {
            let Ok(url) = reqwest::Url::parse(url) else { continue };
            let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(443));
            let way = match &rest.proxy {
                Some(proxy) => Way::Proxy(proxy.reveal().to_owned()),
                None if url.scheme() == "https" => Way::Tls(trusting(&TlsConfig { ca_file: rest.ca_file.clone() })),
                None => Way::Plain,
            };
            all.push(Place { who: who.to_owned(), host: bare(host), port, way });
        }
    }
    for source in config.fetch.iter().filter(|source| !source.address.host.is_empty()) {
        all.push(Place {
            who: format!("fetch {}", source.name),
            host: source.address.host.clone(),
            port: source.address.port,
            way: Way::Source(source),
        });
    }
    all
}

fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

fn trusting(tls: &TlsConfig) -> Result<Arc<ClientConfig>, String> {
    tls::client_config(tls).map_err(|error| format!("{error:#}"))
}

fn broker<'c>(
    who: String,
    host: &str,
    port: u16,
    tls: Option<&TlsConfig>,
    pair: Option<&crate::model::identity::ClientCertificate>,
) -> Place<'c> {
    let way = match tls {
        None => Way::Plain,
        Some(tls) => Way::Tls(
            pair.map(tls::OwnCertificate::parse)
                .transpose()
                .and_then(|own| tls::client_config_with(tls, own))
                .map_err(|error| format!("{error:#}")),
        ),
    };
    Place { who, host: host.to_owned(), port, way }
}
