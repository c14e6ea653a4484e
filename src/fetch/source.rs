//! One task a source: waits for its time, a notice or a person, fetches, hands over, remembers.

use super::desk::{self, Desk};
use super::folder;
use super::incoming::{FOLDER, Incoming};
use super::journal::{Journal, Step, Trouble};
use super::pull::{self, Fetched};
use super::status::Status;
use super::story::Story;
use super::wish::{Wish, Wishes};
use crate::config::{PublishConfig, Scheme, SourceConfig, When};
use crate::model::progress::Progress;
use crate::model::{Origin, Publish, Refused, RefusedAt, Stage, Timestamp};
use serde_json::{Value as Json, json};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A gateway that has just started has other things to do first.
const FIRST: Duration = Duration::from_secs(5);
/// After the first attempt that brought nothing; doubled after each further one.
const BACK_OFF: Duration = Duration::from_secs(15);
/// And no longer than this, whatever the period.
const BACK_OFF_MOST: Duration = Duration::from_secs(3600);

/// And no longer than this, whatever the server says.
const RETRY_MOST: Duration = Duration::from_secs(24 * 3600);

/// All sources at work.
pub struct Fetching {
    sources: Vec<Arc<Source>>,
}

pub(super) struct Source {
    status: Status,
    /// Somebody wants it now; a second wish while one waits is the same wish.
    wish: Notify,
    wishes: Arc<Wishes>,
    folder: PathBuf,
    desk: Arc<Desk>,
    publish: PublishConfig,
    /// Of which publish it was told already that it began, and that it failed: each is tried more than once.
    said: Mutex<[Option<String>; 2]>,
}

const BEGAN: usize = 0;
const FAILED: usize = 1;

/// Tasks end after `stopped`.
#[must_use]
pub fn start(
    sources: &[SourceConfig],
    publish: &PublishConfig,
    state_dir: &Path,
    desk: &Arc<Desk>,
    stopped: &watch::Receiver<bool>,
) -> (Arc<Fetching>, Vec<JoinHandle<()>>) {
    let make = |config: &SourceConfig| Arc::new(Source::new(config.clone(), publish, state_dir, desk));
    let sources: Vec<Arc<Source>> = sources.iter().map(make).collect();
    let tasks = sources.iter().map(|source| tokio::spawn(run(Arc::clone(source), stopped.clone()))).collect();
    (Arc::new(Fetching { sources }), tasks)
}

impl Fetching {
    /// The cloud wants this of the sources of these names. On disk when it returns well.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn publish(&self, wish: &Wish, names: &[String]) -> io::Result<()> {
        for source in self.sources.iter().filter(|source| names.contains(&source.status.source.name)) {
            let publish = Publish { source: source.status.source.name.clone(), ..wish.publish.clone() };
            let (wishes, wish) = (Arc::clone(&source.wishes), Wish { publish, ..wish.clone() });
            let id = wish.publish.id.clone();
            let put = tokio::task::spawn_blocking(move || wishes.put(wish));
            if let Some(older) = put.await.map_err(io::Error::other)?? {
                source.desk.tell(&older.publish, Stage::Failed, &format!("publish {id} takes its place"), &[]);
            }
            source.wish.notify_one();
        }
        Ok(())
    }

    /// One source, or all of them, look now. False when none has this name.
    pub fn look_now(&self, name: Option<&str>) -> bool {
        let mut any = false;
        for source in self.sources.iter().filter(|source| name.is_none_or(|name| source.status.source.name == name)) {
            source.wish.notify_one();
            any = true;
        }
        any
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().map(|source| source.status.source.name.as_str())
    }

    #[must_use]
    pub fn snapshot(&self) -> Json {
        json!(self.sources.iter().map(|source| source.status.snapshot()).collect::<Vec<_>>())
    }
}

async fn run(source: Arc<Source>, mut stopped: watch::Receiver<bool>) {
    let mut wait = first(source.status.source.when).or_else(|| source.wishes.now().map(|_| FIRST));
    loop {
        source.status.wait(wait);
        let due = async {
            match wait {
                Some(wait) => sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = source.wish.notified() => {}
            () = due => {}
        }
        let attempt = attempt(&source);
        let done = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            done = attempt => done,
        };
        let retry_after = done.as_ref().err().and_then(|trouble| trouble.retry_after);
        let failures = source.settle(done);
        let when = source.status.source.when;
        // What the cloud wants is tried again whenever the source is looked at otherwise.
        let tried = if source.wishes.now().is_some() && when == When::Manual { When::OnNotice } else { when };
        wait = next(tried, failures, retry_after);
    }
}

impl Source {
    pub fn new(config: SourceConfig, publish: &PublishConfig, state_dir: &Path, desk: &Arc<Desk>) -> Source {
        let wishes = Arc::new(Wishes::open(state_dir, &config.name));
        Source {
            status: Status::new(config),
            wish: Notify::new(),
            wishes,
            folder: state_dir.join(FOLDER),
            desk: Arc::clone(desk),
            publish: publish.clone(),
            said: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub fn wish_for(&self, wish: Wish) {
        self.wishes.put(wish).unwrap();
    }

    /// True once for each publish.
    fn is_news(&self, what: usize, publish: &Publish) -> bool {
        // Every change is whole before the lock is given back.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let id = Some(publish.id.clone());
        std::mem::replace(&mut said[what], id.clone()) != id
    }

    /// Writes down how it ended; answers how often in a row it brought nothing.
    fn settle(&self, done: Result<(), Trouble>) -> u32 {
        let name = &self.status.source.name;
        let mut state = self.status.state();
        state.busy = false;
        match done {
            Ok(()) => state.failures = 0,
            Err(trouble) => {
                state.failures = state.failures.saturating_add(1);
                // An empty folder is no trouble of a stick that is not in.
                let quiet = self.status.source.address.scheme == Scheme::File && trouble.step == Step::List;
                if state.failures == 1 && !quiet {
                    tracing::warn!(source = %name, step = trouble.step.word(), problem = %trouble.problem, remedy = %trouble.remedy, "package can not be fetched");
                } else {
                    tracing::debug!(source = %name, %trouble, "package can not be fetched still");
                }
                state.trouble = Some(trouble);
            }
        }
        state.failures
    }
}

/// Looks once, because of its time or of somebody's wish.
pub(super) async fn attempt(source: &Source) -> Result<(), Trouble> {
    let wish = source.wishes.now();
    let name = &source.status.source.name;
    let publish = match &wish {
        Some(wish) => wish.publish.clone(),
        None => Publish::new(None, name, Timestamp::now()),
    };
    let news = wish.is_some() && source.is_news(BEGAN, &publish);
    let mut story = Story::new(&source.desk, publish, source.publish.progress);
    if news {
        story.begun();
    } else if wish.is_some() {
        story.has_begun();
    }
    let done = look(source, wish.as_ref(), &mut story).await;
    let quiet = source.status.source.address.scheme == Scheme::File || source.status.state().failures > 0;
    if let (Err(trouble), None) = (&done, &wish)
        && !trouble.step.is_hand_over()
        && !quiet
    {
        story.failed(trouble);
    }
    let Some(wish) = wish else { return done };
    let over = match &done {
        Ok(()) => true,
        // Refused for good, unless it may be taken later.
        Err(trouble) if trouble.step.is_hand_over() => !source.status.is_passing(),
        Err(trouble) if wish.is_over(Timestamp::now().0, source.publish.give_up) => {
            story.failed(&Trouble { problem: format!("given up; {}", trouble.problem), ..trouble.clone() });
            true
        }
        Err(trouble) => {
            if source.is_news(FAILED, &wish.publish) {
                story.failed(trouble);
            }
            false
        }
    };
    if over {
        let wishes = Arc::clone(&source.wishes);
        // Best effort: a wish that stays is done once more.
        let _ = tokio::task::spawn_blocking(move || wishes.done(&wish)).await;
    }
    done
}

async fn look(source: &Source, wish: Option<&Wish>, story: &mut Story<'_>) -> Result<(), Trouble> {
    let status = &source.status;
    status.begin();
    let watcher = |done: &_| status.step(done);
    let mut journal = Journal::new(&watcher);
    let (config, files) = match wish {
        Some(wish) => wish.applied(&status.source),
        None => (status.source.clone(), status.source.name.clone()),
    };
    let mut incoming = Incoming::open(&source.folder, &files)?;
    if wish.is_some() {
        // Whoever publishes it means it, also when it was refused before; what runs already is not switched to again.
        (incoming.memory.taken, incoming.memory.taken_sha256) = (None, None);
    }
    incoming.wanted_sha256 = wish.and_then(|wish| wish.sha256.clone());
    incoming.progress = Progress::seen();
    // It is copied when it becomes a generation.
    incoming.copies = 2;
    let (part, progress) = (incoming.part(), incoming.progress.clone());
    let fetched = tokio::select! {
        fetched = pull::fetch(&config, &mut incoming, false, &mut journal) => fetched?,
        never = story.watch(&part, &progress, status) => match never {},
    };
    match fetched {
        Fetched::Looked => Ok(()),
        Fetched::Unchanged => {
            let mut state = status.state();
            if state.outcome.is_none() && state.refused.is_none() {
                state.outcome = Some("unchanged".to_owned());
            }
            Ok(())
        }
        Fetched::New { sha256, bytes, unsure } => {
            story.begun();
            let origin = Origin {
                source: config.name.clone(),
                address: config.address.to_string(),
                sha256: sha256.clone(),
                bytes,
                publish: story.publish().clone(),
                version: wish.and_then(|wish| wish.version.clone()),
            };
            let outcome = source.desk.hand_over(&incoming.part(), origin).await;
            if config.address.scheme == Scheme::File
                && let Some(mark) = &incoming.memory.part
            {
                folder::tell(&mark.address, outcome.as_ref().map(|_| ()));
            }
            let told = desk::told(&outcome);
            match outcome {
                Ok(accepted) => {
                    journal.done(Step::Switch, format!("{}: {}", accepted.package, accepted.outcome));
                    let mut state = status.state();
                    state.outcome = Some(format!("{}: {}", accepted.package, accepted.outcome));
                    state.refused = None;
                    drop(state);
                    pull::taken(&mut incoming, sha256)
                }
                Err(refused) => {
                    status.state().refused = Some(told);
                    refuse(&mut incoming, sha256, unsure, refused)
                }
            }
        }
    }
}

/// A refused archive is not fetched again, unless it may be taken later or was put together from parts that nobody vouched for.
fn refuse(incoming: &mut Incoming, sha256: String, unsure: bool, refused: Refused) -> Result<(), Trouble> {
    if unsure {
        incoming.forget_part();
        incoming.remember()?;
    } else if !refused.passing {
        pull::taken(incoming, sha256)?;
    }
    let first = refused.faults.first().map(|fault| format!(": {fault}")).unwrap_or_default();
    let step = match refused.at {
        RefusedAt::Signature => Step::Signature,
        RefusedAt::Check => Step::Check,
        RefusedAt::Switch => Step::Switch,
    };
    Err(Trouble::new(step, format!("{}{first}", refused.reason)))
}

/// Not all gateways of a site at the same moment.
fn first(when: When) -> Option<Duration> {
    match when {
        When::Every(period) => Some(FIRST.min(period).mul_f32(0.5 + fastrand::f32())),
        When::OnNotice | When::Manual => None,
    }
}

/// The period with a tenth of jitter, or the back-off. A person who asked asks again.
fn next(when: When, failures: u32, retry_after: Option<Duration>) -> Option<Duration> {
    let wait = usual(when, failures)?;
    // A server that asks for a year is asked tomorrow.
    Some(wait.max(retry_after.unwrap_or_default().min(RETRY_MOST)))
}

fn usual(when: When, failures: u32) -> Option<Duration> {
    let period = match when {
        When::Every(period) => period,
        When::OnNotice if failures > 0 => BACK_OFF_MOST,
        When::OnNotice | When::Manual => return None,
    };
    if failures == 0 {
        return Some(period.mul_f32(0.9 + 0.2 * fastrand::f32()));
    }
    let backed = BACK_OFF.saturating_mul(1 << (failures - 1).min(10));
    Some(backed.min(period).min(BACK_OFF_MOST).mul_f32(0.75 + 0.5 * fastrand::f32()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_jittered_and_trouble_backs_off_up_to_the_period() {
        let hour = When::Every(Duration::from_secs(3600));
        for _ in 0..100 {
            let seconds = |wait: Option<Duration>| wait.unwrap().as_secs_f32();
            assert!((3240.0..=3960.0).contains(&seconds(next(hour, 0, None))));
            assert!((11.0..=19.0).contains(&seconds(next(hour, 1, None))));
            assert!((22.0..=38.0).contains(&seconds(next(hour, 2, None))));
            assert!((2700.0..=4500.0).contains(&seconds(next(hour, 40, None))));
            assert!(seconds(next(When::OnNotice, 3, None)) > 40.0, "a notice is not forgotten");
        }
        let after = |seconds| next(hour, 1, Some(Duration::from_secs(seconds))).unwrap();
        assert_eq!((after(7200), after(99_999_999)), (Duration::from_secs(7200), RETRY_MOST), "the server is heeded");
        assert!(after(1) >= Duration::from_secs(11));
        assert_eq!(
            (next(When::OnNotice, 0, None), next(When::Manual, 3, None), first(When::Manual)),
            (None, None, None)
        );
    }
}
