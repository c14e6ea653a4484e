//! PURE. What a template says about firmware of its devices: how a file gets there, what is written around it, and which
//! points say what runs.

use super::control::Step;
use std::time::Duration;

/// Inputs that steps may take: bytes of the file, and its version.
pub const INPUT_SIZE: &str = "size";
pub const INPUT_VERSION: &str = "version";

#[derive(Clone, Debug, PartialEq)]
pub struct FirmwareRules {
    /// What the protocol was told of the transfer.
    pub transfer: Vec<(String, String)>,
    /// Written before the file, in order.
    pub before: Vec<Step>,
    /// Written when the device has the file: it begins to use it.
    pub after: Vec<Step>,
    /// Measurement points with the parts of the version; none: nobody can ask the device.
    pub version: Vec<u32>,
    /// How long after `after` the device may take to show the new version.
    pub version_within: Duration,
    /// How long the device may be silent before the update is given up.
    pub patience: Duration,
    /// Rest after each piece, for devices that burn it.
    pub pause: Duration,
}
