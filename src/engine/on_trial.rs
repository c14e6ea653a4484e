//! The engine on trial looks at itself, and says when it is proven. What it finds is shown in status.

use super::slots::{Slots, baseline};
use super::trial::{Claim, Judge, Look, SETTLE, Verdict};
use super::{Record, Trial};
use crate::version;
use serde_json::{Value as Json, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// The running gateway as a trial sees it.
pub trait Observe: Send + Sync {
    fn look(&self) -> Look;
    /// The cloud acknowledged a message within the last hour.
    fn acknowledged_lately(&self) -> bool;
}

/// What a trial has shown so far.
#[derive(Debug, Default)]
pub struct Shown(Mutex<Told>);

#[derive(Clone, Debug, Default)]
struct Told {
    claims: Vec<Claim>,
    waits_for: String,
}

impl Shown {
    #[must_use]
    pub fn waits_for(&self) -> String {
        self.told().waits_for.clone()
    }

    fn put(&self, judge: &Judge) {
        *self.told() = Told { claims: judge.claims().to_vec(), waits_for: judge.waits_for() };
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        // Replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `status` and `engine list` show.
#[must_use]
pub fn status(slots: &Slots, shown: &Shown) -> Json {
    let record = match slots.record() {
        Ok(record) => record,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let mut status = describe(&record);
    status["version"] = json!(version::current());
    status["place"] = json!(slots.started().place.word());
    status["launched"] = json!(slots.started().packaged.is_some());
    if record.trial.is_some() {
        let told = shown.told().clone();
        status["trial"]["claims"] = json!(told.claims);
        status["trial"]["waits_for"] = json!(told.waits_for);
    }
    status
}

/// The pointer for people and scripts. The baseline is left out: it is long.
#[must_use]
pub fn describe(record: &Record) -> Json {
    let trial = |trial: &Trial| {
        json!({
            "job": trial.job, "version": trial.version, "window_s": trial.window_ms / 1000, "failed": trial.failed,
        })
    };
    json!({
        "current": record.current,
        "previous": record.previous,
        "packaged": record.packaged,
        "slots": record.slots,
        "trial": record.trial.as_ref().map(trial),
        "last": record.last,
    })
}

/// The trial of this very engine, if it is on one.
#[must_use]
pub fn own_trial(slots: &Slots) -> Option<Trial> {
    let record = slots.record().ok()?;
    record.trial.filter(|_| slots.started().place == record.current && record.current.slot().is_some())
}

/// Looks until the engine is proven, has failed, or the pointer says something else. Answers why it must go.
pub async fn watch(slots: Arc<Slots>, trial: Trial, observe: Arc<dyn Observe>, shown: Arc<Shown>) -> Option<String> {
    let mut judge = Judge::new(baseline(&trial), &trial.version, version::current(), settle(&trial));
    let began = Instant::now();
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let verdict = judge.look(began.elapsed(), &observe.look());
        shown.put(&judge);
        match verdict {
            Verdict::OnTrial => {}
            Verdict::Failed(why) => {
                tracing::error!(version = %trial.version, why, "this engine fails its trial");
                write(&slots, why.clone(), |slots, why| slots.fail(why)).await;
                return Some(why);
            }
            Verdict::Proven => {
                let words: Vec<&str> = judge.claims().iter().map(|claim| claim.words.as_str()).collect();
                // A disk that does not take it is asked again: until then it is on trial.
                if write(&slots, words.join("; "), |slots, why| slots.confirm(why)).await {
                    tracing::info!(version = %trial.version, "this engine has proven itself and is the one from now on");
                    return None;
                }
            }
        }
    }
}

/// A short trial settles sooner.
fn settle(trial: &Trial) -> Duration {
    SETTLE.min(Duration::from_millis(trial.window_ms / 4))
}

async fn write(slots: &Arc<Slots>, why: String, act: fn(&Slots, &str) -> std::io::Result<()>) -> bool {
    let slots = Arc::clone(slots);
    let done = tokio::task::spawn_blocking(move || act(&slots, &why)).await;
    match done {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(%error, "how the trial stands can not be written down");
            false
        }
        Err(_) => false,
    }
}
