//! Reads `edge.yaml`: every fault at once, with its place.

use super::{
    CertificateConfig, CommandConfig, Config, OutboxConfig, Overrides, certificate, cloud, commands, destinations,
    fetch, integration, outbox, push, rest,
};
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::logs::LogFormat;
use crate::yaml::fields::{Faults, Fields};
use driver::Text;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A configuration is a page of text; anything larger is something else.
const SIZE_LIMIT: u64 = 1 << 20;

pub(super) const KEYS: &[&str] = &[
    // One a line, so that sections can be added side by side.
    "state_dir",
    "package",
    "package_trust",
    "package_watch",
    "control_socket",
    "cloud",
    "rest",
    "integration",
    "fetch",
    "publish",
    "push",
    "certificate",
    "destinations",
    "doors",
    "clock",
    "outbox",
    "commands",
    "update",
    "log",
];
/// Where the door is unless the file says otherwise.
const SOCKET: &str = "control.sock";
/// Where systemd keeps the door (packaging/systemd/enos-edge.socket) of a gateway that has its state where a package puts it.
const KEPT_DOOR: &str = "/run/enos-edge/control.sock";
/// Where the state lies unless the file says otherwise.
/// Where the package has it, and where it is when nothing else is written.
pub(crate) const STATE_DIR: &str = "/var/lib/enos-edge";
const LOG_KEYS: &[&str] = &["level", "format"];
const CLOCK_KEYS: &[&str] = &["wait_min"];
/// A year: as good as for ever.
const CLOCK_WAIT_MIN: u64 = 525_600;

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
    let sections = [
        KEYS,
        cloud::KEYS,
        // One a line, so that sections can be added side by side.
        super::late_data::KEYS,
        super::sub_devices::KEYS,
        rest::KEYS,
        integration::KEYS,
        fetch::KEYS,
        super::publish::KEYS,
        push::KEYS,
        super::selection::KEYS,
        certificate::KEYS,
        destinations::KEYS,
        super::doors::KEYS,
        CLOCK_KEYS,
        super::subscribe::KEYS,
        outbox::KEYS,
        super::package_trust::KEYS,
        commands::KEYS,
        super::package_watch::KEYS,
        super::update::KEYS,
        super::update::WINDOW_KEYS,
        LOG_KEYS,
    ];
    sections.into_iter().flatten().copied()
}

/// Reads and checks the file.
pub(super) fn read(path: &Path, overrides: Overrides) -> Result<Config, Vec<Diagnostic>> {
    let file: Arc<str> = path.display().to_string().into();
    let text = text(path, &file)?;
    parse(&file, folder(path), &text, overrides)
}

/// As much as can be read, and every fault.
pub(super) fn look(path: &Path) -> (Option<Config>, Vec<Diagnostic>) {
    let file: Arc<str> = path.display().to_string().into();
    let text = match text(path, &file) {
        Ok(text) => text,
        Err(faults) => return (None, faults),
    };
    let (node, mut faults) = document(&file, &text);
    let fields = node.as_ref().and_then(|node| Fields::open(&file, node, "configuration", KEYS, &mut faults));
    let config = fields.and_then(|fields| config(&fields, folder(path), Overrides::default(), &mut faults));
    let (faults, warnings) = faults.finish().into_iter().partition(|fault| fault.severity == Severity::Error);
    (config.map(|config| Config { warnings, ..config }), faults)
}

/// The door only; faults elsewhere in the file do not matter.
pub(super) fn control_socket(path: &Path) -> Result<PathBuf, Vec<Diagnostic>> {
    let file: Arc<str> = path.display().to_string().into();
    let text = text(path, &file)?;
    let (node, mut faults) = document(&file, &text);
    let fields = node.as_ref().and_then(|node| Fields::open(&file, node, "configuration", KEYS, &mut Faults::new()));
    let socket = fields.and_then(|fields| match fields.text("control_socket", &mut faults) {
        Some(socket) => Some(folder(path).join(socket.text)),
        None => Some(door(&state_dir_of(&fields, folder(path), &mut faults)?)),
    });
    socket.ok_or_else(|| faults.finish())
}

/// The state folder only; faults elsewhere in the file do not matter.
pub(super) fn state_dir(path: &Path) -> Result<PathBuf, Vec<Diagnostic>> {
    let file: Arc<str> = path.display().to_string().into();
    let text = text(path, &file)?;
    let (node, mut faults) = document(&file, &text);
    let fields = node.as_ref().and_then(|node| Fields::open(&file, node, "configuration", KEYS, &mut Faults::new()));
    let dir = fields.and_then(|fields| state_dir_of(&fields, folder(path), &mut faults));
    dir.ok_or_else(|| faults.finish())
}

pub(super) fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

pub(super) fn text(path: &Path, file: &Arc<str>) -> Result<String, Vec<Diagnostic>> {
    let whole = |problem: String| vec![Diagnostic::error(Place::new(file, 0, 0), problem)];
    let size = std::fs::metadata(path).map_err(|e| whole(format!("can not be read: {e}")))?.len();
    if size > SIZE_LIMIT {
        return Err(whole(format!("{size} bytes are more than a configuration has")));
    }
    std::fs::read_to_string(path).map_err(|e| whole(format!("can not be read: {e}")))
}

/// Relative paths count from `folder`, where the file lies.
fn parse(file: &Arc<str>, folder: &Path, text: &str, overrides: Overrides) -> Result<Config, Vec<Diagnostic>> {
    let (node, mut faults) = document(file, text);
    let Some(node) = node else { return Err(faults.finish()) };
    let Some(fields) = Fields::open(file, &node, "configuration", KEYS, &mut faults) else {
        return Err(faults.finish());
    };
    let config = config(&fields, folder, overrides, &mut faults);
    match config {
        Some(config) if faults.errors() == 0 => Ok(Config { warnings: faults.finish(), ..config }),
        _ => Err(faults.finish()),
    }
}

/// The tree of the file. One with comments only is a configuration of defaults.
pub(super) fn document<'t>(file: &Arc<str>, text: &'t str) -> (Option<crate::yaml::Node<'t>>, Faults) {
    let (node, found) = crate::yaml::parse(file, text);
    match node {
        None if found.is_empty() => document(file, "{}"),
        node => (node, Faults::from(found)),
    }
}

/// Nothing when it is said in a way that can not be understood.
pub(super) fn state_dir_of(fields: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<PathBuf> {
    match fields.node("state_dir") {
        Some(_) => fields.text("state_dir", faults).map(|text| folder.join(text.text)),
        None => Some(PathBuf::from(STATE_DIR)),
    }
}

fn door(state_dir: &Path) -> PathBuf {
    if state_dir == Path::new(STATE_DIR) { PathBuf::from(KEPT_DOOR) } else { state_dir.join(SOCKET) }
}

fn config(fields: &Fields<'_, '_>, folder: &Path, overrides: Overrides, faults: &mut Faults) -> Option<Config> {
    let path = |text: Text| folder.join(text.text);
    let state_dir = match overrides.state_dir {
        Some(dir) => Some(dir),
        None => state_dir_of(fields, folder, faults),
    };
    let package = overrides.package.or_else(|| fields.text("package", faults).map(path));
    let socket = fields.text("control_socket", faults).map(path);
    let cloud = section(fields, "cloud", cloud::KEYS, faults).and_then(|fields| cloud::read(&fields, folder, faults));
    let rest = section(fields, "rest", rest::KEYS, faults).and_then(|fields| rest::read(&fields, folder, faults));
    let integration = section(fields, "integration", integration::KEYS, faults).map(|section| {
        if fields.node("rest").is_none() {
            let problem = "integration has no rest: to say where the cloud is and who asks";
            faults.push(Diagnostic::error(section.place.clone(), problem).help("write `rest:` with url and account"));
        }
        integration::read(&section, faults)
    });
    // A cloud with faults is a cloud all the same.
    let key = cloud.as_ref().map_or("", |cloud| cloud.device_key.as_str());
    let gateway = fields.node("cloud").is_some().then_some(key);
    let sources = fetch::read(fields, folder, faults);
    let publish = section(fields, "publish", super::publish::KEYS, faults)
        .map(|section| super::publish::read(&section, faults))
        .unwrap_or_default();
    let push = section(fields, "push", push::KEYS, faults).and_then(|section| push::read(&section, folder, faults));
    let destinations = destinations::read(fields, folder, gateway, faults);
    let taken: Vec<&str> = destinations.iter().map(|one| one.name.as_str()).collect();
    let doors = super::doors::read(fields, folder, &taken, faults);
    let certificate = certificate(fields, folder, faults);
    let outbox = match section(fields, "outbox", outbox::KEYS, faults) {
        Some(fields) => outbox::read(&fields, faults),
        None => OutboxConfig::default(),
    };
    let commands = match section(fields, "commands", commands::KEYS, faults) {
        Some(fields) => commands::read(&fields, faults),
        None => CommandConfig::default(),
    };
    let package_trust = section(fields, "package_trust", super::package_trust::KEYS, faults)
        .map(|fields| super::package_trust::read(&fields, folder, faults));
    let package_watch = match section(fields, "package_watch", super::package_watch::KEYS, faults) {
        Some(fields) => super::package_watch::read(&fields, faults),
        None => super::PackageWatchConfig::default(),
    };
    let update = match section(fields, "update", super::update::KEYS, faults) {
        Some(fields) => super::update::read(&fields, folder, faults),
        None => super::UpdateConfig::default(),
    };
    let clock = section(fields, "clock", CLOCK_KEYS, faults);
    let clock_wait = clock.map_or(CLOCK_WAIT_MIN, |clock| {
        super::numbers::whole(&clock, "wait_min", CLOCK_WAIT_MIN, 0..=CLOCK_WAIT_MIN, faults)
    });
    let log = section(fields, "log", LOG_KEYS, faults);
    let (log_level, log_format) = match &log {
        Some(log) => (log.word("level", LEVELS, faults), log.word("format", FORMATS, faults)),
        None => (None, None),
    };
    let state_dir = state_dir?;
    Some(Config {
        control_socket: socket.unwrap_or_else(|| door(&state_dir)),
        state_dir,
        package,
        package_trust: package_trust.unwrap_or_default(),
        package_watch,
        cloud,
        rest,
        integration,
        fetch: sources,
        publish,
        push,
        destinations,
        doors,
        clock_wait: std::time::Duration::from_secs(clock_wait * 60),
        certificate,
        outbox,
        commands,
        update,
        log_level: log_level.unwrap_or(tracing::Level::INFO),
        log_format: log_format.unwrap_or_default(),
        warnings: Vec::new(),
    })
}

/// It is applied for over REST and shown in TLS, and two files of somebody else's exclude it.
fn certificate(fields: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<CertificateConfig> {
    let own = section(fields, "certificate", certificate::KEYS, faults)?;
    let config = certificate::read(&own, folder, faults);
    let mut complain = |problem: &str, help: &str| {
        faults.push(Diagnostic::error(own.place.clone(), format!("certificate {problem}")).help(help));
    };
    if fields.node("rest").is_none() {
        complain("is applied for over REST, and there is no section rest", "add `rest:` with url, account and org_id");
    }
    let mut unheeded = Faults::from(Vec::new());
    let cloud =
        fields.node("cloud").and_then(|node| Fields::open(fields.file, node, "cloud", cloud::KEYS, &mut unheeded));
    match cloud {
        None => complain("has no use without a section cloud", "add `cloud:` with an address ssl://…"),
        Some(cloud) => {
            if cloud
                .text("url", &mut unheeded)
                .is_some_and(|url| url.text.starts_with("tcp:") || url.text.starts_with("mqtt:"))
            {
                complain("has no use with tcp://", "write ssl:// in the url of cloud");
            }
            if cloud.node("client_cert_file").is_some() {
                complain("and client_cert_file exclude each other", "keep one of them");
            }
        }
    }
    Some(config)
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
mod tests;
