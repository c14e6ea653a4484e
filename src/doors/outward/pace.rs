//! What a visitor may cost: the gateway has one thread for everything, and polling must not wait for somebody who looks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// After work of this visitor that took a millisecond, the next comes no sooner than so many later.
const REST: u32 = 19;
/// Bytes that wait to be sent to one visitor; a line that alone has more goes when nothing else waits.
const MOST_BYTES: usize = 2 << 20;

/// Of one conversation: all that collects values and states takes at most a twentieth of the thread.
#[derive(Debug)]
pub(super) struct Pace(Mutex<Instant>);

impl Pace {
    pub fn new() -> Arc<Pace> {
        Arc::new(Pace(Mutex::new(Instant::now())))
    }

    /// Waits until it may be done. Cancel-safe.
    pub async fn turn(&self) {
        loop {
            let free = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if free <= Instant::now() {
                return;
            }
            sleep_until(free).await;
        }
    }

    /// It was done, and took so long.
    pub fn took(&self, time: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + time * REST;
    }
}

/// A line on its way to the visitor, and its share of what may wait.
#[derive(Debug)]
pub(super) struct Line {
    text: String,
    waiting: Arc<AtomicUsize>,
}

impl Line {
    /// `None`: too much waits already.
    pub fn new(text: String, waiting: &Arc<AtomicUsize>) -> Option<Line> {
        let before = waiting.fetch_add(text.len(), Ordering::Relaxed);
        let line = Line { text, waiting: Arc::clone(waiting) };
        // Dropping it gives its share back.
        (before == 0 || before + line.text.len() <= MOST_BYTES).then_some(line)
    }

    /// What it says; it waits no longer.
    pub fn take(&mut self) -> String {
        self.waiting.fetch_sub(self.text.len(), Ordering::Relaxed);
        std::mem::take(&mut self.text)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.text.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_that_a_visitor_asks_takes_a_twentieth_of_the_thread() {
        let (pace, begun) = (Pace::new(), Instant::now());
        for _ in 0..10 {
            pace.turn().await;
            tokio::time::advance(Duration::from_millis(50)).await;
            pace.took(Duration::from_millis(50));
        }
        pace.turn().await;
        assert!(begun.elapsed() >= Duration::from_secs(10), "{:?} for half a second of work", begun.elapsed());
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_a_long_line_alone_still_goes() {
        let waiting = Arc::default();
        let long = Line::new("x".repeat(MOST_BYTES + 1), &waiting).unwrap();
        assert!(Line::new("x".to_owned(), &waiting).is_none());
        drop(long);
        let some: Vec<Line> = (0..100).map_while(|_| Line::new("x".repeat(MOST_BYTES / 10), &waiting)).collect();
        assert_eq!(some.len(), 10);
        drop(some);
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }
}
