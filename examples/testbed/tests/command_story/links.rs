//! Commands whose way is broken: the connection goes while they are under way, or they come as raw bytes.

use super::gateway::{Gateway, until};
use super::{audit_is_whole, meter_and_site, written};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use testbed::cloud::{Cloud, Model, Options, Registry, Triple};
use testbed::meter::{Faults, Meters};

const M1: (&str, &str) = ("pk", "m1");
const WITHIN: Duration = Duration::from_secs(30);

async fn linked() -> (Cloud, Meters, tempfile::TempDir) {
    let mut registry = Registry::default();
    let number = registry.gateway(Triple::new("gwPK", "gw", "gwSecret"));
    let points = [("setpoint", enos_edge::model::DataType::Int), ("blind", enos_edge::model::DataType::Int)];
    registry.sub_device(number, Triple::new("pk", "m1", "s1"), Some(Arc::new(Model::of("Meter", &points))));
    let cloud = Cloud::start(Options::default(), registry).await.unwrap();
    let link = format!(
        "cloud: {{ url: \"tcp://{}\", product_key: gwPK, device_key: gw, device_secret: gwSecret }}\n",
        cloud.address()
    );
    let (meters, folder) = meter_and_site(&link).await;
    let line = folder.path().join("site/connections/line.yaml");
    let text = std::fs::read_to_string(&line).unwrap();
    std::fs::write(&line, text + "  raw: true\n").unwrap();
    (cloud, meters, folder)
}

fn is_linked(gateway: &Gateway) {
    until("the cloud takes data", || {
        gateway.ask("status", &json!({"listings": false}))["counters"]["cloud_connected"] == 1
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_answer_that_a_broken_connection_can_not_carry_comes_on_the_next_one() {
    let (cloud, meters, folder) = linked().await;
    let gateway = Gateway::start(folder.path());
    is_linked(&gateway);
    meters.set_all_faults(Faults::late(Duration::from_millis(700), Duration::from_millis(800)));
    let cut = async {
        let begun = || audit_is_whole(folder.path()).iter().any(|record| record["event"] == "begun");
        while !begun() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cloud.drop_connections();
    };
    let (answer, ()) = tokio::join!(cloud.set(M1, json!({"blind": 77}), WITHIN), cut);
    let answer = answer.unwrap();
    assert_eq!((&answer["code"], written(&meters, 103)), (&json!(200), vec![77]), "{answer}");
    assert!(cloud.stats().connects >= 2, "the connection was cut");
    audit_is_whole(folder.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn raw_requests_reach_their_unit_and_its_exceptions_come_back() {
    let (cloud, meters, folder) = linked().await;
    let gateway = Gateway::start(folder.path());
    is_linked(&gateway);
    let raw = async |bytes: &[u8]| cloud.raw(M1, bytes.to_vec().into(), WITHIN).await.unwrap();
    assert_eq!(raw(&[6, 0, 103, 0, 9]).await[..], [6, 0, 103, 0, 9]);
    assert_eq!(written(&meters, 103), [9]);
    assert_eq!(raw(&[3, 0, 103, 0, 1]).await[..], [3, 2, 0, 9]);
    let exception = raw(&[3, 0, 100, 0, 200]).await;
    assert_eq!(exception[0], 0x83, "{exception:?}");
    for nonsense in [vec![], vec![6; 254], vec![0x83, 1]] {
        let refused: Value = serde_json::from_slice(&raw(&nonsense).await).unwrap();
        assert_ne!(refused["code"], 200, "{refused}");
        assert!(!refused["message"].as_str().unwrap().is_empty());
    }
    assert_eq!(written(&meters, 103), [9]);
    let records = audit_is_whole(folder.path());
    assert!(records.iter().any(|r| r["what"]["raw"] == "060067 0009".replace(' ', "")), "the bytes are in the audit");
}
