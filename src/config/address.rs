//! PURE. Addresses of brokers.

use crate::diagnostic::{Diagnostic, did_you_mean};
use crate::yaml::fields::Faults;
use core::net::Ipv6Addr;
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
    match parts(rest) {
        Some((host, port)) => Some(Address { host: host.to_owned(), port: port.unwrap_or(default_port), secure }),
        None if rest.parse::<Ipv6Addr>().is_ok() => {
            complain(format!("url: \"{}\" is no address; an IPv6 address stands in brackets: [{rest}]", url.text))
        }
        None => complain(format!("url: \"{}\" is no address", url.text)),
    }
}

/// A host, and a port if one is named. IPv6 addresses stand in brackets, as in any URL.
fn parts(rest: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = port.map(|port| port.parse().ok().filter(|port| *port > 0));
    let sound = !host.is_empty() && !host.contains(['/', '@', '[', ']', ' ']);
    match port {
        Some(None) => None,
        Some(port) if sound => Some((host, port)),
        None if sound => Some((host, None)),
        _ => None,
    }
}

/// As it is written in a URL.
#[must_use]
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_of_both_kinds_with_and_without_port() {
        for (text, host, port) in [
            ("h", "h", None),
            ("h:1", "h", Some(1)),
            ("10.0.0.1:65535", "10.0.0.1", Some(65_535)),
            ("[::1]", "::1", None),
            ("[2001:db8::1]:8043", "2001:db8::1", Some(8043)),
        ] {
            assert_eq!(parts(text), Some((host, port)), "{text}");
            assert_eq!(host_and_port(host, 5).rsplit_once(':').unwrap().1, "5");
        }
        for text in [
            "", ":1", "h:", "h:0", "h:65536", "::1", "[::1", "[]", "[h]:1", "[::1]1", "h/p", "u@h", "u:p@h", "h]",
            "a b",
        ] {
            assert_eq!(parts(text), None, "{text}");
        }
        assert_eq!(host_and_port("::1", 8043), "[::1]:8043");
    }
}
