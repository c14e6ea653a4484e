//! What follows from what, in every order of events, with restarts in between.

use super::*;
use crate::model::clock::EARLIEST;
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
    let set = EARLIEST.0 + 5;
    let early = job().after(Event::Room, 2).unwrap();
    assert_eq!(early.begun, 1);
    let later = early.after(Event::Fetched, set).unwrap();
    assert_eq!((later.begun, later.changed), (set, set));
    let last = later.after(Event::Cancelled("x".into()), set + 9).unwrap();
    assert_eq!(last.begun, set, "only once");
    assert_eq!(later.after(Event::Cancelled("x".into()), 7).unwrap().begun, set, "a clock that jumps back");
}

#[test]
fn a_way_back_that_failed_can_be_tried_again_when_its_cause_is_mended() {
    let back = |job: &Job, why: &str| job.after(Event::TakeBack(why.into()), 5);
    let mut half = job();
    for event in good_events().into_iter().take(9) {
        half = half.after(event, 2).unwrap();
    }
    for _ in 0..2 {
        half = back(&half, "it is mute").unwrap();
        half = half.after(Event::Failed(Failure::new(Stage::Other, "no answer")), 3).unwrap();
        assert!(half.state.is_half_done() && half.state.step(half.percent) == -1);
    }
    let whole = back(&half, "a person asked for it").unwrap().after(Event::Back(Activation::Now), 6).unwrap();
    assert_eq!((whole.state.word(), whole.was_done, whole.told), ("rolled back", true, false));
    assert_eq!(back(&whole, "once more"), None);
    let failed = job().after(Event::Failed(Failure::new(Stage::Download, "x")), 2).unwrap();
    assert_eq!(back(&failed, "nothing was changed"), None);
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
    let back =
        job.after(Event::TakeBack("asked for".into()), 99).unwrap().after(Event::Back(Activation::Now), 100).unwrap();
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
                prop_assert!(before.state == State::Done || before.state.is_half_done());
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
