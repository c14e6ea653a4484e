//! The publish that is under way, from its check to its end: the cloud is told each step, and its end also when the
//! gateway was restarted in between.

use crate::cloud::NoticeQueue;
use crate::diagnostic::{Diagnostic, Severity};
use crate::model::{Notices, Publish, Stage, Timestamp};
use crate::package::generations::{Facts, Look};
use crate::store::{self, Disk};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// In the folder of packages: the publish whose end was not told yet.
const OPEN: &str = "publish";

/// One at a time: packages are switched one after the other.
pub(super) struct Publishes {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    notices: Option<Arc<NoticeQueue>>,
    open: Mutex<Option<Open>>,
}

/// A publish that became a generation and is not at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Open {
    publish: Publish,
    name: String,
    version: String,
    generation: u64,
}

impl Open {
    fn fields(&self) -> [(&'static str, Json); 3] {
        [("name", json!(self.name)), ("version", json!(self.version)), ("generation", json!(self.generation))]
    }
}

impl Publishes {
    /// Finds the one that a restart interrupted.
    pub fn new(disk: Arc<dyn Disk>, folder: PathBuf, notices: Option<Arc<NoticeQueue>>) -> Publishes {
        // One that can not be read is none: its end is not told then.
        let read = store::read(&*disk, &folder.join(OPEN)).ok().flatten();
        let open = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Publishes { disk, folder, notices, open: Mutex::new(open) }
    }

    /// A step of a publish that is no generation yet.
    pub fn tell(&self, publish: &Publish, stage: Stage, message: &str, more: &[(&str, Json)]) {
        if let Some(notices) = &self.notices {
            notices.tell(publish.notice(stage, message, more, Timestamp::now()));
        }
    }

    /// Everything that was against it, and the first of it in words.
    pub fn checked(&self, publish: &Publish, faults: &[Diagnostic]) {
        let errors: Vec<_> = faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        self.tell(publish, Stage::Checked, &first, &[("faults", json!(errors.len()))]);
        if !faults.is_empty() {
            let count = errors.len();
            let words = format!("{count} {}; the first: {first}", if count == 1 { "fault" } else { "faults" });
            self.tell(publish, Stage::Refused, &words, &[("faults", json!(count))]);
        }
    }

    /// It is a generation now. On disk when it returns.
    pub async fn open(&self, publish: &Publish, facts: &Facts) {
        if self.lock().is_some() {
            self.end(Stage::Replaced, "another package was published before its watch was over", &[]).await;
        }
        let open = Open {
            publish: publish.clone(),
            name: facts.name.clone(),
            version: facts.version.clone(),
            generation: facts.generation,
        };
        *self.lock() = Some(open.clone());
        let (disk, folder) = (Arc::clone(&self.disk), self.folder.clone());
        let write = move || store::replace(&*disk, &folder, OPEN, json!(open).to_string().as_bytes());
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a restart will forget that the cloud waits for a publish"),
            Err(_) => {}
        }
    }

    /// A step of the one that is open.
    pub fn step(&self, stage: Stage, message: &str, more: &[(&'static str, Json)]) {
        let open = self.lock().clone();
        if let Some(open) = open {
            self.tell(&open.publish, stage, message, &[&open.fields()[..], more].concat());
        }
    }

    /// Its last step. What was open is forgotten when the last word is on disk.
    pub async fn end(&self, stage: Stage, message: &str, more: &[(&'static str, Json)]) {
        self.step(stage, message, more);
        if self.lock().take().is_none() {
            return;
        }
        if let Some(notices) = &self.notices {
            notices.flush().await;
        }
        let (disk, path) = (Arc::clone(&self.disk), self.folder.join(OPEN));
        // Best effort: it is told once more after a restart.
        let _ = tokio::task::spawn_blocking(move || disk.remove(&path)).await;
    }

    /// After a start: the one that was interrupted has come to its end, for nobody watches it any more.
    pub async fn resume(&self, current: u64) {
        let open = self.lock().clone();
        match open {
            None => {}
            Some(open) if open.generation == current => {
                self.end(Stage::Kept, "the gateway was restarted before its watch was over; it stays", &[]).await;
            }
            Some(_) => {
                let words = format!("generation {current} runs since the gateway was started");
                self.end(Stage::RolledBack, &words, &[]).await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        // Every change is whole before the lock is given back.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers a package was judged by, for people and for programs.
pub(super) fn evidence(before: &Look, now: &Look) -> (String, Vec<(&'static str, Json)>) {
    let round = |percent: f64| (percent * 10.0).round() / 10.0;
    let (mut words, mut fields) = (Vec::new(), Vec::new());
    for (what, before_key, now_key, then, now) in [
        ("good values of changed devices", "good_changed_before", "good_changed", before.changed, now.changed),
        (
            "good values of unchanged devices",
            "good_unchanged_before",
            "good_unchanged",
            before.unchanged,
            now.unchanged,
        ),
    ] {
        let (Some(then), Some(now)) = (then.percent(), now.percent()) else { continue };
        words.push(format!("{what}: {:.1} % before, {:.1} % now", then, now));
        fields.extend([(before_key, json!(round(then))), (now_key, json!(round(now)))]);
    }
    if let Some(percent) = now.accepted.percent() {
        words.push(format!("accepted readings: {percent:.1} % of {}", now.accepted.all));
        fields.extend([("accepted", json!(round(percent))), ("answered", json!(now.accepted.all))]);
    }
    let words = if words.is_empty() { "no readings to compare".to_owned() } else { words.join("; ") };
    (words, fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::generations::Share;
    use crate::store::RealDisk;

    fn facts(generation: u64) -> Facts {
        Facts {
            generation,
            name: "site".to_owned(),
            version: "1.0.0".to_owned(),
            org: None,
            sha256: String::new(),
            content: String::new(),
            from: String::new(),
            at: 0,
        }
    }

    fn states(queue: &NoticeQueue) -> Vec<String> {
        let all = queue.lasting().1;
        all.iter()
            .map(|notice| {
                let field = |key: &str| notice.fields.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
                format!("{} {}", field("publish"), field("state"))
            })
            .collect()
    }

    #[tokio::test]
    async fn a_publish_that_a_restart_interrupted_is_told_its_end_once() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Arc::<NoticeQueue>::default();
        let open = || Publishes::new(Arc::new(RealDisk), folder.path().to_owned(), Some(Arc::clone(&queue)));
        let publish = Publish::new(Some("17"), "site", Timestamp(1));
        let publishes = open();
        publishes.open(&publish, &facts(3)).await;
        publishes.step(Stage::Switched, "", &[]);
        // As after a restart.
        let publishes = open();
        publishes.resume(3).await;
        publishes.resume(3).await;
        open().resume(3).await;
        assert_eq!(states(&queue), ["17 switched", "17 kept"]);
        publishes.open(&publish, &facts(4)).await;
        open().resume(3).await;
        assert_eq!(states(&queue)[2..], ["17 rolled_back"]);
        assert_eq!(queue.lasting().1[2].fields["generation"], 4);
    }

    #[tokio::test]
    async fn a_newer_publish_ends_the_one_that_is_watched() {
        let folder = tempfile::tempdir().unwrap();
        let queue = Arc::<NoticeQueue>::default();
        let publishes = Publishes::new(Arc::new(RealDisk), folder.path().to_owned(), Some(Arc::clone(&queue)));
        publishes.open(&Publish::new(Some("1"), "site", Timestamp(1)), &facts(1)).await;
        publishes.open(&Publish::new(Some("2"), "site", Timestamp(2)), &facts(2)).await;
        publishes.end(Stage::Kept, "", &[]).await;
        publishes.end(Stage::Kept, "", &[]).await;
        assert_eq!(states(&queue), ["1 replaced", "2 kept"]);
    }

    #[test]
    fn the_evidence_has_its_numbers() {
        let before = Look { changed: Share { good: 97, all: 100 }, ..Look::default() };
        let accepted = Share { good: 30, all: 40 };
        let now = Look { changed: Share { good: 1, all: 3 }, accepted, ..Look::default() };
        let (words, fields) = evidence(&before, &now);
        assert_eq!(words, "good values of changed devices: 97.0 % before, 33.3 % now; accepted readings: 75.0 % of 40");
        assert!(fields.contains(&("good_changed", json!(33.3))) && fields.contains(&("answered", json!(40))));
    }
}
