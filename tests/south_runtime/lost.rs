//! Devices that are dead, refuse, hang up, hang or panic: each costs itself, and no other device.

use crate::bench::{MS, S, bench, worst_gap};
use driver::testkit::Behaviour;
use enos_edge::model::Value;
use enos_edge::south::{ConnectionState, DeviceState, Filter, Shown};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_dead_device_never_delays_another_by_more_than_a_dead_line() {
    let bench = bench(10, |script| script.behave(4, Behaviour::Dead));
    sleep(S * 300).await;
    for device in (0..10).filter(|d| *d != 4) {
        let times = bench.kept.of(device);
        assert!(worst_gap(&times) <= S + S + 50 * MS, "device {device}: {:?}", worst_gap(&times));
        assert!(times.len() >= 285, "device {device}: {} scans", times.len());
    }
    assert_eq!(bench.kept.of(4), []);
    assert_eq!(bench.quality("d4", "m0"), (None, "bad: no answer".into()));
    let status = bench.device(4);
    assert_eq!(status.state, DeviceState::Silent);
    assert!((6..20).contains(&status.timeouts), "{} probes", status.timeouts);
    assert_eq!(bench.counters.timeouts.get(), status.timeouts);
    assert_eq!(bench.script.most_open(), 1, "a session is over before the next one begins");
}

#[tokio::test(start_paused = true)]
async fn a_device_behind_a_gateway_that_reports_it_dead_backs_off_too() {
    let bench = bench(2, |script| script.behave(1, Behaviour::Refuses(0x0B)));
    sleep(S * 60).await;
    assert!(bench.script.reads(1).len() < 10, "{} probes", bench.script.reads(1).len());
    assert_eq!(bench.counters.sessions.get(), 1, "the gateway itself answers: the conversation goes on");
    assert!(bench.quality("d1", "m0").1.contains("modbus exception 11"));
    bench.script.behave(1, Behaviour::Answers);
    sleep(S * 61).await;
    assert_eq!(bench.device(1).state, DeviceState::Online);
}

#[tokio::test(start_paused = true)]
async fn an_ordinary_exception_is_no_silence() {
    let bench = bench(1, |script| script.behave(0, Behaviour::Refuses(2)));
    sleep(S * 30).await;
    assert_eq!(bench.script.reads(0).len(), 30);
    assert_eq!(bench.device(0).exceptions, 90);
    assert_eq!(bench.kept.of(0), []);
}

#[tokio::test(start_paused = true)]
async fn a_value_is_never_shown_or_sent_beyond_the_loss_of_its_device() {
    let bench = bench(1, |_| {});
    sleep(S * 10).await;
    assert_eq!(bench.quality("d0", "m1"), (Some(Shown(Value::Int(1))), "good".into()));
    bench.script.behave(0, Behaviour::Drops);
    bench.script.refuse(true);
    sleep(S * 3).await;
    let sent = bench.kept.of(0).len();
    assert_eq!(bench.quality("d0", "m1"), (None, "bad: not connected".into()));
    assert_eq!(bench.device(0).state, DeviceState::NotConnected);
    sleep(S * 60).await;
    assert_eq!(bench.kept.of(0).len(), sent);
}

#[tokio::test(start_paused = true)]
async fn a_late_connection_is_made_in_the_end_and_not_hammered_before() {
    let bench = bench(2, |script| script.refuse(true));
    sleep(S * 120).await;
    let connects = bench.script.connects();
    assert!(connects[1] - connects[0] <= MS, "the first retry is immediate");
    assert!((7..14).contains(&connects.len()), "{} attempts in two minutes", connects.len());
    let status = bench.south.status().connections.remove(0);
    assert_eq!(status.state, ConnectionState::Waiting);
    assert_eq!(status.last_error.as_deref(), Some("refused"));
    bench.script.refuse(false);
    sleep(S * 32).await;
    assert!(!bench.kept.of(0).is_empty() && !bench.kept.of(1).is_empty());
    let skipped = bench.device(0).skipped;
    assert!(skipped >= 115, "{skipped} periods were missed and none made up");
    let readings = bench.kept.of(0).len() as u64;
    assert!((150..=153).contains(&(skipped + readings)), "{skipped} + {readings}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_after_each_answer_keeps_its_period() {
    let bench = bench(1, |script| script.behave(0, Behaviour::AnswersOnce));
    sleep(S * 50).await;
    let times = bench.kept.of(0);
    assert!(times.len() >= 49, "{} scans", times.len());
    assert!(worst_gap(&times) <= S + 10 * MS);
    assert_eq!(bench.counters.samples_bad.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_makes_the_peer_hang_up_is_left_alone() {
    let bench = bench(3, |script| script.behave(1, Behaviour::Drops));
    sleep(S * 100).await;
    assert!(bench.kept.of(0).len() >= 99 && bench.kept.of(2).len() >= 99);
    assert!(bench.script.connects().len() < 40, "{} connects", bench.script.connects().len());
    assert_eq!(bench.device(1).state, DeviceState::Silent);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_driver_ends_its_session_and_nothing_else() {
    let bench = bench(2, |script| script.behave(0, Behaviour::Panics));
    sleep(S * 60).await;
    assert!(bench.kept.of(1).len() >= 59, "{} scans", bench.kept.of(1).len());
    assert!(bench.device(0).last_error.unwrap().contains("scripted panic"));
    bench.script.behave(0, Behaviour::Answers);
    sleep(S * 61).await;
    assert!(!bench.kept.of(0).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_never_comes_back_is_given_up_and_a_forgotten_point_is_bad() {
    let bench = bench(3, |script| {
        script.behave(0, Behaviour::Hangs);
        script.behave(1, Behaviour::Forgets);
    });
    sleep(S * 60).await;
    assert!(bench.kept.of(2).len() >= 45, "{} scans", bench.kept.of(2).len());
    assert!(bench.device(0).last_error.unwrap().contains("did not come back within 2s"));
    let filter = Filter { device: Some("d1".into()), text: Some("ao.2".into()), ..Filter::default() };
    assert_eq!(bench.south.values(&filter)[0].quality, "bad: no answer");
    assert_eq!(bench.quality("d1", "m0").1, "good");
}
