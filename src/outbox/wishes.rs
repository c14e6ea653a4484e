//! PURE. Which destinations want which readings: decided once for the names of an epoch, then looked up by number.
//!
//! A destination is a bit. Each device has a row of the table, shared by all devices that are treated alike: one mask
//! for all of its points, or one mask a point.

use super::destination::Facts;
use crate::model::{Batch, DeviceNames, Names, Selection, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Tables kept, by epoch: the running one, those of stored readings that are read back.
const KEPT: usize = 4;

/// The bit of a destination.
#[must_use]
pub fn bit(destination: usize) -> u64 {
    1 << destination
}

/// The table of one epoch.
#[derive(Debug)]
pub struct Wishes {
    destinations: usize,
    everyone: u64,
    /// Device -> row. Empty when everybody wants everything.
    devices: Vec<u32>,
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Eq, Hash, Clone)]
enum Row {
    Whole(u64),
    Points(Vec<u64>),
}

/// What one destination wants of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub readings: u32,
    pub oldest: Timestamp,
    pub newest: Timestamp,
}

impl Share {
    const NOTHING: Share = Share { readings: 0, oldest: Timestamp(i64::MAX), newest: Timestamp(i64::MIN) };

    fn add(&mut self, readings: u32, at: Timestamp) {
        self.readings += readings;
        self.oldest = self.oldest.min(at);
        self.newest = self.newest.max(at);
    }
}

/// Who wants how much of one batch.
#[derive(Clone, Debug)]
pub struct Census {
    /// Readings that somebody wants.
    pub any: u32,
    pub wanted_by: u64,
    bytes: usize,
    shares: Shares,
}

#[derive(Clone, Debug)]
enum Shares {
    /// All of it, for each that is in `wanted_by`.
    Alike(Share),
    Each(Box<[Share]>),
}

impl Census {
    /// So many destinations want all of it.
    #[must_use]
    pub fn whole(batch: &Batch, wanted_by: u64) -> Census {
        let share = Share { readings: batch.count, oldest: batch.oldest, newest: batch.newest };
        let any = if wanted_by == 0 { 0 } else { batch.count };
        Census { any, wanted_by, bytes: batch.bytes.len(), shares: Shares::Alike(share) }
    }

    /// For those in the mask only: the others had no need of it when it was stored, or have it.
    #[must_use]
    pub fn among(self, mask: u64) -> Census {
        Census { wanted_by: self.wanted_by & mask, ..self }
    }

    #[must_use]
    pub fn is_wanted_by(&self, destination: usize) -> bool {
        self.wanted_by & bit(destination) != 0
    }

    #[must_use]
    pub fn share(&self, destination: usize) -> Share {
        match &self.shares {
            _ if !self.is_wanted_by(destination) => Share::NOTHING,
            Shares::Alike(share) => *share,
            Shares::Each(shares) => shares[destination],
        }
    }

    /// What must be known of the parcel `seq` to account for it at one destination.
    #[must_use]
    pub fn facts(&self, seq: u64, destination: usize) -> Facts {
        let Share { readings, oldest, newest } = self.share(destination);
        let (readings, any) = (u64::from(readings), u64::from(self.any));
        Facts { seq, readings, any, wanted_by: self.wanted_by, bytes: self.bytes, oldest, newest }
    }
}

impl Wishes {
    #[must_use]
    pub fn new(selections: &[Selection], names: &Names) -> Wishes {
        let everyone = everyone(selections.len());
        let mut wishes = Wishes { destinations: selections.len(), everyone, devices: Vec::new(), rows: Vec::new() };
        if selections.iter().all(|selection| *selection == Selection::default()) {
            return wishes;
        }
        let mut known: HashMap<(&str, usize, u64), u32> = HashMap::new();
        for device in &names.devices {
            let takes = |(i, selection): (usize, &Selection)| if selection.takes_device(device) { bit(i) } else { 0 };
            let of_device = selections.iter().enumerate().map(takes).fold(0, |mask, bit| mask | bit);
            // A model has one list of points in an epoch; its length is in the key should it ever have two.
            let key = (device.points.model.as_str(), device.points.points.len(), of_device);
            let row = *known.entry(key).or_insert_with(|| {
                wishes.rows.push(row(selections, device, of_device));
                u32::try_from(wishes.rows.len() - 1).expect("fewer rows than devices")
            });
            wishes.devices.push(row);
        }
        wishes
    }

    /// The destinations that want this reading. What the package does not know is everybody's: each tells that it can
    /// not be sent.
    #[must_use]
    pub fn of(&self, device: u32, point: u32) -> u64 {
        match self.row(device) {
            Some(Row::Whole(mask)) => *mask,
            Some(Row::Points(points)) => points.get(point as usize).copied().unwrap_or(self.everyone),
            None => self.everyone,
        }
    }

    fn row(&self, device: u32) -> Option<&Row> {
        self.devices.get(device as usize).map(|row| &self.rows[*row as usize])
    }

    /// Counts a batch. Bytes that are no batch are wanted whole, so that somebody finds out.
    #[must_use]
    pub fn census(&self, batch: &Batch) -> Census {
        if self.devices.is_empty() {
            return Census::whole(batch, self.everyone);
        }
        let mut shares = vec![Share::NOTHING; self.destinations].into_boxed_slice();
        let Some(any) = self.count(batch, &mut shares) else { return Census::whole(batch, self.everyone) };
        let wanted_by = shares.iter().enumerate().filter(|(_, s)| s.readings > 0).fold(0, |mask, (i, _)| mask | bit(i));
        if shares.iter().all(|s| s.readings == 0 || s.readings == batch.count) {
            return Census::whole(batch, wanted_by);
        }
        Census { any, wanted_by, bytes: batch.bytes.len(), shares: Shares::Each(shares) }
    }

    fn count(&self, batch: &Batch, shares: &mut [Share]) -> Option<u32> {
        let mut any = 0;
        for block in batch.blocks() {
            let block = block.ok()?;
            let mut add = |mask: u64, readings: u32| {
                any += if mask == 0 { 0 } else { readings };
                let mut left = mask;
                while left != 0 {
                    shares[left.trailing_zeros() as usize].add(readings, block.time);
                    left &= left - 1;
                }
            };
            match self.row(block.device) {
                Some(Row::Whole(mask)) => add(*mask, block.count),
                Some(Row::Points(_)) => {
                    for entry in block.entries() {
                        add(self.of(block.device, entry.ok()?.point), 1);
                    }
                }
                None => add(self.everyone, block.count),
            }
        }
        Some(any)
    }

    /// What a destination gets of a batch: all of it, a part, or nothing.
    #[must_use]
    pub fn cut(&self, census: &Census, destination: usize, batch: &Batch) -> Option<Batch> {
        match census.share(destination).readings {
            0 => None,
            all if all == batch.count => Some(batch.clone()),
            _ => {
                let wanted = batch.filter(|device, _, entry| self.of(device, entry.point) & bit(destination) != 0);
                wanted.unwrap_or_else(|_| Some(batch.clone()))
            }
        }
    }
}

fn row(selections: &[Selection], device: &DeviceNames, of_device: u64) -> Row {
    let mask = |id: &str| {
        let takes = |(i, s): (usize, &Selection)| if of_device & bit(i) != 0 && s.takes_point(id) { bit(i) } else { 0 };
        selections.iter().enumerate().map(takes).fold(0, |mask, bit| mask | bit)
    };
    let points: Vec<u64> = device.points.points.iter().map(|point| mask(&point.id)).collect();
    match points.first() {
        None => Row::Whole(of_device),
        Some(first) if points.iter().all(|mask| mask == first) => Row::Whole(*first),
        Some(_) => Row::Points(points),
    }
}

fn everyone(destinations: usize) -> u64 {
    u64::MAX.checked_shr(u32::try_from(64 - destinations).expect("at most 64 destinations")).unwrap_or(0)
}

/// Makes tables, and keeps those used last.
#[derive(Debug)]
pub struct Judge {
    selections: Arc<[Selection]>,
    tables: VecDeque<(u64, Arc<Wishes>)>,
}

impl Judge {
    #[must_use]
    pub fn new(selections: Arc<[Selection]>) -> Judge {
        Judge { selections, tables: VecDeque::new() }
    }

    /// The table for the names of an epoch.
    pub fn wishes(&mut self, names: &Names) -> Arc<Wishes> {
        if let Some((_, wishes)) = self.tables.iter().find(|(epoch, _)| *epoch == names.epoch) {
            return wishes.clone();
        }
        let wishes = Arc::new(Wishes::new(&self.selections, names));
        self.tables.push_back((names.epoch, wishes.clone()));
        if self.tables.len() > KEPT {
            self.tables.pop_front();
        }
        wishes
    }

    /// Everybody wants everything, whatever its names.
    #[must_use]
    pub fn is_indifferent(&self) -> bool {
        self.selections.iter().all(|selection| *selection == Selection::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AssetKind, BatchBuilder, Glob, PointName, PointNames, Value};
    use proptest::prelude::*;

    fn names(devices: &[(&str, &str)]) -> Names {
        let points = (0..6).map(|i| PointName { id: format!("p{i}"), has_quality: false }).collect();
        let points = Arc::new(PointNames { model: "M".into(), points });
        let device = |(name, key): &(&str, &str)| DeviceNames {
            name: (*name).into(),
            product_key: (*key).into(),
            device_key: (*key).into(),
            asset_id: None,
            points: points.clone(),
        };
        Names::new(devices.iter().map(device).collect())
    }

    fn selections() -> Vec<Selection> {
        let globs = |text: &str| vec![Glob::new(text)];
        vec![
            Selection::of_kind(AssetKind::Device),
            Selection::of_kind(AssetKind::Logic),
            Selection { points: globs("p[0]"), ..Selection::default() },
            Selection { devices: globs("a*"), points: vec![Glob::new("p1"), Glob::new("p3")], ..Selection::default() },
            Selection::default(),
        ]
    }

    #[test]
    fn sixty_four_destinations_are_bits_of_a_number() {
        assert_eq!((everyone(64), everyone(1), everyone(0)), (u64::MAX, 1, 0));
    }

    proptest! {
        #[test]
        fn counting_and_cutting_say_what_the_selections_say(
            readings in prop::collection::vec((0u32..4, 0i64..5, 0u32..7), 1..60), without_last in any::<bool>(),
        ) {
            let names = names(&[("a1", "k"), ("a2", ""), ("b", "k"), ("c", "")]);
            let mut selections = selections();
            if without_last {
                selections.pop();
            }
            let wishes = Wishes::new(&selections, &names);
            let mut builder = BatchBuilder::default();
            for (device, time, point) in &readings {
                builder.begin(*device, Timestamp(*time));
                builder.push(*point, 0, &Value::Int(1));
            }
            let batch = builder.finish(names.epoch).unwrap();
            let wants = |s: &Selection, device: u32, point: u32| {
                let of = &names.devices[device as usize];
                let point = of.points.points.get(point as usize);
                point.is_none_or(|p| s.takes_device(of) && s.takes_point(&p.id))
            };
            // A point the package does not know is everybody's, unless its whole device is of one kind.
            let census = wishes.census(&batch);
            for (i, selection) in selections.iter().enumerate() {
                let known: Vec<_> = readings.iter().filter(|(_, _, p)| *p < 6).collect();
                let expected: Vec<(u32, i64, u32)> =
                    known.iter().filter(|(d, _, p)| wants(selection, *d, *p)).map(|r| **r).collect();
                let mut got = Vec::new();
                let cut = wishes.cut(&census, i, &batch);
                prop_assert_eq!(cut.as_ref().map_or(0, |b| b.count), census.share(i).readings);
                for block in cut.iter().flat_map(Batch::blocks).map(Result::unwrap) {
                    got.extend(block.entries().map(|e| (block.device, block.time.0, e.unwrap().point)));
                }
                if let Some(cut) = &cut {
                    let share = census.share(i);
                    prop_assert_eq!((cut.oldest, cut.newest), (share.oldest, share.newest));
                }
                got.retain(|(_, _, p)| *p < 6);
                prop_assert_eq!(got, expected);
            }
            let any = readings.iter().filter(|(d, _, p)| wishes.of(*d, *p) != 0).count();
            prop_assert_eq!(census.any as usize, any);
        }
    }
}
