//! PURE. The ledger: every (device, point, time) received once, twice or never.
//!
//! Duplicates are found by device, point and time. What never came is found independently of the gateway, by
//! points whose source counts its own readings: a missing count is a lost reading, with the times around it.

mod latency;
mod report;
mod runs;
mod times;
mod track;

pub use latency::Latency;
pub use report::{LostRun, Report, Totals};
pub use runs::{Hole, Runs};
pub use times::{Bits, Times};
pub use track::{Last, Received, Track, Verdict};

use std::collections::HashMap;

/// What arrived, device by device. Devices and points are small numbers that [`Ledger::device`] and
/// [`Ledger::point`] give out in order.
#[derive(Debug, Default)]
pub struct Ledger {
    devices: Vec<Device>,
    by_name: HashMap<String, u32>,
    totals: Totals,
    /// From the reading's time to its arrival, of live data.
    pub latency: Latency,
}

#[derive(Debug, Default)]
struct Device {
    name: String,
    times: Times,
    tracks: Vec<Track>,
}

/// A device and a time that deliveries belong to.
#[derive(Debug, Clone, Copy)]
pub struct Slot {
    device: u32,
    time: i64,
    slot: u32,
    took_ms: i64,
}

impl Ledger {
    /// The number of a device, a new one if the name is new. Names are `productKey/deviceKey`.
    pub fn device(&mut self, name: &str) -> u32 {
        if let Some(number) = self.by_name.get(name) {
            return *number;
        }
        let number = u32::try_from(self.devices.len()).expect("fewer than 4 billion devices");
        self.devices.push(Device { name: name.to_owned(), ..Device::default() });
        self.by_name.insert(name.to_owned(), number);
        number
    }

    /// Appends a point to a device; its number is its position.
    pub fn add_point(&mut self, device: u32, id: &str) -> u32 {
        let tracks = &mut self.devices[device as usize].tracks;
        tracks.push(Track::new(id));
        u32::try_from(tracks.len() - 1).expect("fewer than 4 billion points")
    }

    /// The number of a point, a new one if the id is new.
    pub fn point(&mut self, device: u32, id: &str) -> u32 {
        let known = self.devices[device as usize].tracks.iter().position(|track| track.id == id);
        known.map_or_else(|| self.add_point(device, id), |at| u32::try_from(at).expect("fewer than 4 billion points"))
    }

    /// Says that a point's source counts its readings from 0 to `span - 1` and starts again; a multiple of `span`
    /// on top does not matter. False when there is no such point.
    pub fn counts(&mut self, device: &str, point: &str, span: u32) -> bool {
        self.track_mut(device, point).map(|track| track.counts(span)).is_some()
    }

    /// The last count a source says it gave out: what is missing up to there is lost too.
    pub fn settle(&mut self, device: &str, point: &str, produced: u64) -> bool {
        self.track_mut(device, point).map(|track| track.settle(produced)).is_some()
    }

    /// Deliveries of this device at this time follow; they arrived at `now`.
    pub fn begin(&mut self, device: u32, time: i64, now: i64) -> Slot {
        let slot = self.devices[device as usize].times.slot(time);
        Slot { device, time, slot, took_ms: now - time }
    }

    /// One delivery. `late` is one that came as history.
    pub fn record(&mut self, at: Slot, point: u32, value: f64, late: bool) -> Verdict {
        let track = &mut self.devices[at.device as usize].tracks[point as usize];
        let verdict = track.record(at.slot, at.time, value);
        self.totals.take(verdict, late);
        if !late {
            self.latency.record(at.took_ms);
        }
        verdict
    }

    /// How often the value of a point at a time was received.
    #[must_use]
    pub fn received(&self, device: &str, point: &str, time: i64) -> Received {
        let find = || {
            let device = &self.devices[*self.by_name.get(device)? as usize];
            let track = device.tracks.iter().find(|track| track.id == point)?;
            Some(track.received(device.times.find(time)?))
        };
        find().unwrap_or(Received::Never)
    }

    /// The newest value of a point.
    #[must_use]
    pub fn last(&self, device: &str, point: &str) -> Option<Last> {
        let device = &self.devices[*self.by_name.get(device)? as usize];
        device.tracks.iter().find(|track| track.id == point)?.last
    }

    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn track_mut(&mut self, device: &str, point: &str) -> Option<&mut Track> {
        let number = *self.by_name.get(device)?;
        self.devices[number as usize].tracks.iter_mut().find(|track| track.id == point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (Ledger, u32, u32) {
        let mut ledger = Ledger::default();
        let device = ledger.device("pk/dk");
        let point = ledger.add_point(device, "reads");
        assert!(ledger.counts("pk/dk", "reads", u32::MAX));
        (ledger, device, point)
    }

    #[test]
    fn once_twice_and_never_are_told_apart() {
        let (mut ledger, device, point) = ledger();
        for (time, value) in [(100, 1.0), (200, 2.0), (200, 2.0)] {
            let at = ledger.begin(device, time, time);
            ledger.record(at, point, value, false);
        }
        let received = [100, 200, 300].map(|time| ledger.received("pk/dk", "reads", time));
        assert_eq!(received, [Received::Once, Received::Twice, Received::Never]);
        let report = ledger.report();
        assert_eq!((report.delivered, report.lost, report.duplicated), (2, 0, 1));
    }

    #[test]
    fn a_lost_run_says_which_and_when() {
        let (mut ledger, device, point) = ledger();
        for (time, value) in [(100, 1.0), (500, 5.0), (600, 6.0)] {
            let at = ledger.begin(device, time, time);
            ledger.record(at, point, value, true);
        }
        ledger.settle("pk/dk", "reads", 7);
        let report = ledger.report();
        assert_eq!((report.delivered, report.lost, report.late), (3, 4, 3));
        assert_eq!(report.lost_runs[0].count, 3);
        assert_eq!((report.lost_runs[0].after, report.lost_runs[0].before), (100, Some(500)));
        assert_eq!((report.lost_runs[1].count, report.lost_runs[1].before), (1, None));
    }
}
