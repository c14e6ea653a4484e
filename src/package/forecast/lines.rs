//! PURE. How busy each line is, and which periods it can not keep.

use crate::model::Connection;
use std::collections::BTreeMap;
use std::time::Duration;

/// One connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub connection: String,
    pub endpoint: String,
    /// `None` where the protocol can not tell what a scan costs.
    pub requests_per_s: Option<f64>,
    pub bytes_per_s: Option<f64>,
    /// Share of the time the line is taken at least; above 1 it can not be.
    pub busy: Option<f64>,
    /// Most time each answer may take so that all periods hold.
    pub answer_within: Option<Duration>,
    pub missed: Vec<Missed>,
}

/// A period that can not be met, and what it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    pub period: Duration,
    pub becomes: Duration,
}

impl Line {
    /// For sorting: time first, then requests.
    pub(super) fn load(&self) -> f64 {
        self.busy.unwrap_or_default() * 1e9 + self.requests_per_s.unwrap_or_default()
    }
}

/// Sums what the scans of a connection cost.
pub(super) fn line(connection: &Connection) -> Line {
    let plan = &connection.plan;
    let (mut requests, mut bytes, mut busy, mut known) = (0.0, 0.0, 0.0, false);
    let mut periods: BTreeMap<Duration, ()> = BTreeMap::new();
    for (index, group) in plan.scan_groups().iter().enumerate() {
        let Some(cost) = plan.scan_cost(index) else { continue };
        known = true;
        let rate = 1.0 / group.period.as_secs_f64().max(0.001);
        requests += f64::from(cost.requests) * rate;
        bytes += cost.bytes as f64 * rate;
        busy += cost.busy.as_secs_f64() * rate;
        periods.insert(group.period, ());
    }
    let becomes = |period: Duration| Missed { period, becomes: period.mul_f64(busy) };
    let missed = if busy > 1.0 { periods.into_keys().map(becomes).collect() } else { Vec::new() };
    let room = (requests > 0.0 && busy < 1.0).then(|| Duration::from_secs_f64((1.0 - busy) / requests));
    Line {
        connection: connection.name.clone(),
        endpoint: plan.endpoint(),
        requests_per_s: known.then_some(requests),
        bytes_per_s: known.then_some(bytes),
        busy: known.then_some(busy),
        answer_within: room,
        missed,
    }
}
