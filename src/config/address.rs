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

/// Ports that EnOS listens on where others use 1883 and 8883.
const ENOS_PORTS: [u16; 2] = [11883, 18883];

/// `tcp://host:port` or `ssl://host:port` of the EnOS Cloud.
pub(super) fn mqtt(url: &Text, faults: &mut Faults) -> Option<Address> {
    mqtt_with(url, ENOS_PORTS, faults)
}

/// As [`mqtt`], with the default ports without and with TLS.
pub(super) fn mqtt_with(url: &Text, [plain, tls]: [u16; 2], faults: &mut Faults) -> Option<Address> {
    let mut complain = |problem: String| {
        faults.push(
            Diagnostic::error(url.place.clone(), problem)
                .help(format!("write ssl://host:{tls}, or tcp://host:{plain} without encryption")),
        );
        None
    };
    let Some((scheme, rest)) = url.text.split_once("://") else {
        return complain(format!("url: \"{}\" has no scheme", url.text));
    };
    let (secure, default_port) = match scheme {
        "ssl" | "tls" | "mqtts" => (true, tls),
        "tcp" | "mqtt" => (false, plain),
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
