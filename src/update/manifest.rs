//! PURE. `update.yaml`: what an update file says of itself, and so what it is for.

use semver::Version;

/// Name of the manifest in an update file.
pub const FILE: &str = "update.yaml";
/// Name of the signature beside it.
pub const SIGNATURE: &str = "update.sig";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub kind: Kind,
    /// What the cloud is told when it runs. An engine's must be what the engine says of itself.
    pub version: Version,
    /// Path of the payload in the update file.
    pub payload: String,
    pub payload_bytes: u64,
    /// Lower-case hex.
    pub payload_sha256: String,
    /// The least version that may be replaced by it; `None`: any.
    pub replaces_from: Option<Version>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This program, for one of Debian's architectures: `amd64`, `arm64`, `armhf`.
    Engine { architecture: String },
    /// Something else: the name of a firmware target, and the sub-device when it is one's.
    Firmware { target: String, device: Option<String> },
}
