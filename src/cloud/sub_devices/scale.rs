//! PURE. A hundred thousand sub-devices, simulated: what a step costs depends on what has changed.

use super::tests::{S, config, devices_with, reply};
use super::*;
use serde_json::Value;

/// Runs until nothing is left to ask; each answer comes 50 ms after its request. Returns time and requests.
fn run(
    d: &mut SubDevices,
    mut now: Duration,
    answer: impl Fn(&Ask) -> crate::cloud::reply::Reply,
) -> (Duration, usize) {
    let mut out: VecDeque<(Duration, Ask)> = VecDeque::new();
    let mut requests = 0;
    loop {
        while let Some(ask) = d.next(now) {
            requests += 1;
            out.push_back((now + Duration::from_millis(50), ask));
        }
        let answered = out.front().map(|(at, _)| *at);
        let Some(next) = [answered, d.wake()].into_iter().flatten().min() else { return (now, requests) };
        now = now.max(next);
        while out.front().is_some_and(|(at, _)| *at <= now) {
            let (_, ask) = out.pop_front().unwrap();
            d.answered(&ask, Some(&answer(&ask)), now);
        }
    }
}

#[test]
fn a_hundred_thousand_log_in_at_the_pace_and_a_change_costs_a_change() {
    let count = 100_000;
    let mut d = devices_with(count, SubDevicesConfig { login_rate: 1000, ..config() });
    d.connected();
    let ok = |_: &Ask| reply(200, Value::Null, "");
    let (took, requests) = run(&mut d, S(0), ok);
    assert_eq!(d.counts().0, count as u64);
    // 500 requests to add and 500 to log in; both go at 1000 devices a second, side by side.
    assert_eq!(requests, 1001);
    assert!(took >= S(99) && took < S(210), "{took:?}");
    assert_eq!(d.changed().len(), count);
    // One device changes: the step speaks of it alone.
    d.field(77_777, Some(S(60)), S(1000));
    assert_eq!(d.next(S(1000)), Some(Ask::Logout(77_777)));
    d.answered(&Ask::Logout(77_777), Some(&ok(&Ask::TopoGet)), S(1000));
    assert_eq!(d.changed(), [(77_777, Login::Away)]);
    assert_eq!(d.wake(), None);
}
