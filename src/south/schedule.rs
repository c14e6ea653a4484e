//! PURE. Decides which scan group of a connection is read next. Time is an argument, counted from the start.
//!
//! Every group keeps a grid of its own: phase, phase + period, phase + 2 periods … A group that is late is read once
//! and continues on its grid; the periods it missed are counted and not made up. Among groups that are due the one
//! that has waited longest goes first, so none starves on an overloaded line.

use super::breaker::Breaker;
use driver::ScanGroup;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// First scans are spread over at most this time, so that slow groups show a value soon after the start.
const SPREAD: Duration = Duration::from_secs(2);
/// Scans begin on a grid that all connections share: one waking of the processor serves every device of a step. A
/// waking costs more than a scan (64 µs of processor time measured, a scan of 100 registers takes half of it).
const STEP_MS: u64 = 100;
/// A scan that failed at the device may cost the living devices of its line at most a fifth of the line's time:
/// the next probe of any silent device waits four times what this one took.
const PROBE_REST: u32 = 4;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Read this group.
    Read(usize),
    /// Nothing is due before this time.
    Wait(Duration),
    /// Nothing will ever be due: all groups are pushed.
    Idle,
}

/// All polled groups of one connection.
#[derive(Debug)]
pub struct Schedule {
    slots: Vec<Slot>,
    devices: Vec<Device>,
    /// Groups of devices that answer, by due time.
    due: Queue,
    /// Groups that probe a silent device, by the end of its back-off, so that all silent devices get their turn.
    probes: Queue,
    /// No silent device is probed before this time while others live.
    rest_until: Duration,
    rng: fastrand::Rng,
}

type Queue = BinaryHeap<Reverse<(Duration, usize)>>;

#[derive(Debug)]
struct Slot {
    device: usize,
    period: Duration,
    /// Next point of the group's grid.
    grid: Duration,
    /// The group's valid entry in a queue; other entries are stale.
    key: Option<Duration>,
}

#[derive(Debug)]
struct Device {
    groups: Vec<usize>,
    breaker: Breaker,
    /// The one group that is read to see whether a silent device is back.
    probe: usize,
    skipped: u64,
}

/// The step of the grid at or before `phase`.
fn on_grid(phase: Duration) -> Duration {
    let ms = u64::try_from(phase.as_millis()).unwrap_or(0);
    Duration::from_millis(ms / STEP_MS * STEP_MS)
}

impl Schedule {
    /// Times count from a moment all connections share. `seed` should differ from connection to connection: it spreads the first scans.
    #[must_use]
    pub fn new(groups: &[ScanGroup], devices: usize, seed: u64) -> Schedule {
        let mut rng = fastrand::Rng::with_seed(seed);
        let first = rng.f64();
        let mut schedule = Schedule {
            slots: Vec::with_capacity(groups.len()),
            devices: (0..devices)
                .map(|_| Device { groups: vec![], breaker: Breaker::default(), probe: 0, skipped: 0 })
                .collect(),
            due: Queue::new(),
            probes: Queue::new(),
            rest_until: Duration::ZERO,
            rng,
        };
        for (at, group) in groups.iter().enumerate() {
            // Steps of the golden ratio fill the circle evenly, however many groups there are.
            let fraction = (first + at as f64 * 0.618_033_988_749_895).fract();
            let period = group.period.max(Duration::from_millis(1));
            let phase = on_grid(period.min(SPREAD).mul_f64(fraction));
            schedule.slots.push(Slot { device: group.device as usize, period, grid: phase, key: None });
            if !group.pushed {
                schedule.devices[group.device as usize].groups.push(at);
                schedule.enter(at, phase);
            }
        }
        schedule
    }

    /// What to do at `now`. Asking changes no period; tell [`Schedule::started`] when the answer is followed.
    pub fn next(&mut self, now: Duration) -> Turn {
        let due = self.first_due();
        let rest = if self.someone_lives() { self.rest_until } else { Duration::ZERO };
        let probe = self.first_probe().map(|(at, group)| (at.max(rest), group));
        let first = match (due, probe) {
            (Some(due), Some(probe)) => Some(if due.0 <= probe.0 { due } else { probe }),
            (due, probe) => due.or(probe),
        };
        match first {
            None => Turn::Idle,
            Some((at, group)) if at <= now => Turn::Read(group),
            Some((at, _)) => Turn::Wait(at),
        }
    }

    fn first_due(&mut self) -> Option<(Duration, usize)> {
        while let Some(&Reverse((at, group))) = self.due.peek() {
            let slot = &mut self.slots[group];
            let valid = slot.key == Some(at);
            if valid && !self.devices[slot.device].breaker.is_open() {
                return Some((at, group));
            }
            if valid {
                // Silent device: the group waits for the probe's result.
                slot.key = None;
            }
            self.due.pop();
        }
        None
    }

    fn first_probe(&mut self) -> Option<(Duration, usize)> {
        while let Some(&Reverse((at, group))) = self.probes.peek() {
            let slot = &self.slots[group];
            let device = &self.devices[slot.device];
            if slot.key == Some(at) && device.breaker.is_open() && device.probe == group {
                return Some((at, group));
            }
            self.probes.pop();
        }
        None
    }

    /// Group `group` is being read now, whether it was due or somebody asked. Counts the periods it missed.
    pub fn started(&mut self, group: usize, now: Duration) {
        let slot = &mut self.slots[group];
        if self.devices[slot.device].groups.binary_search(&group).is_err() {
            return;
        }
        let missed = periods(now.saturating_sub(slot.grid), slot.period);
        if slot.grid <= now {
            slot.grid = later(slot.grid, slot.period, u64::from(missed) + 1);
            self.devices[slot.device].skipped += u64::from(missed);
        } else if slot.grid - now < slot.period / 2 {
            // Read ahead of its time: that was the coming scan.
            slot.grid = later(slot.grid, slot.period, 1);
        }
        let at = slot.grid;
        self.enter(group, at);
    }

    /// The device answered. True when it had been silent: all its groups are due again.
    pub fn answered(&mut self, device: usize, now: Duration) -> bool {
        if !self.devices[device].breaker.close() {
            return false;
        }
        for at in 0..self.devices[device].groups.len() {
            let group = self.devices[device].groups[at];
            if self.slots[group].key.is_none() {
                self.enter(group, now);
            }
        }
        true
    }

    /// The device did not answer and that took `cost`. It is left alone for the time returned.
    pub fn silent(&mut self, device: usize, group: usize, now: Duration, cost: Duration) -> Duration {
        if self.devices[device].groups.binary_search(&group).is_err() {
            // A pushed group that somebody asked for: no probe of ours would ever close the breaker again.
            return Duration::ZERO;
        }
        let wait = self.devices[device].breaker.failed(self.rng.f64());
        if !self.devices[device].breaker.is_open() {
            let at = self.slots[group].grid.min(now + wait).max(now);
            self.enter(group, at);
            return wait;
        }
        self.devices[device].probe = group;
        self.slots[group].key = Some(now + wait);
        self.probes.push(Reverse((now + wait, group)));
        self.rest_until = self.rest_until.max(now + cost * PROBE_REST);
        wait
    }

    /// Reads the group again as soon as possible: its conversation broke through no fault of the device.
    pub fn again(&mut self, group: usize, now: Duration) {
        self.enter(group, now);
    }

    /// True when every polled device is silent, so that no conversation is needed before the next probe.
    #[must_use]
    pub fn all_silent(&self) -> bool {
        !self.someone_lives()
    }

    /// True while the device is left alone or probed.
    #[must_use]
    pub fn is_silent(&self, device: usize) -> bool {
        self.devices[device].breaker.is_open()
    }

    /// Periods the device's groups have missed.
    #[must_use]
    pub fn skipped(&self, device: usize) -> u64 {
        self.devices[device].skipped
    }

    fn someone_lives(&self) -> bool {
        self.devices.iter().any(|device| !device.groups.is_empty() && !device.breaker.is_open())
    }

    fn enter(&mut self, group: usize, at: Duration) {
        self.slots[group].key = Some(at);
        self.due.push(Reverse((at, group)));
    }
}

fn periods(time: Duration, period: Duration) -> u32 {
    u32::try_from(time.as_nanos() / period.as_nanos()).unwrap_or(u32::MAX)
}

fn later(grid: Duration, period: Duration, count: u64) -> Duration {
    grid + period.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
