//! A sub-device that takes a file well or badly, and a gateway that is killed in between.

use super::{DeviceFirmware, SubDevice, Trouble};
use crate::model::Value;
use crate::model::control::{Constant, Step, StepValue};
use crate::model::firmware::FirmwareRules;
use crate::update::{Activation, Kind, Manifest, Stage, Staged, Standing, Target, Tell};
use driver::{Answer, Phase, Transfer, TransferShape};
use semver::Version;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct State {
    store: Vec<u8>,
    /// What the session in use has begun.
    begun: Option<u64>,
    version: String,
    /// What the next steps of sending come to.
    faults: VecDeque<(usize, Trouble)>,
    steps: usize,
    written: Vec<(u32, Value)>,
    /// It is not reached at all.
    away: bool,
    /// A write of point 2 starts what it was sent.
    starts: bool,
    no_answer_to_writes: bool,
    resumes: bool,
}

struct Meter(Mutex<State>, FirmwareRules);

impl SubDevice for Meter {
    fn name(&self) -> &str {
        "Meter 1"
    }

    fn rules(&self) -> Result<(String, FirmwareRules), String> {
        Ok(("meter".to_owned(), self.1.clone()))
    }

    fn shape(&self) -> Option<TransferShape> {
        let resumes = self.0.lock().unwrap().resumes;
        Some(TransferShape { most: 1 << 20, piece: 100, patience: Duration::from_secs(1), resumes })
    }

    fn send<'a>(&'a self, file: &'a mut Transfer, _: Duration) -> Answer<'a, Result<(), Trouble>> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let mut state = self.0.lock().unwrap();
            let state = &mut *state;
            state.steps += 1;
            if state.away {
                state.begun = None;
                return Err(Trouble::Away("no connection".to_owned()));
            }
            if state.faults.front().is_some_and(|(at, _)| state.steps >= *at) {
                let (_, trouble) = state.faults.pop_front().unwrap();
                if matches!(trouble, Trouble::Away(_)) {
                    state.begun = None;
                }
                return Err(trouble);
            }
            if state.begun != Some(file.id) {
                state.begun = Some(file.id);
                if !state.resumes {
                    file.done = 0;
                }
            }
            let Some(bytes) = file.bytes(100) else { return Ok(()) };
            let at = usize::try_from(file.done).unwrap();
            state.store.resize(state.store.len().max(at + bytes.len()), 0);
            state.store[at..at + bytes.len()].copy_from_slice(bytes);
            let len = bytes.len();
            file.advance(len);
            if file.is_through() {
                file.enter(Phase::Done);
            }
            Ok(())
        })
    }

    fn write(&self, measurepoint: u32, value: Value) -> Answer<'_, Result<(), Trouble>> {
        Box::pin(async move {
            let mut state = self.0.lock().unwrap();
            if state.away {
                return Err(Trouble::Away("no connection".to_owned()));
            }
            state.written.push((measurepoint, value));
            if measurepoint == 2 && state.starts {
                state.version = "2.0".to_owned();
            }
            if state.no_answer_to_writes { Err(Trouble::Away("no answer within 1s".to_owned())) } else { Ok(()) }
        })
    }

    fn read<'a>(&'a self, measurepoints: &'a [u32]) -> Answer<'a, Result<Vec<Value>, Trouble>> {
        Box::pin(async move {
            let state = self.0.lock().unwrap();
            if state.away {
                return Err(Trouble::Away("no connection".to_owned()));
            }
            Ok(measurepoints.iter().map(|_| Value::Text(state.version.as_str().into())).collect())
        })
    }
}

struct Nobody;

impl Tell for Nobody {
    fn tell(&self, percent: u8, _: &str) {
        assert!(percent <= 100);
    }
}

struct Bench {
    folder: tempfile::TempDir,
    meter: Arc<Meter>,
}

const PAYLOAD: usize = 2_050;

fn payload() -> Vec<u8> {
    (0..PAYLOAD).map(|n| (n * 7 % 251) as u8).collect()
}

impl Bench {
    fn new(change: impl FnOnce(&mut State, &mut FirmwareRules)) -> Bench {
        let step = |measurepoint, value| Step { measurepoint, value };
        let mut rules = FirmwareRules {
            transfer: Vec::new(),
            before: vec![step(1, StepValue::Input("size".to_owned()))],
            after: vec![step(2, StepValue::Constant(Constant::Number(1.0)))],
            version: vec![0],
            version_within: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            pause: Duration::ZERO,
        };
        let mut state = State { version: "1.0".to_owned(), starts: true, ..State::default() };
        change(&mut state, &mut rules);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("1-a.payload"), payload()).unwrap();
        Bench { folder, meter: Arc::new(Meter(Mutex::new(state), rules)) }
    }

    fn target(&self) -> DeviceFirmware {
        DeviceFirmware::new(Arc::clone(&self.meter) as _, "meter").unwrap()
    }

    fn staged(&self) -> Staged {
        Staged {
            id: "1-a".to_owned(),
            manifest: Manifest {
                kind: Kind::Device { template: "meter".to_owned(), device: None },
                version: Version::new(2, 0, 0),
                payload: "payload".to_owned(),
                payload_bytes: PAYLOAD as u64,
                payload_sha256: "ab".repeat(32),
                replaces_from: None,
            },
            payload: self.folder.path().join("1-a.payload"),
            proof: self.folder.path().join("1-a.proof"),
        }
    }

    fn state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut self.meter.0.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_is_sent_begun_and_believed_when_the_device_shows_its_version() {
    let bench = Bench::new(|_, _| ());
    let (target, staged) = (bench.target(), bench.staged());
    assert_eq!(target.running().await.as_deref(), Some("1.0.0"));
    target.prepare(&staged, &Nobody).await.unwrap();
    target.install(&staged, &Nobody).await.unwrap();
    assert!(bench.state(|state| state.store == payload()));
    assert_eq!(target.activate(&staged).await, Ok(Activation::Now));
    assert_eq!(target.standing(&staged).await, Ok(Standing::Proven));
    let written = bench.state(|state| state.written.clone());
    assert_eq!(written, [(1, Value::Int(PAYLOAD as i64)), (2, Value::Double(1.0))]);
    // Each step once more, as after a restart: the file is not sent again, the device not started again.
    let steps = bench.state(|state| state.steps);
    target.install(&staged, &Nobody).await.unwrap();
    assert_eq!(target.activate(&staged).await, Ok(Activation::Now));
    assert_eq!(bench.state(|state| (state.steps, state.written.len())), (steps, 2));
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_breaks_and_a_device_that_is_busy_hold_nothing_up() {
    for resumes in [true, false] {
        let bench = Bench::new(|state, _| {
            state.resumes = resumes;
            let away = || Trouble::Away("closed by the peer".to_owned());
            state.faults = [(5, away()), (9, Trouble::Later("busy".to_owned())), (12, away())].into();
        });
        bench.target().install(&bench.staged(), &Nobody).await.unwrap();
        assert!(bench.state(|state| state.store == payload()));
        // 21 pieces, three steps for nothing, and what was sent again.
        let steps = bench.state(|state| state.steps);
        assert_eq!(steps, if resumes { 24 } else { 24 + 4 + 5 }, "resumes: {resumes}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_silence_and_endless_breaks_are_told_apart() {
    let refused = Bench::new(|state, _| state.faults = [(3, Trouble::Refused("exception 3".to_owned()))].into());
    let failure = refused.target().install(&refused.staged(), &Nobody).await.unwrap_err();
    assert_eq!(failure.stage, Stage::Writing);
    assert_eq!(failure.words, "sub-device Meter 1: exception 3 (200 of 2050 bytes sent)");
    let silent = Bench::new(|state, _| state.away = true);
    let failure = silent.target().prepare(&silent.staged(), &Nobody).await.unwrap_err();
    assert_eq!(
        (failure.stage, failure.words.as_str()),
        (Stage::Other, "sub-device Meter 1: no answer for 5 s: no connection")
    );
    let begun = tokio::time::Instant::now();
    let failure = silent.target().install(&silent.staged(), &Nobody).await.unwrap_err();
    assert!(failure.stage == Stage::Writing && begun.elapsed() < Duration::from_secs(6), "{failure}");
    let flapping = Bench::new(|state, _| {
        state.faults = (1..200).map(|at| (2 * at, Trouble::Away("closed by the peer".to_owned()))).collect();
    });
    let failure = flapping.target().install(&flapping.staged(), &Nobody).await.unwrap_err();
    assert!(failure.words.contains("the conversation broke 21 times"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_killed_goes_on_where_the_device_is() {
    let bench = Bench::new(|state, rules| {
        state.resumes = true;
        rules.pause = Duration::from_secs(5);
    });
    let killed = {
        let (target, staged) = (bench.target(), bench.staged());
        tokio::time::timeout(Duration::from_secs(52), async move { target.install(&staged, &Nobody).await }).await
    };
    assert!(killed.is_err());
    let sent = bench.state(|state| state.steps);
    bench.target().install(&bench.staged(), &Nobody).await.unwrap();
    let all = bench.state(|state| state.steps);
    assert!(bench.state(|state| state.store == payload()));
    assert!(sent >= 10 && all - sent <= 21 - 9 + 3, "{sent} and then {} of 21 pieces", all - sent);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_does_not_show_the_version_in_time_is_told_and_nobody_claims_success() {
    let bench = Bench::new(|state, rules| {
        state.starts = false;
        rules.version_within = Duration::ZERO;
    });
    let (target, staged) = (bench.target(), bench.staged());
    target.install(&staged, &Nobody).await.unwrap();
    target.activate(&staged).await.unwrap();
    let Ok(Standing::RolledBack(why)) = target.standing(&staged).await else { panic!("it shows 1.0") };
    assert!(why.contains("shows version 1.0, and not 2.0.0"), "{why}");
    assert_eq!(target.roll_back(&staged, "x").await, Ok(Activation::Now), "it runs what it ran");
    bench.state(|state| state.away = true);
    let failure = target.standing(&staged).await.unwrap_err();
    assert!(failure.words.contains("shows no version within 0 s"), "{failure}");
    assert!(target.roll_back(&staged, "x").await.is_err(), "nobody knows what it runs");
    bench.state(|state| (state.away, state.version) = (false, "2.0".to_owned()));
    let failure = target.roll_back(&staged, "x").await.unwrap_err();
    assert!(failure.words.contains("runs the new version"), "{failure}");
    let waiting = Bench::new(|state, _| state.starts = false);
    waiting.target().install(&waiting.staged(), &Nobody).await.unwrap();
    waiting.target().activate(&waiting.staged()).await.unwrap();
    assert!(matches!(waiting.target().standing(&waiting.staged()).await, Ok(Standing::OnTrial(_))));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_restarts_without_an_answer_is_believed_by_its_version_only() {
    let restarts = |asked: bool| {
        Bench::new(move |state, rules| {
            state.no_answer_to_writes = true;
            rules.before.clear();
            if !asked {
                rules.version.clear();
            }
        })
    };
    let bench = restarts(true);
    bench.target().install(&bench.staged(), &Nobody).await.unwrap();
    assert_eq!(bench.target().activate(&bench.staged()).await, Ok(Activation::Now));
    assert_eq!(bench.target().standing(&bench.staged()).await, Ok(Standing::Proven));
    assert_eq!(bench.state(|state| state.written.len()), 1);
    let blind = restarts(false);
    blind.target().install(&blind.staged(), &Nobody).await.unwrap();
    assert!(blind.target().activate(&blind.staged()).await.is_err(), "nobody knows");
    assert!(blind.target().roll_back(&blind.staged(), "x").await.is_err());
}

#[test]
fn a_file_for_another_make_is_refused() {
    let bench = Bench::new(|_, _| ());
    let failure = DeviceFirmware::new(Arc::clone(&bench.meter) as _, "inverter").err().unwrap();
    assert_eq!(failure.stage, Stage::Refused);
    assert!(failure.words.contains("for devices of template inverter, and Meter 1 is a meter"), "{failure}");
}
