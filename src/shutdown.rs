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

/// Resolves on SIGTERM or SIGINT.
///
/// # Errors
/// When the process can not watch for signals.
pub fn signal() -> std::io::Result<impl Future<Output = &'static str>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
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
