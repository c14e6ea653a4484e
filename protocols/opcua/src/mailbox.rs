//! Where notifications wait for the runtime: bounded, nothing is lost unless it is full, and then the oldest.

use driver::{Sample, SessionError};
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Samples between the subscription's task and [`driver::Session::pushed`].
///
/// Full policy: each point keeps only its newest sample, and what went is counted.
pub(crate) struct Mailbox {
    content: Mutex<Content>,
    filled: Notify,
    capacity: usize,
}

#[derive(Default)]
struct Content {
    samples: Vec<Sample>,
    coalesced: u64,
    error: Option<SessionError>,
}

impl Mailbox {
    /// Room for eight samples of every point, so that coalescing always leaves most of it free.
    pub(crate) fn new(points: usize) -> Mailbox {
        Mailbox { content: Mutex::default(), filled: Notify::new(), capacity: (points * 8).max(1024) }
    }

    /// Adds samples in order.
    pub(crate) fn put(&self, samples: impl Iterator<Item = Sample>) {
        let mut content = self.lock();
        for sample in samples {
            if content.samples.len() >= self.capacity {
                content.coalesce();
            }
            content.samples.push(sample);
        }
        drop(content);
        self.filled.notify_one();
    }

    /// Says why no more will come; the first reason stays.
    pub(crate) fn fail(&self, error: SessionError) {
        self.lock().error.get_or_insert(error);
        self.filled.notify_one();
    }

    pub(crate) fn error(&self) -> Option<SessionError> {
        self.lock().error.clone()
    }

    /// Waits for samples and appends them. Cancel-safe: nothing is taken before the last await.
    pub(crate) async fn take(&self, into: &mut Vec<Sample>) -> Result<(), SessionError> {
        loop {
            if let Some(answer) = self.try_take(into) {
                return answer;
            }
            self.filled.notified().await;
        }
    }

    fn try_take(&self, into: &mut Vec<Sample>) -> Option<Result<(), SessionError>> {
        let mut content = self.lock();
        if content.samples.is_empty() {
            return content.error.clone().map(Err);
        }
        into.append(&mut content.samples);
        let coalesced = std::mem::take(&mut content.coalesced);
        drop(content);
        if coalesced > 0 {
            tracing::warn!(samples = coalesced, "notifications came faster than they were taken; older ones went");
        }
        Some(Ok(()))
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn coalesce(&mut self) {
        let before = self.samples.len();
        let mut seen = HashSet::new();
        self.samples.reverse();
        self.samples.retain(|sample| seen.insert(sample.point));
        self.samples.reverse();
        self.coalesced += (before - self.samples.len()) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::{Datum, Timestamp, Value};

    fn sample(point: u32, n: i64) -> Sample {
        Sample { point, time: Timestamp(n), datum: Datum::Good(Value::Int(n)) }
    }

    #[tokio::test]
    async fn samples_come_out_in_order_and_the_error_after_them() {
        let mailbox = Mailbox::new(2);
        mailbox.put([sample(0, 1), sample(1, 2), sample(0, 3)].into_iter());
        mailbox.fail(SessionError::Broken("x".into()));
        mailbox.fail(SessionError::Broken("later".into()));
        let mut got = Vec::new();
        mailbox.take(&mut got).await.expect("samples first");
        assert_eq!(got, [sample(0, 1), sample(1, 2), sample(0, 3)]);
        assert_eq!(mailbox.take(&mut got).await, Err(SessionError::Broken("x".into())));
    }

    #[tokio::test]
    async fn a_full_mailbox_keeps_the_newest_of_every_point() {
        let mailbox = Mailbox::new(2);
        mailbox.put((0..100_000).map(|n| sample(u32::try_from(n % 2).expect("0 or 1"), n)));
        let mut got = Vec::new();
        mailbox.take(&mut got).await.expect("samples");
        assert!(got.len() <= 1024, "{}", got.len());
        assert_eq!(got[got.len() - 2..], [sample(0, 99_998), sample(1, 99_999)]);
    }

    #[tokio::test]
    async fn a_dropped_wait_loses_nothing() {
        let mailbox = Mailbox::new(1);
        let mut got = Vec::new();
        {
            let mut wait = std::pin::pin!(mailbox.take(&mut got));
            let pending = std::future::poll_fn(|cx| std::task::Poll::Ready(wait.as_mut().poll(cx).is_pending())).await;
            assert!(pending);
            mailbox.put([sample(0, 7)].into_iter());
        }
        mailbox.take(&mut got).await.expect("still there");
        assert_eq!(got, [sample(0, 7)]);
    }
}
