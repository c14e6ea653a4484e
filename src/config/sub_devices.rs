//! PURE. `sub_devices:` below `cloud:` of `edge.yaml`: how devices are brought under the gateway, and what of them is told.

use super::numbers::whole;
use crate::yaml::fields::{Faults, Fields};
use std::time::Duration;

/// How sub-devices are registered, added, logged in and out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubDevicesConfig {
    /// Devices a second, in requests of up to 200.
    pub login_rate: u32,
    /// A device silent in the field for so long is logged out. `None`: never.
    pub offline_after: Option<Duration>,
    /// Devices of the topology that the package does not have are taken out of it.
    pub remove_unknown: bool,
    /// Attributes and tags of the package are set in the cloud.
    pub publish_attributes: bool,
    /// Models are compared with the cloud's.
    pub check_models: bool,
    /// Which devices answer is told to the cloud.
    pub connection_state: bool,
}

impl Default for SubDevicesConfig {
    fn default() -> SubDevicesConfig {
        SubDevicesConfig {
            login_rate: 1000,
            offline_after: Some(Duration::from_secs(60)),
            remove_unknown: false,
            publish_attributes: false,
            check_models: false,
            connection_state: false,
        }
    }
}

pub(super) const KEYS: &[&str] =
    &["login_rate", "offline_after_s", "remove_unknown", "publish_attributes", "check_models", "connection_state"];

pub(super) fn read(fields: &Fields<'_, '_>, faults: &mut Faults) -> SubDevicesConfig {
    let offline_after = whole(fields, "offline_after_s", 60, 0..=86_400, faults);
    SubDevicesConfig {
        login_rate: u32::try_from(whole(fields, "login_rate", 1000, 1..=100_000, faults)).unwrap_or(u32::MAX),
        offline_after: (offline_after > 0).then(|| Duration::from_secs(offline_after)),
        remove_unknown: fields.flag("remove_unknown", false, faults),
        publish_attributes: fields.flag("publish_attributes", false, faults),
        check_models: fields.flag("check_models", false, faults),
        connection_state: fields.flag("connection_state", false, faults),
    }
}
