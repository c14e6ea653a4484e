//! `integration:` of `edge.yaml`: readings of logic assets to the cloud's REST interface.

use super::numbers::{seconds, whole};
use super::selection;
use crate::model::{AssetKind, Selection};
use crate::yaml::fields::{Faults, Fields};
use std::time::Duration;

/// How readings of logic assets travel. Where to and as whom stands in `rest:`.
#[derive(Clone, Debug)]
pub struct IntegrationConfig {
    /// Older readings are sent as late data.
    pub late_after: Duration,
    pub max_message_bytes: usize,
    /// Messages sent and not yet answered.
    pub in_flight: usize,
    /// Disk for what waits for this destination alone; `None`: as much as the outbox has.
    pub quota_bytes: Option<u64>,
    pub max_age: Option<Duration>,
    /// Only of logic assets, whatever else it says.
    pub selection: Selection,
}

impl Default for IntegrationConfig {
    fn default() -> IntegrationConfig {
        IntegrationConfig {
            late_after: Duration::from_secs(30),
            max_message_bytes: 256 << 10,
            in_flight: 4,
            quota_bytes: None,
            max_age: None,
            selection: Selection::of_kind(AssetKind::Logic),
        }
    }
}

pub(super) const KEYS: &[&str] = &["late_after_s", "max_message_kb", "in_flight", "quota_mb", "max_age_h", "filter"];

pub(super) fn read(fields: &Fields<'_, '_>, faults: &mut Faults) -> IntegrationConfig {
    let quota = fields.node("quota_mb").map(|_| whole(fields, "quota_mb", 256, 1..=10_000_000, faults) << 20);
    let max_age = fields.node("max_age_h").map(|_| whole(fields, "max_age_h", 720, 1..=876_000, faults) * 3600);
    let mut selection = selection::read(fields, faults);
    if selection.kind == Some(AssetKind::Device) {
        let place = fields.node("filter").map(|node| crate::yaml::fields::place(fields.file, node));
        let problem = "filter: the integration takes logic assets only";
        let fault = crate::diagnostic::Diagnostic::error(place.unwrap_or_else(|| fields.place.clone()), problem);
        faults.push(fault.help("leave kind out; devices travel over mqtt"));
    }
    selection.kind = Some(AssetKind::Logic);
    IntegrationConfig {
        late_after: seconds(fields, "late_after_s", 30, 1..=86_400, faults),
        max_message_bytes: whole(fields, "max_message_kb", 256, 4..=4096, faults) as usize * 1024,
        in_flight: whole(fields, "in_flight", 4, 1..=32, faults) as usize,
        quota_bytes: quota,
        max_age: max_age.map(Duration::from_secs),
        selection,
    }
}
