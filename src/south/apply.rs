//! Another package, by difference: what has not changed keeps its session, its timers and what it learned.

use super::lines::{Handle, Lines};
use super::{South, start};
use crate::model::site::Running;
use crate::model::{Connection, Site};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// A kept connection takes the new numbers between two batches: a scan that is under way is waited for.
const NUMBERS_PATIENCE: Duration = Duration::from_secs(10);

/// What became of the connections, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Gone on as they are.
    pub kept: Vec<String>,
    pub started: Vec<String>,
    pub stopped: Vec<String>,
    /// Of the stopped ones, those whose driver was late and had to be cut off.
    pub cut_off: Vec<String>,
}

impl South {
    /// Applies another package. Its names must be known to the outbox already. Changed and removed connections finish
    /// their request within `within`; only then are the changed ones started, for a peer may take one session only.
    /// What takes time with many devices is done beside the thread that reads them.
    pub async fn apply(&self, site: &Arc<Site>, within: Duration) -> Applied {
        let stopped = self.turn.lock().await;
        if *stopped {
            return Applied::default();
        }
        let old = self.now();
        let mut applied = Applied::default();
        let wanted: HashMap<&str, &Connection> = site.connections.iter().map(|c| (c.name.as_str(), c)).collect();
        let same = |line: &Arc<Handle>| wanted.get(line.live.name.as_str()).is_some_and(|c| goes_on(line, c));
        let (kept, gone): (Vec<Arc<Handle>>, Vec<_>) = old.all().iter().cloned().partition(same);
        let deadline = Instant::now() + within;
        gone.iter().for_each(|line| line.tell(deadline));
        applied.stopped = gone.iter().map(|line| line.live.name.clone()).collect();
        applied.cut_off = ended(gone.iter(), deadline).await;
        applied.kept = kept.iter().map(|line| line.live.name.clone()).collect();
        let kept: HashMap<String, Arc<Handle>> = kept.into_iter().map(|line| (line.live.name.clone(), line)).collect();
        let is_new = |name: &str| !kept.contains_key(name);
        applied.started = site.connections.iter().map(|c| c.name.clone()).filter(|name| is_new(name)).collect();
        let (site, inlet, counters) = (Arc::clone(site), Arc::clone(&self.inlet), Arc::clone(&self.counters));
        let begun = spawn_blocking(move || {
            let find = |connection: &Connection| kept.get(&connection.name).cloned();
            Arc::new(start::lines(&site, &inlet, &counters, find))
        });
        // The runtime goes away, and all tasks with it.
        let Ok(lines) = begun.await else { return applied };
        // It is replaced as a whole.
        let before =
            std::mem::replace(&mut *self.lines.write().unwrap_or_else(PoisonError::into_inner), Arc::clone(&lines));
        until_numbered(&lines).await;
        // Giving back the values of many devices takes its time, too. Nobody waits for it.
        drop(spawn_blocking(move || drop((old, before, gone))));
        applied
    }
}

fn goes_on(line: &Handle, connection: &Connection) -> bool {
    let running = Running { inputs: &line.inputs, devices: line.live.devices.len() };
    connection.continues(&running) && line.task.seen.has_changed().is_ok()
}

/// Waits until every task counts by the new names. One that is late goes on with the old ones, which stay known.
async fn until_numbered(lines: &Lines) {
    let deadline = Instant::now() + NUMBERS_PATIENCE;
    for line in lines.all() {
        let mut seen = line.task.seen.clone();
        let numbered = seen.wait_for(|epoch| *epoch == lines.epoch);
        if tokio::time::timeout_at(deadline, numbered).await.is_err() {
            tracing::warn!(connection = %line.live.name, "a long scan still counts by the package before");
        }
    }
}

/// Waits for tasks that were told to end, and names those that had to be cut off.
pub(super) async fn ended(lines: impl Iterator<Item = &Arc<Handle>>, deadline: Instant) -> Vec<String> {
    let mut late = Vec::new();
    for line in lines {
        let task = line.task.join.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { continue };
        let ended = tokio::time::timeout_at(deadline, &mut task).await;
        if !matches!(ended, Ok(Ok(true))) {
            task.abort();
            late.push(line.live.name.clone());
        }
    }
    late
}
