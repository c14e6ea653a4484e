//! What the parameters of a connection say, checked. PURE.

use driver::{ConnectionText, Diagnostic, Text};
use opcua::crypto::SecurityPolicy;
use opcua::types::MessageSecurityMode;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const KNOWN: &[&str] = &[
    "endpoint",
    "security_policy",
    "security_mode",
    "user",
    "password",
    "password_file",
    "trust",
    "server_certificate",
    "pki_dir",
    "mode",
    "scan_period_ms",
    "publishing_interval_ms",
    "sampling_interval_ms",
    "queue_size",
    "timeout_ms",
    "connect_timeout_ms",
    "max_nodes_per_read",
    "max_items_per_call",
    "retry_failed_ms",
    "timestamp",
];

const POLICIES: &[(&str, SecurityPolicy)] = &[
    ("None", SecurityPolicy::None),
    ("Basic256Sha256", SecurityPolicy::Basic256Sha256),
    ("Aes128-Sha256-RsaOaep", SecurityPolicy::Aes128Sha256RsaOaep),
    ("Aes256-Sha256-RsaPss", SecurityPolicy::Aes256Sha256RsaPss),
];

const MODES: &[(&str, MessageSecurityMode)] = &[
    ("None", MessageSecurityMode::None),
    ("Sign", MessageSecurityMode::Sign),
    ("SignAndEncrypt", MessageSecurityMode::SignAndEncrypt),
];

/// How values come: the server sends changes, or it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Subscribe,
    Read,
}

/// Whose clock stamps a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    Gateway,
    Source,
    Server,
}

/// Which server certificate is accepted when security is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Exactly this one.
    Pinned(PathBuf),
    /// Any in `trusted/` of the pki folder.
    Folder,
    /// The first one this endpoint shows, for ever.
    FirstUse,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Password {
    Text(String),
    File(PathBuf),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// `opc.tcp://host:port/path`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Endpoint {
    pub(crate) url: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    pub(crate) policy: SecurityPolicy,
    pub(crate) security_mode: MessageSecurityMode,
    pub(crate) user: Option<(String, Password)>,
    pub(crate) trust: Trust,
    pub(crate) pki_dir: PathBuf,
    pub(crate) mode: Mode,
    pub(crate) scan_period: Duration,
    pub(crate) publishing_interval: Option<Duration>,
    pub(crate) sampling_interval: Option<Duration>,
    pub(crate) queue_size: Option<u32>,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_nodes_per_read: usize,
    pub(crate) max_items_per_call: usize,
    pub(crate) retry_failed: Duration,
    pub(crate) stamp: Stamp,
}

impl Settings {
    pub(crate) fn read(connection: &ConnectionText<'_>, state_dir: &Path, faults: &mut Vec<Diagnostic>) -> Settings {
        let parameters = connection.parameters;
        parameters.refuse_unknown(KNOWN, faults);
        let policy = parameters.word_or("security_policy", SecurityPolicy::None, POLICIES, faults);
        let default_mode = match policy {
            SecurityPolicy::None => MessageSecurityMode::None,
            _ => MessageSecurityMode::SignAndEncrypt,
        };
        let settings = Settings {
            endpoint: endpoint(connection, faults),
            policy,
            security_mode: parameters.word_or("security_mode", default_mode, MODES, faults),
            user: user(connection, state_dir, faults),
            trust: trust(connection, state_dir, faults),
            pki_dir: state_dir.join(parameters.get("pki_dir").map_or("pki/opcua", |t| t.text.trim())),
            mode: parameters.word_or(
                "mode",
                Mode::Subscribe,
                &[("subscribe", Mode::Subscribe), ("read", Mode::Read)],
                faults,
            ),
            scan_period: parameters.millis_or("scan_period_ms", Duration::from_secs(1), 10..=86_400_000, faults),
            publishing_interval: interval(connection, "publishing_interval_ms", 10..=3_600_000, faults),
            sampling_interval: interval(connection, "sampling_interval_ms", 0..=3_600_000, faults),
            queue_size: count(connection, "queue_size", 1..=1000, faults),
            timeout: parameters.millis_or("timeout_ms", Duration::from_secs(5), 100..=120_000, faults),
            connect_timeout: parameters.millis_or("connect_timeout_ms", Duration::from_secs(10), 100..=120_000, faults),
            max_nodes_per_read: count(connection, "max_nodes_per_read", 1..=10_000, faults).map_or(500, |n| n as usize),
            max_items_per_call: count(connection, "max_items_per_call", 1..=10_000, faults).map_or(500, |n| n as usize),
            retry_failed: parameters.millis_or("retry_failed_ms", Duration::from_secs(30), 100..=86_400_000, faults),
            stamp: parameters.word_or("timestamp", Stamp::Gateway, STAMPS, faults),
        };
        settings.agree(connection, faults);
        settings
    }

    /// Security on, or off, but not half.
    fn agree(&self, connection: &ConnectionText<'_>, faults: &mut Vec<Diagnostic>) {
        let none = self.security_mode == MessageSecurityMode::None;
        if none != (self.policy == SecurityPolicy::None) {
            let at = connection.parameters.get("security_mode").or(connection.parameters.get("security_policy"));
            let place = at.map_or(&connection.place, |t| &t.place);
            faults.push(
                Diagnostic::error(place.clone(), "security_policy and security_mode contradict each other")
                    .help("both are None, or neither is"),
            );
        }
    }

    pub(crate) fn secure(&self) -> bool {
        self.policy != SecurityPolicy::None
    }
}

const STAMPS: &[(&str, Stamp)] = &[("gateway", Stamp::Gateway), ("source", Stamp::Source), ("server", Stamp::Server)];

fn endpoint(connection: &ConnectionText<'_>, faults: &mut Vec<Diagnostic>) -> Endpoint {
    let Some(text) = connection.parameters.get("endpoint") else {
        faults.push(
            Diagnostic::error(connection.place.clone(), "parameter \"endpoint\" is missing")
                .help("write endpoint: opc.tcp://host:4840"),
        );
        return Endpoint::default();
    };
    parse_endpoint(text.text.trim()).unwrap_or_else(|| {
        faults.push(
            Diagnostic::error(text.place.clone(), format!("endpoint: \"{}\" is no OPC UA address", text.text))
                .help("write opc.tcp://host:port or opc.tcp://host:port/path"),
        );
        Endpoint::default()
    })
}

fn parse_endpoint(url: &str) -> Option<Endpoint> {
    let scheme = url.get(..10).filter(|s| s.eq_ignore_ascii_case("opc.tcp://"))?;
    let authority = url[scheme.len()..].split('/').next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(host, rest)| (host, rest.strip_prefix(':')))?,
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(4840), |p| p.parse().ok())?;
    let sound = !host.is_empty() && port != 0 && !url.contains(char::is_whitespace) && !authority.contains('@');
    sound.then(|| Endpoint { url: url.to_owned(), host: host.to_owned(), port })
}

fn user(connection: &ConnectionText<'_>, state_dir: &Path, faults: &mut Vec<Diagnostic>) -> Option<(String, Password)> {
    let get = |key| connection.parameters.get(key);
    let mut fault = |at: &Text, problem: &str, help: &str| {
        faults.push(Diagnostic::error(at.place.clone(), problem).help(help));
        None
    };
    let user = |text: &Text| text.text.trim().to_owned();
    match (get("user"), get("password"), get("password_file")) {
        (None, None, None) => None,
        (Some(name), Some(password), None) => Some((user(name), Password::Text(password.text.clone()))),
        (Some(name), None, Some(file)) => Some((user(name), Password::File(state_dir.join(file.text.trim())))),
        (Some(_), Some(_), Some(file)) => fault(file, "password and password_file are both given", "keep one of them"),
        (Some(name), None, None) => fault(name, "user without password", "add password_file or password"),
        (None, Some(at), _) | (None, None, Some(at)) => fault(at, "password without user", "add user"),
    }
}

fn trust(connection: &ConnectionText<'_>, state_dir: &Path, faults: &mut Vec<Diagnostic>) -> Trust {
    let first_use = connection.parameters.word_or("trust", false, &[("pki", false), ("first-use", true)], faults);
    match connection.parameters.get("server_certificate") {
        Some(file) if first_use => {
            faults.push(
                Diagnostic::error(file.place.clone(), "server_certificate and trust: first-use contradict each other")
                    .help("keep server_certificate"),
            );
            Trust::Folder
        }
        Some(file) => Trust::Pinned(state_dir.join(file.text.trim())),
        None if first_use => Trust::FirstUse,
        None => Trust::Folder,
    }
}

fn interval(
    connection: &ConnectionText<'_>,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
    faults: &mut Vec<Diagnostic>,
) -> Option<Duration> {
    connection.parameters.get(key)?;
    Some(connection.parameters.millis_or(key, Duration::from_secs(1), range, faults))
}

fn count(
    connection: &ConnectionText<'_>,
    key: &str,
    range: std::ops::RangeInclusive<u32>,
    faults: &mut Vec<Diagnostic>,
) -> Option<u32> {
    let text = connection.parameters.get(key)?;
    let parsed = text.text.trim().parse().ok().filter(|n| range.contains(n));
    if parsed.is_none() {
        faults.push(
            Diagnostic::error(text.place.clone(), format!("{key}: \"{}\" does not fit", text.text)).help(format!(
                "write a whole number from {} to {}",
                range.start(),
                range.end()
            )),
        );
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::Place;
    use driver::testkit::parameters;

    fn read(pairs: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let parameters = parameters(pairs);
        let place = Place::new(&"c.yaml".into(), 1, 1);
        let connection = ConnectionText { name: "m", place, parameters: &parameters, devices: &[] };
        let mut faults = Vec::new();
        let settings = Settings::read(&connection, Path::new("/state"), &mut faults);
        (settings, faults.into_iter().map(|f| f.problem).collect())
    }

    #[test]
    fn an_endpoint_alone_is_enough() {
        let (settings, faults) = read(&[("endpoint", "opc.tcp://10.0.0.9:4841/ua/server")]);
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!((settings.endpoint.host.as_str(), settings.endpoint.port), ("10.0.0.9", 4841));
        assert_eq!((settings.mode, settings.stamp), (Mode::Subscribe, Stamp::Gateway));
        assert_eq!(settings.pki_dir, Path::new("/state/pki/opcua"));
        assert!(!settings.secure());
    }

    #[test]
    fn addresses_of_every_shape_are_taken_apart() {
        let host = |url| parse_endpoint(url).map(|e| (e.host, e.port));
        assert_eq!(host("opc.tcp://plc"), Some(("plc".into(), 4840)));
        assert_eq!(host("OPC.TCP://plc:48400/"), Some(("plc".into(), 48400)));
        assert_eq!(host("opc.tcp://[fe80::1]:4840/x"), Some(("fe80::1".into(), 4840)));
        for bad in
            ["", "http://plc", "opc.tcp://", "opc.tcp://plc:0", "opc.tcp://plc:70000", "opc.tcp://a b", "opc.tcp://é"]
        {
            let fine = bad == "opc.tcp://é";
            assert_eq!(host(bad).is_some(), fine, "{bad}");
        }
    }

    #[test]
    fn every_fault_is_reported_at_once() {
        let (_, faults) = read(&[
            ("endpoint", "tcp://x"),
            ("security_mode", "Sign"),
            ("user", "joe"),
            ("queue_size", "0"),
            ("timeout", "1"),
            ("timestamp", "moon"),
        ]);
        assert_eq!(faults.len(), 6, "{faults:?}");
    }

    #[test]
    fn security_defaults_to_sign_and_encrypt_and_to_the_trust_folder() {
        let (settings, faults) = read(&[("endpoint", "opc.tcp://x"), ("security_policy", "basic256sha256")]);
        assert!(faults.is_empty());
        assert_eq!(settings.security_mode, MessageSecurityMode::SignAndEncrypt);
        assert_eq!(settings.trust, Trust::Folder);
        let (settings, _) = read(&[("endpoint", "opc.tcp://x"), ("server_certificate", "plc.der")]);
        assert_eq!(settings.trust, Trust::Pinned("/state/plc.der".into()));
    }

    #[test]
    fn a_password_is_never_shown() {
        let (settings, _) = read(&[("endpoint", "opc.tcp://x"), ("user", "joe"), ("password", "s3cret")]);
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}
