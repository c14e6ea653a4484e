//! `cloud:` of `edge.yaml`: the link to the EnOS Cloud, or to a plain broker that takes the same messages.

use super::address::{self, Address};
use super::numbers::{millis, seconds, whole};
use super::{Secret, SubDevicesConfig, secret, sub_devices};
use crate::diagnostic::Diagnostic;
use crate::yaml::fields::{Faults, Fields};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The connection to the EnOS Cloud, or to a plain broker that speaks its topics.
#[derive(Clone, Debug)]
pub struct CloudConfig {
    pub host: String,
    pub port: u16,
    pub tls: Option<TlsConfig>,
    pub product_key: String,
    pub device_key: String,
    /// `None` for a plain broker that takes anybody (`acknowledge: puback` only).
    pub device_secret: Option<Secret>,
    pub acknowledge: Acknowledge,
    /// False for a plain broker: no topology, no logins.
    pub sub_device_login: bool,
    pub sub_devices: SubDevicesConfig,
    pub keep_alive: Duration,
    /// How long the cloud may take to answer a request.
    pub reply_timeout: Duration,
    /// Older readings travel as late data (`measurepoint/resume`).
    pub late_after: Duration,
    /// How long live readings may wait for company. Fewer messages cost less.
    pub linger: Duration,
    /// Largest message; EnOS takes 512 KB.
    pub max_message_bytes: usize,
    /// Messages sent and not yet acknowledged.
    pub in_flight: usize,
    /// Backlog bytes a second; EnOS allows 1 MB/s for a device. `None`: as fast as it is acknowledged.
    pub backlog_bytes_per_second: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// PEM; `None` trusts the system's authorities.
    pub ca_file: Option<PathBuf>,
}

/// What lets a batch leave the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// The cloud's reply with code 200.
    Reply,
    /// The broker's PUBACK.
    Puback,
}

impl CloudConfig {
    /// All defaults, without TLS and without a secret.
    #[must_use]
    pub fn new(host: &str, port: u16, product_key: &str, device_key: &str) -> CloudConfig {
        CloudConfig {
            host: host.to_owned(),
            port,
            tls: None,
            product_key: product_key.to_owned(),
            device_key: device_key.to_owned(),
            device_secret: None,
            acknowledge: Acknowledge::Reply,
            sub_device_login: true,
            sub_devices: SubDevicesConfig::default(),
            keep_alive: Duration::from_secs(60),
            reply_timeout: Duration::from_secs(30),
            late_after: Duration::from_secs(30),
            linger: Duration::from_millis(20),
            max_message_bytes: 512 << 10,
            in_flight: 16,
            backlog_bytes_per_second: None,
        }
    }
}

pub(super) const KEYS: &[&str] = &[
    "url",
    "product_key",
    "device_key",
    "device_secret",
    "device_secret_file",
    "ca_file",
    "acknowledge",
    "sub_device_login",
    "sub_devices",
    "keep_alive_s",
    "reply_timeout_ms",
    "late_after_s",
    "linger_ms",
    "max_message_kb",
    "in_flight",
    "backlog_kb_per_s",
];

const ACKNOWLEDGE: &[(&str, Acknowledge)] = &[("reply", Acknowledge::Reply), ("puback", Acknowledge::Puback)];

/// Every key is looked at, whatever is missing.
pub(super) fn read(fields: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<CloudConfig> {
    let url = fields.required("url", faults);
    let address = url.as_ref().and_then(|url| address::mqtt(url, faults));
    let product_key = fields.required("product_key", faults);
    let device_key = fields.required("device_key", faults);
    let acknowledge = fields.word("acknowledge", ACKNOWLEDGE, faults).unwrap_or(Acknowledge::Reply);
    let device_secret = secret::read(fields, "device_secret", folder, faults);
    if device_secret.is_none() && acknowledge == Acknowledge::Reply {
        faults.push(Diagnostic::error(fields.place.clone(), "cloud has no device_secret").help(
            "name a file with `device_secret_file: …`; a plain broker without log-in wants `acknowledge: puback`",
        ));
    }
    let ca_file = fields.text("ca_file", faults);
    if let (Some(Address { secure: false, .. }), Some(ca)) = (&address, &ca_file) {
        faults.push(
            Diagnostic::error(ca.place.clone(), "ca_file has no use with tcp://")
                .help("write ssl:// in url to encrypt"),
        );
    }
    let sub_device_login = fields.flag("sub_device_login", acknowledge == Acknowledge::Reply, faults);
    let sub_devices = fields
        .node("sub_devices")
        .and_then(|node| Fields::open(fields.file, node, "sub_devices", sub_devices::KEYS, faults))
        .map(|fields| sub_devices::read(&fields, faults))
        .unwrap_or_default();
    let keep_alive = seconds(fields, "keep_alive_s", 60, 5..=300, faults);
    let reply_timeout = millis(fields, "reply_timeout_ms", 30_000, 500..=300_000, faults);
    let late_after = seconds(fields, "late_after_s", 30, 1..=86_400, faults);
    let linger = millis(fields, "linger_ms", 20, 0..=60_000, faults);
    let max_message_bytes = whole(fields, "max_message_kb", 512, 4..=512, faults) as usize * 1024;
    let in_flight = whole(fields, "in_flight", 16, 1..=100, faults) as usize;
    let paced = fields.node("backlog_kb_per_s").is_some();
    let pace = whole(fields, "backlog_kb_per_s", 1024, 1..=1_000_000, faults) * 1024;
    // Every key has been looked at; only now may a missing one end it.
    let Address { host, port, secure } = address?;
    Some(CloudConfig {
        host,
        port,
        tls: secure.then(|| TlsConfig { ca_file: ca_file.map(|ca| folder.join(ca.text)) }),
        product_key: product_key?.text,
        device_key: device_key?.text,
        device_secret,
        acknowledge,
        sub_device_login,
        sub_devices,
        keep_alive,
        reply_timeout,
        late_after,
        linger,
        max_message_bytes,
        in_flight,
        backlog_bytes_per_second: paced.then_some(pace),
    })
}
