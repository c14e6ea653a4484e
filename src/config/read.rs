//! Reads `edge.yaml`: every fault at once, with its place.

use super::{Acknowledge, CloudConfig, Config, Durability, OutboxConfig, Overrides, Secret, TlsConfig};
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use crate::logs::LogFormat;
use crate::yaml::fields::{Faults, Fields};
use driver::Text;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A configuration is a page of text; anything larger is something else.
const SIZE_LIMIT: u64 = 1 << 20;

const KEYS: &[&str] = &["state_dir", "package", "control_socket", "cloud", "outbox", "log"];
const CLOUD_KEYS: &[&str] = &[
    "url",
    "product_key",
    "device_key",
    "device_secret",
    "device_secret_file",
    "ca_file",
    "acknowledge",
    "sub_device_login",
    "keep_alive_s",
    "reply_timeout_ms",
    "late_after_s",
    "linger_ms",
    "max_message_kb",
    "in_flight",
    "backlog_kb_per_s",
];
const OUTBOX_KEYS: &[&str] = &["durability", "bound_ms", "quota_mb", "max_age_h", "disk_reserve_mb", "memory_mb"];
const LOG_KEYS: &[&str] = &["level", "format"];

const ACKNOWLEDGE: &[(&str, Acknowledge)] = &[("reply", Acknowledge::Reply), ("puback", Acknowledge::Puback)];
const DURABILITY: &[(&str, Durability)] = &[("bounded", Durability::Bounded), ("strict", Durability::Strict)];
const LEVELS: &[(&str, tracing::Level)] = &[
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];
const FORMATS: &[(&str, LogFormat)] =
    &[("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json), ("journal", LogFormat::Journal)];

/// All keys of the file, for the test that holds the reference page true.
#[cfg(test)]
pub(super) fn all_keys() -> impl Iterator<Item = &'static str> {
    [KEYS, CLOUD_KEYS, OUTBOX_KEYS, LOG_KEYS].into_iter().flatten().copied()
}

/// Reads and checks the file.
pub(super) fn read(path: &Path, overrides: Overrides) -> Result<Config, Vec<Diagnostic>> {
    let file: Arc<str> = path.display().to_string().into();
    let whole = |problem: String| vec![Diagnostic::error(Place::new(&file, 0, 0), problem)];
    let size = std::fs::metadata(path).map_err(|e| whole(format!("can not be read: {e}")))?.len();
    if size > SIZE_LIMIT {
        return Err(whole(format!("{size} bytes are more than a configuration has")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| whole(format!("can not be read: {e}")))?;
    parse(&file, path.parent().unwrap_or(Path::new(".")), &text, overrides)
}

/// Relative paths count from `folder`, where the file lies.
fn parse(file: &Arc<str>, folder: &Path, text: &str, overrides: Overrides) -> Result<Config, Vec<Diagnostic>> {
    let (node, found) = crate::yaml::parse(file, text);
    let mut faults = Faults::from(found);
    let Some(node) = node else {
        if faults.is_empty() {
            faults.push(Diagnostic::error(Place::new(file, 0, 0), "is empty").help("state_dir is needed at least"));
        }
        return Err(faults.finish());
    };
    let Some(fields) = Fields::open(file, &node, "configuration", KEYS, &mut faults) else {
        return Err(faults.finish());
    };
    let config = config(&fields, folder, overrides, &mut faults);
    match config {
        Some(config) if faults.is_empty() => Ok(config),
        _ => Err(faults.finish()),
    }
}

fn config(fields: &Fields<'_, '_>, folder: &Path, overrides: Overrides, faults: &mut Faults) -> Option<Config> {
    let path = |text: Text| folder.join(text.text);
    let state_dir = match overrides.state_dir {
        Some(dir) => Some(dir),
        None => fields.required("state_dir", faults).map(path),
    };
    let package = overrides.package.or_else(|| fields.text("package", faults).map(path));
    let socket = fields.text("control_socket", faults).map(path);
    let cloud = section(fields, "cloud", CLOUD_KEYS, faults).and_then(|fields| cloud(&fields, folder, faults));
    let outbox = match section(fields, "outbox", OUTBOX_KEYS, faults) {
        Some(fields) => outbox(&fields, faults),
        None => OutboxConfig::default(),
    };
    let log = section(fields, "log", LOG_KEYS, faults);
    let (log_level, log_format) = match &log {
        Some(log) => (log.word("level", LEVELS, faults), log.word("format", FORMATS, faults)),
        None => (None, None),
    };
    let state_dir = state_dir?;
    Some(Config {
        control_socket: socket.unwrap_or_else(|| state_dir.join("control.sock")),
        state_dir,
        package,
        cloud,
        outbox,
        log_level: log_level.unwrap_or(tracing::Level::INFO),
        log_format: log_format.unwrap_or_default(),
    })
}

fn section<'t, 'a>(
    fields: &Fields<'t, 'a>,
    key: &'static str,
    known: &[&str],
    faults: &mut Faults,
) -> Option<Fields<'t, 'a>> {
    Fields::open(fields.file, fields.node(key)?, key, known, faults)
}

fn cloud(fields: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<CloudConfig> {
    let url = fields.required("url", faults);
    let address = url.as_ref().and_then(|url| address(url, faults));
    let product_key = fields.required("product_key", faults);
    let device_key = fields.required("device_key", faults);
    let acknowledge = fields.word("acknowledge", ACKNOWLEDGE, faults).unwrap_or(Acknowledge::Reply);
    let device_secret = secret(fields, folder, faults);
    if device_secret.is_none() && acknowledge == Acknowledge::Reply {
        faults.push(Diagnostic::error(fields.place.clone(), "cloud has no device_secret").help(
            "name a file with `device_secret_file: …`; a plain broker without log-in wants `acknowledge: puback`",
        ));
    }
    let ca_file = fields.text("ca_file", faults);
    if let (Some((_, _, false)), Some(ca)) = (&address, &ca_file) {
        faults.push(
            Diagnostic::error(ca.place.clone(), "ca_file has no use with tcp://")
                .help("write ssl:// in url to encrypt"),
        );
    }
    let sub_device_login = fields.flag("sub_device_login", acknowledge == Acknowledge::Reply, faults);
    let keep_alive = seconds(fields, "keep_alive_s", 60, 5..=300, faults);
    let reply_timeout = millis(fields, "reply_timeout_ms", 30_000, 500..=300_000, faults);
    let late_after = seconds(fields, "late_after_s", 30, 1..=86_400, faults);
    let linger = millis(fields, "linger_ms", 20, 0..=60_000, faults);
    let max_message_bytes = whole(fields, "max_message_kb", 512, 4..=512, faults) as usize * 1024;
    let in_flight = whole(fields, "in_flight", 16, 1..=100, faults) as usize;
    let paced = fields.node("backlog_kb_per_s").is_some();
    let pace = whole(fields, "backlog_kb_per_s", 1024, 1..=1_000_000, faults) * 1024;
    // Every key has been looked at; only now may a missing one end it.
    let (host, port, secure) = address?;
    Some(CloudConfig {
        host,
        port,
        tls: secure.then(|| TlsConfig { ca_file: ca_file.map(|ca| folder.join(ca.text)) }),
        product_key: product_key?.text,
        device_key: device_key?.text,
        device_secret,
        acknowledge,
        sub_device_login,
        keep_alive,
        reply_timeout,
        late_after,
        linger,
        max_message_bytes,
        in_flight,
        backlog_bytes_per_second: paced.then_some(pace),
    })
}

/// `tcp://host:port` or `ssl://host:port`.
fn address(url: &Text, faults: &mut Faults) -> Option<(String, u16, bool)> {
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
        Some(port) if !host.is_empty() && !host.contains(['/', '@']) => Some((host.to_owned(), port, secure)),
        _ => complain(format!("url: \"{}\" is no address", url.text)),
    }
}

/// From a file that only the daemon should read, or written in the configuration itself.
fn secret(fields: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<Secret> {
    let inline = fields.text("device_secret", faults);
    let Some(file) = fields.text("device_secret_file", faults) else {
        return inline.map(|text| Secret::new(text.text));
    };
    if let Some(inline) = inline {
        faults.push(Diagnostic::error(inline.place, "device_secret and device_secret_file exclude each other"));
    }
    let path: PathBuf = folder.join(&file.text);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Some(Secret::new(text.trim().to_owned())),
        Ok(_) => {
            faults.push(Diagnostic::error(file.place, format!("device_secret_file {} is empty", path.display())));
            None
        }
        Err(error) => {
            let problem = format!("device_secret_file {} can not be read: {error}", path.display());
            faults.push(Diagnostic::error(file.place, problem));
            None
        }
    }
}

fn outbox(fields: &Fields<'_, '_>, faults: &mut Faults) -> OutboxConfig {
    OutboxConfig {
        durability: fields.word("durability", DURABILITY, faults).unwrap_or(Durability::Bounded),
        bound: millis(fields, "bound_ms", 1000, 50..=60_000, faults),
        quota_bytes: whole(fields, "quota_mb", 1024, 1..=10_000_000, faults) << 20,
        max_age: Duration::from_secs(whole(fields, "max_age_h", 720, 1..=876_000, faults) * 3600),
        disk_reserve_bytes: whole(fields, "disk_reserve_mb", 64, 0..=1_000_000, faults) << 20,
        memory_bytes: (whole(fields, "memory_mb", 8, 1..=1024, faults) as usize) << 20,
    }
}

fn seconds(
    f: &Fields<'_, '_>,
    key: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    faults: &mut Faults,
) -> Duration {
    Duration::from_secs(whole(f, key, default, range, faults))
}

fn millis(
    f: &Fields<'_, '_>,
    key: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    faults: &mut Faults,
) -> Duration {
    Duration::from_millis(whole(f, key, default, range, faults))
}

fn whole(
    fields: &Fields<'_, '_>,
    key: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    faults: &mut Faults,
) -> u64 {
    let Some(text) = fields.text(key, faults) else { return default };
    match text.text.parse::<u64>() {
        Ok(number) if range.contains(&number) => number,
        _ => {
            faults.push(Diagnostic::error(text.place, format!("{key}: \"{}\" does not fit", text.text)).help(format!(
                "write a whole number from {} to {}; default {default}",
                range.start(),
                range.end()
            )));
            default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        parse(&"edge.yaml".into(), Path::new("/etc/enos-edge"), text, Overrides::default())
            .map_err(|faults| crate::diagnostic::joined(&faults))
    }

    #[test]
    fn three_lines_are_a_configuration() {
        let config = read("state_dir: /var/lib/enos-edge\npackage: site\n").unwrap();
        assert_eq!(config.package.unwrap(), Path::new("/etc/enos-edge/site"));
        assert_eq!(config.control_socket, Path::new("/var/lib/enos-edge/control.sock"));
        assert!(config.cloud.is_none());
        assert_eq!(config.outbox.bound, Duration::from_secs(1));
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_place() {
        let faults = read("stat_dir: x\ncloud:\n  url: http://a\n  product_key: p\n  in_flight: many\noutbox: { durability: strickt }\n")
            .unwrap_err();
        for expected in [
            "edge.yaml:1:1: key \"stat_dir\"",
            "did you mean state_dir?",
            "edge.yaml:3:8: url: scheme \"http\"",
            "edge.yaml:5:14: in_flight: \"many\"",
            "cloud has no device_key",
            "cloud has no device_secret",
            "did you mean strict?",
            "configuration has no state_dir",
        ] {
            assert!(faults.contains(expected), "{expected} is missing in\n{faults}");
        }
    }

    #[test]
    fn a_plain_broker_needs_no_secret_and_logs_nobody_in() {
        let text =
            "state_dir: s\ncloud: { url: \"tcp://[::1]:1883\", product_key: p, device_key: d, acknowledge: puback }\n";
        let cloud = read(text).unwrap().cloud.unwrap();
        assert_eq!((cloud.host.as_str(), cloud.port, cloud.tls.is_some()), ("::1", 1883, false));
        assert!(!cloud.sub_device_login);
    }

    #[test]
    fn every_key_is_documented() {
        let page = include_str!("../../docs/reference/edge-yaml.md");
        for key in all_keys() {
            assert!(page.contains(&format!("{key}:")), "docs/reference/edge-yaml.md does not show {key}");
        }
    }

    #[test]
    fn the_page_s_example_is_a_configuration() {
        let page = include_str!("../../docs/reference/edge-yaml.md");
        let example = page.split("```yaml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let faults = read(example).map(|_| ()).unwrap_err();
        // The secret's file is not on the machine that runs the test; nothing else may be wrong.
        assert!(
            faults.contains("device_secret_file") && faults.lines().filter(|l| l.contains(": ")).count() <= 3,
            "{faults}"
        );
    }
}
