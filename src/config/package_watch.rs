//! PURE. `package_watch:` of `edge.yaml`: how long a new package is judged by the readings it brings, and how strictly.

use super::numbers::{seconds, whole};
use crate::yaml::fields::{Faults, Fields};
use std::time::Duration;

/// When a new package is taken back by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageWatchConfig {
    /// Zero: nobody watches.
    pub window: Duration,
    /// Per cent points by which the share of good values may fall.
    pub good_drop: u8,
    /// Per cent points by which the share of accepted readings may fall.
    pub accepted_drop: u8,
}

impl Default for PackageWatchConfig {
    fn default() -> PackageWatchConfig {
        PackageWatchConfig { window: Duration::from_secs(300), good_drop: 20, accepted_drop: 20 }
    }
}

pub(super) const KEYS: &[&str] = &["window_s", "good_drop_percent", "accepted_drop_percent"];

pub(super) fn read(fields: &Fields<'_, '_>, faults: &mut Faults) -> PackageWatchConfig {
    let mut percent = |key: &str| u8::try_from(whole(fields, key, 20, 1..=100, faults)).unwrap_or(100);
    let (good_drop, accepted_drop) = (percent("good_drop_percent"), percent("accepted_drop_percent"));
    PackageWatchConfig { window: seconds(fields, "window_s", 300, 0..=86_400, faults), good_drop, accepted_drop }
}
