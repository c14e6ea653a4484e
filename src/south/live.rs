//! What is known of a connection at this moment: latest samples, states and counts. Updated with one lock a scan.

use super::status::{ConnectionState, DeviceState};
use crate::mapping::{Computed, Mapping};
use crate::model::{Datum, Reason, Sample, Template, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One connection as others see it.
pub(super) struct Live {
    pub name: String,
    pub protocol: String,
    pub endpoint: String,
    pub devices: Vec<DeviceInfo>,
    now: Arc<Mutex<Now>>,
}

/// What never changes of a device, but for its number under another package.
#[derive(Clone)]
pub(super) struct DeviceInfo {
    /// Index into `names.devices`.
    pub device: u32,
    pub name: String,
    pub first_point: u32,
    pub first_computed: usize,
    pub template: Arc<Template>,
    pub mapping: Arc<Mapping>,
}

impl DeviceInfo {
    /// The device's points among those of the connection.
    pub(super) fn points(&self) -> std::ops::Range<u32> {
        let len = u32::try_from(self.template.table.len()).expect("the reader caps a table far below 2^32 rows");
        self.first_point..self.first_point + len
    }
}

/// What changes.
pub(super) struct Now {
    pub state: ConnectionState,
    pub since: Timestamp,
    pub last_error: Option<String>,
    pub sessions: u64,
    pub failed_connects: u64,
    pub points: Box<[PointState]>,
    pub computed: Box<[PointState]>,
    pub devices: Box<[DeviceNow]>,
}

#[derive(Clone, Debug)]
pub(super) struct PointState {
    pub time: Timestamp,
    pub datum: Datum,
}

#[derive(Clone, Debug)]
pub(super) struct DeviceNow {
    pub state: DeviceState,
    pub since: Timestamp,
    pub last_error: Option<String>,
    pub reads: u64,
    pub timeouts: u64,
    pub exceptions: u64,
    pub skipped: u64,
    pub last_scan: Duration,
}

impl Live {
    pub(super) fn new(name: &str, protocol: &str, endpoint: String, devices: Vec<DeviceInfo>) -> Live {
        let at = Timestamp::now();
        let unknown = PointState { time: at, datum: Datum::Bad(Reason::NotConnected) };
        let points = devices.last().map_or(0, |device| device.points().end as usize);
        let computed = devices.last().map_or(0, |d| d.first_computed + d.mapping.formulas().count());
        let device = DeviceNow {
            state: DeviceState::Starting,
            since: at,
            last_error: None,
            reads: 0,
            timeouts: 0,
            exceptions: 0,
            skipped: 0,
            last_scan: Duration::ZERO,
        };
        let now = Now {
            state: ConnectionState::Starting,
            since: at,
            last_error: None,
            sessions: 0,
            failed_connects: 0,
            points: vec![unknown.clone(); points].into(),
            computed: vec![unknown; computed].into(),
            devices: vec![device; devices.len()].into(),
        };
        Live { name: name.into(), protocol: protocol.into(), endpoint, devices, now: Arc::new(Mutex::new(now)) }
    }

    /// The same connection, its devices numbered anew; what is known of them is shared.
    pub(super) fn renumbered(&self, numbers: impl Iterator<Item = u32>) -> Live {
        let devices = self.devices.iter().zip(numbers).map(|(info, device)| DeviceInfo { device, ..info.clone() });
        Live {
            name: self.name.clone(),
            protocol: self.protocol.clone(),
            endpoint: self.endpoint.clone(),
            devices: devices.collect(),
            now: Arc::clone(&self.now),
        }
    }

    /// Every update leaves the table consistent, so a poisoned lock does no harm.
    pub(super) fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device a point belongs to, by its index within the connection.
    pub(super) fn device_of(&self, point: u32) -> Option<usize> {
        let after = self.devices.partition_point(|device| device.first_point <= point);
        after.checked_sub(1).filter(|at| self.devices[*at].points().contains(&point))
    }
}

impl Now {
    pub(super) fn enter(&mut self, state: ConnectionState) {
        if self.state != state {
            self.state = state;
            self.since = Timestamp::now();
        }
    }

    pub(super) fn store(&mut self, samples: &mut Vec<Sample>) {
        for Sample { point, time, datum } in samples.drain(..) {
            if let Some(state) = self.points.get_mut(point as usize) {
                *state = PointState { time, datum };
            }
        }
    }

    pub(super) fn store_computed(&mut self, first: usize, computed: impl Iterator<Item = Computed>) {
        for Computed { formula, time, datum } in computed {
            if let Some(state) = self.computed.get_mut(first + formula as usize) {
                *state = PointState { time, datum };
            }
        }
    }
}

impl DeviceNow {
    /// True when this is a change.
    pub(super) fn enter(&mut self, state: DeviceState) -> bool {
        let changed = self.state != state;
        if changed {
            self.state = state;
            self.since = Timestamp::now();
        }
        changed
    }
}
