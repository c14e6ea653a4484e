//! Commands against a real gateway process and a real Modbus meter that counts what is written: at most one effect,
//! always one answer, whatever is killed, filled, late or repeated in between.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod gateway;
mod links;
mod trouble;

use enos_edge::model::command::code;
use enos_edge::model::{DataType, Timestamp};
use enos_edge::operate::command::audit;
use gateway::{CONFIG, Gateway, told, until, write_site};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use testbed::cloud::{Cloud, Model, Options, Registry, Triple};
use testbed::meter::{Faults, Meters};

/// The gateway: this test does nothing unless another one runs it.
#[test]
fn child() {
    let Ok(config) = std::env::var(CONFIG) else { return };
    let status = enos_edge::cli::main_from(["enos-edge", "run", "--config", &config].map(Into::into));
    assert_eq!(status, std::process::ExitCode::SUCCESS);
}

/// Values written to a register, in order.
fn written(meters: &Meters, address: u16) -> Vec<u16> {
    meters.writes().iter().filter(|w| w.unit == 1 && w.address == address).map(|w| w.value).collect()
}

async fn meter_and_site(more: &str) -> (Meters, tempfile::TempDir) {
    let meters = Meters::tcp().await.unwrap();
    meters.keep_journal();
    for (address, value) in [(100, 0), (101, 0), (102, 0)] {
        meters.set_register(1, testbed::meter::Area::Holding, address, value);
    }
    let folder = tempfile::tempdir().unwrap();
    write_site(folder.path(), meters.address().port(), more);
    (meters, folder)
}

fn audit_is_whole(folder: &std::path::Path) -> Vec<serde_json::Value> {
    let found = audit::verify(&folder.join("state/audit")).unwrap();
    assert_eq!(found.faults, Vec::<String>::new());
    audit::query(&folder.join("state/audit"), &audit::Query::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_repetitions_have_one_effect_and_one_answer() {
    let (meters, folder) = meter_and_site("").await;
    let request = json!({"device": "Meter 1", "points": {"setpoint": 42}, "id": "w1"});
    let gateway = Gateway::start(folder.path());
    let first = gateway.ask("write", &request);
    assert_eq!(told(&first), (code::DONE, String::new()));
    let mut visitor = gateway.visitor();
    for _ in 0..400 {
        assert_eq!(visitor.ask("write", &request).unwrap(), first);
    }
    for _ in 0..300 {
        assert_eq!(gateway.ask("write", &request), first);
    }
    assert_eq!(gateway.write("w1", "setpoint", json!(43)).0, code::ID_REUSED);
    gateway.kill();
    let gateway = Gateway::start(folder.path());
    for _ in 0..299 {
        assert_eq!(gateway.ask("write", &request), first);
    }
    assert_eq!(gateway.write("w1", "setpoint", json!(43)).0, code::ID_REUSED, "after a restart");
    assert_eq!(written(&meters, 100), [42]);
    until("the audit has them all", || {
        let records = audit_is_whole(folder.path());
        records.iter().filter(|r| r["event"] == "repeated").count() == 999
    });
    let records = audit_is_whole(folder.path());
    let begun: Vec<_> = records.iter().filter(|r| r["event"] == "begun").collect();
    assert_eq!(
        (begun.len(), &begun[0]["device"], &begun[0]["what"]),
        (1, &json!("Meter 1"), &json!({"set": {"setpoint": 42}}))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_kill_in_the_middle_has_one_effect_at_most_and_the_repetition_an_answer() {
    let (meters, folder) = meter_and_site("").await;
    let (mut interrupted, mut done) = (0, 0);
    for round in 0..8u16 {
        meters.set_all_faults(Faults::default());
        let gateway = Gateway::start(folder.path());
        meters.set_all_faults(Faults::late(Duration::from_millis(60), Duration::from_millis(120)));
        let (id, value) = (format!("kill-{round}"), 1000 + round);
        let request = json!({"device": "Meter 1", "points": {"blind": value}, "id": id});
        let mut visitor = gateway.visitor();
        let asked = std::thread::spawn({
            let request = request.clone();
            move || visitor.ask("write", &request).ok()
        });
        std::thread::sleep(Duration::from_millis(u64::from(round) * 35));
        gateway.kill();
        let told_before = asked.join().unwrap().map(|outcome| told(&outcome).0);
        meters.set_all_faults(Faults::default());
        let gateway = Gateway::start(folder.path());
        let answers: Vec<i64> = (0..3).map(|_| told(&gateway.ask("write", &request)).0).collect();
        let effects = written(&meters, 103).iter().filter(|written| **written == value).count();
        assert!(effects <= 1, "round {round}: {effects} effects");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        if let Some(before) = told_before {
            assert_eq!(before, answers[0], "round {round}");
        }
        match answers[0] {
            code::DONE => assert_eq!(effects, 1, "round {round}"),
            code::INTERRUPTED => interrupted += 1,
            other => panic!("round {round}: {other}"),
        }
        done += usize::from(answers[0] == code::DONE);
    }
    println!("{interrupted} interrupted, {done} done");
    audit_is_whole(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_must_not_be_done_is_refused_with_a_code_and_words_and_without_effect() {
    let (meters, folder) = meter_and_site("").await;
    let gateway = Gateway::start(folder.path());
    let now = Timestamp::now().0;
    let aged = |age: i64| {
        let points = json!({"setpoint": 7});
        told(
            &gateway
                .ask("write", &json!({"device": "Meter 1", "points": points, "ttl_ms": 5000, "issued_at": now - age})),
        )
    };
    assert_eq!(aged(6000).0, code::EXPIRED);
    assert_eq!(aged(-60_000).0, code::EXPIRED, "from the future");
    for (point, value, expected) in [
        ("setpoint", json!(60_001), code::OUT_OF_RANGE),
        ("setpoint", json!("7"), code::OUT_OF_RANGE),
        ("setpoint", json!([7]), code::OUT_OF_RANGE),
        ("blind", json!(70_000), code::OUT_OF_RANGE),
        ("limit", json!(0.15), code::OUT_OF_RANGE),
        ("running", json!(2), code::OUT_OF_RANGE),
        ("fixed", json!(1), code::NOT_WRITABLE),
        ("nothing", json!(1), code::UNKNOWN_POINT),
        ("limit", json!(5.0), code::INTERLOCKED),
    ] {
        let (told, words) = gateway.write(&format!("{point}-{value}"), point, value.clone());
        assert_eq!(told, expected, "{point} {value}: {words}");
        assert!(!words.is_empty());
    }
    let two = json!({"device": "Meter 1", "points": {"blind": 5, "setpoint": 60_001}});
    assert_eq!(told(&gateway.ask("write", &two)).0, code::OUT_OF_RANGE, "all are checked before any is written");
    let nobody = json!({"device": "Meter 9", "points": {"setpoint": 1}});
    assert_eq!(told(&gateway.ask("write", &nobody)).0, code::UNKNOWN_DEVICE);
    assert_eq!(meters.writes(), []);

    // The interlock opens with the state of the device, for a new command and not for the one that was refused.
    assert_eq!(gateway.write("r", "running", json!(1)).0, code::DONE);
    assert_eq!(gateway.write("limit-5.0", "limit", json!(5.0)).0, code::INTERLOCKED);
    assert_eq!(gateway.write("l2", "limit", json!(5.0)), (code::DONE, String::new()));
    assert_eq!(written(&meters, 102), [50]);

    let start = |level: i64| {
        gateway.ask("invoke", &json!({"device": "Meter 1", "service": "start", "input": {"level": level}}))
    };
    assert_eq!(told(&start(11)).0, code::OUT_OF_RANGE);
    assert_eq!(start(9), json!({"code": 200, "message": "", "data": {"level": 9}}));
    let unknown = json!({"device": "Meter 1", "service": "stop", "input": {}});
    assert_eq!(told(&gateway.ask("invoke", &unknown)).0, code::NOT_IMPLEMENTED);

    // A device that takes the request and says nothing: it may have had its effect.
    meters.set_all_faults(Faults::silent());
    assert_eq!(gateway.write("s", "blind", json!(8)).0, code::UNCONFIRMED);
    until("the device counts as silent", || {
        let state = gateway.ask("status", &json!({"listings": false}));
        state["south"]["connections"][0]["devices"][0]["state"] != "online"
    });
    let before = meters.writes().len();
    assert_eq!(gateway.write("o", "blind", json!(9)).0, code::DEVICE_OFFLINE);
    meters.set_all_faults(Faults::default());
    meters.stop().await;
    until("the connection is gone", || {
        gateway.write(&fastrand::u64(..).to_string(), "blind", json!(9)).0 == code::DEVICE_OFFLINE
    });
    assert_eq!(meters.writes().len(), before);
    audit_is_whole(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_device_is_waited_for_and_commands_to_it_keep_their_order() {
    let (meters, folder) = meter_and_site("").await;
    let gateway = Gateway::start(folder.path());
    meters.set_all_faults(Faults::late(Duration::from_millis(100), Duration::from_millis(200)));
    let mut asked = Vec::new();
    for value in 1..=6 {
        let mut visitor = gateway.visitor();
        let request = json!({"device": "Meter 1", "points": {"blind": value}, "id": format!("b{value}")});
        asked.push(std::thread::spawn(move || told(&visitor.ask("write", &request).unwrap())));
        // The order of the calls is the order of the lines that arrive, one visitor after the other.
        std::thread::sleep(Duration::from_millis(20));
    }
    for one in asked {
        assert_eq!(one.join().unwrap(), (code::DONE, String::new()));
    }
    assert_eq!(written(&meters, 103), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_full_disk_can_not_remember_is_not_done() {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let (meters, folder) = meter_and_site("").await;
    let gateway = Gateway::start(folder.path());
    assert_eq!(gateway.write("a", "blind", json!(1)).0, code::DONE);
    let pid = Pid::from_raw(i32::try_from(gateway.id()).unwrap());
    let free = prlimit(pid, Resource::Fsize, Rlimit { current: Some(1), maximum: None }).unwrap();
    for n in 0..5 {
        let (told, words) = gateway.write(&format!("full-{n}"), "blind", json!(100 + n));
        assert_eq!(told, code::NOT_RECORDED, "{words}");
    }
    assert_eq!(gateway.write("a", "blind", json!(1)).0, code::DONE, "what was done is still known");
    prlimit(pid, Resource::Fsize, free).unwrap();
    assert_eq!(gateway.write("b", "blind", json!(2)).0, code::DONE);
    assert_eq!(written(&meters, 103), [1, 2]);
    gateway.kill();
    audit_is_whole(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commands_of_the_cloud_get_their_answers() {
    let mut registry = Registry::default();
    let number = registry.gateway(Triple::new("gwPK", "gw", "gwSecret"));
    let points = [("setpoint", DataType::Int), ("running", DataType::Int), ("limit", DataType::Double)];
    let model = Arc::new(Model::of("Meter", &points));
    registry.sub_device(number, Triple::new("pk", "m1", "s1"), Some(model));
    let cloud = Cloud::start(Options::default(), registry).await.unwrap();
    let link = format!(
        "cloud: {{ url: \"tcp://{}\", product_key: gwPK, device_key: gw, device_secret: gwSecret }}\n",
        cloud.address()
    );
    let (meters, folder) = meter_and_site(&link).await;
    let gateway = Gateway::start(folder.path());
    let (m1, within) = (("pk", "m1"), Duration::from_secs(10));
    until("the cloud takes data", || {
        gateway.ask("status", &json!({"listings": false}))["counters"]["cloud_connected"] == 1
    });
    let set = cloud.set(m1, json!({"setpoint": 77}), within).await.unwrap();
    assert_eq!((&set["code"], written(&meters, 100)), (&json!(200), vec![77]), "{set}");
    let got = cloud.get(m1, &["setpoint", "running"], within).await.unwrap();
    assert_eq!((&got["code"], &got["data"]), (&json!(200), &json!({"setpoint": 77, "running": 0})), "{got}");
    let refused = cloud.set(m1, json!({"setpoint": -1}), within).await.unwrap();
    assert_eq!(refused["code"], code::OUT_OF_RANGE);
    let started = cloud.command(m1, "thing/service/start", json!({"level": 3}), within).await.unwrap();
    assert_eq!((&started["code"], &started["data"]), (&json!(200), &json!({"level": 3})), "{started}");
    let unknown = cloud.command(m1, "thing/service/stop", json!({}), within).await.unwrap();
    assert_eq!(unknown["code"], code::NOT_IMPLEMENTED);
    let raw = cloud.raw(m1, vec![3, 0, 100, 0, 1].into(), within).await.unwrap();
    let raw: serde_json::Value = serde_json::from_slice(&raw).unwrap();
    assert_eq!(raw["code"], code::FORBIDDEN, "{raw}");
    let sign = "d41d8cd98f00b204e9800998ecf8427e";
    let ota =
        json!({"version": "2.0.0", "signMethod": "md5", "sign": sign, "fileUrl": "https://127.0.0.1/x", "fileSize": 1});
    let ota = cloud.upgrade(m1, ota, within).await.unwrap();
    assert_eq!(ota["code"], code::UPDATE_REFUSED, "no key is trusted: {ota}");
}
