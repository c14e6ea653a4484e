//! What a device pushes by itself.

use crate::bench::{MS, ROWS, S, bench_with};
use driver::ScanGroup;
use driver::testkit::ScriptedPlan;
use enos_edge::model::{Datum, Sample, Timestamp, Upload, Value};
use enos_edge::south::DeviceState;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn pushed_values_of_one_time_are_all_kept_and_the_same_one_again_is_no_other() {
    let bench = bench_with(ScriptedPlan::pushed(1, ROWS), Upload::Realtime, |_| {});
    sleep(S).await;
    let push = |time: i64, value: i64| {
        let datum = Datum::Good(Value::Int(value));
        bench.script.push(Sample { point: 0, time: Timestamp(time), datum });
    };
    for value in [1, 2, 1] {
        push(7_000, value);
    }
    sleep(S).await;
    push(7_000, 1);
    sleep(S).await;
    push(5_000, 4);
    sleep(S).await;
    assert_eq!(bench.kept.times(0), [7_000, 7_001, 7_002, 7_002, 5_000], "an older time is the source's word");
}

#[tokio::test(start_paused = true)]
async fn what_a_device_pushes_is_mapped_and_none_is_lost_beside_writes() {
    let bench = bench_with(ScriptedPlan::pushed(2, ROWS), Upload::Realtime, |_| {});
    sleep(S).await;
    for i in 0..100i64 {
        let point = (i % 2) as u32 * ROWS;
        bench.script.push(Sample { point, time: Timestamp(i), datum: Datum::Good(Value::Int(i)) });
        if i % 10 == 0 {
            bench.south.write("line", 2, &Value::Int(i), S).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    sleep(S).await;
    let mut values: Vec<_> = bench.kept.readings().into_iter().map(|r| r.3).collect();
    values.sort_by_key(|value| value.as_f64().unwrap() as i64);
    assert_eq!(values, (0..100).map(Value::Int).collect::<Vec<_>>());
    assert_eq!(bench.device(1).state, DeviceState::Online);
}

#[tokio::test(start_paused = true)]
async fn polled_and_pushed_points_share_a_session_fairly() {
    let mut plan = ScriptedPlan::polled(1, ROWS, 100 * MS);
    plan.groups[0].points = vec![0];
    plan.groups.push(ScanGroup { pushed: true, points: vec![1, 2], ..plan.groups[0].clone() });
    let bench = bench_with(plan, Upload::Realtime, |_| {});
    let end = Instant::now() + S * 10;
    let mut sent = 0;
    while Instant::now() < end {
        sent += 1;
        bench.script.push(Sample { point: 1, time: Timestamp(sent), datum: Datum::Good(Value::Int(sent)) });
        sleep(MS).await;
    }
    let polled = bench.kept.of(0).len();
    let pushed = bench.kept.readings().iter().filter(|r| r.2 == 1).count();
    assert!(polled >= 98, "{polled}");
    assert!(pushed as i64 >= sent - 1, "{pushed} of {sent}");
}
