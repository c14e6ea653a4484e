//! PURE. Sorts the readings of a batch by the channel they travel on, at the time they are sent.
//!
//! A reading is late by its own time. Clocks that are ahead make no reading late, whatever else is wrong with them.

use crate::cloud::upstream::keys::Keys;
use crate::model::{Batch, BatchBuilder, LatePolicy, Timestamp};

/// A batch by channels. A batch whose bytes are damaged stays whole; the encoder finds it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sorted {
    pub post: Option<Batch>,
    pub resume: Option<Batch>,
    /// Late readings of points that want none.
    pub removed: u32,
}

impl Sorted {
    fn whole(batch: &Batch, policy: LatePolicy) -> Sorted {
        match policy {
            LatePolicy::RealChannel => Sorted { post: Some(batch.clone()), ..Sorted::default() },
            LatePolicy::HisChannel => Sorted { resume: Some(batch.clone()), ..Sorted::default() },
            LatePolicy::Remove => Sorted { removed: batch.count, ..Sorted::default() },
        }
    }
}

/// `cut`: what is older is late. `default`: for points whose model states nothing.
pub(super) fn sort(batch: &Batch, keys: &Keys, cut: Timestamp, default: LatePolicy) -> Sorted {
    if batch.oldest >= cut {
        return Sorted::whole(batch, LatePolicy::RealChannel);
    }
    if batch.newest < cut && !keys.states_late() {
        return Sorted::whole(batch, default);
    }
    let (mut post, mut resume, mut removed) = (BatchBuilder::default(), BatchBuilder::default(), 0);
    for block in batch.blocks() {
        let Ok(block) = block else { return Sorted::whole(batch, LatePolicy::RealChannel) };
        let fresh = block.time >= cut;
        for entry in block.entries() {
            let Ok(entry) = entry else { return Sorted::whole(batch, LatePolicy::RealChannel) };
            let policy = if fresh { None } else { Some(keys.late(block.device, entry.point).unwrap_or(default)) };
            let builder = match policy {
                None | Some(LatePolicy::RealChannel) => &mut post,
                Some(LatePolicy::HisChannel) => &mut resume,
                Some(LatePolicy::Remove) => {
                    removed += 1;
                    continue;
                }
            };
            builder.begin(block.device, block.time);
            builder.push_ref(entry.point, entry.quality, entry.value);
        }
    }
    Sorted { post: post.finish(batch.epoch), resume: resume.finish(batch.epoch), removed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceNames, LateRules, Names, PointName, PointNames, Value};
    use std::sync::Arc;

    fn keys(rules: &[(u32, LatePolicy)]) -> Keys {
        let points = (0..3).map(|n| PointName { id: format!("p{n}"), has_quality: false }).collect();
        let device = DeviceNames {
            name: "d".to_owned(),
            product_key: "pk".to_owned(),
            device_key: "d".to_owned(),
            asset_id: None,
            points: Arc::new(PointNames { model: "M".to_owned(), points }),
        };
        let rules = LateRules::from([("M".to_owned(), rules.iter().copied().collect())]);
        Keys::new(&Names::with_late(vec![device], rules))
    }

    /// Three points at each of these times.
    fn batch(times: &[i64]) -> Batch {
        let mut builder = BatchBuilder::default();
        for time in times {
            builder.begin(0, Timestamp(*time));
            (0..3).for_each(|point| builder.push(point, 0, &Value::Int(*time)));
        }
        builder.finish(1).unwrap()
    }

    fn counts(sorted: &Sorted) -> (u32, u32, u32) {
        let count = |batch: &Option<Batch>| batch.as_ref().map_or(0, |batch| batch.count);
        (count(&sorted.post), count(&sorted.resume), sorted.removed)
    }

    #[test]
    fn each_reading_goes_by_its_own_time_and_its_points_policy() {
        let (none, own) = (keys(&[]), keys(&[(0, LatePolicy::RealChannel), (1, LatePolicy::Remove)]));
        let cut = Timestamp(100);
        let his = LatePolicy::HisChannel;
        for (times, keys, default, expected) in [
            (&[100, 200][..], &none, his, (6, 0, 0)),
            (&[99, 100], &none, his, (3, 3, 0)),
            (&[1, 99], &none, his, (0, 6, 0)),
            (&[1, 99], &none, LatePolicy::RealChannel, (6, 0, 0)),
            (&[1, 99], &none, LatePolicy::Remove, (0, 0, 6)),
            (&[1, 99], &own, his, (2, 2, 2)),
            (&[1, 99], &own, LatePolicy::Remove, (2, 0, 4)),
            (&[1, 100], &own, his, (4, 1, 1)),
            (&[i64::MAX], &own, LatePolicy::Remove, (3, 0, 0)),
        ] {
            assert_eq!(counts(&sort(&batch(times), keys, cut, default)), expected, "{times:?} {default:?}");
        }
    }

    #[test]
    fn damaged_bytes_stay_whole() {
        let mut bad = batch(&[1, 200]);
        bad.bytes = bad.bytes[..bad.bytes.len() - 1].into();
        let sorted = sort(&bad, &keys(&[(1, LatePolicy::Remove)]), Timestamp(100), LatePolicy::Remove);
        assert_eq!(sorted, Sorted { post: Some(bad), ..Sorted::default() });
    }
}
