//! What `edge.yaml` says, checked. Unknown keys are errors; behind this file nothing asks "is it empty?".

mod read;

use crate::diagnostic::Diagnostic;
pub use crate::model::Secret;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything the daemon writes lies below this folder.
    pub state_dir: PathBuf,
    /// The resource package: a folder or an archive.
    pub package: Option<PathBuf>,
    pub cloud: Option<CloudConfig>,
    pub outbox: OutboxConfig,
    /// The local door.
    pub control_socket: PathBuf,
    pub log_level: tracing::Level,
    pub log_format: crate::logs::LogFormat,
}

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub package: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
}

/// Reads and checks the file.
///
/// # Errors
/// Every fault of the file, each with its place.
pub fn read(path: &Path) -> Result<Config, Vec<Diagnostic>> {
    read::read(path, Overrides::default())
}

/// As [`read`], with the command line's word above the file's.
///
/// # Errors
/// Every fault of the file, each with its place.
pub fn read_with(path: &Path, overrides: Overrides) -> Result<Config, Vec<Diagnostic>> {
    read::read(path, overrides)
}

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

/// How readings are kept.
#[derive(Clone, Debug)]
pub struct OutboxConfig {
    pub durability: Durability,
    /// A reading is acknowledged or on disk within this time.
    pub bound: Duration,
    /// Bytes on disk, write-ahead log and free pages included.
    pub quota_bytes: u64,
    pub max_age: Duration,
    /// Bytes of free disk that are never used.
    pub disk_reserve_bytes: u64,
    /// Bytes of readings in memory, when the disk is stuck.
    pub memory_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Acknowledged or stored within the bound.
    Bounded,
    /// Stored before it is sent.
    Strict,
}

impl Default for OutboxConfig {
    fn default() -> OutboxConfig {
        OutboxConfig {
            durability: Durability::Bounded,
            bound: Duration::from_secs(1),
            quota_bytes: 1 << 30,
            max_age: Duration::from_secs(720 * 3600),
            disk_reserve_bytes: 64 << 20,
            memory_bytes: 8 << 20,
        }
    }
}
