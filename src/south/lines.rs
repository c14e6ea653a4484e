//! The connections of one package: what can be asked of them, by names and by the numbers of that package.

use super::live::Live;
use super::request::{Ask, AskError, Claim, Moments, Request};
use super::status::{self, ConnectionState, DeviceState, Filter, PointNow, SouthStatus};
use super::tap::{Capture, Tap};
use crate::mapping::control;
use crate::model::{Datum, Field, Pulse, Timestamp, Value};
use driver::Plan;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// All connections, as one package numbers their devices.
pub struct Lines {
    /// Of the package's names.
    pub(super) epoch: u64,
    pub(super) lines: Vec<Arc<Handle>>,
}

/// What the runtime keeps of one connection; the task owns the rest.
pub(super) struct Handle {
    pub(super) live: Arc<Live>,
    pub(super) plan: Arc<dyn Plan>,
    pub(super) tap: Arc<Tap>,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) transfers: mpsc::Sender<Request>,
    /// Digest of all it is made of.
    pub(super) inputs: String,
    /// Shared by the handles that one task has under one package after the other.
    pub(super) task: Arc<Task>,
}

/// The running task of a connection.
pub(super) struct Task {
    pub(super) stop: watch::Sender<Option<Instant>>,
    /// How devices are numbered from now on.
    pub(super) numbers: watch::Sender<Numbers>,
    /// The epoch of the numbers in use.
    pub(super) seen: watch::Receiver<u64>,
    /// By when it means to get on.
    pub(super) pulse: Arc<Pulse>,
    /// Taken by whoever stops it.
    pub(super) join: Mutex<Option<JoinHandle<bool>>>,
}

/// Numbers of devices under one package.
#[derive(Clone)]
pub(super) struct Numbers {
    pub(super) epoch: u64,
    pub(super) live: Arc<Live>,
}

/// For the cloud link: one lock a connection, nothing is copied.
impl Field for Lines {
    fn silences(&self, report: &mut dyn FnMut(u32, Option<Duration>)) {
        let now = Timestamp::now().0;
        for line in &self.lines {
            let live = line.live.lock();
            for (info, device) in line.live.devices.iter().zip(&live.devices) {
                let since = u64::try_from(now.saturating_sub(device.since.0)).unwrap_or_default();
                match device.state {
                    DeviceState::Online => report(info.device, None),
                    DeviceState::Starting => {}
                    DeviceState::Silent | DeviceState::NotConnected => {
                        report(info.device, Some(Duration::from_millis(since)));
                    }
                }
            }
        }
    }
}

impl Lines {
    pub(super) fn all(&self) -> &[Arc<Handle>] {
        &self.lines
    }

    /// Of each device its connection, its name, how many of its collected points have a good value, and how many there
    /// are.
    pub fn health(&self, report: &mut dyn FnMut(&str, &str, u64, u64)) {
        for line in &self.lines {
            for info in &line.live.devices {
                let now = line.live.lock();
                let points = &now.points[info.first_point as usize..info.points().end as usize];
                let (mut good, mut all) = (0, 0);
                for (row, state) in points.iter().enumerate() {
                    if !info.template.table.row(row).row().kind.is_control() {
                        all += 1;
                        good += u64::from(matches!(state.datum, Datum::Good(_)));
                    }
                }
                drop(now);
                report(&line.live.name, &info.name, good, all);
            }
        }
    }

    /// Every connection that is to run, with what the watchdog looks at.
    pub fn pulses(&self, say: &mut dyn FnMut(&str, &Pulse)) {
        for line in self.lines.iter().filter(|line| line.task.stop.borrow().is_none()) {
            say(&line.live.name, &line.task.pulse);
        }
    }

    /// Every connection has tried to reach its peer, or waits for one that calls.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.lines.iter().all(|line| line.live.lock().state != ConnectionState::Starting)
    }

    /// Sub-devices that answer, and all.
    #[must_use]
    pub fn online(&self) -> (usize, usize) {
        self.lines.iter().fold((0, 0), |(online, all), line| {
            let live = line.live.lock();
            let answers = live.devices.iter().filter(|device| device.state == DeviceState::Online).count();
            (online + answers, all + live.devices.len())
        })
    }

    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    #[must_use]
    pub fn status(&self) -> SouthStatus {
        let status = |line: &Arc<Handle>| status::connection_status(&line.live, line.plan.as_ref());
        SouthStatus { connections: self.lines.iter().map(status).collect() }
    }

    /// The latest values. Costs memory in proportion to what passes the filter.
    #[must_use]
    pub fn values(&self, filter: &Filter) -> Vec<PointNow> {
        let mut points = Vec::new();
        for line in self.lines.iter().filter(|line| filter.has_connection(&line.live.name)) {
            status::points(&line.live, filter, &mut points);
        }
        points
    }

    /// The connection a device stands behind.
    #[must_use]
    pub fn connection_of(&self, device: &str) -> Option<&str> {
        let has = |line: &&Arc<Handle>| line.live.devices.iter().any(|info| info.name == device);
        self.lines.iter().find(has).map(|line| line.live.name.as_str())
    }

    /// Names of all devices.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().flat_map(|line| line.live.devices.iter().map(|info| info.name.as_str()))
    }

    /// Reads all points of a device before any polling and returns them. The readings also take their usual way.
    ///
    /// # Errors
    /// When the names are not known or the device could not be read within `limit`.
    pub async fn read_now(&self, connection: &str, device: &str, limit: Duration) -> Result<Vec<PointNow>, AskError> {
        let line = self.line(connection)?;
        let at = line.live.devices.iter().position(|info| info.name == device);
        let at = at.ok_or_else(|| AskError::UnknownDevice(device.to_owned()))?;
        let asked = line
            .ask(Ask::Read(u32::try_from(at).expect("devices are counted in 32 bits")), Moments::within(limit))
            .await;
        asked.map(drop).map_err(|error| match error {
            // Only a write leaves anything open.
            AskError::Unconfirmed(why) => AskError::NotRead(why),
            other => other,
        })?;
        let filter = Filter { device: Some(device.to_owned()), ..Filter::default() };
        let mut points = Vec::new();
        status::points(&line.live, &filter, &mut points);
        Ok(points)
    }

    /// Writes a control point before any polling and waits for the device's confirmation. `point` counts over all
    /// devices of the connection; `value` is in the units people see, the inverse x = y/a − b is applied here.
    ///
    /// # Errors
    /// [`AskError::Unconfirmed`] when the write may have had an effect; all others when it had none.
    pub async fn write(&self, connection: &str, point: u32, value: &Value, limit: Duration) -> Result<(), AskError> {
        let line = self.line(connection)?;
        let at = line.live.device_of(point).ok_or(AskError::UnknownPoint(point))?;
        let info = &line.live.devices[at];
        let text = info.template.table.row((point - info.first_point) as usize);
        if !text.row().kind.is_control() {
            return Err(AskError::NotWritable(point));
        }
        let raw = control::raw(text.row(), value).map_err(AskError::Unfit)?;
        line.ask(Ask::Write(point, raw), Moments::within(limit)).await.map(drop)
    }

    /// Writes a measurement point of a device (index into `names.devices`) through its control mapping.
    ///
    /// # Errors
    /// As [`South::write`].
    pub async fn write_measurepoint(
        &self,
        device: u32,
        measurepoint: u32,
        value: &Value,
        limit: Duration,
    ) -> Result<(), AskError> {
        let found = self.lines.iter().find_map(|line| {
            let info = line.live.devices.iter().find(|info| info.device == device)?;
            Some((line, info))
        });
        let (line, info) = found.ok_or_else(|| AskError::UnknownDevice(device.to_string()))?;
        let control = info.template.controls.iter().find(|control| control.measurepoint == measurepoint);
        let control = control.ok_or_else(|| {
            let point = info.template.model.measurepoints.get(measurepoint as usize);
            AskError::NoControl(point.map_or_else(|| measurepoint.to_string(), |point| point.id.clone()))
        })?;
        self.write(&line.live.name, info.first_point + control.row, value, limit).await
    }

    /// Listens to the raw frames of a connection until the capture is dropped.
    ///
    /// # Errors
    /// When the connection is not known.
    pub fn capture(&self, connection: &str) -> Result<Capture, AskError> {
        Ok(Capture::new(&self.line(connection)?.tap))
    }

    fn line(&self, connection: &str) -> Result<&Arc<Handle>, AskError> {
        let line = self.lines.iter().find(|line| line.live.name == connection);
        line.ok_or_else(|| AskError::UnknownConnection(connection.to_owned()))
    }
}

impl Handle {
    /// It is to end by then.
    pub(super) fn tell(&self, deadline: Instant) {
        self.task.stop.send_replace(Some(deadline));
    }

    pub(super) async fn ask(&self, ask: Ask, moments: Moments) -> Result<Vec<u8>, AskError> {
        self.ask_by(&self.requests, ask, moments).await
    }

    pub(super) async fn ask_by(
        &self,
        way: &mpsc::Sender<Request>,
        ask: Ask,
        moments: Moments,
    ) -> Result<Vec<u8>, AskError> {
        let (reply, mut answer) = oneshot::channel();
        let began = Instant::now();
        let claim = Arc::new(Claim::default());
        let request = Request { ask, moments, claim: Arc::clone(&claim), reply };
        way.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Busy,
            mpsc::error::TrySendError::Closed(_) => AskError::Stopped,
        })?;
        match tokio::time::timeout_at(moments.start_by, &mut answer).await {
            Ok(Ok(result)) => return result,
            Ok(Err(_)) if claim.take() => return Err(AskError::Stopped),
            Ok(Err(_)) => return Err(cut_off()),
            Err(_) if claim.take() => return Err(AskError::Expired),
            Err(_) => {}
        }
        let answered = tokio::time::timeout_at(moments.end_by, answer).await;
        let late = || AskError::Unconfirmed(driver::SessionError::Timeout(began.elapsed()));
        answered.map_or_else(|_| Err(late()), |result| result.unwrap_or_else(|_| Err(cut_off())))
    }
}

/// The connection's task was ended in the middle of the request.
fn cut_off() -> AskError {
    AskError::Unconfirmed(driver::SessionError::Disconnected("the gateway stops".to_owned()))
}
