//! Gives samples of one point times that increase, against what the live table holds of it.

use super::connection::Line;
use crate::model::{Datum, Sample, Timestamp, order};

impl Line {
    /// Two scans may fall into one millisecond: a late one and the next, or a read on demand beside them. A sample older
    /// than `asked` has the time of its source; if it is what is known already, it is the same reading again.
    pub(super) fn put_in_order(&mut self, samples: &mut [Sample], asked: Timestamp) {
        self.state.scan = self.state.scan.wrapping_add(1);
        let scan = self.state.scan;
        let mut live = self.live.lock();
        for sample in samples {
            let at = sample.point as usize;
            let (Some(last), Some(mark)) = (live.points.get_mut(at), self.state.marks.get_mut(at)) else { continue };
            // Of what came just before in this batch only the time is known, so it is never taken for a repeat.
            let first = std::mem::replace(mark, scan) != scan;
            let repeat = first && sample.time < asked && sample.datum == last.datum;
            // What has no value is not sent; it only must not hide the time of the value before it.
            let repeat = repeat || matches!(sample.datum, Datum::Bad(_));
            sample.time = order::after(last.time, sample.time, repeat);
            last.time = sample.time;
        }
    }
}
