//! PURE. One update from its offer to its end. Every state says what has to be done next, so whoever finds a job on disk
//! after a restart does that once more; what was done half or whole before comes out the same.

use super::{Activation, Failure, Stage};
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
    /// It had been done before it was rolled back.
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

/// 1 January 2024: a clock that shows less has not been set since the gateway was switched on.
pub const CLOCK_SET: i64 = 1_704_067_200;

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
        if !is_clock_set(job.begun) && is_clock_set(at) {
            // The first moment that can be told: else it would have waited since 1970.
            job.begun = at;
        }
        match event {
            Event::Proven { name, manifest } => (job.name, job.manifest) = (Some(name), Some(manifest)),
            Event::Fits { running } => job.from = running,
            Event::TakeBack(_) if self.state == State::Done => {
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

/// Whether a clock that shows this, in milliseconds since 1970, was set.
#[must_use]
pub fn is_clock_set(at: i64) -> bool {
    at >= CLOCK_SET * 1000
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
pub(super) mod tests {
    use super::*;
    use crate::model::update::Method;
    use proptest::prelude::*;

    pub(in crate::update) fn offer(version: &str) -> Offer {
        Offer {
            product_key: "p".into(),
            device_key: "d".into(),
            version: version.into(),
            method: Method::Sha256,
            sign: "ab".repeat(32),
            url: "https://h/f".into(),
            size: 10,
        }
    }

    pub(in crate::update) fn job() -> Job {
        Job::new("1-a".into(), Origin::Cloud(offer("2.0.0")), false, 1)
    }

    /// From the offer to its end, as it goes when all is well.
    pub(in crate::update) fn good_events() -> Vec<Event> {
        vec![
            Event::Room,
            Event::Fetched,
            Event::Proven { name: "n".into(), manifest: "m".into() },
            Event::Fits { running: Some("1.0.0".into()) },
            Event::NotNow("the window opens at 22:00".into()),
            Event::MayRun,
            Event::Prepared,
            Event::Installed,
            Event::Activated(Activation::RestartEngine),
            Event::StillOnTrial("for 10 min".into()),
            Event::Works,
            Event::Confirmed,
        ]
    }

    #[test]
    fn a_job_of_a_clock_that_was_not_set_begins_when_it_is() {
        let set = CLOCK_SET * 1000 + 5;
        let early = job().after(Event::Room, 2).unwrap();
        assert_eq!(early.begun, 1);
        let later = early.after(Event::Fetched, set).unwrap();
        assert_eq!((later.begun, later.changed), (set, set));
        let last = later.after(Event::Cancelled("x".into()), set + 9).unwrap();
        assert_eq!(last.begun, set, "only once");
        assert_eq!(later.after(Event::Cancelled("x".into()), 7).unwrap().begun, set, "a clock that jumps back");
    }

    #[test]
    fn a_good_update_comes_to_its_end_and_progress_never_goes_back() {
        let mut job = job();
        let mut told = job.percent;
        for (at, event) in (2..).zip(good_events()) {
            job = job.after(event.clone(), at).unwrap_or_else(|| panic!("{event:?}"));
            assert!(job.percent >= told && job.changed == at);
            told = job.percent;
        }
        assert_eq!((job.state.clone(), job.percent, job.state.step(job.percent)), (State::Done, 100, 100));
        assert_eq!((job.from.as_deref(), job.manifest.as_deref()), (Some("1.0.0"), Some("m")));
        let back = job
            .after(Event::TakeBack("asked for".into()), 99)
            .unwrap()
            .after(Event::Back(Activation::Now), 100)
            .unwrap();
        assert!(back.was_done && back.state == State::RolledBack { why: "asked for".into() });
    }

    #[test]
    fn a_job_reads_back_from_its_file_in_every_state() {
        let mut job = job();
        for event in good_events() {
            job = job.after(event, 5).unwrap();
            let text = serde_json::to_vec(&job).unwrap();
            assert_eq!(serde_json::from_slice::<Job>(&text).unwrap(), job);
        }
        let failure = Failure::new(Stage::Writing, "disk full");
        let failed = Job { state: State::RollingBack { why: "w".into(), failure: Some(failure) }, ..job };
        let text = serde_json::to_string(&failed).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), failed);
        let newer = text.replacen('{', "{\"added_later\":1,", 1);
        assert_eq!(serde_json::from_str::<Job>(&newer).unwrap(), failed, "an older engine reads a newer one's job");
    }

    #[test]
    fn a_failure_ends_as_what_it_was_and_takes_changes_back_first() {
        let at = |state: State| Job { state, ..job() };
        let failure = |stage| Event::Failed(Failure::new(stage, "x"));
        let end = |state: State, stage| at(state).after(failure(stage), 2).unwrap();
        assert_eq!(end(State::Downloading, Stage::Download).state.step(30), -2);
        assert_eq!(end(State::Downloaded, Stage::Verification).state.step(30), -3);
        assert_eq!(end(State::Installing, Stage::Writing).state.step(70), -4);
        assert_eq!(end(State::Verified, Stage::Refused).state.step(50), -5);
        let activating = end(State::Activating, Stage::Writing);
        assert_eq!(activating.state.word(), "rolling back");
        assert_eq!(activating.after(Event::Back(Activation::Now), 3).unwrap().state.step(80), -4);
        let trial = end(State::OnTrial { why: String::new() }, Stage::Other);
        assert_eq!(trial.after(Event::Back(Activation::Now), 3).unwrap().state, State::RolledBack { why: "x".into() });
        assert!(at(State::Done).after(failure(Stage::Other), 2).is_none());
    }

    #[test]
    fn offers_that_repeat_or_meet_another_job_are_harmless() {
        let (mut job, two, three) = (job(), offer("2.0.0"), Offer { sign: "cd".repeat(32), ..offer("3.0.0") });
        assert_eq!(consider(None, &two, Some("1.0.0")), Verdict::New);
        assert_eq!(consider(None, &two, Some("2.0.0")), Verdict::Runs);
        assert_eq!(consider(Some(&job), &two, Some("2.0.0")), Verdict::UnderWay, "on trial it may run already");
        assert!(matches!(consider(Some(&job), &three, None), Verdict::Busy(_)));
        job.state = State::Failed { failure: Failure::new(Stage::Download, "x") };
        assert_eq!(consider(Some(&job), &two, Some("1.0.0")), Verdict::New, "what failed may be offered again");
    }

    #[test]
    fn a_step_that_kills_the_gateway_is_not_tried_for_ever() {
        let mut verifying = Job { state: State::Downloaded, ..job() };
        let mut waiting = Job { state: State::Waiting { why: String::new() }, ..job() };
        for _ in 0..5 {
            verifying = verifying.found(2);
            assert_eq!(verifying.state, State::Downloaded);
        }
        assert_eq!(verifying.found(2).state.word(), "failed");
        for _ in 0..50 {
            waiting = waiting.found(2);
        }
        assert_eq!(waiting.state.word(), "waiting");
        assert_eq!(waiting.after(Event::MayRun, 3).unwrap().starts, 0);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let failure = (0..5usize).prop_map(|at| {
            let stages = [Stage::Other, Stage::Download, Stage::Verification, Stage::Writing, Stage::Refused];
            Event::Failed(Failure::new(stages[at], "x"))
        });
        let mut plain = good_events();
        plain.extend([
            Event::Runs,
            Event::TakenBack("t".into()),
            Event::TakeBack("b".into()),
            Event::Back(Activation::Now),
            Event::Cancelled("c".into()),
        ]);
        prop_oneof![4 => proptest::sample::select(plain), 1 => failure]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever comes, in whatever order, with restarts in between.
        #[test]
        fn no_order_of_events_skips_a_step_or_leaves_an_end(events in proptest::collection::vec((any_event(), any::<bool>()), 1..60)) {
            let mut job = job();
            let (mut activated, mut worked) = (false, false);
            for (event, restart) in events {
                if restart {
                    job = serde_json::from_slice(&serde_json::to_vec(&job).unwrap()).unwrap();
                }
                let before = job.clone();
                let Some(after) = job.after(event.clone(), 2) else { continue };
                prop_assert!(after.percent >= before.percent);
                if before.state.is_end() {
                    prop_assert_eq!(&before.state, &State::Done);
                    prop_assert_eq!(after.state.word(), "rolling back");
                }
                activated |= after.state.word() == "on trial";
                worked |= after.state == State::Confirming;
                match &after.state {
                    State::Done => prop_assert!(worked || event == Event::Runs),
                    State::RolledBack { .. } => prop_assert!(activated || before.was_done || matches!(event, Event::Back(_))),
                    State::Installing | State::Activating => prop_assert!(after.manifest.is_some(), "nothing unproven is installed"),
                    State::Refused { .. } => prop_assert!(!activated),
                    _ => {}
                }
                job = after;
            }
        }
    }
}
