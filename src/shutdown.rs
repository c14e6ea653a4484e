//! Stop in order, each part within its time, and name whoever is late.

use std::future::Future;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// What one part may take between SIGTERM and exit.
pub const PART: Duration = Duration::from_millis(1500);

/// What the last one may take: it stores what waits, and the disk may be slow.
pub const LAST: Duration = Duration::from_secs(15);

/// What an orderly stop takes at most: the package's flag, the sub-devices, all that talk to others, what is to be told,
/// each a [`PART`]; then [`LAST`]. Whoever starts an engine waits so long for it, and TimeoutStopSec= of the unit is longer.
pub const WHOLE: Duration = Duration::from_secs(22);

/// Waits for one part to stop; a late one is named and left behind.
pub async fn part(name: &str, stopping: impl Future<Output = ()>) {
    if tokio::time::timeout(PART, stopping).await.is_err() {
        tracing::error!(part = name, within = ?PART, "does not stop in time; going on without it");
    }
}

/// Waits for tasks that were all told to stop, within the time of one part: how many there are does not matter.
pub async fn parts(tasks: impl IntoIterator<Item = (&'static str, JoinHandle<()>)>) {
    let until = Instant::now() + PART;
    for (name, task) in tasks {
        if timeout_at(until, task).await.is_err() {
            tracing::error!(part = name, within = ?PART, "does not stop in time; going on without it");
        }
    }
}

/// The signals that concern the daemon, watched from now on.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// # Errors
    /// When the process can not watch for signals.
    pub fn watch() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves on SIGTERM or SIGINT, and once more on the next. SIGHUP, which ends a process that does not know it, is
    /// told and let pass: nothing is read anew yet, and a log rotation or a closed terminal must not stop a gateway.
    /// Cancel-safe.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => tracing::warn!("SIGHUP: nothing is read anew; restart to take a new package"),
            }
        }
    }
}

/// Asks for the same orderly end from inside: whoever started the engine starts it again.
#[derive(Clone, Default)]
pub struct Restart(std::sync::Arc<tokio::sync::Notify>);

impl Restart {
    pub fn ask(&self) {
        self.0.notify_one();
    }

    /// Resolves when somebody asked. Cancel-safe.
    pub async fn asked(&self) {
        self.0.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_that_hangs_does_not_hold_the_others() {
        let begun = tokio::time::Instant::now();
        part("hanging", std::future::pending()).await;
        assert_eq!(begun.elapsed(), PART);
        let hangs = |_| ("hanging", tokio::spawn(std::future::pending()));
        parts((0..40).map(hangs)).await;
        assert_eq!(begun.elapsed(), PART * 2);
    }

    #[test]
    fn a_slow_gateway_is_given_its_time_by_the_launcher_and_by_the_unit() {
        // Beside what each part has, the runtime ends its threads.
        assert!(PART * 4 + LAST + Duration::from_millis(200) <= WHOLE);
        let unit = include_str!("../packaging/systemd/enos-edge.service");
        let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
        // The launcher waits so long for an engine on trial, and has to end itself.
        assert!(Duration::from_secs(seconds.parse().unwrap()) > WHOLE + Duration::from_secs(5));
    }
}
