//! Registering devices, their topology at size, and what they tell of themselves.

use crate::client::{Device, TIMESTAMP, sign_of};
use crate::{Site, site};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use testbed::cloud::{Cloud, Feature, Model, Options, Registry, Triple};

async fn connected() -> (Site, Device) {
    let site = site(Options::default()).await;
    let device = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    (site, device)
}

fn new(device_key: &str) -> Value {
    json!({"productKey": "subPK", "deviceKey": device_key, "deviceName": {"defaultValue": "n"}, "timezone": "+08:00"})
}

#[tokio::test]
async fn a_thousand_devices_are_registered_in_order_and_not_one_more() {
    let (_site, mut device) = connected().await;
    let many: Vec<Value> = (0..1000).map(|i| new(&format!("n{i}"))).collect();
    let reply = device.request("thing/device/register", json!(many)).await;
    let data = reply["data"].as_array().unwrap();
    assert!(data.iter().enumerate().all(|(i, made)| made["deviceKey"] == format!("n{i}")));
    assert!(data.iter().all(|made| made["deviceSecret"].is_string() && made["assetId"].is_string()));
    let more: Vec<Value> = (0..1001).map(|i| new(&format!("m{i}"))).collect();
    assert_eq!(device.request("thing/device/register", json!(more)).await["code"], 1220);
    assert_eq!(device.request("thing/device/register", json!([new("m0"), new("n0")])).await["code"], 702);
    assert_eq!(device.request("thing/device/register", json!([new("m0"), new("m0")])).await["code"], 702);
    assert_eq!(device.request("thing/device/register", json!([new("m0")])).await["code"], 200, "all or nothing");
}

#[tokio::test]
async fn full_products_unknown_ones_and_keys_that_cannot_be_made_are_refused() {
    let (site, mut device) = connected().await;
    let unknown = json!([{"productKey": "nonePK", "deviceKey": "x"}]);
    assert_eq!(device.request("thing/device/register", unknown).await["code"], 600);
    assert_eq!(device.request("thing/device/register", json!([new("a b")])).await["code"], 1220);
    assert_eq!(device.request("thing/device/register", json!([new("设备-01")])).await["code"], 200);
    site.cloud.knobs(|knobs| knobs.refuse_generated_keys = true);
    assert_eq!(device.request("thing/device/register", json!([new("")])).await["code"], 714);
    site.cloud.registry(|registry| registry.product("subPK").device_limit = 5);
    assert_eq!(device.request("thing/device/register", json!([new("y")])).await["code"], 739);
}

#[tokio::test]
async fn a_new_device_is_unknown_to_the_rest_until_it_is_visible() {
    let (site, mut device) = connected().await;
    site.cloud.knobs(|knobs| knobs.visibility_delay = Duration::from_millis(150));
    let reply = device.request("thing/device/register", json!([new("fresh")])).await;
    let secret = reply["data"][0]["deviceSecret"].as_str().unwrap();
    let fresh = Triple::new("subPK", "fresh", secret);
    let entry = json!([{
        "productKey": "subPK", "deviceKey": "fresh", "clientId": "t", "timestamp": TIMESTAMP,
        "signMethod": "sha256", "sign": sign_of(&fresh, "t"),
    }]);
    let begun = Instant::now();
    assert_eq!(device.request("thing/topo/add", entry.clone()).await["code"], 1255);
    assert_eq!(device.request("thing/device/register", json!([new("fresh")])).await["code"], 702);
    while device.request("thing/topo/add", entry.clone()).await["code"] != 200 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it never became visible");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(begun.elapsed() > Duration::from_millis(100));
    assert_eq!(device.login(&fresh).await["code"], 200);
}

#[tokio::test]
async fn ten_thousand_sub_devices_of_a_hundred_thousand_log_in_within_seconds() {
    let mut registry = Registry::default();
    let gateway = Triple::new("gwPK", "gwDK", "gwSecret");
    let number = registry.gateway(gateway.clone());
    for i in 0..90_000 {
        registry.loose_device(Triple::new("otherPK", &format!("o{i}"), "s"), None);
    }
    let subs: Vec<Triple> = (0..10_000).map(|i| Triple::new("subPK", &format!("s{i}"), "secret")).collect();
    for sub in &subs {
        registry.sub_device(number, sub.clone(), None);
    }
    let cloud = Cloud::start(Options::default(), registry).await.unwrap();
    let mut device = Device::connect(cloud.address(), &gateway).await.unwrap();
    let begun = Instant::now();
    let topology = device.request("thing/topo/get", json!({})).await;
    assert_eq!(topology["data"].as_array().unwrap().len(), 10_000);
    let batch = |subs: &[Triple]| {
        let entry =
            |t: &Triple| json!({"productKey": t.product_key, "deviceKey": t.device_key, "sign": sign_of(t, "b")});
        let subs: Vec<Value> = subs.iter().map(entry).collect();
        json!({"clientId": "b", "timestamp": TIMESTAMP, "signMethod": "sha256", "subDevices": subs})
    };
    let reply = device.session("combine/login/batch", batch(&subs[..1000])).await;
    assert_eq!((&reply["code"], cloud.sub_devices_online()), (&json!(739), 200), "200 at once unless raised");
    cloud.knobs(|knobs| knobs.online_limit = usize::MAX);
    for thousand in subs.chunks(1000) {
        assert_eq!(device.session("combine/login/batch", batch(thousand)).await["code"], 200);
    }
    assert_eq!(cloud.sub_devices_online(), 10_000);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    drop(device);
}

#[tokio::test]
async fn the_model_tells_which_events_and_attributes_fit() {
    let (site, mut device) = connected().await;
    let mut strict = Model::of("Strict", &[]);
    strict.events.push(Feature::of("alarm", &["level"]));
    strict.services.push(Feature::of("reset", &["done"]));
    strict.attributes.push("rated".to_owned());
    let gateway = Triple::new("gwPK", "strict", "s");
    site.cloud.registry(|registry| registry.loose_device(gateway.clone(), Some(Arc::new(strict))));
    let mut other = Device::connect(site.cloud.address(), &gateway).await.unwrap();
    let event = |outputs: Value| json!({"events": outputs, "time": 1});
    assert_eq!(other.request("thing/event/alarm/post", event(json!({"level": 1}))).await["code"], 200);
    assert_eq!(other.request("thing/event/alarm/post", event(json!({"other": 1}))).await["code"], 1204);
    assert_eq!(other.request("thing/event/unknown/post", event(json!({}))).await["code"], 1204);
    let update = |key: &str| json!({"attributes": {key: 1}});
    assert_eq!(other.request("thing/attribute/update", update("rated")).await["code"], 200);
    assert_eq!(other.request("thing/attribute/update", update("other")).await["code"], 1204);
    let data = other.request("thing/tsltemplate/get", json!({})).await["data"].clone();
    assert_eq!(data["tslEventMap"]["alarm"]["outputData"], json!([{"identifier": "level"}]));
    assert_eq!(data["tslServiceMap"]["reset"]["identifier"], "reset");
    assert_eq!(data["tslAttributeMap"]["rated"]["identifier"], "rated");
    let many: serde_json::Map<String, Value> = (0..201).map(|i| (format!("a{i}"), json!(1))).collect();
    assert_eq!(device.request("thing/attribute/update", json!({"attributes": many})).await["code"], 1207);
    let keys: Vec<String> = (0..201).map(|i| format!("a{i}")).collect();
    assert_eq!(device.request("thing/attribute/query", json!({"attributes": keys})).await["code"], 1208);
    assert_eq!(device.request("thing/attribute/delete", json!({"attributes": keys})).await["code"], 1209);
    let tag = json!([{"tagKey": "a b", "tagValue": "v"}]);
    assert_eq!(device.request("thing/tag/update", tag).await["code"], 1207);
}

#[tokio::test]
async fn logs_network_and_connection_states_are_kept_when_they_are_well_formed() {
    let (site, mut device) = connected().await;
    let state = json!({
        "isFull": true, "reportTime": 5, "relations": {"root": ["a"]}, "nodes": [{"nodeId": "a", "state": 1}],
    });
    let network = json!({"reportTime": 5, "collectTime": 4, "rssi": -70, "networkType": "4G"});
    let log = json!({"logs": {"traceId": "t", "level": "INFO", "module": "m", "content": "c"}, "time": 5});
    for (rest, good, bad) in [
        (
            "connection/state/post",
            state,
            json!({"isFull": true, "reportTime": 5, "nodes": [{"nodeId": "a", "state": 7}]}),
        ),
        ("network/status/report", network, json!({"rssi": 1})),
        ("thing/log/post", log, json!({"logs": "text"})),
    ] {
        assert_eq!(device.request(rest, good).await["code"], 200, "{rest}");
        assert_eq!(device.request(rest, bad).await["code"], 1220, "{rest}");
    }
    let kinds: Vec<String> = site.cloud.reports().into_iter().map(|report| report.kind).collect();
    assert_eq!(kinds, ["connection/state/post", "network/status/report", "thing/log/post"]);
}

#[tokio::test]
async fn progress_of_an_upgrade_that_was_offered_and_not_fetched_is_765() {
    let (site, mut device) = connected().await;
    let progress = json!({"step": "20", "desc": ""});
    assert_eq!(device.request("ota/device/progress", progress.clone()).await["code"], 764);
    site.cloud.offer_upgrade("gwPK", "gwDK", json!({"version": "2"})).unwrap();
    assert_eq!(device.request("ota/device/progress", progress.clone()).await["code"], 765);
    assert_eq!(device.request("ota/device/getversion", json!({})).await["data"][0]["version"], "2");
    assert_eq!(device.request("ota/device/progress", progress).await["code"], 200);
}
