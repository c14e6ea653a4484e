//! PURE. One update from its offer to its end. Every state says what has to be done next, so whoever finds a job on disk
//! after a restart does that once more; what was done half or whole before comes out the same.

use super::{Activation, Failure, Stage};
use crate::model::Timestamp;
use crate::model::clock::is_set;
use crate::model::update::Offer;
use serde::{Deserialize, Serialize};

/// A job, as it lies on disk. An older or newer engine reads it too: fields are added, never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Letters, digits and dashes; names files.
    pub id: String,
    pub origin: Origin,
    #[serde(flatten)]
    pub state: State,
    /// The highest that was told, so that progress never goes back.
    #[serde(default)]
    pub percent: u8,
    /// update.yaml, once it is proven.
    #[serde(default)]
    pub manifest: Option<String>,
    /// Of the update, for people.
    #[serde(default)]
    pub name: Option<String>,
    /// What ran when the job began to change things.
    #[serde(default)]
    pub from: Option<String>,
    /// Milliseconds since 1970.
    pub begun: i64,
    #[serde(default)]
    pub changed: i64,
    /// Window and conditions are not waited for.
    #[serde(default)]
    pub now: bool,
    /// It had ended, done or half done, before it was rolled back: the cloud knows that end.
    #[serde(default)]
    pub was_done: bool,
    /// The cloud knows how it ended, or nobody asked there.
    #[serde(default)]
    pub told: bool,
    /// The sub-device that a person named; an offer of the cloud names its own.
    #[serde(default)]
    pub device: Option<String>,
    /// How often the gateway was started in this state.
    #[serde(default)]
    pub starts: u32,
}

/// Where the file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Cloud(Offer),
    /// A person named a file of this machine.
    File(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Offered,
    Downloading,
    Downloaded,
    /// Signed by somebody who is trusted; the payload lies alone.
    Verified,
    /// For the window or a condition.
    Waiting {
        why: String,
    },
    Preparing,
    Installing,
    Activating,
    OnTrial {
        why: String,
    },
    Confirming,
    /// With a failure, that is how it ends; without, it was on trial.
    RollingBack {
        why: String,
        failure: Option<Failure>,
    },
    Done,
    Failed {
        failure: Failure,
    },
    RolledBack {
        why: String,
    },
    /// Also when a person cancelled it.
    Refused {
        why: String,
    },
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There is room for the file.
    Room,
    Fetched,
    Proven {
        name: String,
        manifest: String,
    },
    /// It fits what runs.
    Fits {
        running: Option<String>,
    },
    /// This version runs already.
    Runs,
    NotNow(String),
    MayRun,
    Prepared,
    Installed,
    Activated(Activation),
    StillOnTrial(String),
    Works,
    Confirmed,
    /// The target itself, or whoever starts the engine, took it back.
    TakenBack(String),
    /// It must be taken back.
    TakeBack(String),
    Back(Activation),
    Failed(Failure),
    Cancelled(String),
}

impl State {
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(self, State::Done | State::Failed { .. } | State::RolledBack { .. } | State::Refused { .. })
    }

    /// What it activated may still run, and nobody confirmed it.
    #[must_use]
    pub fn is_half_done(&self) -> bool {
        matches!(self, State::Failed { failure } if failure.words.contains(WAY_BACK_FAILED))
    }

    /// Nothing that runs was changed yet, so it can be given up.
    #[must_use]
    pub fn can_be_cancelled(&self) -> bool {
        matches!(
            self,
            State::Offered | State::Downloading | State::Downloaded | State::Verified | State::Waiting { .. }
        )
    }

    /// For people and scripts.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            State::Offered => "offered",
            State::Downloading => "downloading",
            State::Downloaded => "downloaded",
            State::Verified => "verified",
            State::Waiting { .. } => "waiting",
            State::Preparing => "preparing",
            State::Installing => "installing",
            State::Activating => "activating",
            State::OnTrial { .. } => "on trial",
            State::Confirming => "confirming",
            State::RollingBack { .. } => "rolling back",
            State::Done => "done",
            State::Failed { .. } => "failed",
            State::RolledBack { .. } => "rolled back",
            State::Refused { .. } => "refused",
        }
    }

    /// Why it stands where it stands; empty where the word says all.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            State::Waiting { why }
            | State::OnTrial { why }
            | State::RollingBack { why, .. }
            | State::RolledBack { why }
            | State::Refused { why } => why,
            State::Failed { failure } => &failure.words,
            _ => "",
        }
    }

    /// Per cent at which it begins, and up to which it goes.
    #[must_use]
    pub fn span(&self) -> (u8, u8) {
        match self {
            State::Offered => (1, 2),
            State::Downloading => (2, 40),
            State::Downloaded => (40, 50),
            State::Verified => (50, 52),
            State::Waiting { .. } => (52, 53),
            State::Preparing => (53, 60),
            State::Installing => (60, 85),
            State::Activating => (85, 90),
            State::OnTrial { .. } => (90, 95),
            State::Confirming => (95, 99),
            State::Done => (100, 100),
            State::RollingBack { .. } | State::Failed { .. } | State::RolledBack { .. } | State::Refused { .. } => {
                (0, 0)
            }
        }
    }

    /// What the cloud is told: a percentage or a code of failure.
    #[must_use]
    pub fn step(&self, percent: u8) -> i32 {
        match self {
            State::Failed { failure } => failure.stage.code(),
            State::RolledBack { .. } => Stage::Other.code(),
            State::Refused { .. } => Stage::Refused.code(),
            State::Done => 100,
            _ => i32::from(percent.clamp(1, 99)),
        }
    }
}

/// Words of a job that ended between two versions.
const WAY_BACK_FAILED: &str = "the way back failed";
/// A step during which the gateway died so often will kill it again.
const STARTS: u32 = 5;

impl Job {
    /// As a gateway finds it that has just started.
    #[must_use]
    pub fn found(&self, at: i64) -> Job {
        let job = Job { starts: self.starts.saturating_add(1), ..self.clone() };
        let heavy = matches!(job.state, State::Downloaded | State::Preparing | State::Installing | State::Activating);
        if !heavy || job.starts <= STARTS {
            return job;
        }
        let words = format!("the gateway was started {STARTS} times while the update was {}", job.state.word());
        job.after(Event::Failed(Failure::new(Stage::Other, words)), at).unwrap_or(job)
    }

    #[must_use]
    pub fn new(id: String, origin: Origin, now: bool, at: i64) -> Job {
        let told = matches!(origin, Origin::File(_));
        Job {
            id,
            origin,
            state: State::Offered,
            percent: 1,
            manifest: None,
            name: None,
            from: None,
            begun: at,
            changed: at,
            now,
            was_done: false,
            told,
            device: None,
            starts: 0,
        }
    }

    #[must_use]
    pub fn offer(&self) -> Option<&Offer> {
        match &self.origin {
            Origin::Cloud(offer) => Some(offer),
            Origin::File(_) => None,
        }
    }

    /// The job after `event`; `None` when nothing can follow from it here. An event that comes twice or late is harmless.
    #[must_use]
    pub fn after(&self, event: Event, at: i64) -> Option<Job> {
        let state = self.next(&event)?;
        let mut job = Job { changed: at, starts: 0, ..self.clone() };
        if !is_set(Timestamp(job.begun)) && is_set(Timestamp(at)) {
            // The first moment that can be told: else it would have waited since 1970.
            job.begun = at;
        }
        match event {
            Event::Proven { name, manifest } => (job.name, job.manifest) = (Some(name), Some(manifest)),
            Event::Fits { running } => job.from = running,
            Event::TakeBack(_) if self.state.is_end() => {
                (job.was_done, job.told) = (true, matches!(self.origin, Origin::File(_)));
            }
            _ => {}
        }
        job.percent = self.percent.max(state.span().0);
        job.state = state;
        Some(job)
    }

    fn next(&self, event: &Event) -> Option<State> {
        match (&self.state, event) {
            (state, Event::Cancelled(why)) if state.can_be_cancelled() => Some(State::Refused { why: why.clone() }),
            (State::Offered, Event::Room) => Some(State::Downloading),
            (State::Downloading, Event::Fetched) => Some(State::Downloaded),
            (State::Downloaded, Event::Proven { .. }) => Some(State::Verified),
            (State::Verified, Event::Fits { .. }) => Some(State::Waiting { why: String::new() }),
            (State::Verified, Event::Runs) => Some(State::Done),
            (State::Waiting { why }, Event::NotNow(now)) if why != now => Some(State::Waiting { why: now.clone() }),
            (State::Waiting { .. }, Event::MayRun) => Some(State::Preparing),
            (State::Preparing, Event::Prepared) => Some(State::Installing),
            (State::Installing, Event::Installed) => Some(State::Activating),
            (State::Activating, Event::Activated(_)) => Some(State::OnTrial { why: String::new() }),
            (State::OnTrial { why }, Event::StillOnTrial(now)) if why != now => {
                Some(State::OnTrial { why: now.clone() })
            }
            (State::OnTrial { .. }, Event::Works) => Some(State::Confirming),
            (State::Confirming, Event::Confirmed) => Some(State::Done),
            (State::OnTrial { .. } | State::Confirming, Event::TakenBack(why)) => {
                Some(State::RolledBack { why: why.clone() })
            }
            (State::OnTrial { .. } | State::Confirming | State::Done, Event::TakeBack(why)) => {
                Some(State::RollingBack { why: why.clone(), failure: None })
            }
            // What kept it from going back may be mended since.
            (state, Event::TakeBack(why)) if state.is_half_done() => {
                Some(State::RollingBack { why: why.clone(), failure: None })
            }
            (State::RollingBack { failure: Some(failure), .. }, Event::Back(_)) => {
                Some(State::Failed { failure: failure.clone() })
            }
            (State::RollingBack { why, failure: None }, Event::Back(_)) => Some(State::RolledBack { why: why.clone() }),
            (state, Event::Failed(failure)) => Job::failed(state, failure),
            _ => None,
        }
    }

    /// From the first change on, a failure takes back what was changed before the job ends.
    fn failed(state: &State, failure: &Failure) -> Option<State> {
        match state {
            State::Done | State::Failed { .. } | State::RolledBack { .. } | State::Refused { .. } => None,
            State::Activating => {
                Some(State::RollingBack { why: failure.words.clone(), failure: Some(failure.clone()) })
            }
            State::OnTrial { .. } | State::Confirming => {
                Some(State::RollingBack { why: failure.words.clone(), failure: None })
            }
            // The way back itself failed: a person has to look.
            State::RollingBack { why, .. } => {
                let words = format!("{why}; and {WAY_BACK_FAILED}: {}", failure.words);
                Some(State::Failed { failure: Failure::new(Stage::Other, words) })
            }
            _ if failure.stage == Stage::Refused => Some(State::Refused { why: failure.words.clone() }),
            _ => Some(State::Failed { failure: failure.clone() }),
        }
    }
}

/// What becomes of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    New,
    /// It is what the job that is under way is for.
    UnderWay,
    /// Its version runs: the cloud is told so.
    Runs,
    Busy(String),
}

/// Decides about an offer. `running` is the version that was told for the device it is for.
#[must_use]
pub fn consider(job: Option<&Job>, offer: &Offer, running: Option<&str>) -> Verdict {
    if let Some(job) = job.filter(|job| !job.state.is_end()) {
        return match job.offer() {
            Some(other) if other.same(offer) => Verdict::UnderWay,
            _ => Verdict::Busy(format!("another update is under way and {}", job.state.word())),
        };
    }
    match running {
        Some(running) if running == offer.version => Verdict::Runs,
        _ => Verdict::New,
    }
}

#[cfg(test)]
pub(super) mod tests;
