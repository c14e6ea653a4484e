//! PURE. The parts of a message that repeat, escaped once for each set of names.

use crate::model::{LatePolicy, Names, PointNames};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// All names of one epoch, as they stand in JSON.
#[derive(Debug)]
pub struct Keys {
    devices: Vec<DeviceKeys>,
    states_late: bool,
}

#[derive(Debug)]
struct DeviceKeys {
    /// `{"productKey":"pk","deviceKey":"dk","measurepoints":{`; nothing for a logic asset.
    opening: Option<Box<[u8]>>,
    points: Arc<PointKeys>,
}

/// `"id":` of every point of a model, in one piece of memory.
#[derive(Debug)]
struct PointKeys {
    text: Vec<u8>,
    /// Where each key ends, and whether its values carry a quality.
    ends: Vec<(u32, bool)>,
    /// Policies the model states, by point; empty when it states none.
    late: Box<[Option<LatePolicy>]>,
}

/// The key of one point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointKey<'a> {
    pub text: &'a [u8],
    pub has_quality: bool,
}

/// The keys of one device.
#[derive(Clone, Copy)]
pub struct Device<'a> {
    pub opening: &'a [u8],
    points: &'a PointKeys,
}

impl Keys {
    #[must_use]
    pub fn new(names: &Names) -> Keys {
        let mut models: HashMap<*const PointNames, Arc<PointKeys>> = HashMap::new();
        let devices =
            names
                .devices
                .iter()
                .map(|device| DeviceKeys {
                    opening: (!device.device_key.is_empty()).then(|| opening(&device.product_key, &device.device_key)),
                    points: Arc::clone(models.entry(Arc::as_ptr(&device.points)).or_insert_with(|| {
                        Arc::new(PointKeys::new(&device.points, names.late.get(&device.points.model)))
                    })),
                })
                .collect();
        Keys { devices, states_late: !names.late.is_empty() }
    }

    /// What the model states about late readings of this point.
    #[must_use]
    pub fn late(&self, device: u32, point: u32) -> Option<LatePolicy> {
        *self.devices.get(device as usize)?.points.late.get(point as usize)?
    }

    /// Whether any model states anything about late readings.
    #[must_use]
    pub fn states_late(&self) -> bool {
        self.states_late
    }

    /// `None` for an index of another epoch and for a logic asset.
    #[must_use]
    pub fn device(&self, device: u32) -> Option<Device<'_>> {
        let keys = self.devices.get(device as usize)?;
        Some(Device { opening: keys.opening.as_deref()?, points: &keys.points })
    }
}

impl<'a> Device<'a> {
    #[must_use]
    pub fn point(self, point: u32) -> Option<PointKey<'a>> {
        let index = point as usize;
        let (end, has_quality) = *self.points.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.points.ends[index - 1].0 };
        Some(PointKey { text: &self.points.text[start as usize..end as usize], has_quality })
    }
}

impl PointKeys {
    fn new(names: &PointNames, rules: Option<&BTreeMap<u32, LatePolicy>>) -> PointKeys {
        let mut text = Vec::new();
        let mut ends = Vec::with_capacity(names.points.len());
        for point in &names.points {
            put_text(&mut text, &point.id);
            text.push(b':');
            if point.has_quality {
                text.extend_from_slice(b"{\"value\":");
            }
            ends.push((u32::try_from(text.len()).expect("a package is far below 4 GiB"), point.has_quality));
        }
        text.shrink_to_fit();
        let late = rules.map_or_else(Box::default, |rules| {
            (0..).zip(&names.points).map(|(point, _)| rules.get(&point).copied()).collect()
        });
        PointKeys { text, ends, late }
    }
}

fn opening(product_key: &str, device_key: &str) -> Box<[u8]> {
    let mut text = b"{\"productKey\":".to_vec();
    put_text(&mut text, product_key);
    text.extend_from_slice(b",\"deviceKey\":");
    put_text(&mut text, device_key);
    text.extend_from_slice(b",\"measurepoints\":{");
    text.into_boxed_slice()
}

/// Appends a JSON string.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string always has a JSON form, and memory takes it");
}
