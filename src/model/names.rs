//! PURE. What the small numbers of a reading stand for: devices and measurement points of one epoch.
//!
//! A reading in flight carries two numbers. They are indexes into the [`Names`] of the package that was
//! loaded when it was read; stored batches keep the epoch, so a package swap never moves a value to another point.

use super::late::LateRules;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// All devices of a loaded package. `epoch` is a digest of everything below it: equal names, equal epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    pub epoch: u64,
    pub devices: Vec<DeviceNames>,
    /// Points whose late readings go another way than the configuration says. Outbox files of before it existed do not
    /// hold it, and names without such points are stored as ever.
    #[serde(default, skip_serializing_if = "LateRules::is_empty")]
    pub late: LateRules,
}

/// One sub-device (or logic asset) and the points of its model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNames {
    /// The name people use.
    pub name: String,
    /// Empty for a logic asset.
    pub product_key: String,
    /// Empty for a logic asset.
    pub device_key: String,
    /// Needed for a logic asset, optional for a device.
    pub asset_id: Option<String>,
    /// Shared by all devices of one model.
    pub points: Arc<PointNames>,
}

/// The measurement points of one model, inherited ones first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointNames {
    pub model: String,
    pub points: Vec<PointName>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointName {
    pub id: String,
    /// Values of this point travel as `{"value":…,"quality":…}`.
    pub has_quality: bool,
}

/// Most characters a product key or device key may have.
pub const KEY_CHARS: usize = 64;

/// What a product key or device key may hold: Chinese characters, letters, digits, dash, underscore and period.
#[must_use]
pub fn fits_in_key(c: char) -> bool {
    // The blocks of Chinese characters in Unicode, extensions and compatibility forms included.
    let is_chinese = matches!(c, '\u{3007}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{323AF}');
    c.is_ascii_alphanumeric() || "-_.".contains(c) || is_chinese
}

impl Names {
    /// Names with their epoch: FNV-1a over the canonical JSON, so that it is the same on every machine.
    #[must_use]
    pub fn new(devices: Vec<DeviceNames>) -> Names {
        Names::with_late(devices, LateRules::new())
    }

    /// As [`Names::new`]. Rules are part of the epoch; without any it is what it was before there were rules.
    #[must_use]
    pub fn with_late(devices: Vec<DeviceNames>, late: LateRules) -> Names {
        let mut text = serde_json::to_vec(&devices).expect("names are plain strings");
        if !late.is_empty() {
            text.extend(serde_json::to_vec(&late).expect("rules are plain words"));
        }
        let epoch = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        // SQLite integers are signed; keep the epoch in their positive half.
        Names { epoch: epoch >> 1, devices, late }
    }

    /// Point name, if both indexes are of this epoch.
    #[must_use]
    pub fn point(&self, device: u32, point: u32) -> Option<&PointName> {
        self.devices.get(device as usize)?.points.points.get(point as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::late::LatePolicy;

    fn devices() -> Vec<DeviceNames> {
        let points = vec![PointName { id: "p".to_owned(), has_quality: false }];
        vec![DeviceNames {
            name: "Meter".to_owned(),
            product_key: "pk".to_owned(),
            device_key: "dk".to_owned(),
            asset_id: None,
            points: Arc::new(PointNames { model: "M".to_owned(), points }),
        }]
    }

    #[test]
    fn names_of_an_older_outbox_are_still_those_names() {
        let old = r#"{"epoch":6412786243944122781,"devices":[{"name":"Meter","product_key":"pk","device_key":"dk","asset_id":null,"points":{"model":"M","points":[{"id":"p","has_quality":false}]}}]}"#;
        let read: Names = serde_json::from_str(old).unwrap();
        assert_eq!(read, Names::new(devices()), "the epoch did not change either");
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
    }

    #[test]
    fn rules_make_another_epoch_and_survive_storing() {
        let rules = LateRules::from([("M".to_owned(), [(0, LatePolicy::Remove)].into())]);
        let names = Names::with_late(devices(), rules);
        assert_ne!(names.epoch, Names::new(devices()).epoch);
        let text = serde_json::to_string(&names).unwrap();
        assert!(text.contains(r#""late":{"M":{"0":"remove"}}"#), "{text}");
        assert_eq!(serde_json::from_str::<Names>(&text).unwrap(), names);
    }
}
