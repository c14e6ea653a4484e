//! PURE. Claims about sub-devices, held without a network: the cloud is a line of the test.

use super::*;
use crate::cloud::reply::{OK, Reply};
use crate::cloud::upstream::Body;
use crate::model::{DeviceNames, PointNames};
use serde_json::{Value, json};

pub(super) const S: fn(u64) -> Duration = Duration::from_secs;

pub(super) fn names(count: usize) -> Arc<Names> {
    let points = Arc::new(PointNames { model: String::new(), points: Vec::new() });
    let devices = (1..=count).map(|n| DeviceNames {
        name: format!("Device {n}"),
        product_key: format!("subPK0{n}"),
        device_key: format!("subDK0{n}"),
        asset_id: None,
        points: Arc::clone(&points),
    });
    Arc::new(Names::new(devices.collect()))
}

pub(super) fn config() -> SubDevicesConfig {
    SubDevicesConfig { login_rate: 100_000, ..SubDevicesConfig::default() }
}

fn made(credentials: Vec<Credential>, config: SubDevicesConfig) -> SubDevices {
    let roster = Roster { names: names(credentials.len()), credentials, details: Vec::new() };
    SubDevices::new(roster, ("gwPK01".into(), "gwDK01".into()), config, 512 << 10, |_, _| None)
}

pub(super) fn devices_with(count: usize, config: SubDevicesConfig) -> SubDevices {
    made(vec![Credential::Device { secret: Secret::new("x".into()) }; count], config)
}

fn devices(count: usize) -> SubDevices {
    devices_with(count, config())
}

fn status(d: &SubDevices, at: usize) -> Login {
    d.devices[at].login.clone()
}

pub(super) fn reply(code: i64, data: Value, message: &str) -> Reply {
    Reply { id: 1, code, data, message: message.to_owned() }
}

fn ok() -> Reply {
    reply(OK, Value::Null, "")
}

fn keys(n: usize) -> Value {
    json!({ "productKey": format!("subPK0{n}"), "deviceKey": format!("subDK0{n}") })
}

/// All of them below the gateway, and online.
fn online(count: usize) -> SubDevices {
    let mut d = devices(count);
    bring_in(&mut d, S(0));
    assert_eq!(d.counts().0, count as u64);
    d
}

fn bring_in(d: &mut SubDevices, now: Duration) {
    d.connected();
    let mut at = now;
    for _ in 0..20 {
        while let Some(ask) = d.next(at) {
            d.answered(&ask, Some(&ok()), at);
        }
        at += Duration::from_millis(10);
    }
}

#[test]
fn topology_comes_before_login_and_only_for_those_it_lacks() {
    let mut d = devices(3);
    d.connected();
    assert_eq!(d.next(S(0)), Some(Ask::TopoGet));
    assert_eq!(d.next(S(0)), None, "nothing goes on before the topology is known");
    d.answered(&Ask::TopoGet, Some(&reply(200, json!([keys(2)]), "")), S(0));
    assert_eq!(d.next(S(0)), Some(Ask::TopoAdd(vec![0, 2])));
    assert_eq!(d.next(S(0)), Some(Ask::Login(vec![1])));
    d.answered(&Ask::Login(vec![1]), Some(&ok()), S(0));
    assert!(d.ready(), "one can send");
    assert_eq!((d.absent().len(), d.settled().len()), (2, 1), "what is read of the others waits");
    d.answered(&Ask::TopoAdd(vec![0, 2]), Some(&reply(1255, Value::Null, "details")), S(1));
    assert_eq!((d.absent().len(), d.settled().len()), (0, 2), "data may flow while the rest logs in");
    assert_eq!(d.next(S(1)), Some(Ask::Login(vec![0, 2])));
    d.answered(&Ask::Login(vec![0, 2]), Some(&ok()), S(1));
    assert_eq!((d.counts(), d.next(S(99))), ((3, 0), None));
}

#[test]
fn a_partial_failure_keeps_the_others_and_retries_the_failed_one_alone() {
    let mut d = devices(3);
    d.connected();
    d.next(S(0));
    d.answered(&Ask::TopoGet, None, S(0));
    let all = d.next(S(0)).unwrap();
    d.answered(&all, Some(&ok()), S(0));
    let login = d.next(S(0)).unwrap();
    let data = json!({ "loginedSubDevices": [keys(1), keys(3)], "failedSubDevices": [keys(2)] });
    let news = d.answered(&login, Some(&reply(723, data, "subPK02&subDK02 is disabled; 1 failed")), S(0));
    assert_eq!(news.len(), 1);
    assert_eq!(d.counts(), (2, 1));
    assert!(d.ready());
    assert_eq!(status(&d, 1), Login::Refused { code: 723, message: "subPK02&subDK02 is disabled".to_owned() });
    let mut now = S(0);
    for wait in [10, 20, 40, 80, 160, 320, 600, 600] {
        assert_eq!(d.wake(), Some(now + S(wait)));
        now += S(wait);
        assert_eq!(d.next(now), Some(Ask::TopoAdd(vec![1])));
        d.answered(&Ask::TopoAdd(vec![1]), Some(&reply(1255, Value::Null, "")), now);
        assert_eq!(d.next(now), Some(Ask::Login(vec![1])));
        d.answered(&Ask::Login(vec![1]), Some(&reply(740, Value::Null, "no")), now);
    }
    assert_eq!(status(&d, 1), Login::Refused { code: 740, message: "no".to_owned() });
}

#[test]
fn a_disabled_device_is_left_alone_until_it_is_enabled_or_the_link_was_away() {
    let mut d = devices(1);
    d.connected();
    assert!(d.notice("subPK01", "subDK01", Login::Disabled));
    assert!(!d.notice("other", "x", Login::Disabled));
    assert!(d.next(S(9)).is_none() && d.ready());
    d.notice("subPK01", "subDK01", Login::Waiting);
    assert_eq!(d.next(S(10)), Some(Ask::TopoGet));
    d.notice("subPK01", "subDK01", Login::Disabled);
    // It may have been enabled meanwhile. Nobody waits for the answer, and the cloud's no is one.
    d.connected();
    assert!(d.next(S(20)) == Some(Ask::TopoGet) && d.ready());
    d.answered(&Ask::TopoGet, Some(&reply(200, json!([keys(1)]), "")), S(20));
    assert_eq!(d.next(S(20)), Some(Ask::Login(vec![0])));
    d.answered(&Ask::Login(vec![0]), Some(&reply(723, Value::Null, "disabled")), S(21));
    assert!(matches!(status(&d, 0), Login::Refused { code: 723, .. }));
}

#[test]
fn a_notice_during_a_login_is_obeyed_when_the_answer_comes() {
    let mut d = devices(1);
    d.connected();
    for _ in 0..2 {
        let ask = d.next(S(0)).unwrap();
        d.answered(&ask, Some(&ok()), S(0));
    }
    let login = d.next(S(0)).unwrap();
    d.notice("subPK01", "subDK01", Login::Disabled);
    d.answered(&login, Some(&ok()), S(1));
    assert_eq!((status(&d, 0), d.next(S(99))), (Login::Disabled, None));
}

#[test]
fn many_devices_go_in_requests_that_fit_at_the_pace_asked_for() {
    let mut d = devices_with(450, SubDevicesConfig { login_rate: 100, ..config() });
    d.connected();
    d.next(S(0));
    d.answered(&Ask::TopoGet, None, S(0));
    let (mut sizes, mut now) = (Vec::new(), S(0));
    while sizes.len() < 3 {
        if let Some(Ask::TopoAdd(some)) = d.next(now) {
            sizes.push((now.as_secs(), some.len()));
        }
        now = d.wake().unwrap_or(now).max(now);
    }
    assert_eq!(sizes, [(0, 200), (0, 200), (1, 50)]);
    let mut d = devices(450);
    d.message_bytes = 20_000;
    d.connected();
    d.next(S(0));
    d.answered(&Ask::TopoGet, None, S(0));
    let ask = d.next(S(0)).unwrap();
    let Body::Json { params, .. } = d.message(&ask, 1_700_000_000_123).body else { panic!("no json") };
    let bytes = params.to_string().len();
    assert!((10_000..20_000).contains(&bytes), "{bytes}");
}

#[test]
fn a_refusal_is_told_once_until_it_changes_or_the_login_succeeds() {
    let mut d = devices(1);
    d.connected();
    let ask = Ask::Login(vec![0]);
    assert_eq!(d.answered(&ask, Some(&reply(742, Value::Null, "sign")), S(0)).len(), 1);
    assert_eq!(d.answered(&ask, Some(&reply(742, Value::Null, "sign")), S(10)), Vec::<String>::new());
    assert_eq!(d.answered(&Ask::TopoAdd(vec![0]), Some(&reply(1255, Value::Null, "no")), S(10)), Vec::<String>::new());
    assert_eq!(d.answered(&ask, Some(&reply(705, Value::Null, "gone")), S(30)).len(), 1);
    assert_eq!(d.answered(&ask, Some(&ok()), S(60)), Vec::<String>::new());
    assert_eq!(d.answered(&ask, Some(&reply(705, Value::Null, "gone")), S(70)).len(), 1);
}

#[test]
fn a_full_cloud_is_asked_again_late_and_by_one_device_alone() {
    let mut d = devices(400);
    d.connected();
    d.next(S(0));
    d.answered(&Ask::TopoGet, Some(&reply(200, (1..=400).map(keys).collect(), "")), S(0));
    let first = d.next(S(0)).unwrap();
    d.answered(&first, Some(&ok()), S(0));
    let second = d.next(S(1)).unwrap();
    let news = d.answered(&second, Some(&reply(739, Value::Null, "too many sub-devices online")), S(1));
    assert_eq!((news.len(), d.counts(), d.ready()), (2, (200, 200), true));
    assert_eq!((d.next(S(2)), d.wake()), (None, Some(S(601))));
    let probe = d.next(S(601)).unwrap();
    assert_eq!(probe, Ask::Login(vec![200]));
    assert_eq!(d.next(S(601)), None, "one at a time");
    d.answered(&probe, Some(&reply(739, Value::Null, "too many")), S(601));
    assert_eq!(d.wake(), Some(S(601 + 1200)));
    // A place becomes free when one of ours is silent.
    d.field(0, Some(S(60)), S(700));
    assert_eq!(d.next(S(700)), Some(Ask::Logout(0)));
    d.answered(&Ask::Logout(0), Some(&ok()), S(700));
    let probe = d.next(S(700)).unwrap();
    d.answered(&probe, Some(&ok()), S(700));
    assert!(matches!(d.next(S(701)), Some(Ask::Login(rest)) if rest.len() == 199));
}

#[test]
fn a_silent_device_is_logged_out_and_comes_back_when_it_answers() {
    let mut d = online(2);
    d.field(1, Some(S(0)), S(100));
    assert_eq!((d.next(S(159)), d.wake()), (None, Some(S(160))));
    assert_eq!(d.next(S(160)), Some(Ask::Logout(1)));
    d.answered(&Ask::Logout(1), Some(&ok()), S(160));
    assert_eq!((status(&d, 1), d.counts()), (Login::Away, (1, 0)));
    d.connected();
    assert_eq!(status(&d, 1), Login::Away, "a new connection does not log it in");
    bring_in(&mut d, S(170));
    d.field(1, None, S(200));
    let ask = d.next(S(200)).unwrap();
    assert_eq!(ask, Ask::TopoAdd(vec![1]));
    d.answered(&ask, Some(&ok()), S(200));
    assert_eq!(d.next(S(201)), Some(Ask::Login(vec![1])));
    assert_eq!(d.field_changed(), [1]);
}

#[test]
fn flapping_makes_the_way_back_longer_each_time() {
    let mut d = online(1);
    let mut waits = Vec::new();
    let mut now = S(1000);
    for _ in 0..4 {
        d.field(0, Some(S(60)), now);
        assert_eq!(d.next(now), Some(Ask::Logout(0)));
        d.answered(&Ask::Logout(0), Some(&ok()), now);
        d.field(0, None, now);
        let back = d.wake().unwrap();
        waits.push((back - now).as_secs());
        now = back;
        let login = d.next(now).unwrap();
        d.answered(&login, Some(&ok()), now);
        assert_eq!(d.counts().0, 1);
        now += S(1);
    }
    assert_eq!(waits, [0, 10, 20, 40]);
}

#[test]
fn zero_means_that_silence_logs_nobody_out() {
    let mut d = devices_with(1, SubDevicesConfig { offline_after: None, ..config() });
    bring_in(&mut d, S(0));
    d.field(0, Some(S(9999)), S(9999));
    assert_eq!((d.next(S(99_999)), d.counts().0), (None, 1));
    assert_eq!(d.node(0).connected, Some(false));
}

#[test]
fn a_device_without_a_secret_is_registered_and_its_secret_is_stored_before_it_is_used() {
    let mut d = made(vec![Credential::Register; 2], config());
    d.connected();
    d.next(S(0));
    d.answered(&Ask::TopoGet, Some(&reply(200, json!([]), "")), S(0));
    let ask = d.next(S(0)).unwrap();
    assert_eq!(ask, Ask::Register(vec![0, 1]));
    let (mut one, mut two) = (keys(1), keys(2));
    (one["deviceSecret"], two["deviceSecret"]) = (json!("s1"), json!("s2"));
    d.answered(&ask, Some(&reply(200, json!([two, one]), "")), S(0));
    assert_eq!(d.next(S(1)), None, "not before they are on disk");
    let secrets = d.take_new_secrets();
    assert_eq!(secrets, [(0, Secret::new("s1".into())), (1, Secret::new("s2".into()))]);
    d.stored(secrets);
    let add = d.next(S(2)).unwrap();
    assert_eq!(add, Ask::TopoAdd(vec![0, 1]));
    // All of the cloud knows them a few seconds later only.
    let missing = reply(705, Value::Null, "sub-device does not exist");
    assert_eq!(d.answered(&add, Some(&missing), S(2)), Vec::<String>::new());
    let login = d.next(S(2)).unwrap();
    assert_eq!(d.answered(&login, Some(&missing), S(2)), Vec::<String>::new());
    let add = d.next(S(12)).unwrap();
    d.answered(&add, Some(&ok()), S(12));
    let login = d.next(S(12)).unwrap();
    assert_eq!(d.answered(&login, Some(&missing), S(12)).len(), 1, "the second failure is told");
}

#[test]
fn of_many_registrations_each_is_tried_alone_and_told_at_the_second_failure() {
    let mut d = made(vec![Credential::Register; 2], config());
    d.connected();
    d.next(S(0));
    d.answered(&Ask::TopoGet, Some(&reply(200, json!([]), "")), S(0));
    let exists = reply(702, Value::Null, "device key already exists");
    assert_eq!(d.answered(&Ask::Register(vec![0, 1]), Some(&exists), S(0)), Vec::<String>::new());
    assert_eq!(d.wake(), Some(S(10)));
    let mut d = made(vec![Credential::Register; 1], config());
    d.connected();
    d.next(S(0));
    d.answered(&Ask::TopoGet, Some(&reply(200, json!([]), "")), S(0));
    let ask = d.next(S(0)).unwrap();
    assert_eq!(d.answered(&ask, Some(&exists), S(0)), Vec::<String>::new(), "R39: the first failure is not told");
    assert_eq!((d.next(S(9)), d.wake()), (None, Some(S(10))));
    let ask = d.next(S(10)).unwrap();
    let told = d.answered(&ask, Some(&exists), S(10));
    assert!(told[0].contains("702") && told[0].contains("device_secret"), "{told:?}");
}

#[test]
fn a_product_secret_logs_in_once_and_the_device_has_its_own_from_then_on() {
    let mut d = made(vec![Credential::Product { secret: Secret::new("subPS01SecretXYZ".into()) }], config());
    d.connected();
    d.next(S(0));
    d.answered(&Ask::TopoGet, Some(&reply(200, json!([keys(1)]), "")), S(0));
    let login = d.next(S(0)).unwrap();
    let Body::Json { params, .. } = d.message(&login, 5).body else { panic!("no json") };
    assert_eq!(params["subDevices"][0]["secureMode"], "3");
    let mut one = keys(1);
    one["deviceSecret"] = json!("own");
    d.answered(&login, Some(&reply(200, json!({ "loginedSubDevices": [one] }), "")), S(0));
    let secrets = d.take_new_secrets();
    assert_eq!((secrets.len(), d.counts().0), (1, 1));
    d.stored(secrets);
    d.log_in_again("subPK01", "subDK01");
    let login = d.next(S(1)).unwrap();
    let Body::Json { params, .. } = d.message(&login, 5).body else { panic!("no json") };
    assert_eq!(params["subDevices"][0]["secureMode"], "2");
}

#[test]
fn unknown_devices_stay_unless_they_are_to_be_removed() {
    let mut d = online(1);
    d.connected();
    d.next(S(0));
    let both = reply(200, json!([keys(1), keys(9)]), "");
    let news = d.answered(&Ask::TopoGet, Some(&both), S(0));
    assert!(news[0].contains("remove_unknown"), "{news:?}");
    let mut d = devices_with(1, SubDevicesConfig { remove_unknown: true, ..config() });
    d.connected();
    d.next(S(0));
    d.answered(&Ask::TopoGet, Some(&reply(200, json!([keys(1), keys(8), keys(9)]), "")), S(0));
    let login = d.next(S(0)).unwrap();
    d.answered(&login, Some(&ok()), S(0));
    let remove = d.next(S(1)).unwrap();
    assert!(matches!(&remove, Ask::Remove(keys) if keys.len() == 2));
    // One of them is online: each is logged out, then removed alone.
    d.answered(&remove, Some(&reply(1256, Value::Null, "sub-device is online")), S(1));
    let asks: Vec<Ask> = (0..4)
        .map(|n| {
            let ask = d.next(S(2 + n)).unwrap();
            d.answered(&ask, Some(&ok()), S(2 + n));
            ask
        })
        .collect();
    assert!(
        matches!(asks.as_slice(), [Ask::Expel(_), Ask::Expel(_), Ask::Remove(a), Ask::Remove(b)] if a.len() + b.len() == 2)
    );
    assert_eq!(d.next(S(99)), None);
}
