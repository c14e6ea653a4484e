//! Reads `edge.yaml`: every fault at once, with its place.

use super::{Config, OutboxConfig, Overrides, cloud, outbox};
use crate::diagnostic::{Diagnostic, Place};
use crate::logs::LogFormat;
use crate::yaml::fields::{Faults, Fields};
use driver::Text;
use std::path::Path;
use std::sync::Arc;

/// A configuration is a page of text; anything larger is something else.
const SIZE_LIMIT: u64 = 1 << 20;

const KEYS: &[&str] = &["state_dir", "package", "control_socket", "cloud", "outbox", "log"];
const LOG_KEYS: &[&str] = &["level", "format"];

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
    [KEYS, cloud::KEYS, super::sub_devices::KEYS, outbox::KEYS, LOG_KEYS].into_iter().flatten().copied()
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
    let cloud = section(fields, "cloud", cloud::KEYS, faults).and_then(|fields| cloud::read(&fields, folder, faults));
    let outbox = match section(fields, "outbox", outbox::KEYS, faults) {
        Some(fields) => outbox::read(&fields, faults),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
