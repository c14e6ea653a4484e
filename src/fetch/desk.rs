//! The one hand-over of all ways in: one archive at a time, and the cloud is told how far it is.

use crate::diagnostic::Diagnostic;
use crate::model::{Accepted, Arrivals, Notices, Origin, Publish, Refused, Stage, Timestamp};
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Mutex;

/// Faults that are told to whoever sent the archive.
const FAULTS: usize = 100;

/// Where archives are handed over.
pub struct Desk {
    arrivals: Arc<dyn Arrivals>,
    notices: Arc<dyn Notices>,
    /// A second archive waits: two switches at once help nobody.
    turn: Mutex<()>,
}

impl Desk {
    #[must_use]
    pub fn new(arrivals: Arc<dyn Arrivals>, notices: Arc<dyn Notices>) -> Desk {
        Desk { arrivals, notices, turn: Mutex::new(()) }
    }

    /// What becomes of it from here on is told by whoever takes it.
    ///
    /// # Errors
    /// Why the archive is not used.
    pub async fn hand_over(&self, path: &Path, from: Origin) -> Result<Accepted, Refused> {
        let _turn = self.turn.lock().await;
        let about = [("sha256", json!(from.sha256)), ("bytes", json!(from.bytes))];
        self.tell(&from.publish, Stage::Verified, "", &about);
        let outcome = self.arrivals.arrived(path, from.clone()).await;
        match &outcome {
            Ok(accepted) => tracing::info!(
                source = from.source,
                package = accepted.package,
                outcome = accepted.outcome,
                "package taken"
            ),
            Err(refused) => tracing::warn!(
                source = from.source,
                sha256 = from.sha256,
                reason = refused.reason,
                faults = refused.faults.len(),
                "package refused"
            ),
        }
        outcome
    }

    pub(super) fn tell(&self, publish: &Publish, stage: Stage, message: &str, more: &[(&str, Json)]) {
        let notice = publish.notice(stage, message, more, Timestamp::now());
        if stage == Stage::Progress { self.notices.tell_in_passing(notice) } else { self.notices.tell(notice) }
    }
}

/// The outcome for a program: `{"taken": true, …}` or `{"taken": false, "faults": […]}`.
#[must_use]
pub(super) fn told(outcome: &Result<Accepted, Refused>) -> Json {
    match outcome {
        Ok(accepted) => json!({ "taken": true, "package": accepted.package, "outcome": accepted.outcome }),
        Err(refused) => {
            let fault = |fault: &Diagnostic| {
                json!({
                    "file": &*fault.place.file, "line": fault.place.line, "column": fault.place.column,
                    "problem": fault.problem, "help": fault.help, "text": fault.to_string(),
                })
            };
            let faults: Vec<Json> = refused.faults.iter().take(FAULTS).map(fault).collect();
            json!({
                "taken": false, "step": format!("{:?}", refused.at).to_lowercase(), "reason": refused.reason, "passing": refused.passing,
                "faults": faults, "faults_in_all": refused.faults.len(),
            })
        }
    }
}

#[cfg(test)]
pub(super) mod recorder {
    //! Remembers what arrives, and answers as it is told.

    use super::*;
    use crate::model::Notice;
    use driver::Answer;
    use std::sync::Mutex as Lock;

    #[derive(Default)]
    pub(in crate::fetch) struct Recorder {
        pub arrived: Lock<Vec<(Origin, Vec<u8>)>>,
        pub refuse: Lock<Option<Refused>>,
        pub told: Lock<Vec<Notice>>,
    }

    impl Arrivals for Recorder {
        fn arrived<'a>(&'a self, path: &'a Path, from: Origin) -> Answer<'a, Result<Accepted, Refused>> {
            Box::pin(async move {
                self.arrived.lock().unwrap().push((from, std::fs::read(path).unwrap()));
                match self.refuse.lock().unwrap().clone() {
                    Some(refused) => Err(refused),
                    None => Ok(Accepted { package: "site 1.0".to_owned(), outcome: "runs".to_owned() }),
                }
            })
        }
    }

    impl Notices for Recorder {
        fn tell(&self, notice: Notice) {
            self.told.lock().unwrap().push(notice);
        }
    }

    impl Recorder {
        pub fn desk(self: &Arc<Self>) -> Arc<Desk> {
            Arc::new(Desk::new(Arc::clone(self) as _, Arc::clone(self) as _))
        }

        pub fn states(&self) -> Vec<String> {
            self.told.lock().unwrap().iter().map(|notice| notice.fields["state"].as_str().unwrap().to_owned()).collect()
        }
    }
}
