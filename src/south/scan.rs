//! One read of one scan group, and what its samples mean: readings, live values, the device's state.

use super::connection::Line;
use super::guard::Fault;
use super::request::{Ask, AskError, Request};
use super::status::DeviceState;
use crate::model::{Datum, Reason, Sample, Timestamp, Value};
use driver::{RawError, ScanGroup, Session, SessionError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info, warn};

/// What a driver may take beyond its own word before its session is given up.
const SLACK: Duration = Duration::from_secs(1);
/// No write waits longer for the device's confirmation, whatever the asker allows.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

impl Line {
    /// Reads one group. On an error the session is over; what is not answered has become bad.
    pub(super) async fn scan(&mut self, session: &mut dyn Session, group: usize) -> Result<(), Fault> {
        let plan = std::sync::Arc::clone(&self.plan);
        let Some(planned) = plan.scan_groups().get(group) else { return Ok(()) };
        let device = planned.device as usize;
        self.schedule.started(group, self.now());
        // Not kept for the next scan: few connections read at the same time, and a sample has 48 bytes.
        let mut samples = Vec::with_capacity(planned.points.len());
        let (began, asked) = (Instant::now(), Timestamp::now());
        let result = self.call(planned.patience + SLACK, session.read(group, &mut samples)).await;
        let took = began.elapsed();
        let result = match result {
            Err(Fault::Said(error)) if !error.ends_session() => {
                self.answer_rest(&planned.points, &mut samples, error.reason());
                Ok(())
            }
            Err(Fault::Said(SessionError::Disconnected(_)))
                if self.state.answered && self.state.second_chance != Some(group) =>
            {
                // Peers close conversations that were idle. That says nothing of the device: once more on a new one.
                self.state.second_chance = Some(group);
                self.schedule.again(group, self.now());
                self.publish(&mut samples, asked);
                return result;
            }
            other => other,
        };
        match &result {
            Ok(()) => self.answer_rest(&planned.points, &mut samples, Reason::NoAnswer),
            Err(Fault::Stopped) => {}
            Err(fault) => self.answer_rest(&planned.points, &mut samples, fault.reason()),
        }
        self.state.second_chance = self.state.second_chance.filter(|again| *again != group);
        let silent = result.is_err() || no_answer_at_all(&samples);
        let exceptions = samples.iter().filter(|sample| is_exception(&sample.datum)).count();
        self.publish(&mut samples, asked);
        self.count_scan(device, took, exceptions as u64);
        match &result {
            Err(Fault::Stopped) => {}
            _ if silent => self.silent(device, group, took, result.as_ref().err()),
            _ => self.answered(device),
        }
        result
    }

    fn count_scan(&mut self, device: usize, took: Duration, exceptions: u64) {
        let skipped = self.schedule.skipped(device);
        let mut live = self.live.lock();
        let state = &mut live.devices[device];
        state.reads += 1;
        state.exceptions += exceptions;
        state.last_scan = took;
        state.skipped = skipped;
    }

    fn answered(&mut self, device: usize) {
        self.state.answered = true;
        self.schedule.answered(device, self.now());
        self.online(device);
    }

    fn online(&mut self, device: usize) {
        self.state.told = None;
        if self.live.lock().devices[device].enter(DeviceState::Online) {
            let name = &self.live.devices[device].name;
            info!(connection = %self.live.name, device = %name, "the sub-device answers");
        }
    }

    fn silent(&mut self, device: usize, group: usize, took: Duration, fault: Option<&Fault>) {
        let wait = self.schedule.silent(device, group, self.now(), took);
        let error = fault.map_or_else(|| "no answer behind the gateway".to_owned(), ToString::to_string);
        let changed = {
            let mut live = self.live.lock();
            let state = &mut live.devices[device];
            if fault.is_none_or(Fault::is_timeout) {
                state.timeouts += 1;
                self.counters.timeouts.add(1);
            }
            state.last_error = Some(error.clone());
            // Once is no silence yet: some devices swallow the request after one for an absent neighbour. What is
            // pushed has no second scan that could tell.
            let believed = wait.is_zero() || self.schedule.is_silent(device);
            believed && state.enter(DeviceState::Silent)
        };
        let name = &self.live.devices[device].name;
        if changed {
            warn!(connection = %self.live.name, device = %name, error, ?wait, "the sub-device does not answer");
            self.device_bad(device, group);
        } else {
            debug!(connection = %self.live.name, device = %name, error, ?wait, "the sub-device is still silent");
        }
    }

    /// Adds a bad sample for every point that got none.
    fn answer_rest(&mut self, points: &[u32], samples: &mut Vec<Sample>, reason: Reason) {
        self.state.scan = self.state.scan.wrapping_add(1);
        let scan = self.state.scan;
        for sample in samples.iter() {
            if let Some(mark) = self.state.marks.get_mut(sample.point as usize) {
                *mark = scan;
            }
        }
        let time = Timestamp::now();
        for &point in points {
            if self.state.marks.get(point as usize).is_some_and(|mark| *mark != scan) {
                samples.push(Sample { point, time, datum: Datum::Bad(reason) });
            }
        }
    }

    /// Samples to readings, to the outbox, to the live table; in this order, because the outbox is in a hurry.
    /// `asked`: when they were asked for, or later for what is pushed.
    pub(super) fn publish(&mut self, samples: &mut Vec<Sample>, asked: Timestamp) {
        if samples.is_empty() {
            return;
        }
        let bad = samples.iter().filter(|sample| matches!(sample.datum, Datum::Bad(_))).count() as u64;
        self.counters.samples_bad.add(bad);
        self.counters.samples_good.add(samples.len() as u64 - bad);
        self.put_in_order(samples, asked);
        self.map(samples);
        self.live.lock().store(samples);
    }

    fn map(&mut self, samples: &[Sample]) {
        let now = self.now();
        let mut rest = samples;
        while let Some(first) = rest.first() {
            let Some(device) = self.live.device_of(first.point) else {
                rest = &rest[1..];
                continue;
            };
            let info = &self.live.devices[device];
            let points = info.points();
            let len = rest.iter().position(|s| !points.contains(&s.point)).unwrap_or(rest.len());
            let mapper = &mut self.mappers[device];
            mapper.apply(&rest[..len], now, &mut self.outbound);
            self.counters.readings_held.add(mapper.take_held());
            self.state.ticks_at = self.state.ticks_at.min(mapper.wakes_at().unwrap_or(Duration::MAX));
            if mapper.has_computed() {
                self.live.lock().store_computed(info.first_computed, mapper.take_computed());
            }
            rest = &rest[len..];
        }
        self.outbound.flush();
    }

    pub(super) fn publish_pushed(&mut self) {
        if self.state.pushed.is_empty() {
            return;
        }
        let mut pushed = std::mem::take(&mut self.state.pushed);
        let mut last = None;
        for sample in pushed.iter().filter(|sample| !matches!(sample.datum, Datum::Bad(_))) {
            let device = self.live.device_of(sample.point);
            if device != last
                && let Some(device) = device
            {
                self.online(device);
            }
            last = device;
        }
        // Pushed once more after a reconnect, a value of one time is no second reading.
        self.publish(&mut pushed, Timestamp(i64::MAX));
        self.state.pushed = pushed;
    }

    /// Every point of the connection is bad from now on.
    pub(super) fn all_bad(&mut self, reason: Reason) {
        if self.live.lock().devices.iter().all(|device| device.state == DeviceState::NotConnected) {
            return;
        }
        let points: Vec<u32> = self.live.devices.iter().flat_map(super::live::DeviceInfo::points).collect();
        self.mark_bad(points.into_iter(), reason);
        for device in &mut self.live.lock().devices {
            device.enter(DeviceState::NotConnected);
        }
    }

    /// The other groups of a silent device are not read for a while.
    fn device_bad(&mut self, device: usize, but: usize) {
        let plan = std::sync::Arc::clone(&self.plan);
        let groups = plan.scan_groups().iter().enumerate();
        let groups = groups.filter(|(at, g)| *at != but && !g.pushed && g.device as usize == device);
        self.mark_bad(groups.flat_map(|(_, group)| group.points.iter().copied()), Reason::BackingOff);
    }

    /// Not counted as samples: nobody asked the device.
    fn mark_bad(&mut self, points: impl Iterator<Item = u32>, reason: Reason) {
        let time = Timestamp::now();
        let mut samples: Vec<Sample> = points.map(|point| Sample { point, time, datum: Datum::Bad(reason) }).collect();
        self.put_in_order(&mut samples, Timestamp(i64::MAX));
        self.map(&samples);
        self.live.lock().store(&mut samples);
    }

    /// Carries out one request and answers it. An error ends the session.
    pub(super) async fn serve(&mut self, session: &mut dyn Session, request: Request) -> Result<(), Fault> {
        if !request.begin() {
            request.answer(Err(AskError::Expired));
            return Ok(());
        }
        let mut bytes = Vec::new();
        let result = match request.ask.clone() {
            Ask::Read(device) => self.read_device(session, device, None).await,
            Ask::ReadPoints(device, points) => self.read_device(session, device, Some(&points)).await,
            Ask::Transfer(device, slot) => return self.transfer(session, device, &slot, request).await,
            Ask::Write(point, value) => self.write(session, point, &value, request.moments.end_by).await,
            Ask::Raw(device, sent) => match self.raw(session, device, &sent, request.moments.end_by).await {
                Ok(Ok(received)) => {
                    bytes = received;
                    Ok(())
                }
                Ok(Err(refusal)) => {
                    request.answer(Err(AskError::Forbidden(refusal)));
                    return Ok(());
                }
                Err(fault) => Err(fault),
            },
        };
        let said = match &result {
            Ok(()) => Ok(bytes),
            Err(Fault::Stopped) if request.is_write() => {
                let why = SessionError::from(Fault::Stopped);
                Err(AskError::Unconfirmed(why))
            }
            Err(Fault::Stopped) => Err(AskError::Stopped),
            Err(fault) => Err(SessionError::from(fault.clone()).into()),
        };
        request.answer(said);
        match result {
            Err(Fault::Said(error)) if !error.ends_session() => Ok(()),
            other => other,
        }
    }

    /// Bytes to the device and back. The inner error: nothing was sent.
    async fn raw(
        &mut self,
        session: &mut dyn Session,
        device: u32,
        bytes: &[u8],
        deadline: Instant,
    ) -> Result<Result<Vec<u8>, String>, Fault> {
        let limit = deadline.duration_since(Instant::now()).min(WRITE_LIMIT);
        let call = async {
            match session.raw(device, bytes).await {
                Ok(received) => Ok(Ok(received)),
                Err(RawError::Refused(why)) => Ok(Err(why)),
                Err(RawError::Session(error)) => Err(error),
            }
        };
        let result = self.call(limit, call).await;
        info!(connection = %self.live.name, device, bytes = bytes.len(), done = result.is_ok(), "raw bytes passed on");
        result
    }

    async fn read_device(
        &mut self,
        session: &mut dyn Session,
        device: u32,
        points: Option<&[u32]>,
    ) -> Result<(), Fault> {
        let plan = std::sync::Arc::clone(&self.plan);
        let wanted = |group: &&ScanGroup| points.is_none_or(|points| points.iter().any(|p| group.points.contains(p)));
        let groups = plan.scan_groups().iter().enumerate().filter(|(_, group)| group.device == device);
        for (group, _) in groups.filter(|(_, group)| wanted(group)) {
            self.scan(session, group).await?;
        }
        Ok(())
    }

    /// The call is never cut short by less than its dead-line: then nobody could tell whether it had an effect.
    async fn write(
        &mut self,
        session: &mut dyn Session,
        point: u32,
        value: &Value,
        deadline: Instant,
    ) -> Result<(), Fault> {
        let limit = deadline.duration_since(Instant::now()).min(WRITE_LIMIT);
        let result = self.call(limit, session.write(point, value)).await;
        match &result {
            Ok(()) => info!(connection = %self.live.name, point, "point written"),
            Err(fault) => {
                if fault.is_timeout() {
                    self.counters.timeouts.add(1);
                }
                warn!(connection = %self.live.name, point, %fault, "point not written");
            }
        }
        result
    }
}

/// True when the device itself was not heard: a gateway in between may answer for it.
fn no_answer_at_all(samples: &[Sample]) -> bool {
    // Modbus Application Protocol 1.1b3, clause 7: 0A path unavailable, 0B target failed to respond.
    let unheard = |sample: &Sample| {
        matches!(
            sample.datum,
            Datum::Bad(Reason::NoAnswer | Reason::NotConnected | Reason::ModbusException(0x0A | 0x0B))
        )
    };
    !samples.is_empty() && samples.iter().all(unheard)
}

fn is_exception(datum: &Datum) -> bool {
    matches!(datum, Datum::Bad(Reason::ModbusException(_) | Reason::StatusCode(_)))
}
