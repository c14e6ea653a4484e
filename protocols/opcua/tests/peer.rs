//! The driver against Python's asyncua, started as a process of its own.
//!
//! Needs `ENOS_EDGE_PEER_PYTHON`, a python with asyncua in it:
//! `cargo test -p enos-edge-opcua --test peer -- --ignored`

mod support;

use driver::{Datum, PointKind, Reason, Sample, SessionError, Value, ValueType};
use opcua::types::StatusCode;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use support::{connect, plan, proves_itself, pushed_until, read, variables};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const TICK: Duration = Duration::from_millis(100);

/// A free port; the peer takes it a moment later.
fn port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback");
    listener.local_addr().expect("bound").port()
}

async fn peer(port: u16, arguments: &[&str], pki: &Path) -> Child {
    let python = std::env::var("ENOS_EDGE_PEER_PYTHON").expect("ENOS_EDGE_PEER_PYTHON names a python with asyncua");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/peers/asyncua_server.py");
    let mut child = Command::new(python)
        .arg(script)
        .arg(port.to_string())
        .args(arguments)
        .arg("--pki")
        .arg(pki)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("python starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready = async {
        while let Some(line) = lines.next_line().await.expect("readable") {
            if line == "READY" {
                return;
            }
        }
        panic!("the peer ended before it was ready");
    };
    tokio::time::timeout(Duration::from_secs(60), ready).await.expect("ready in time");
    child
}

fn rows() -> Vec<(String, ValueType, PointKind)> {
    let mut rows = variables(16);
    let more = |name: &str, value_type, kind| (format!("nsu=urn:enos-edge:peer;s=Machine.{name}"), value_type, kind);
    rows.push(more("Array", ValueType::Int, PointKind::Ai)); // 16
    rows.push(more("Text", ValueType::String, PointKind::Ai));
    rows.push(more("Time", ValueType::Long, PointKind::Ai));
    rows.push(more("Bad", ValueType::Double, PointKind::Ai));
    rows.push(more("Unsure", ValueType::Double, PointKind::Ai)); // 20
    rows.push(more("Nowhere", ValueType::Double, PointKind::Ai));
    rows.push(more("Set0", ValueType::Int, PointKind::Ao)); // 22, a Double
    rows.push(more("Set1", ValueType::Int, PointKind::Ao));
    rows.push(more("Set2", ValueType::Bool, PointKind::Ao));
    rows.push(more("Set3", ValueType::String, PointKind::Ao)); // 25
    rows.push(more("Var000", ValueType::Double, PointKind::Ao));
    rows.push(more("Set0", ValueType::Double, PointKind::Ai)); // 27
    rows
}

fn bad(code: StatusCode) -> Datum {
    Datum::Bad(Reason::StatusCode(code.bits()))
}

fn check(sample: &Sample) {
    let expected = match sample.point {
        0..16 => return assert!(proves_itself(sample, TICK), "{sample:?}"),
        16 => Datum::Bad(Reason::TypeMismatch),
        17 => Datum::Good(Value::Text("läuft".into())),
        18 => Datum::Good(Value::Int(1_795_341_600_000)),
        19 => bad(StatusCode::BadSensorFailure),
        20 => Datum::Uncertain(Value::Double(1.0), Reason::StatusCode(StatusCode::UncertainLastUsableValue.bits())),
        21 => bad(StatusCode::BadNodeIdUnknown),
        _ => return,
    };
    assert_eq!(sample.datum, expected, "point {}", sample.point);
}

async fn read_subscribe_write(state: &Path, pairs: &[(&str, &str)]) {
    let reading = plan(state, &rows(), &[pairs, &[("mode", "read"), ("timestamp", "source")]].concat());
    let mut session = connect(&*reading).await.expect("connects");
    let samples = read(&mut *session).await.expect("reads");
    assert_eq!(samples.len(), 23);
    samples.iter().for_each(check);
    session.close().await;

    let watching = plan(state, &rows(), &[pairs, &[("timestamp", "source")]].concat());
    let mut session = connect(&*watching).await.expect("connects");
    let of = |samples: &[Sample], point| samples.iter().filter(|s| s.point == point).count();
    let all = |s: &[Sample]| (0..22).all(|p| of(s, p) >= 1) && (0..16).all(|p| p % 4 == 2 || of(s, p) >= 5);
    pushed_until(&mut *session, all).await.expect("pushed").iter().for_each(check);

    for (point, value) in
        [(22, Value::Int(42)), (23, Value::Int(-7)), (24, Value::Bool(true)), (25, Value::Text("run".into()))]
    {
        session.write(point, &value).await.expect("written");
        session.write(point, &value).await.expect("written again");
    }
    let answer = session.write(26, &Value::Double(1.0)).await;
    assert!(matches!(answer, Err(SessionError::Rejected { point: 26, .. })), "{answer:?}");
    let back = |s: &[Sample]| s.iter().any(|s| s.point == 27 && s.datum == Datum::Good(Value::Double(42.0)));
    pushed_until(&mut *session, back).await.expect("what was written comes back");
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a python with asyncua"]
async fn asyncua_without_security() {
    let state = tempfile::tempdir().expect("temp");
    let port = port();
    let endpoint = format!("opc.tcp://127.0.0.1:{port}/peer");
    let mut child = peer(port, &["none"], state.path()).await;
    read_subscribe_write(state.path(), &[("endpoint", &endpoint)]).await;

    let plan = plan(state.path(), &rows(), &[("endpoint", &endpoint)]);
    let mut session = connect(&*plan).await.expect("connects");
    pushed_until(&mut *session, |s| s.len() > 20).await.expect("values");
    child.kill().await.expect("killed");
    assert!(pushed_until(&mut *session, |_| false).await.is_err());
    session.close().await;
    let _child = peer(port, &["none"], state.path()).await;
    let mut session = connect(&*plan).await.expect("connects again");
    pushed_until(&mut *session, |s| s.len() > 20).await.expect("values again");
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a python with asyncua"]
async fn asyncua_with_a_user_without_security() {
    let state = tempfile::tempdir().expect("temp");
    let port = port();
    let endpoint = format!("opc.tcp://127.0.0.1:{port}/peer");
    let _child = peer(port, &["none", "joe", "s3cret"], state.path()).await;
    let pairs = [("endpoint", endpoint.as_str()), ("user", "joe")];
    read_subscribe_write(state.path(), &[&pairs[..], &[("password", "s3cret")]].concat()).await;
    let wrong = plan(state.path(), &rows(), &[&pairs[..], &[("password", "guess")]].concat());
    let error = connect(&*wrong).await.err().expect("refused").to_string();
    assert!(error.contains("BadUserAccessDenied"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a python with asyncua"]
async fn asyncua_with_a_user_and_security() {
    let state = tempfile::tempdir().expect("temp");
    let port = port();
    let endpoint = format!("opc.tcp://127.0.0.1:{port}/peer");
    let _child = peer(port, &["basic256sha256", "joe", "s3cret"], state.path()).await;
    let pairs = [
        ("endpoint", endpoint.as_str()),
        ("security_policy", "Basic256Sha256"),
        ("user", "joe"),
        ("connect_timeout_ms", "60000"),
    ];
    let right = [&pairs[..], &[("password", "s3cret")]].concat();
    let unknown = plan(state.path(), &rows(), &right).connect(std::sync::Arc::new(driver::Silent)).await;
    assert!(unknown.err().expect("not trusted").to_string().contains("is not trusted"));
    let pinned = [&right[..], &[("server_certificate", "server.der")]].concat();
    read_subscribe_write(state.path(), &pinned).await;
    let wrong = [&pairs[..], &[("password", "guess"), ("server_certificate", "server.der")]].concat();
    let error = connect(&*plan(state.path(), &rows(), &wrong)).await.err().expect("refused").to_string();
    assert!(error.contains("BadUserAccessDenied"), "{error}");
}
