//! Long work that somebody asked for at the door: it goes on when nobody waits, and may be asked after.

use crate::operate::Refusal;
use serde_json::{Value as Json, json};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Below what a door waits for an answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Jobs that are remembered; the oldest that is done goes, and when none is done a new one is refused.
const REMEMBERED: usize = 16;

type Done = Option<Result<Json, Refusal>>;

/// What was asked for, the newest last.
#[derive(Default)]
pub(super) struct Jobs(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    last: u64,
    jobs: VecDeque<(u64, watch::Receiver<Done>)>,
}

impl Jobs {
    /// The outcome, or `{"under_way": true, "job": N}` when it takes longer than anybody waits.
    ///
    /// # Errors
    /// Those of the work, or too much of it.
    pub async fn run(
        &self,
        work: impl Future<Output = Result<Json, Refusal>> + Send + 'static,
    ) -> Result<Json, Refusal> {
        let (told, done) = watch::channel(None);
        let number = self.enter(done)?;
        tokio::spawn(async move {
            let outcome = work.await;
            // Nobody may remember it any more.
            let _ = told.send(Some(outcome));
        });
        self.ask(number).await
    }

    /// What became of a job; waits a while for it.
    ///
    /// # Errors
    /// Those of the work, or when nobody remembers it.
    pub async fn ask(&self, number: u64) -> Result<Json, Refusal> {
        let found = self.lock().jobs.iter().find(|(each, _)| *each == number).map(|(_, done)| done.clone());
        let unknown =
            || Refusal::new("unknown_job", format!("job {number} is not known any more; `package history` tells"));
        let mut done = found.ok_or_else(unknown)?;
        match timeout(PATIENCE, done.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(unknown())),
            Ok(Err(_)) => Err(Refusal::new("failed", "the work failed in the middle")),
            Err(_) => Ok(json!({ "under_way": true, "job": number })),
        }
    }

    fn enter(&self, done: watch::Receiver<Done>) -> Result<u64, Refusal> {
        let mut waiting = self.lock();
        if waiting.jobs.len() >= REMEMBERED {
            let over = waiting.jobs.iter().position(|(_, done)| done.borrow().is_some() || done.has_changed().is_err());
            let over = over.ok_or_else(|| Refusal::new("busy", "too much is under way; ask again in a while"))?;
            waiting.jobs.remove(over);
        }
        waiting.last += 1;
        let number = waiting.last;
        waiting.jobs.push_back((number, done));
        Ok(number)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Every change is whole before the lock is given back.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::time::sleep;

    #[tokio::test(start_paused = true)]
    async fn long_work_is_asked_after_and_never_called_a_timeout() {
        let jobs = Jobs::default();
        let work = async {
            sleep(Duration::from_secs(70)).await;
            Ok(json!("done"))
        };
        let mut answer = jobs.run(work).await.unwrap();
        let mut asked = 0;
        while answer["under_way"] == true {
            answer = jobs.ask(answer["job"].as_u64().unwrap()).await.unwrap();
            asked += 1;
        }
        assert_eq!((answer, asked), (json!("done"), 3));
        assert_eq!(jobs.run(async { Ok(json!(1)) }).await.unwrap(), 1, "short work is answered at once");
        assert_eq!(jobs.ask(99).await.unwrap_err().code, "unknown_job");
        let broken = jobs.run(async { Err(Refusal::new("refused", "no")) }).await.unwrap_err();
        assert_eq!(
            (broken.code, jobs.ask(3).await.unwrap_err().code),
            ("refused", "refused"),
            "and may be asked twice"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_goes_on_when_whoever_asked_has_gone_and_a_crowd_is_refused() {
        let jobs = Arc::<Jobs>::default();
        let asking = |jobs: Arc<Jobs>| {
            tokio::spawn(async move {
                jobs.run(async {
                    sleep(Duration::from_secs(30)).await;
                    Ok(json!("done"))
                })
                .await
            })
        };
        let visitors: Vec<_> = (0..REMEMBERED).map(|_| asking(Arc::clone(&jobs))).collect();
        tokio::task::yield_now().await;
        visitors.iter().for_each(tokio::task::JoinHandle::abort);
        assert_eq!(asking(Arc::clone(&jobs)).await.unwrap().unwrap_err().code, "busy");
        sleep(Duration::from_secs(31)).await;
        assert_eq!(jobs.ask(1).await.unwrap(), "done");
        jobs.run(async { Ok(json!(1)) }).await.unwrap();
    }
}
