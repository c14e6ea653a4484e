//! Messages and their codes.

use crate::client::{Device, TIMESTAMP, sign_of};
use crate::{Site, site};
use rumqttc::PublishOptions;
use serde_json::{Value, json};
use testbed::cloud::{Options, Refusal, Triple};
use testbed::ledger::Received;

async fn logged_in() -> (Site, Device) {
    let site = site(Options::default()).await;
    let mut device = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    assert_eq!(device.login(&site.subs[0]).await["code"], 200);
    (site, device)
}

fn item(device_key: &str, time: i64, reads: Value) -> Value {
    json!({"productKey": "subPK", "deviceKey": device_key, "measurepoints": {"reads": reads}, "time": time})
}

#[tokio::test]
async fn a_batch_goes_into_the_ledger_once() {
    let (site, mut device) = logged_in().await;
    assert!(site.cloud.ledger(|ledger| ledger.counts("subPK/sub1", "reads", u32::MAX)));
    let items = json!([item("sub1", 1000, json!(1)), item("sub1", 2000, json!(2))]);
    assert_eq!(device.batch("post", items.clone(), false, false).await["code"], 200);
    assert_eq!(device.batch("resume", items, false, false).await["code"], 200);
    assert_eq!(device.batch("resume", json!([item("sub1", 4000, json!(4))]), false, false).await["code"], 200);
    let report = site.cloud.ledger(|ledger| {
        assert_eq!(ledger.received("subPK/sub1", "reads", 1000), Received::Twice);
        ledger.report()
    });
    assert_eq!((report.delivered, report.lost, report.duplicated), (3, 1, 2));
    assert_eq!((report.lost_runs[0].after, report.lost_runs[0].before), (2000, Some(4000)));
}

#[tokio::test]
async fn one_bad_item_fails_the_whole_batch_unless_skipped() {
    let (site, mut device) = logged_in().await;
    let items = json!([item("sub1", 1, json!(1)), item("sub1", 2, json!("text"))]);
    assert_eq!(device.batch("post", items.clone(), false, false).await["code"], 1204);
    assert_eq!(site.cloud.stats().values, 0);
    assert_eq!(device.batch("post", items, false, true).await["code"], 200);
    assert_eq!((site.cloud.stats().values, site.cloud.stats().values_skipped), (1, 1));
}

#[tokio::test]
async fn offline_and_foreign_sub_devices_are_refused_unless_offline_is_allowed() {
    let (site, mut device) = logged_in().await;
    let offline = json!([item("sub1", 1, json!(1)), item("sub2", 1, json!(1))]);
    assert_eq!(device.batch("post", offline.clone(), false, true).await["code"], 1212);
    assert_eq!(site.cloud.stats().values, 0);
    assert_eq!(device.batch("post", offline, true, false).await["code"], 200);
    for foreign in ["foreign", "loose", "nobody"] {
        assert_eq!(device.batch("post", json!([item(foreign, 1, json!(1))]), true, true).await["code"], 1212);
    }
    site.cloud.forget_logins();
    assert_eq!(device.batch("post", json!([item("sub1", 9, json!(1))]), false, false).await["code"], 1212);
}

#[tokio::test]
async fn malformed_requests_get_the_codes_of_the_documentation() {
    let (_site, mut device) = logged_in().await;
    let post = "/sys/gwPK/gwDK/thing/measurepoint/post";
    for (topic, payload, code) in [
        (post, &b"{"[..], 1220),
        (post, b"", 1251),
        ("/sys/gwPK/gwDK/thing/nonsense", br#"{"id":"1","method":"thing.nonsense","params":{}}"#, 1009),
        (post, br#"{"id":"1","method":"thing.measurepoint.resume","params":{"measurepoints":{}}}"#, 1260),
        (post, br#"{"id":"1","method":"thing.measurepoint.post","params":[]}"#, 1206),
        ("/sys/gwPK/gwDK/thing/topo/get", b"no", 1220),
        ("/sys/gwPK/gwDK/thing/topo/get", br#"{"id":"1","method":"thing.topo.add","params":{}}"#, 1260),
    ] {
        assert_eq!(device.send(topic, payload).await["code"], code, "{topic}");
    }
    let large = format!(
        r#"{{"id":"77","method":"thing.measurepoint.post","params":{{"measurepoints":{{"x":"{}"}}}}}}"#,
        "x".repeat(512 * 1024)
    );
    let reply = device.send(post, large).await;
    assert_eq!((&reply["code"], &reply["id"]), (&json!(1008), &json!("77")));
}

#[tokio::test]
async fn a_device_listens_only_to_what_it_speaks_for() {
    let (_site, mut device) = logged_in().await;
    assert_eq!(device.subscribe("/sys/subPK/sub1/#").await, 1);
    assert_eq!(device.subscribe("/sys/subPK/sub2/#").await, 0x80);
    assert_eq!(device.subscribe("/ext/session/gwPK/other/#").await, 0x80);
    let own = r#"{"id":"1","method":"thing.measurepoint.post","params":{"measurepoints":{"reads":1},"time":5}}"#;
    assert_eq!(device.send("/sys/subPK/sub1/thing/measurepoint/post", own).await["code"], 200);
}

#[tokio::test]
async fn a_batch_login_logs_the_good_ones_in_and_names_the_others() {
    let (site, mut device) = logged_in().await;
    site.cloud.registry(|registry| registry.enable("subPK", "sub1", false));
    let entry =
        |t: &Triple, sign: String| json!({"productKey": t.product_key, "deviceKey": t.device_key, "sign": sign});
    let missing = Triple::new("subPK", "missing", "x");
    let foreign = Triple::new("subPK", "foreign", "foreignSecret");
    let params = json!({
        "clientId": "login.batch", "timestamp": TIMESTAMP, "signMethod": "hmacsha256",
        "subDevices": [
            entry(&site.subs[0], sign_of(&site.subs[0], "login.batch")),
            entry(&site.subs[1], sign_of(&site.subs[1], "login.batch").to_uppercase()),
            entry(&missing, "00".into()), entry(&foreign, sign_of(&foreign, "login.batch")),
        ],
    });
    let reply = device.session("combine/login/batch", params).await;
    assert_eq!(reply["code"], 723);
    assert_eq!(reply["data"]["loginedSubDevices"][0]["deviceKey"], "sub2");
    assert_eq!(reply["data"]["failedSubDevices"].as_array().unwrap().len(), 3);
    let message = reply["message"].as_str().unwrap();
    assert!(message.contains("subPK&sub1") && message.contains("subPK&missing"), "{message}");
    assert!(site.cloud.is_online("subPK", "sub2"));
    let wrong = Triple::new("subPK", "sub2", "wrong");
    assert_eq!(device.login(&wrong).await["code"], 742);
    assert_eq!(device.login(&foreign).await["code"], 740);
    assert_eq!(device.login(&missing).await["code"], 705);
    let sub2 = json!({"productKey": "subPK", "deviceKey": "sub2"});
    assert_eq!(device.session("combine/logout", sub2).await["code"], 200);
    assert!(!site.cloud.is_online("subPK", "sub2"));
}

#[tokio::test]
async fn topology_is_changed_by_the_gateway() {
    let (_site, mut device) = logged_in().await;
    let loose = Triple::new("subPK", "loose", "looseSecret");
    assert_eq!(device.login(&loose).await["code"], 740);
    let mut entry = json!({
        "productKey": "subPK", "deviceKey": "loose", "clientId": "t", "timestamp": TIMESTAMP, "signMethod": "sha256",
        "sign": "bad",
    });
    assert_eq!(device.request("thing/topo/add", json!([entry])).await["code"], 1255);
    entry["sign"] = sign_of(&loose, "t").into();
    assert_eq!(device.request("thing/topo/add", json!([entry])).await["code"], 200);
    assert_eq!(device.login(&loose).await["code"], 200);
    let online = device.request("thing/topo/delete", json!([{"productKey": "subPK", "deviceKey": "loose"}])).await;
    assert_eq!(online["code"], 1256);
    let children = device.request("thing/topo/get", json!({})).await;
    assert_eq!(children["data"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_registered_device_gets_its_secret_once() {
    let (_site, mut device) = logged_in().await;
    let params = json!([{"productKey": "subPK", "deviceName": {"defaultValue": "n"}, "timezone": "+08:00"}]);
    let reply = device.request("thing/device/register", params).await;
    assert_eq!(reply["data"][0]["deviceSecret"].as_str().unwrap().len(), 24);
    let again = json!([{"productKey": "subPK", "deviceKey": reply["data"][0]["deviceKey"]}]);
    assert_eq!(device.request("thing/device/register", again).await["code"], 702);
}

#[tokio::test]
async fn attributes_tags_model_events_and_ota_are_kept() {
    let (site, mut device) = logged_in().await;
    device.request("thing/attribute/update", json!({"attributes": {"a": 1, "b": "x"}})).await;
    device.request("thing/attribute/delete", json!({"attributes": ["b"]})).await;
    let all = device.request("thing/attribute/query", json!({"attributes": []})).await;
    assert_eq!(all["data"], json!({"a": 1}));
    device.request("thing/tag/update", json!([{"tagKey": "k", "tagValue": "v"}])).await;
    assert_eq!(device.request("thing/tag/query", json!({"tags": ["k"]})).await["data"], json!({"k": "v"}));
    let event = json!({"events": {"level": 3}, "time": 9});
    assert_eq!(device.request("thing/event/alarm/post", event).await["code"], 200);
    assert_eq!(site.cloud.events()[0].event, "alarm");
    assert_eq!(device.request("ota/device/inform", json!({"version": "1.0"})).await["code"], 200);
    assert_eq!(device.request("ota/device/progress", json!({"step": "20"})).await["code"], 764);
    assert_eq!(site.cloud.ota("gwPK", "gwDK").unwrap().version.as_deref(), Some("1.0"));
    let template = device.request("thing/tsltemplate/get", json!({})).await;
    assert!(template["data"]["tslMeasurepointMap"].is_object());
}

#[tokio::test]
async fn knobs_refuse_forget_and_lose() {
    let (site, mut device) = logged_in().await;
    site.cloud.knobs(|knobs| knobs.refusals = vec![Refusal::point(1204, "reads")]);
    assert_eq!(device.batch("post", json!([item("sub1", 1, json!(1))]), false, false).await["code"], 1204);
    site.cloud.knobs(|knobs| knobs.refusals = vec![Refusal::everything(500)]);
    assert_eq!(device.batch("post", json!([item("sub1", 1, json!(1))]), false, false).await["code"], 500);
    site.cloud.knobs(|knobs| {
        knobs.refusals.clear();
        (knobs.forget_replies, knobs.lose_requests) = (1, 1);
    });
    let post = |time: i64| {
        json!({"id": time.to_string(), "method": "thing.measurepoint.post",
               "params": {"measurepoints": {"reads": time}, "time": time}})
    };
    let topic = "/sys/subPK/sub1/thing/measurepoint/post";
    device.subscribe("/sys/subPK/sub1/#").await;
    for time in [1, 2] {
        let payload = post(time).to_string();
        device.client.publish(topic, payload, PublishOptions::at_least_once()).await.unwrap();
    }
    assert_eq!(device.send(topic, post(3).to_string()).await["id"], "3");
    let received = site.cloud.ledger(|ledger| [1, 2, 3].map(|time| ledger.received("subPK/sub1", "reads", time)));
    assert_eq!(received, [Received::Never, Received::Once, Received::Once]);
}
