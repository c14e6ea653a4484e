//! The driver against an OPC UA server nobody here wrote (async-opcua's), in process, with its faults.

use crate::support::{connect, plan, proves_itself, pushed_until, read, variables};
use crate::testbed::{Machine, MachineConfig};
use driver::{Datum, PointKind, Reason, SessionError, Value, ValueType};
use opcua::types::StatusCode;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(100);

async fn machine(change: impl FnOnce(&mut MachineConfig)) -> Machine {
    let mut config = MachineConfig { tick: TICK, secure: false, ..MachineConfig::default() };
    change(&mut config);
    Machine::start(config).await.expect("machine starts")
}

fn status(code: StatusCode) -> Datum {
    Datum::Bad(Reason::StatusCode(code.bits()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_read_in_chunks_the_server_takes() {
    let machine = machine(|c| (c.variables, c.operation_limit) = (23, 5)).await;
    let state = tempfile::tempdir().expect("temp");
    let mut rows = variables(23);
    rows[7].0 = "ns=2;s=Machine.Nowhere".to_owned();
    rows[8].0 = "nsu=urn:nobody;s=x".to_owned();
    rows[9].0 = "nsu=urn:enos-edge:testbed:machine;s=Machine.Var009".to_owned();
    let endpoint = machine.endpoint();
    let plan = plan(state.path(), &rows, &[("endpoint", &endpoint), ("mode", "read"), ("timestamp", "source")]);
    let mut session = connect(&*plan).await.expect("connects");
    let samples = read(&mut *session).await.expect("reads");
    assert_eq!((samples.len(), machine.connections()), (23, 1), "one TCP connection for all of them");
    for sample in &samples {
        match sample.point {
            7 | 8 => assert_eq!(sample.datum, status(StatusCode::BadNodeIdUnknown)),
            _ => assert!(proves_itself(sample, TICK), "{sample:?}"),
        }
    }
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_subscribed_comes_first_as_it_is_and_then_as_it_changes() {
    let machine = machine(|c| (c.variables, c.operation_limit) = (23, 5)).await;
    let state = tempfile::tempdir().expect("temp");
    let mut rows = variables(24); // the last one does not exist
    rows[2].1 = ValueType::Double; // a Boolean is 0 or 1
    rows[3].1 = ValueType::Int; // a String is no number
    let endpoint = machine.endpoint();
    let plan = plan(state.path(), &rows, &[("endpoint", &endpoint), ("timestamp", "source")]);
    assert!(plan.scan_groups()[0].pushed);
    let mut session = connect(&*plan).await.expect("connects");
    let of = |samples: &[driver::Sample], point| samples.iter().filter(|s| s.point == point).count();
    // A Boolean that flips each tick, sampled each second tick, never changes.
    let enough = |p| if p % 4 == 2 { 1 } else { 3 };
    let samples = pushed_until(&mut *session, |s| (0..23).all(|p| of(s, p) >= enough(p)) && of(s, 23) >= 1).await;
    for sample in samples.expect("pushed") {
        match sample.point {
            2 => assert!(matches!(sample.datum, Datum::Good(Value::Double(_)))),
            3 => assert_eq!(sample.datum, Datum::Bad(Reason::TypeMismatch)),
            23 => assert_eq!(sample.datum, status(StatusCode::BadNodeIdUnknown)),
            _ => assert!(proves_itself(&sample, TICK), "{sample:?}"),
        }
    }
    machine.spoil(0, Some(StatusCode::BadSensorFailure));
    let bad = status(StatusCode::BadSensorFailure);
    pushed_until(&mut *session, |s| s.iter().any(|s| s.point == 0 && s.datum == bad)).await.expect("spoilt");
    machine.spoil(0, None);
    pushed_until(&mut *session, |s| s.iter().any(|s| s.point == 0 && s.datum != bad)).await.expect("healed");
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_arrives_in_the_nodes_own_type_or_is_refused() {
    let machine = machine(|c| c.variables = 1).await;
    let state = tempfile::tempdir().expect("temp");
    let set = |n, t| (format!("ns=2;s=Machine.Set{n}"), t, PointKind::Ao);
    let rows = [
        set(0, ValueType::Int), // the node is a Double
        set(1, ValueType::Int),
        set(2, ValueType::Bool),
        set(3, ValueType::String),
        ("ns=2;s=Machine.Var000".to_owned(), ValueType::Double, PointKind::Ao),
        set(9, ValueType::Int),
    ];
    let endpoint = machine.endpoint();
    let plan = plan(state.path(), &rows, &[("endpoint", &endpoint)]);
    assert!(plan.scan_groups().is_empty(), "control points are not collected");
    let mut session = connect(&*plan).await.expect("connects");
    let values = [Value::Int(42), Value::Int(-7), Value::Bool(true), Value::Text("run".into())];
    for (point, value) in (0..).zip(&values) {
        session.write(point, value).await.expect("written");
        session.write(point, value).await.expect("written again, with what was learned");
        assert_eq!(machine.setpoint(point as usize), Some(value.to_string()));
    }
    let refused = |point, code: StatusCode| SessionError::Rejected { point, reason: Reason::StatusCode(code.bits()) };
    let answer = session.write(4, &Value::Double(1.0)).await;
    assert!(matches!(answer, Err(SessionError::Rejected { point: 4, .. })), "{answer:?}");
    assert_eq!(session.write(5, &Value::Int(1)).await, Err(refused(5, StatusCode::BadNodeIdUnknown)));
    let answer = session.write(1, &Value::Int(1 << 40)).await;
    assert_eq!(answer, Err(SessionError::Rejected { point: 1, reason: Reason::OutOfRange }));
    session.write(1, &Value::Int(8)).await.expect("the session goes on");
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_died_is_noticed_and_its_return_brings_values_within_three_seconds() {
    let mut machine = machine(|c| c.max_sessions = 3).await;
    let state = tempfile::tempdir().expect("temp");
    let endpoint = machine.endpoint();
    let plan = plan(state.path(), &variables(8), &[("endpoint", &endpoint)]);
    for _ in 0..3 {
        let mut session = connect(&*plan).await.expect("connects");
        pushed_until(&mut *session, |s| s.len() >= 8).await.expect("first values");
        machine.kill();
        let lost = pushed_until(&mut *session, |_| false).await;
        assert!(matches!(lost, Err(SessionError::Disconnected(_))), "{lost:?}");
        let again = read(&mut *session).await;
        assert!(again.is_err_and(|e| e.ends_session()));
        session.close().await;
        assert!(connect(&*plan).await.is_err(), "nobody listens");
        machine.restart().await.expect("restarts");
        let back = Instant::now();
        let mut session = connect(&*plan).await.expect("connects again");
        pushed_until(&mut *session, |s| s.len() >= 8).await.expect("first values again");
        assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
        session.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_closed_so_that_the_server_has_room() {
    let machine = machine(|c| c.max_sessions = 2).await;
    let state = tempfile::tempdir().expect("temp");
    let endpoint = machine.endpoint();
    let plan = plan(state.path(), &variables(8), &[("endpoint", &endpoint)]);
    for _ in 0..6 {
        let mut session = connect(&*plan).await.expect("a place is free");
        pushed_until(&mut *session, |s| !s.is_empty()).await.expect("values");
        session.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_noticed_within_two_dead_lines() {
    let machine = machine(|_| {}).await;
    let state = tempfile::tempdir().expect("temp");
    let endpoint = machine.endpoint();
    for mode in ["subscribe", "read"] {
        let pairs = [("endpoint", endpoint.as_str()), ("mode", mode), ("timeout_ms", "500")];
        let plan = plan(state.path(), &variables(8), &pairs);
        let mut session = connect(&*plan).await.expect("connects");
        assert_eq!(read(&mut *session).await.expect("reads").len(), 8);
        machine.pause(true);
        let silent = Instant::now();
        let lost = match mode {
            "subscribe" => pushed_until(&mut *session, |_| false).await.err(),
            _ => read(&mut *session).await.err(),
        };
        assert_eq!(lost, Some(SessionError::Timeout(Duration::from_millis(500))));
        assert!(silent.elapsed() < Duration::from_millis(1250), "{:?}", silent.elapsed());
        session.close().await;
        machine.pause(false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_bad_and_the_others_go_on() {
    let machine = machine(|_| {}).await;
    let state = tempfile::tempdir().expect("temp");
    let endpoint = machine.endpoint();
    let pairs = [("endpoint", endpoint.as_str()), ("timestamp", "source"), ("retry_failed_ms", "100")];
    let plan = plan(state.path(), &variables(8), &pairs);
    let mut session = connect(&*plan).await.expect("connects");
    pushed_until(&mut *session, |s| s.len() >= 8).await.expect("first values");
    machine.remove(3);
    let gone = status(StatusCode::BadNodeIdUnknown);
    // Told once by the machine, and at least once more by the retry.
    let count = |s: &[driver::Sample]| s.iter().filter(|s| s.point == 3 && s.datum == gone).count();
    let samples = pushed_until(&mut *session, |s| count(s) >= 2).await.expect("the session lives");
    assert!(samples.iter().filter(|s| s.point != 3).all(|s| proves_itself(s, TICK)));
    assert!(samples.iter().any(|s| s.point == 4));
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_ends_the_session_and_the_next_one_misses_nothing_but_the_gap() {
    let machine = machine(|_| {}).await;
    let state = tempfile::tempdir().expect("temp");
    let endpoint = machine.endpoint();
    let plan = plan(state.path(), &variables(8), &[("endpoint", &endpoint), ("timestamp", "source")]);
    for _ in 0..5 {
        let mut session = connect(&*plan).await.expect("connects");
        let samples = pushed_until(&mut *session, |s| s.len() >= 16).await.expect("values");
        assert!(samples.iter().all(|s| proves_itself(s, TICK)));
        machine.drop_connections();
        assert!(pushed_until(&mut *session, |_| false).await.is_err());
        session.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_security_only_a_trusted_server_and_the_right_password_get_through() {
    let machine = machine(|c| (c.secure, c.users) = (true, vec![("joe".to_owned(), "s3cret".to_owned())])).await;
    let state = tempfile::tempdir().expect("temp");
    let endpoint = machine.endpoint();
    let secure = [("endpoint", endpoint.as_str()), ("security_policy", "Basic256Sha256"), ("user", "joe")];
    let with = |more: &[(&'static str, &'static str)]| [&secure[..], more].concat();

    // Unknown: refused, and the error says which certificate and where to put it.
    let right = with(&[("password", "s3cret"), ("connect_timeout_ms", "60000")]);
    let plan_ = plan(state.path(), &variables(8), &right);
    let refused = plan_.connect(std::sync::Arc::new(driver::Silent)).await.err().expect("not trusted").to_string();
    assert!(refused.contains("is not trusted") && refused.contains("pki/opcua/trusted"), "{refused}");
    let rejected = std::fs::read_dir(state.path().join("pki/opcua/rejected")).expect("kept").next();
    let rejected = rejected.expect("one").expect("readable").path();
    assert!(refused.contains(rejected.file_stem().and_then(|s| s.to_str()).expect("fingerprint")));

    // The engineer moves it.
    let trusted = state.path().join("pki/opcua/trusted");
    std::fs::create_dir_all(&trusted).expect("folder");
    std::fs::rename(&rejected, trusted.join("machine.der")).expect("moved");
    let mut session = connect(&*plan_).await.expect("trusted now");
    assert_eq!(read(&mut *session).await.expect("reads").len(), 8);
    pushed_until(&mut *session, |s| s.len() >= 16).await.expect("values");
    session.close().await;

    // A wrong password is said at once.
    let wrong = plan(state.path(), &variables(8), &with(&[("password", "guess")]));
    let error = connect(&*wrong).await.err().expect("refused").to_string();
    assert!(error.contains("BadUserAccessDenied") || error.contains("BadIdentityTokenRejected"), "{error}");

    // Trust taken back counts at the next connect.
    std::fs::remove_file(trusted.join("machine.der")).expect("removed");
    assert!(connect(&*plan_).await.is_err());

    // Pinned: this certificate and no other.
    std::fs::copy(machine.certificate(), state.path().join("plc.der")).expect("copied");
    let pinned = plan(state.path(), &variables(8), &with(&[("password", "s3cret"), ("server_certificate", "plc.der")]));
    connect(&*pinned).await.expect("the pinned one").close().await;
    std::fs::copy(state.path().join("pki/opcua/own/certificate.der"), state.path().join("plc.der")).expect("copied");
    assert!(connect(&*pinned).await.err().expect("another").to_string().contains("is not the one in"));

    // First use, only because it is written down; another certificate later is refused.
    let first = plan(state.path(), &variables(8), &with(&[("password", "s3cret"), ("trust", "first-use")]));
    connect(&*first).await.expect("first use").close().await;
    connect(&*first).await.expect("the same again").close().await;
    let known = std::fs::read_dir(state.path().join("pki/opcua/first-use")).expect("kept").next();
    std::fs::write(known.expect("one").expect("readable").path(), b"another").expect("written");
    assert!(connect(&*first).await.err().expect("changed").to_string().contains("another one than at first use"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_works_without_security_and_a_wrong_one_is_said() {
    let machine = machine(|c| (c.secure, c.users) = (true, vec![("joe".to_owned(), "s3cret".to_owned())])).await;
    let state = tempfile::tempdir().expect("temp");
    std::fs::write(state.path().join("password"), "s3cret\n").expect("written");
    let endpoint = machine.endpoint();
    let base = [("endpoint", endpoint.as_str()), ("user", "joe")];
    let right = plan(state.path(), &variables(8), &[&base[..], &[("password_file", "password")]].concat());
    connect(&*right).await.expect("logs in").close().await;
    let wrong = plan(state.path(), &variables(8), &[&base[..], &[("password", "guess")]].concat());
    let error = connect(&*wrong).await.err().expect("refused").to_string();
    assert!(error.contains("BadUserAccessDenied") || error.contains("BadIdentityTokenRejected"), "{error}");
    let missing =
        [("endpoint", endpoint.as_str()), ("security_policy", "Aes256-Sha256-RsaPss"), ("connect_timeout_ms", "60000")];
    let error = connect(&*plan(state.path(), &variables(8), &missing)).await.err().expect("not offered").to_string();
    assert!(error.contains("offers no endpoint") && error.contains("Basic256Sha256"), "{error}");
}
