//! `cloud:` of `edge.yaml`: the link to the EnOS Cloud, or to a plain broker that takes the same messages.

use super::address::{self, Address};
use super::late_data::{self, LateDataConfig};
use super::numbers::{millis, seconds, whole};
use super::{ClientFiles, Secret, SubDevicesConfig, client_files, device_key, secret, sub_devices};
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
    /// The device's own. With none of the two it is a plain broker that takes anybody (`acknowledge: puback` only).
    pub device_secret: Option<Secret>,
    /// The product's, for dynamic activation: with it the cloud gives the device its own.
    pub product_secret: Option<Secret>,
    /// Mutual TLS with two files.
    pub client_files: Option<ClientFiles>,
    pub acknowledge: Acknowledge,
    /// False for a plain broker: no topology, no logins.
    pub sub_device_login: bool,
    pub sub_devices: SubDevicesConfig,
    pub keep_alive: Duration,
    /// How long the cloud may take to answer a request.
    pub reply_timeout: Duration,
    pub late_data: LateDataConfig,
    /// How long live readings may wait for company. Fewer messages cost less.
    pub linger: Duration,
    /// Largest message; EnOS takes 512 KB.
    pub max_message_bytes: usize,
    /// Messages sent and not yet acknowledged.
    pub in_flight: usize,
    /// Bytes a second of everything that is sent; EnOS allows 1 MB/s for a device. `None`: as fast as it is
    /// acknowledged.
    pub upstream_bytes_per_second: Option<u64>,
    /// A tighter bound for what waited. `None`: what live data leaves of `upstream_bytes_per_second`.
    pub backlog_bytes_per_second: Option<u64>,
    pub compress: Compress,
}

/// How payloads travel, both ways. An extra of the vendor's Java client that no documentation names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    #[default]
    None,
    Gzip,
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
            product_secret: None,
            client_files: None,
            acknowledge: Acknowledge::Reply,
            sub_device_login: true,
            sub_devices: SubDevicesConfig::default(),
            keep_alive: Duration::from_secs(60),
            reply_timeout: Duration::from_secs(30),
            late_data: LateDataConfig::default(),
            linger: Duration::from_millis(20),
            max_message_bytes: 512 << 10,
            in_flight: 16,
            upstream_bytes_per_second: Some(ENOS_UPSTREAM * KB),
            backlog_bytes_per_second: None,
            compress: Compress::None,
        }
    }
}

/// EnOS takes 1 MB/s from a device; which megabyte is not said, so the smaller one.
const ENOS_UPSTREAM: u64 = 1000;
const KB: u64 = 1000;

pub(super) const KEYS: &[&str] = &[
    "url",
    "product_key",
    "device_key",
    "device_key_file",
    "device_secret",
    "device_secret_file",
    "device_secret_credential",
    "product_secret",
    "product_secret_file",
    "product_secret_credential",
    "ca_file",
    "client_cert_file",
    "client_key_file",
    "acknowledge",
    "sub_device_login",
    "sub_devices",
    "keep_alive_s",
    "reply_timeout_ms",
    "late_data",
    late_data::OLD_KEY,
    "linger_ms",
    "max_message_kb",
    "in_flight",
    "upstream_kb_per_s",
    "backlog_kb_per_s",
    "compress",
];

const COMPRESS: &[(&str, Compress)] = &[("none", Compress::None), ("gzip", Compress::Gzip)];

const ACKNOWLEDGE: &[(&str, Acknowledge)] = &[("reply", Acknowledge::Reply), ("puback", Acknowledge::Puback)];

/// Every key is looked at, whatever is missing.
pub(super) fn read(fields: &Fields<'_, '_>, folder: &Path, faults: &mut Faults) -> Option<CloudConfig> {
    let url = fields.required("url", faults);
    let address = url.as_ref().and_then(|url| address::mqtt(url, faults));
    let product_key = fields.required("product_key", faults);
    let device_key = device_key::read(fields, folder, faults);
    let acknowledge = fields.word("acknowledge", ACKNOWLEDGE, faults).unwrap_or(Acknowledge::Reply);
    if acknowledge == Acknowledge::Reply {
        for key in ["product_key", "device_key"] {
            if let Some(text) = fields.node(key).and_then(|_| fields.text(key, &mut Faults::new())) {
                device_key::check(key, &text, faults);
            }
        }
    }
    let device_secret = secret::read(fields, "device_secret", folder, faults);
    let product_secret = secret::read(fields, "product_secret", folder, faults);
    let named = |key: &str| ["", "_file", "_credential"].iter().any(|f| fields.node(&format!("{key}{f}")).is_some());
    if !named("device_secret") && !named("product_secret") && acknowledge == Acknowledge::Reply {
        faults.push(Diagnostic::error(fields.place.clone(), "cloud has no device_secret").help(
            "name a file with `device_secret_file: …`, or with `product_secret_file: …` to be activated by the cloud; \
             a plain broker without log-in wants `acknowledge: puback`",
        ));
    }
    let ca_file = fields.text("ca_file", faults);
    if let (Some(Address { secure: false, .. }), Some(ca)) = (&address, &ca_file) {
        faults.push(
            Diagnostic::error(ca.place.clone(), "ca_file has no use with tcp://")
                .help("write ssl:// in url to encrypt"),
        );
    }
    let secure = address.as_ref().is_none_or(|address| address.secure);
    let client_files = client_files::read(fields, folder, secure, faults);
    let sub_device_login = fields.flag("sub_device_login", acknowledge == Acknowledge::Reply, faults);
    let sub_devices = fields
        .node("sub_devices")
        .and_then(|node| Fields::open(fields.file, node, "sub_devices", sub_devices::KEYS, faults))
        .map(|fields| sub_devices::read(&fields, faults))
        .unwrap_or_default();
    let keep_alive = seconds(fields, "keep_alive_s", 60, 5..=300, faults);
    let reply_timeout = millis(fields, "reply_timeout_ms", 30_000, 500..=300_000, faults);
    let late_data = late_data::read(fields, faults);
    let linger = millis(fields, "linger_ms", 20, 0..=60_000, faults);
    let max_message_bytes = whole(fields, "max_message_kb", 512, 4..=512, faults) as usize * 1024;
    let in_flight = whole(fields, "in_flight", 16, 1..=100, faults) as usize;
    let enos = if acknowledge == Acknowledge::Reply { ENOS_UPSTREAM } else { 0 };
    let upstream = whole(fields, "upstream_kb_per_s", enos, 0..=1_000_000, faults) * KB;
    let backlog = whole(fields, "backlog_kb_per_s", 0, 0..=1_000_000, faults) * KB;
    let compress = fields.word("compress", COMPRESS, faults).unwrap_or_default();
    // Every key has been looked at; only now may a missing one end it.
    let Address { host, port, secure } = address?;
    Some(CloudConfig {
        host,
        port,
        tls: secure.then(|| TlsConfig { ca_file: ca_file.map(|ca| folder.join(ca.text)) }),
        product_key: product_key?.text,
        device_key: device_key?,
        device_secret,
        product_secret,
        client_files,
        acknowledge,
        sub_device_login,
        sub_devices,
        keep_alive,
        reply_timeout,
        late_data,
        linger,
        max_message_bytes,
        in_flight,
        upstream_bytes_per_second: Some(upstream).filter(|rate| *rate > 0),
        backlog_bytes_per_second: Some(backlog).filter(|rate| *rate > 0),
        compress,
    })
}
