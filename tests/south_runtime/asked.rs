//! Reads and writes that somebody asks for, between the scans.

use crate::bench::{MS, ROWS, S, bench, bench_with};
use driver::testkit::{Behaviour, ScriptedPlan};
use driver::{Reason, SessionError};
use enos_edge::model::{Upload, Value};
use enos_edge::south::{AskError, Shown};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_device_is_read_on_demand_between_its_scans() {
    let bench = bench_with(ScriptedPlan::polled(2, ROWS, S * 900), Upload::Realtime, |_| {});
    sleep(S * 10).await;
    let points = bench.south.read_now("line", "d1", S).await.unwrap();
    assert_eq!(points.len(), ROWS as usize);
    assert_eq!(points[1].value, Some(Shown(Value::Int(4))));
    assert_eq!(bench.kept.of(1).len(), 2, "the first scan, and this one");
    let unknown = bench.south.read_now("line", "d9", S).await;
    assert_eq!(unknown, Err(AskError::UnknownDevice("d9".into())));
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_before_polling_and_is_confirmed() {
    let bench = bench(5, |script| (0..5).for_each(|d| script.behave(d, Behaviour::Slow(900 * MS))));
    sleep(S * 20).await;
    let asked = Instant::now();
    bench.south.write("line", 8, &Value::Double(41.7), S * 5).await.unwrap();
    assert!(asked.elapsed() <= 900 * MS, "one request at most goes first, and {:?} passed", asked.elapsed());
    bench.south.write_measurepoint(1, 2, &Value::Int(7), S * 5).await.unwrap();
    let writes: Vec<_> = bench.script.writes().into_iter().map(|(_, point, value)| (point, value)).collect();
    assert_eq!(writes, [(8, Value::Int(42)), (5, Value::Int(7))], "in the type of the wire");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_written_is_refused_before_the_wire() {
    let bench = bench(1, |_| {});
    let write = |point, value| bench.south.write("line", point, value, S);
    assert_eq!(write(0, &Value::Int(1)).await, Err(AskError::NotWritable(0)));
    assert_eq!(write(9, &Value::Int(1)).await, Err(AskError::UnknownPoint(9)));
    assert_eq!(write(2, &Value::Int(40_000)).await, Err(AskError::Unfit(Reason::OutOfRange)));
    let control = bench.south.write_measurepoint(0, 1, &Value::Int(1), S).await;
    assert_eq!(control, Err(AskError::NoControl("m1".into())));
    assert_eq!(bench.script.writes().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_keeps_the_session_and_an_unanswered_one_ends_it() {
    let bench = bench(1, |script| {
        script.writes_fail(SessionError::Rejected { point: 2, reason: Reason::ModbusException(3) });
    });
    sleep(S * 5).await;
    let refused = bench.south.write("line", 2, &Value::Int(1), S * 5).await;
    assert_eq!(refused, Err(AskError::Refused { point: 2, reason: Reason::ModbusException(3) }));
    assert_eq!(bench.counters.sessions.get(), 1);
    bench.script.writes_fail(SessionError::Timeout(S));
    let unknown = bench.south.write("line", 2, &Value::Int(1), S * 5).await;
    assert_eq!(unknown, Err(AskError::Unconfirmed(SessionError::Timeout(S))));
    sleep(S * 2).await;
    assert_eq!(bench.counters.sessions.get(), 2);
    assert!(bench.kept.of(0).len() >= 6, "polling goes on");
}

#[tokio::test(start_paused = true)]
async fn a_stale_command_never_fires() {
    let bench = bench(1, |script| script.behave(0, Behaviour::Slow(900 * MS)));
    sleep(S * 5 + 10 * MS).await;
    let mut given_up = 0;
    for _ in 0..20 {
        match bench.south.write("line", 2, &Value::Int(1), 30 * MS).await {
            Err(AskError::Expired) => given_up += 1,
            result => assert_eq!(result, Ok(())),
        }
        sleep(70 * MS).await;
    }
    assert!(given_up > 5, "{given_up}");
    sleep(S * 10).await;
    assert_eq!(bench.script.writes().len(), 20 - given_up);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_asks_has_a_waiting_connection_tried_at_once() {
    let bench = bench(1, |script| script.refuse(true));
    sleep(S * 100).await;
    bench.script.refuse(false);
    let asked = Instant::now();
    bench.south.read_now("line", "d0", S).await.unwrap();
    assert!(asked.elapsed() < 10 * MS);
    bench.script.behave(0, Behaviour::Drops);
    bench.script.refuse(true);
    sleep(S * 100).await;
    let refused = bench.south.read_now("line", "d0", S).await;
    assert_eq!(refused, Err(AskError::NotConnected("refused".into())));
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_refused_as_busy() {
    let bench = bench(1, |script| script.connect_takes(S * 20));
    sleep(S).await;
    let ask = || bench.south.read_now("line", "d0", S * 60);
    let mut all: Vec<_> = (0..40).map(|_| Box::pin(ask())).collect();
    let mut busy = 0;
    for one in &mut all {
        if let Ok(Err(AskError::Busy)) = tokio::time::timeout(Duration::ZERO, one).await {
            busy += 1;
        }
    }
    assert_eq!(busy, 8, "32 wait");
}

/// What versions are told from, each minute: thousands of devices may be looked at, and none of them more than once.
#[tokio::test(start_paused = true)]
async fn latest_values_of_thousands_of_devices_cost_one_look_at_each() {
    const DEVICES: u32 = 3000;
    let bench = bench(DEVICES, |_| {});
    sleep(S * 5).await;
    let (mut looked, mut found) = (0, Vec::new());
    let lines = bench.south.now();
    lines.each_latest(
        |device| {
            looked += 1;
            (device % 2 == 0).then_some(&[1][..])
        },
        |device, points| {
            let ids: Vec<&str> = points.iter().map(|point| point.id.as_str()).collect();
            assert_eq!(ids, ["m1"], "of device {device} what is wanted alone is made");
            assert_eq!(points[0].value, Some(Shown(Value::Int(i64::from(device * ROWS + 1)))), "device {device}");
            found.push(device);
        },
    );
    assert_eq!((looked, found.len()), (DEVICES, DEVICES as usize / 2));
    assert!(found.is_sorted());
    assert_eq!(lines.latest(7).len(), ROWS as usize, "all of one");
}
