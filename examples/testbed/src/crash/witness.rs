//! Asks a running gateway again and again what it has, so that something is known when it is killed.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(50);
/// For one answer; then the connection is made again.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the gateway said last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Readings it stored since it started.
    pub stored: u64,
    pub waiting: u64,
    /// Requests to devices without an answer: their readings were never accepted.
    pub timeouts: u64,
}

/// Watches one life of the gateway. Dropping it ends the watch.
pub struct Witness {
    seen: Arc<Mutex<Option<Seen>>>,
    task: JoinHandle<()>,
}

impl Witness {
    #[must_use]
    pub fn start(socket: &Path) -> Witness {
        let seen = Arc::new(Mutex::new(None));
        let task = tokio::spawn(watch(socket.to_owned(), Arc::clone(&seen)));
        Witness { seen, task }
    }

    /// Nothing until it answered once.
    #[must_use]
    pub fn seen(&self) -> Option<Seen> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(socket: PathBuf, seen: Arc<Mutex<Option<Seen>>>) {
    loop {
        // It starts, is busy or was killed: the next try tells.
        let _ = converse(&socket, &seen).await;
        sleep(PAUSE).await;
    }
}

async fn converse(socket: &Path, seen: &Mutex<Option<Seen>>) -> anyhow::Result<()> {
    let stream = timeout(PATIENCE, UnixStream::connect(socket)).await??;
    let (reader, mut writer) = stream.into_split();
    let mut answers = BufReader::new(reader);
    let mut line = String::new();
    loop {
        timeout(PATIENCE, writer.write_all(b"{\"operation\":\"status\"}\n")).await??;
        line.clear();
        if timeout(PATIENCE, answers.read_line(&mut line)).await?? == 0 {
            return Ok(());
        }
        let answer: Value = serde_json::from_str(&line)?;
        let counter = |name: &str| answer["data"]["counters"][name].as_u64();
        if let (Some(stored), Some(waiting)) = (counter("outbox_stored"), counter("outbox_readings")) {
            let timeouts = counter("timeouts").unwrap_or(0);
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Seen { stored, waiting, timeouts });
        }
        sleep(PAUSE).await;
    }
}
