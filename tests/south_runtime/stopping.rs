//! A connection is stopped: it finishes what is under way, and whoever is late is named.

use crate::bench::{MS, S, bench};
use driver::testkit::Behaviour;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn stopping_finishes_the_request_and_closes_the_session() {
    let bench = bench(1, |script| script.behave(0, Behaviour::Slow(800 * MS)));
    sleep(S * 5).await;
    let (asked, reads) = (Instant::now(), bench.script.reads(0).len());
    assert_eq!(bench.south.stop(S * 5).await, Vec::<String>::new());
    assert!(asked.elapsed() <= S);
    assert_eq!(bench.script.closed(), 1);
    assert_eq!(bench.kept.of(0).len(), reads, "the scan under way was not wasted");
}

#[tokio::test(start_paused = true)]
async fn stopping_cuts_off_a_driver_that_hangs_and_still_closes() {
    let bench = bench(1, |script| script.behave(0, Behaviour::Hangs));
    sleep(S + 500 * MS).await;
    let asked = Instant::now();
    assert_eq!(bench.south.stop(S + 200 * MS).await, ["line"]);
    assert!(asked.elapsed() <= S, "{:?}", asked.elapsed());
    assert_eq!(bench.script.closed(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_late_to_stop_is_named() {
    let bench = bench(1, |script| script.close_takes(S * 60));
    sleep(S).await;
    let asked = Instant::now();
    assert_eq!(bench.south.stop(S * 5).await, ["line"]);
    assert!(asked.elapsed() <= S * 2 + MS, "a session that does not close is dropped");
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_connect() {
    let bench = bench(1, |script| script.connect_takes(S * 50));
    sleep(S).await;
    let asked = Instant::now();
    assert_eq!(bench.south.stop(S * 5).await, Vec::<String>::new());
    assert!(asked.elapsed() <= MS);
}
