//! Stop in order, each part within its time, and name whoever is late.

use std::future::Future;
use std::time::Duration;

/// SIGTERM to exit, at most. Three parts share it with room for the last fsync.
pub const PART: Duration = Duration::from_millis(1500);

/// Waits for one part to stop; a late one is named and left behind.
pub async fn part(name: &str, stopping: impl Future<Output = ()>) {
    if tokio::time::timeout(PART, stopping).await.is_err() {
        tracing::error!(part = name, within = ?PART, "does not stop in time; going on without it");
    }
}

/// Resolves on SIGTERM or SIGINT. SIGHUP, which ends a process that does not know it, is told and let pass: nothing is
/// read anew yet, and a log rotation or a closed terminal must not stop a gateway.
///
/// # Errors
/// When the process can not watch for signals.
pub fn signal() -> std::io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return "SIGTERM",
                _ = interrupt.recv() => return "SIGINT",
                _ = hangup.recv() => tracing::warn!("SIGHUP: nothing is read anew; restart to take a new package"),
            }
        }
    })
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
