//! PURE. The ledger's verdict.

use super::{Hole, Ledger, Verdict};
use serde::Serialize;

/// Runs of lost readings that a report lists; the count goes on beyond.
const LISTED: usize = 200;

/// What came, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Readings received at least once.
    pub delivered: u64,
    /// Deliveries of a reading that had come before.
    pub duplicated: u64,
    /// Counts that came under two times, or that are no counts: wrong values.
    pub repeated: u64,
    /// Deliveries as history (`measurepoint/resume`).
    pub late: u64,
}

impl Totals {
    pub(super) fn take(&mut self, verdict: Verdict, late: bool) {
        self.late += u64::from(late);
        match verdict {
            Verdict::New => self.delivered += 1,
            Verdict::Duplicate => self.duplicated += 1,
            Verdict::Repeated => {
                self.delivered += 1;
                self.repeated += 1;
            }
        }
    }
}

/// One line for scripts: `{"delivered":…,"lost":…,"duplicated":…, …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub delivered: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub repeated: u64,
    pub late: u64,
    /// Points whose source counts: only they can tell what was lost.
    pub counting_points: u64,
    pub lost_runs: Vec<LostRun>,
}

/// Readings of one point that never came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostRun {
    pub device: String,
    pub point: String,
    pub first: i64,
    pub last: i64,
    pub count: u64,
    /// Times (ms) of the readings around the run; no `before` at the end of the stream.
    pub after: i64,
    pub before: Option<i64>,
}

impl Ledger {
    /// Readings that counting points miss so far. Grows and shrinks while a backlog is caught up.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let tracks = self.devices.iter().flat_map(|device| &device.tracks);
        tracks.flat_map(super::Track::holes).map(|hole| hole.count()).sum()
    }

    /// Every run of missing readings, with device and point. Unlike the report's list it has no end.
    pub fn holes(&self) -> impl Iterator<Item = (&str, &str, Hole)> {
        let tracks = self.devices.iter().flat_map(|device| device.tracks.iter().map(move |track| (device, track)));
        tracks
            .flat_map(|(device, track)| track.holes().map(move |hole| (device.name.as_str(), track.id.as_str(), hole)))
    }

    /// The verdict so far; final once the gateway has nothing left to send.
    #[must_use]
    pub fn report(&self) -> Report {
        let totals = self.totals();
        let mut report = Report {
            delivered: totals.delivered,
            lost: 0,
            duplicated: totals.duplicated,
            repeated: totals.repeated,
            late: totals.late,
            counting_points: 0,
            lost_runs: Vec::new(),
        };
        for (device, track) in self.devices.iter().flat_map(|device| device.tracks.iter().map(move |t| (device, t))) {
            report.counting_points += u64::from(track.is_counter());
            for hole in track.holes() {
                report.lost += hole.count();
                if report.lost_runs.len() < LISTED {
                    report.lost_runs.push(LostRun {
                        device: device.name.clone(),
                        point: track.id.clone(),
                        first: hole.first,
                        last: hole.last,
                        count: hole.count(),
                        after: hole.after,
                        before: hole.before,
                    });
                }
            }
        }
        report
    }
}
