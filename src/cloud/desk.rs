//! Where questions of people wait for the link. A bounded queue: when it is full the next question is refused.

use crate::model::cloud_ask::{CloudAsk, Wish};
use driver::Answer;
use serde_json::Value as Json;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// People ask one at a time.
const MOST: usize = 8;
/// Longer than the longest time the cloud may take (`reply_timeout_ms`) would not help anybody who waits at a prompt.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who asked gets this.
pub type Told = oneshot::Sender<Result<Json, String>>;

#[derive(Debug, Default)]
pub struct AskDesk {
    inner: Mutex<Inner>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    up: bool,
    waiting: VecDeque<(Wish, Told)>,
}

impl AskDesk {
    /// The link stands, or is gone: then nobody waits for it.
    pub fn set_up(&self, up: bool) {
        let mut inner = self.lock();
        inner.up = up;
        if !up {
            inner.waiting.clear();
        }
    }

    /// The next question of somebody who still waits.
    #[must_use]
    pub fn take(&self) -> Option<(Wish, Told)> {
        let mut inner = self.lock();
        loop {
            let (wish, told) = inner.waiting.pop_front()?;
            if !told.is_closed() {
                return Some((wish, told));
            }
        }
    }

    /// Resolves when there may be a new question. Cancel-safe.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CloudAsk for AskDesk {
    fn ask(&self, wish: Wish) -> Answer<'_, Result<Json, String>> {
        Box::pin(async move {
            let (told, answer) = oneshot::channel();
            {
                let mut inner = self.lock();
                if !inner.up {
                    return Err("the link to the cloud is down".to_owned());
                }
                if inner.waiting.len() >= MOST {
                    return Err("too many questions wait; try again".to_owned());
                }
                inner.waiting.push_back((wish, told));
            }
            self.news.notify_one();
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err("the link to the cloud was lost meanwhile".to_owned()),
                Err(_) => Err("the cloud did not answer".to_owned()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(start_paused = true)]
    async fn every_question_ends() {
        let desk = Arc::new(AskDesk::default());
        assert!(desk.ask(Wish::Topology).await.unwrap_err().contains("down"));
        desk.set_up(true);
        assert!(desk.ask(Wish::Topology).await.unwrap_err().contains("did not answer"), "after its patience");
        assert!(desk.take().is_none(), "nobody waits for that one");
        let asked = tokio::spawn({
            let desk = Arc::clone(&desk);
            async move { desk.ask(Wish::Versions { device: None }).await }
        });
        desk.news().await;
        desk.news().await;
        let (wish, told) = desk.take().unwrap();
        assert_eq!(wish, Wish::Versions { device: None });
        told.send(Ok(Json::Null)).unwrap();
        assert_eq!(asked.await.unwrap(), Ok(Json::Null));
        let asked = tokio::spawn({
            let desk = Arc::clone(&desk);
            async move { desk.ask(Wish::Versions { device: None }).await }
        });
        desk.news().await;
        desk.set_up(false);
        assert!(asked.await.unwrap().unwrap_err().contains("lost"));
    }
}
