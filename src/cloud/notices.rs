//! What the gateway tells the cloud of itself, until the cloud has it. A bounded queue: when it is full the oldest goes.

use crate::model::{Notice, Notices};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A gateway has little to tell; more than this is the same trouble again and again.
const MOST: usize = 64;

/// Survives reconnects; written by any part, emptied by the link.
#[derive(Debug, Default)]
pub struct NoticeQueue {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    notices: VecDeque<(u64, Notice)>,
    last: u64,
    dropped: u64,
}

impl NoticeQueue {
    /// The oldest, with the number it is acknowledged by.
    #[must_use]
    pub fn first(&self) -> Option<(u64, Notice)> {
        self.lock().notices.front().cloned()
    }

    /// The cloud has it, or will never take it.
    pub fn done(&self, number: u64) {
        self.lock().notices.retain(|(each, _)| *each != number);
    }

    /// How many wait, and how many were dropped because too many waited.
    #[must_use]
    pub fn counts(&self) -> (usize, u64) {
        let waiting = self.lock();
        (waiting.notices.len(), waiting.dropped)
    }

    /// Resolves when there may be a new one. Cancel-safe.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change is whole before the lock is given back.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notices for NoticeQueue {
    fn tell(&self, notice: Notice) {
        let mut waiting = self.lock();
        waiting.last += 1;
        let number = waiting.last;
        waiting.notices.push_back((number, notice));
        if waiting.notices.len() > MOST {
            waiting.notices.pop_front();
            waiting.dropped += 1;
        }
        drop(waiting);
        self.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn notice(at: i64) -> Notice {
        Notice { event: "e".to_owned(), fields: serde_json::Map::new(), at: Timestamp(at) }
    }

    #[test]
    fn a_full_queue_lets_the_oldest_go_and_counts_it() {
        let queue = NoticeQueue::default();
        for at in 0..70 {
            queue.tell(notice(at));
        }
        assert_eq!(queue.counts(), (64, 6));
        let (number, first) = queue.first().unwrap();
        assert_eq!(first.at, Timestamp(6));
        queue.done(number);
        queue.done(number);
        assert_eq!((queue.first().unwrap().1.at, queue.counts().0), (Timestamp(7), 63));
    }
}
