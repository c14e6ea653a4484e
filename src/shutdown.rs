//! Stop in order, each part within its time, and name whoever is late.

use std::future::Future;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What one part may take between SIGTERM and exit.
pub const PART: Duration = Duration::from_millis(1500);

/// What the last one may take: it stores what waits, and the disk may be slow. Together they stay below TimeoutStopSec= of
/// the unit.
pub const LAST: Duration = Duration::from_secs(15);

/// Waits for one part to stop; a late one is named and left behind.
pub async fn part(name: &str, stopping: impl Future<Output = ()>) {
    if tokio::time::timeout(PART, stopping).await.is_err() {
        tracing::error!(part = name, within = ?PART, "does not stop in time; going on without it");
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
    }
}
