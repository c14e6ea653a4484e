//! Scans: on their period, bounded, seen by whoever listens, held until the interval ends.

use crate::bench::{Kept, MS, ROWS, S, bench, bench_with, site, worst_gap};
use driver::testkit::{Behaviour, ScriptedPlan};
use enos_edge::model::{Upload, Value};
use enos_edge::south::South;
use std::sync::Arc;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn values_arrive_on_their_period_without_drift() {
    let bench = bench(3, |_| {});
    sleep(S * 100).await;
    for device in 0..3 {
        let times = bench.kept.of(device);
        assert_eq!(times.len(), 100, "device {device}");
        assert!(times[0] - bench.began <= S, "the first scan comes within a period");
        assert!(worst_gap(&times) <= S + 2 * MS);
        assert!((times[99] - times[0]).abs_diff(S * 99) <= 2 * MS, "{:?}", times[99] - times[0]);
    }
    assert_eq!(bench.kept.readings()[0].3, Value::Int(i64::from(bench.kept.readings()[0].1 * ROWS)));
    assert_eq!(bench.counters.readings.get(), 600);
    assert_eq!(bench.counters.samples_good.get(), 900);
    assert_eq!((bench.counters.sessions.get(), bench.script.most_open()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn timer_values_go_out_on_time_though_the_device_is_gone() {
    let plan = ScriptedPlan::polled(1, ROWS, S);
    let bench = bench_with(plan, Upload::Timer(S * 60), |_| {});
    sleep(S * 30).await;
    assert_eq!(bench.kept.of(0).len(), 1);
    bench.script.behave(0, Behaviour::Dead);
    sleep(S * 60).await;
    let times = bench.kept.of(0);
    assert_eq!(times.len(), 2, "what was collected in the interval, and nothing twice");
    let waited = times[1] - times[0];
    assert!(waited >= S * 60 && waited <= S * 61 + 2 * MS, "at most a probe under way is in between: {waited:?}");
    assert!(bench.counters.readings_held.get() >= 50);
}

#[tokio::test(start_paused = true)]
async fn batches_are_bounded() {
    let plan = ScriptedPlan::polled(1, 5_001, S);
    let kept = Arc::new(Kept::default());
    let south = South::start(&site(plan, 5_001, Upload::Realtime), Arc::clone(&kept) as _, Arc::default());
    sleep(S).await;
    assert_eq!(kept.counts(), [2000, 2000, 1000]);
    drop(south);
}

#[tokio::test(start_paused = true)]
async fn frames_are_seen_while_somebody_listens() {
    let bench = bench(1, |_| {});
    sleep(S * 3).await;
    let mut capture = bench.south.capture("line").unwrap();
    assert_eq!(&*capture.next().await.unwrap().bytes, [0x03, 0]);
    assert!(bench.south.capture("other").is_err());
}

#[tokio::test(start_paused = true)]
async fn two_readings_of_one_point_never_share_a_millisecond() {
    let bench = bench_with(ScriptedPlan::polled(1, ROWS, S * 900), Upload::Realtime, |_| {});
    sleep(S * 10).await;
    // Paused time: these reads fall into one millisecond of the wall clock, or very few.
    for _ in 0..10 {
        bench.south.read_now("line", "d0", S).await.unwrap();
    }
    let times = bench.kept.times(0);
    assert_eq!(times.len(), 11);
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}
