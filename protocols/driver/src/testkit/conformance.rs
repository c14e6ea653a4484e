//! The promises of the driver contract, as checks.

use crate::Value;
use crate::{
    ConnectionText, Datum, Diagnostic, Plan, PointKind, Protocol, Sample, Session, SessionError, Severity, Silent,
};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// What a call may take beyond its dead-line: the machine may be busy.
const SLACK: Duration = Duration::from_secs(2);

/// `plan` refuses the connection with an error for each of `problems` (parts of their texts), each with a place, and
/// says the same when asked again.
///
/// # Panics
/// When a fault is not reported, has no place, or the answer changes.
pub fn plan_reports_all_faults(protocol: &dyn Protocol, connection: &ConnectionText<'_>, problems: &[&str]) {
    let faults = faults(protocol, connection);
    for problem in problems {
        assert!(
            faults.iter().any(|fault| fault.severity == Severity::Error && fault.to_string().contains(problem)),
            "no fault speaks of \"{problem}\":\n{}",
            faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        );
    }
    for fault in &faults {
        assert!(!fault.place.file.is_empty() && fault.place.line > 0, "a fault without a place: {fault}");
    }
    assert_eq!(faults, self::faults(protocol, connection), "planning is stateless, yet it answered differently");
}

fn faults(protocol: &dyn Protocol, connection: &ConnectionText<'_>) -> Vec<Diagnostic> {
    protocol.plan(connection).err().unwrap_or_else(|| panic!("{} accepts a faulty connection", protocol.name()))
}

/// Every collection point is in exactly one scan group, every group belongs to one device, and no number is absurd.
///
/// # Panics
/// When the plan breaks one of these.
pub fn plan_is_sound(plan: &dyn Plan, connection: &ConnectionText<'_>) {
    let mut groups_of: BTreeMap<u32, usize> = BTreeMap::new();
    for (at, group) in plan.scan_groups().iter().enumerate() {
        let device = connection.devices.get(group.device as usize);
        let device = device.unwrap_or_else(|| panic!("group {at} is of device {}, which is none", group.device));
        let last = device.first_point + u32::try_from(device.table.len()).expect("tables of tests are small");
        assert!(!group.points.is_empty(), "group {at} has no point");
        assert!(group.points.is_sorted_by(|a, b| a < b), "the points of group {at} are not ascending");
        assert!(group.pushed || !group.period.is_zero(), "group {at} has no period");
        assert!(group.pushed || !group.patience.is_zero(), "group {at} has no patience");
        for point in &group.points {
            assert!((device.first_point..last).contains(point), "point {point} of group {at} is of another device");
            *groups_of.entry(*point).or_default() += 1;
        }
    }
    for device in connection.devices {
        for (point, row) in (device.first_point..).zip(device.table.rows()) {
            let (kind, groups) = (row.row().kind, groups_of.get(&point).copied().unwrap_or(0));
            assert!(groups <= 1, "point {point} is in {groups} groups");
            assert!(groups == 1 || kind.is_control(), "point {point} ({}) is never read", PointKind::word(kind));
        }
    }
    assert!(!plan.endpoint().is_empty(), "people want to know where the session goes");
}

/// Connecting to a peer that refuses or does not exist ends with `Disconnected` or `Timeout` within `deadline`.
///
/// # Panics
/// When it does not.
pub async fn refused_connect_ends_in_time(plan: &dyn Plan, deadline: Duration) {
    let connect = plan.connect(Arc::new(Silent));
    match tokio::time::timeout(deadline + SLACK, connect).await.expect("connect went beyond its dead-line") {
        Ok(_) => panic!("connected to a peer that refuses"),
        Err(SessionError::Disconnected(_) | SessionError::Timeout(_)) => {}
        Err(other) => panic!("a refused connect is Disconnected or Timeout, not {other:?}"),
    }
}

/// Reads a group from a peer that answers: every point of the group has a sample, and no other point has.
///
/// # Panics
/// When the read fails, leaves a point out or makes one up.
pub async fn read_answers_every_point(plan: &dyn Plan, session: &mut dyn Session, group: usize) -> Vec<Sample> {
    let planned = &plan.scan_groups()[group];
    let mut samples = Vec::new();
    let read = session.read(group, &mut samples);
    let result = tokio::time::timeout(planned.patience + SLACK, read).await.expect("read went beyond its patience");
    result.unwrap_or_else(|error| panic!("a peer that answers was not understood: {error}"));
    for point in &planned.points {
        assert!(samples.iter().any(|sample| sample.point == *point), "point {point} got no sample");
    }
    for Sample { point, time, datum } in &samples {
        assert!(planned.points.contains(point), "point {point} is not of group {group}");
        assert!(time.0 > 1_500_000_000_000, "point {point} has no stamp: {time:?}");
        let finite = match datum {
            Datum::Good(Value::Float(x)) => x.is_finite(),
            Datum::Good(Value::Double(x)) => x.is_finite(),
            _ => true,
        };
        assert!(finite, "point {point} is good and yet no number");
    }
    samples
}

/// Reads a group from a peer that says nothing: `Timeout` within the group's patience, and the session is over.
///
/// # Panics
/// When the read succeeds, ends otherwise, takes too long, or leaves good samples behind.
pub async fn silent_peer_ends_the_session(plan: &dyn Plan, session: &mut dyn Session, group: usize) {
    let patience = plan.scan_groups()[group].patience;
    let mut samples = Vec::new();
    let read = session.read(group, &mut samples);
    let result = tokio::time::timeout(patience + SLACK, read).await.expect("read went beyond its patience");
    assert!(matches!(result, Err(SessionError::Timeout(_))), "silence is a timeout, not {result:?}");
    assert!(samples.iter().all(|sample| matches!(sample.datum, Datum::Bad(_))), "values out of silence: {samples:?}");
    ended_session_stays_ended(session, group, patience).await;
}

/// After an error that ends the session no call on it succeeds: what arrives late belongs to nobody.
///
/// # Panics
/// When a read gives an answer.
pub async fn ended_session_stays_ended(session: &mut dyn Session, group: usize, patience: Duration) {
    for _ in 0..2 {
        let mut samples = Vec::new();
        let read = session.read(group, &mut samples);
        let result = tokio::time::timeout(patience + SLACK, read).await.expect("read went beyond its patience");
        assert!(result.is_err_and(|error| error.ends_session()), "an ended session read something: {samples:?}");
        assert!(!samples.iter().any(|s| matches!(s.datum, Datum::Good(_))), "a late answer was taken: {samples:?}");
    }
}

/// A driver that only polls never resolves `pushed`.
///
/// # Panics
/// When it resolves.
pub async fn pollers_push_nothing(session: &mut dyn Session) {
    let mut samples = Vec::new();
    for _ in 0..8 {
        assert!(poll_once(session.pushed(&mut samples)).await.is_none(), "a poller pushed");
        tokio::task::yield_now().await;
    }
    assert_eq!(samples, [], "a poller pushed");
}

/// Collects `expected` samples from a peer that sends them while every second call is dropped half-way: none is lost.
///
/// # Panics
/// When fewer or other samples arrive within `within`, or the session ends.
pub async fn pushed_is_cancel_safe(session: &mut dyn Session, expected: usize, within: Duration) -> Vec<Sample> {
    let deadline = tokio::time::Instant::now() + within;
    let mut samples = Vec::new();
    while samples.len() < expected {
        if let Some(result) = poll_once(session.pushed(&mut samples)).await {
            result.expect("the peer is there, yet the session ended");
            continue;
        }
        let wait = deadline.min(tokio::time::Instant::now() + Duration::from_millis(20));
        if let Ok(result) = tokio::time::timeout_at(wait, session.pushed(&mut samples)).await {
            result.expect("the peer is there, yet the session ended");
        }
        assert!(tokio::time::Instant::now() < deadline, "{} of {expected} samples in time", samples.len());
    }
    assert_eq!(samples.len(), expected, "more samples than were sent");
    samples
}

/// Polls a future a single time and drops it.
async fn poll_once<T>(call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::{Behaviour, ScriptedPlan};
    use crate::{SessionError, Timestamp};

    async fn session(plan: &ScriptedPlan) -> Box<dyn Session> {
        plan.connect(Arc::new(Silent)).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_keeps_the_contract_passes() {
        let plan = ScriptedPlan::polled(2, 3, Duration::from_secs(1));
        let mut session = session(&plan).await;
        assert_eq!(read_answers_every_point(&plan, session.as_mut(), 1).await.len(), 3);
        pollers_push_nothing(session.as_mut()).await;
        plan.script().behave(1, Behaviour::Dead);
        silent_peer_ends_the_session(&plan, session.as_mut(), 1).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "point 5 got no sample")]
    async fn a_forgotten_point_is_found() {
        let plan = ScriptedPlan::polled(2, 3, Duration::from_secs(1));
        plan.script().behave(1, Behaviour::Forgets);
        read_answers_every_point(&plan, session(&plan).await.as_mut(), 1).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "beyond its patience")]
    async fn a_driver_without_a_dead_line_is_found() {
        let plan = ScriptedPlan::polled(1, 1, Duration::from_secs(1));
        plan.script().behave(0, Behaviour::Hangs);
        silent_peer_ends_the_session(&plan, session(&plan).await.as_mut(), 0).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_connect_passes_and_pushed_samples_are_counted() {
        let plan = ScriptedPlan::pushed(1, 2);
        plan.script().refuse(true);
        refused_connect_ends_in_time(&plan, Duration::from_secs(1)).await;
        plan.script().refuse(false);
        let mut session = session(&plan).await;
        for point in [0, 1, 0] {
            let datum = Datum::Good(Value::Int(1));
            plan.script().push(Sample { point, time: Timestamp::now(), datum });
        }
        assert_eq!(pushed_is_cancel_safe(session.as_mut(), 3, Duration::from_secs(1)).await.len(), 3);
        assert!(matches!(session.read(0, &mut vec![]).await, Ok(()) | Err(SessionError::Timeout(_))));
    }
}
