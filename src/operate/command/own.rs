//! Services of the gateway itself: the same contract as those of devices, on disk before they are begun.

use super::field::By;
use super::{Inner, Job};
use crate::model::command::code;
use crate::model::{Asked, Outcome};
use serde_json::{Map, Value as Json};
use tokio::time::{Instant, timeout_at};

impl Inner {
    pub(super) async fn own_service(&self, job: &Job, service: &str, input: &Map<String, Json>, by: By) -> Outcome {
        let asked = Asked { door: &job.command.door, id: job.command.id.as_deref(), service, input };
        let prepared = match self.own.get() {
            Some(own) => own.prepare(asked),
            None => Err(Outcome::refused(code::NOT_IMPLEMENTED, "the gateway itself has no services")),
        };
        let work = match prepared {
            Ok(work) => work,
            Err(outcome) => return self.refuse(job, outcome).await,
        };
        if let Err(error) = self.record.begin(job.identified.clone(), self.note(job, "begun", None)).await {
            return self.refuse_unrecorded(job, &error);
        }
        if Instant::now() >= by.start {
            let words = "noting it down took longer than it was good for; nothing was done";
            return self.end(job, Outcome::refused(code::EXPIRED, words)).await;
        }
        let late = |_| Outcome::refused(code::UNCONFIRMED, "it was not done in time, and may be done later");
        let outcome = timeout_at(by.end, work).await.unwrap_or_else(late);
        self.end(job, outcome).await
    }
}
