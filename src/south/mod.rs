//! Toward the sub-devices: connections, their schedules, and everything between a session and the outbox.

mod apply;
mod backoff;
mod breaker;
mod commands;
mod connection;
mod guard;
mod lines;
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
mod transfer;

pub use apply::Applied;
pub use commands::PlannedWrite;
pub use lines::Lines;
pub use request::{AskError, Moments};
pub use status::{ConnectionState, ConnectionStatus, DeviceState, DeviceStatus, Filter, PointNow, Shown, SouthStatus};
pub use tap::{Capture, Frame};

use crate::model::{Inlet, Site, Value};
use crate::telemetry::Counters;
use request::Request;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// All connections of a loaded package, running. Another package is applied by difference.
pub struct South {
    lines: RwLock<Arc<Lines>>,
    inlet: Arc<dyn Inlet>,
    counters: Arc<Counters>,
    /// Held by whoever changes the lines; true when all were stopped for good.
    turn: Mutex<bool>,
}

/// A wait, up to a quarter shorter so that many do not go in step; in whole milliseconds, as people read it in a log.
/// `jitter` in 0..1.
fn jittered(wait: Duration, jitter: f64) -> Duration {
    let part = wait.mul_f64(0.75 + jitter.clamp(0.0, 1.0) / 4.0);
    Duration::from_millis(u64::try_from(part.as_millis()).unwrap_or(u64::MAX))
}

impl South {
    /// Starts one task a connection. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(site: &Site, inlet: Arc<dyn Inlet>, counters: Arc<Counters>) -> South {
        let lines = start::lines(site, &inlet, &counters, |_| None);
        South { lines: RwLock::new(Arc::new(lines)), inlet, counters, turn: Mutex::new(false) }
    }

    /// The connections of this moment. What is asked of them by number means the package they were made for, whatever
    /// is applied later.
    #[must_use]
    pub fn now(&self) -> Arc<Lines> {
        // It is replaced as a whole.
        Arc::clone(&self.lines.read().unwrap_or_else(PoisonError::into_inner))
    }

    #[must_use]
    pub fn status(&self) -> SouthStatus {
        self.now().status()
    }

    /// The latest values. Costs memory in proportion to what passes the filter.
    #[must_use]
    pub fn values(&self, filter: &Filter) -> Vec<PointNow> {
        self.now().values(filter)
    }

    /// As [`Lines::read_now`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_now(&self, connection: &str, device: &str, limit: Duration) -> Result<Vec<PointNow>, AskError> {
        self.now().read_now(connection, device, limit).await
    }

    /// As [`Lines::write`].
    ///
    /// # Errors
    /// As there.
    pub async fn write(&self, connection: &str, point: u32, value: &Value, limit: Duration) -> Result<(), AskError> {
        self.now().write(connection, point, value, limit).await
    }

    /// As [`Lines::write_measurepoint`].
    ///
    /// # Errors
    /// As there.
    pub async fn write_measurepoint(
        &self,
        device: u32,
        measurepoint: u32,
        value: &Value,
        limit: Duration,
    ) -> Result<(), AskError> {
        self.now().write_measurepoint(device, measurepoint, value, limit).await
    }

    /// Listens to the raw frames of a connection until the capture is dropped.
    ///
    /// # Errors
    /// When the connection is not known.
    pub fn capture(&self, connection: &str) -> Result<Capture, AskError> {
        self.now().capture(connection)
    }

    /// Lets every connection finish its current request and close its session, and names those whose driver was late
    /// and had to be cut off. Nothing is applied afterwards.
    pub async fn stop(&self, within: Duration) -> Vec<String> {
        let deadline = Instant::now() + within;
        let lines = self.now();
        // Told at once, so that they end side by side; a package that is being applied is waited for at most so long.
        lines.all().iter().for_each(|line| line.tell(deadline));
        if let Ok(mut stopped) = tokio::time::timeout_at(deadline, self.turn.lock()).await {
            *stopped = true;
        }
        let lines = self.now();
        lines.all().iter().for_each(|line| line.tell(deadline));
        apply::ended(lines.all().iter(), deadline).await
    }
}
