//! What `edge.yaml` says, checked. Unknown keys are errors; behind this file nothing asks "is it empty?".

mod address;
mod certificate;
mod client_files;
mod cloud;
mod commands;
mod destinations;
mod device_key;
mod doors;
mod fetch;
mod fetch_address;
mod integration;
mod late_data;
mod launch;
mod neighbours;
mod numbers;
mod outbox;
mod package_trust;
mod package_watch;
mod publish;
mod push;
mod read;
mod rest;
mod secret;
mod selection;
mod sub_devices;
mod subscribe;
pub mod template;
mod update;

pub use crate::model::Secret;
pub use address::host_and_port;
pub use certificate::{CertificateConfig, KeyType, Subject};
pub use client_files::ClientFiles;
pub use cloud::{Acknowledge, CloudConfig, Compress, TlsConfig};
pub use commands::CommandConfig;
pub use destinations::{DestinationConfig, Join, Payload};
pub use doors::{DoorConfig, Right};
pub use fetch::{Checksum, Places, SourceConfig, Trust, When};
pub use fetch_address::{Address, Scheme};
pub use integration::IntegrationConfig;
pub use late_data::{LateDataConfig, Order};
pub use launch::{LaunchConfig, launch};
pub use outbox::{Durability, OutboxConfig};
pub use package_trust::{PackageTrustConfig, RequireSignature};
pub use package_watch::PackageWatchConfig;
pub use publish::PublishConfig;
pub use push::PushConfig;
pub(crate) use read::STATE_DIR;
pub use rest::RestConfig;
pub use sub_devices::SubDevicesConfig;
pub use subscribe::{Pick, Subscription};
pub use update::{CONDITIONS as UPDATE_CONDITIONS, Pull, UTC, UpdateConfig, Window, ZONES};

use crate::diagnostic::Diagnostic;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything the daemon writes lies below this folder.
    pub state_dir: PathBuf,
    /// The resource package: a folder or an archive.
    pub package: Option<PathBuf>,
    /// Whose packages are taken.
    pub package_trust: PackageTrustConfig,
    /// How a new package is judged by its readings.
    pub package_watch: PackageWatchConfig,
    pub cloud: Option<CloudConfig>,
    /// The cloud's REST interface, for certificates and logic assets.
    pub rest: Option<RestConfig>,
    /// Readings of logic assets by REST; needs `rest`.
    pub integration: Option<IntegrationConfig>,
    /// Where packages are fetched.
    pub fetch: Vec<SourceConfig>,
    /// How the cloud says that there is one.
    pub publish: PublishConfig,
    /// The gateway takes packages that are pushed to it.
    pub push: Option<PushConfig>,
    /// Brokers beside the cloud.
    pub destinations: Vec<DestinationConfig>,
    /// Connections to the cloud's side through which the gateway is commanded, tested and watched.
    pub doors: Vec<DoorConfig>,
    /// How long readings wait for a clock that is not set.
    pub clock_wait: Duration,
    /// The gateway applies for its client certificate and renews it.
    pub certificate: Option<CertificateConfig>,
    pub outbox: OutboxConfig,
    pub commands: CommandConfig,
    /// How updates over the air are taken.
    pub update: UpdateConfig,
    /// The local door.
    pub control_socket: PathBuf,
    pub log_level: tracing::Level,
    pub log_format: crate::logs::LogFormat,
    /// What is wrong with the file and does not keep the daemon from starting.
    pub warnings: Vec<Diagnostic>,
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

/// As much of the file as can be read, for somebody who looks at what is wrong: secrets may be missing. With all its
/// faults; warnings are in the configuration.
#[must_use]
pub fn look(path: &Path) -> (Option<Config>, Vec<Diagnostic>) {
    read::look(path)
}

/// The local door alone: whoever asks at it need not be able to read the secrets that the file names.
///
/// # Errors
/// When the file can not be read, or does not say.
pub fn control_socket(path: &Path) -> Result<PathBuf, Vec<Diagnostic>> {
    read::control_socket(path)
}

/// The state folder alone, for whoever only looks into it.
///
/// # Errors
/// When the file can not be read, or does not say.
pub fn state_dir(path: &Path) -> Result<PathBuf, Vec<Diagnostic>> {
    read::state_dir(path)
}
