//! Toward the sub-devices: connections, their schedules, and everything between a session and the outbox.

mod backoff;
mod breaker;
mod commands;
mod connection;
mod guard;
mod live;
mod order;
mod outbound;
pub mod protocols;
mod request;
mod scan;
pub mod schedule;
mod start;
mod status;
mod tap;

pub use commands::PlannedWrite;
pub use request::{AskError, Moments};
pub use status::{ConnectionState, ConnectionStatus, DeviceState, DeviceStatus, Filter, PointNow, Shown, SouthStatus};
pub use tap::{Capture, Frame};

use crate::mapping::control;
use crate::model::{Field, Inlet, Site, Timestamp, Value};
use crate::telemetry::Counters;
use driver::Plan;
use live::Live;
use request::{Ask, Claim, Request};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tap::Tap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// All connections of a loaded package, running.
pub struct South {
    lines: Vec<Handle>,
    stop: watch::Sender<Option<Instant>>,
}

/// A wait, up to a quarter shorter so that many do not go in step; in whole milliseconds, as people read it in a log.
/// `jitter` in 0..1.
fn jittered(wait: Duration, jitter: f64) -> Duration {
    let part = wait.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 4.0);
    Duration::from_millis(u64::try_from(part.as_millis()).unwrap_or(u64::MAX))
}

/// For the cloud link: one lock a connection, nothing is copied.
impl Field for South {
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

/// What the runtime keeps of one connection; the task owns the rest.
struct Handle {
    live: Arc<Live>,
    plan: Arc<dyn Plan>,
    tap: Arc<Tap>,
    requests: mpsc::Sender<Request>,
    /// Taken by whoever stops it.
    task: Mutex<Option<JoinHandle<bool>>>,
}

impl South {
    /// Starts one task a connection. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(site: &Site, inlet: Arc<dyn Inlet>, counters: Arc<Counters>) -> South {
        let (stop, told) = watch::channel(None);
        let lines = start::lines(site, &inlet, &counters, &told);
        South { lines, stop }
    }

    #[must_use]
    pub fn status(&self) -> SouthStatus {
        let status = |line: &Handle| status::connection_status(&line.live, line.plan.as_ref());
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
        let has = |line: &&Handle| line.live.devices.iter().any(|info| info.name == device);
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

    /// Lets every connection finish its current request and close its session, and names those whose driver was late
    /// and had to be cut off.
    pub async fn stop(&self, within: Duration) -> Vec<String> {
        let deadline = Instant::now() + within;
        self.stop.send_replace(Some(deadline));
        let mut late = Vec::new();
        for line in &self.lines {
            let task = line.task.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(mut task) = task else { continue };
            let ended = tokio::time::timeout_at(deadline, &mut task).await;
            if !matches!(ended, Ok(Ok(true))) {
                task.abort();
                late.push(line.live.name.clone());
            }
        }
        late
    }

    fn line(&self, connection: &str) -> Result<&Handle, AskError> {
        let line = self.lines.iter().find(|line| line.live.name == connection);
        line.ok_or_else(|| AskError::UnknownConnection(connection.to_owned()))
    }
}

impl Handle {
    async fn ask(&self, ask: Ask, moments: Moments) -> Result<Vec<u8>, AskError> {
        let (reply, mut answer) = oneshot::channel();
        let began = Instant::now();
        let claim = Arc::new(Claim::default());
        let request = Request { ask, moments, claim: Arc::clone(&claim), reply };
        self.requests.try_send(request).map_err(|error| match error {
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
