//! Lets a communication test see the raw frames of a connection. Off, and free of cost, unless somebody listens.

use driver::{Direction, FrameTap, Timestamp};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::broadcast;

/// Frames kept for a listener that is slow; then it loses the oldest and is told how many.
const KEPT: usize = 1024;

/// One frame as it went over the wire.
#[derive(Clone, Debug)]
pub struct Frame {
    pub direction: Direction,
    pub time: Timestamp,
    pub bytes: Arc<[u8]>,
}

/// The tap of one connection, handed to every session.
#[derive(Default)]
pub struct Tap {
    listeners: AtomicUsize,
    /// Made for the first listener: room for all frames kept is 60 kB a connection.
    frames: OnceLock<broadcast::Sender<Frame>>,
}

impl FrameTap for Tap {
    fn frame(&self, direction: Direction, bytes: &[u8]) {
        if self.listeners.load(Ordering::Relaxed) > 0
            && let Some(frames) = self.frames.get()
        {
            // Fails only when the last listener has just left.
            let _ = frames.send(Frame { direction, time: Timestamp::now(), bytes: bytes.into() });
        }
    }
}

/// Somebody listening; the tap is off again when the last one is dropped.
pub struct Capture {
    tap: Arc<Tap>,
    frames: broadcast::Receiver<Frame>,
}

impl Capture {
    pub(super) fn new(tap: &Arc<Tap>) -> Capture {
        let frames = tap.frames.get_or_init(|| broadcast::channel(KEPT).0).subscribe();
        tap.listeners.fetch_add(1, Ordering::Relaxed);
        Capture { tap: Arc::clone(tap), frames }
    }

    /// Both listen to the same conversation.
    #[must_use]
    pub fn is_of(&self, other: &Capture) -> bool {
        Arc::ptr_eq(&self.tap, &other.tap)
    }

    /// The next frame, or `Err` with the number of frames lost because the listener was slow. Cancel-safe.
    ///
    /// # Errors
    /// The number of frames that were lost.
    pub async fn next(&mut self) -> Result<Frame, u64> {
        match self.frames.recv().await {
            Ok(frame) => Ok(frame),
            Err(broadcast::error::RecvError::Lagged(lost)) => Err(lost),
            Err(broadcast::error::RecvError::Closed) => unreachable!("the capture holds the tap and so its sender"),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.tap.listeners.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tap_is_off_until_somebody_listens_and_drops_the_oldest_for_the_slow() {
        let tap = Arc::new(Tap::default());
        tap.frame(Direction::Sent, b"unseen");
        assert!(tap.frames.get().is_none(), "room for frames that nobody hears");
        let mut capture = Capture::new(&tap);
        for i in 0..=KEPT {
            tap.frame(Direction::Received, &i.to_le_bytes());
        }
        assert_eq!(capture.next().await.unwrap_err(), 1);
        assert_eq!(&*capture.next().await.unwrap().bytes, 1usize.to_le_bytes());
        drop(capture);
        assert_eq!(tap.listeners.load(Ordering::Relaxed), 0);
    }
}
