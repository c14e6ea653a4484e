//! PURE. What is known of one point of one device.

use super::runs::{Hole, Runs};
use super::times::Bits;

/// One point's record.
#[derive(Debug, Default)]
pub struct Track {
    pub id: String,
    seen: Bits,
    /// Times that came again. Empty, and free, as long as none did.
    again: Bits,
    counter: Option<Counter>,
    pub last: Option<Last>,
}

/// The newest value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Last {
    pub time: i64,
    /// `NaN` for what is no number.
    pub value: f64,
}

/// A point whose source counts: each reading is the one before plus one.
#[derive(Debug)]
struct Counter {
    /// Counts go from 0 to `span - 1` and start again.
    span: i64,
    runs: Runs,
    /// The last value the source says it gave out.
    produced: Option<i64>,
}

/// How often a value was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    Never,
    Once,
    Twice,
}

/// What one delivery turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    New,
    /// This point had this time before.
    Duplicate,
    /// A count that came before, under another time: the value is not of that time.
    Repeated,
}

impl Track {
    #[must_use]
    pub fn new(id: &str) -> Track {
        Track { id: id.to_owned(), ..Track::default() }
    }

    pub fn counts(&mut self, span: u32) {
        self.counter = Some(Counter { span: span.into(), runs: Runs::default(), produced: None });
    }

    pub fn record(&mut self, slot: u32, time: i64, value: f64) -> Verdict {
        if self.last.is_none_or(|last| last.time <= time) {
            self.last = Some(Last { time, value });
        }
        if !self.seen.set(slot) {
            self.again.set(slot);
            return Verdict::Duplicate;
        }
        let is_next = self.counter.as_mut().is_none_or(|counter| counter.take(value, time));
        if is_next { Verdict::New } else { Verdict::Repeated }
    }

    #[must_use]
    pub fn received(&self, slot: u32) -> Received {
        match (self.seen.get(slot), self.again.get(slot)) {
            (_, true) => Received::Twice,
            (true, false) => Received::Once,
            (false, false) => Received::Never,
        }
    }

    /// The source's own word on the last count it gave out.
    pub fn settle(&mut self, produced: u64) {
        if let Some(counter) = self.counter.as_mut() {
            let near = counter.unwrap_near(i64::try_from(produced).unwrap_or(i64::MAX));
            counter.produced = Some(near);
        }
    }

    pub fn holes(&self) -> impl Iterator<Item = Hole> + '_ {
        self.counter.iter().flat_map(|counter| counter.runs.holes(counter.produced))
    }

    #[must_use]
    pub fn is_counter(&self) -> bool {
        self.counter.is_some()
    }
}

impl Counter {
    fn take(&mut self, value: f64, time: i64) -> bool {
        if value.fract() != 0.0 || value < 0.0 {
            return false;
        }
        let number = self.unwrap_near(value as i64);
        self.runs.insert(number, time)
    }

    /// A counter of 16 bits wraps; the number meant is the one nearest to the newest.
    fn unwrap_near(&self, value: i64) -> i64 {
        let Some(newest) = self.runs.last() else { return value.rem_euclid(self.span) };
        let behind = (newest - value).rem_euclid(self.span);
        if behind <= self.span / 2 { newest - behind } else { newest + self.span - behind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(values: &[(i64, f64)]) -> (Track, Vec<Verdict>) {
        let mut track = Track::default();
        track.counts(1 << 16);
        let verdicts = values.iter().map(|(time, value)| track.record(*time as u32, *time, *value)).collect();
        (track, verdicts)
    }

    #[test]
    fn a_missing_count_is_a_hole_with_its_times() {
        let (track, _) = track(&[(0, 10.0), (1, 11.0), (2, 14.0)]);
        assert_eq!(track.holes().collect::<Vec<_>>(), [Hole { first: 12, last: 13, after: 1, before: Some(2) }]);
    }

    #[test]
    fn a_counter_may_wrap_and_come_out_of_order() {
        let (track, verdicts) = track(&[(0, 65534.0), (3, 1.0), (1, 65535.0), (2, 0.0), (4, 2.0)]);
        assert_eq!(track.holes().count(), 0);
        assert!(verdicts.iter().all(|v| *v == Verdict::New));
    }

    #[test]
    fn the_same_time_is_a_duplicate_and_the_same_count_a_wrong_value() {
        let (_, verdicts) = track(&[(0, 5.0), (0, 5.0), (1, 5.0), (2, 6.5)]);
        assert_eq!(verdicts, [Verdict::New, Verdict::Duplicate, Verdict::Repeated, Verdict::Repeated]);
    }

    #[test]
    fn what_the_source_gave_out_last_is_missed_when_it_never_came() {
        let (mut track, _) = track(&[(0, 5.0), (1, 6.0)]);
        track.settle(9);
        assert_eq!(track.holes().map(|hole| hole.count()).sum::<u64>(), 3);
    }
}
