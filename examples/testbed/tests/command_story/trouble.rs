//! Commands in trouble: a queue that is too long for their time, a service that fails in the middle, a package that changed.

use super::gateway::{Gateway, told};
use super::{audit_is_whole, meter_and_site, written};
use enos_edge::model::command::code;
use serde_json::json;
use std::time::Duration;
use testbed::meter::Faults;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_waits_too_long_for_a_slow_device_expires_without_effect() {
    let (meters, folder) = meter_and_site("").await;
    let gateway = Gateway::start(folder.path());
    meters.set_all_faults(Faults::late(Duration::from_millis(600), Duration::from_millis(700)));
    let asked: Vec<_> = (0..8u16)
        .map(|n| {
            let mut visitor = gateway.visitor();
            let request =
                json!({"device": "Meter 1", "points": {"blind": 500 + n}, "id": format!("q{n}"), "ttl_ms": 2000});
            std::thread::spawn(move || told(&visitor.ask("write", &request).unwrap()).0)
        })
        .collect();
    let codes: Vec<i64> = asked.into_iter().map(|one| one.join().unwrap()).collect();
    assert!(codes.contains(&code::DONE) && codes.contains(&code::EXPIRED), "{codes:?}");
    for (n, code) in (0u16..).zip(&codes) {
        assert!([code::DONE, code::EXPIRED].contains(code), "{codes:?}");
        let effects = written(&meters, 103).iter().filter(|value| **value == 500 + n).count();
        assert_eq!(effects, usize::from(*code == code::DONE), "command {n} was answered {code}");
    }
    meters.set_all_faults(Faults::default());
    for (n, code) in codes.iter().enumerate() {
        assert_eq!(gateway.write(&format!("q{n}"), "blind", json!(500 + n)).0, *code, "refused stays refused");
    }
    audit_is_whole(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_service_that_fails_in_the_middle_says_what_was_done_and_stops() {
    let (meters, folder) = meter_and_site("").await;
    let gateway = Gateway::start(folder.path());
    meters.set_all_faults(Faults::holes(&[(100, 100)]));
    let request = json!({"device": "Meter 1", "service": "start", "input": {"level": 4}, "id": "s1"});
    let outcome = gateway.ask("invoke", &request);
    assert_eq!(outcome["code"], code::PARTLY, "{outcome}");
    assert_eq!(
        (&outcome["data"]["running"]["code"], written(&meters, 101)),
        (&json!(code::DONE), vec![1]),
        "{outcome}"
    );
    assert_eq!(outcome["data"]["setpoint"]["code"], code::DEVICE_REFUSED, "{outcome}");
    meters.set_all_faults(Faults::default());
    assert_eq!(gateway.ask("invoke", &request), outcome, "repeated");
    assert_eq!((written(&meters, 101), written(&meters, 100)), (vec![1], vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ids_are_those_of_a_device_and_outlive_a_change_of_the_package() {
    let (meters, folder) = meter_and_site("").await;
    let gateway = Gateway::start(folder.path());
    assert_eq!(gateway.write("w", "blind", json!(1)).0, code::DONE);
    gateway.kill();
    let assets = folder.path().join("site/assets.yaml");
    let renamed = std::fs::read_to_string(&assets).unwrap().replace("name: Meter 1", "name: Meter 2");
    std::fs::write(&assets, renamed).unwrap();
    let gateway = Gateway::start(folder.path());
    assert_eq!(gateway.write("w", "blind", json!(1)).0, code::DONE, "from memory");
    assert_eq!(gateway.write("x", "blind", json!(1)).0, code::UNKNOWN_DEVICE);
    assert_eq!(written(&meters, 103), [1]);
    let other = json!({"device": "Meter 2", "points": {"blind": 2}, "id": "w"});
    assert_eq!(told(&gateway.ask("write", &other)).0, code::DONE, "another device, another command");
    assert_eq!(told(&gateway.ask("write", &other)).0, code::DONE);
    let service = json!({"device": "Meter 2", "service": "start", "input": {"level": 3}, "id": "w"});
    assert_eq!(told(&gateway.ask("invoke", &service)).0, code::DONE, "another kind, another command");
    assert_eq!((written(&meters, 103), written(&meters, 100)), (vec![1, 2], vec![3]));
    audit_is_whole(folder.path());
}
