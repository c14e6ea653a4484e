//! PURE. Addresses of brokers.

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::yaml::fields::Faults;
use driver::Text;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub host: String,
    pub port: u16,
    pub secure: bool,
}

/// `tcp://host:port` or `ssl://host:port`.
pub(super) fn mqtt(url: &Text, faults: &mut Faults) -> Option<Address> {
    let mut complain = |problem: String| {
        faults.push(
            Diagnostic::error(url.place.clone(), problem)
                .help("write ssl://host:18883, or tcp://host:11883 without encryption"),
        );
        None
    };
    let Some((scheme, rest)) = url.text.split_once("://") else {
        return complain(format!("url: \"{}\" has no scheme", url.text));
    };
    let (secure, default_port) = match scheme {
        "ssl" | "tls" | "mqtts" => (true, 18883),
        "tcp" | "mqtt" => (false, 11883),
        other => {
            let near = did_you_mean(other, ["ssl", "tcp"]);
            return complain(format!("url: scheme \"{other}\" is not known; {near}"));
        }
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (rest, Some(default_port)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match port {
        Some(port) if !host.is_empty() && !host.contains(['/', '@']) => {
            Some(Address { host: host.to_owned(), port, secure })
        }
        _ => complain(format!("url: \"{}\" is no address", url.text)),
    }
}
