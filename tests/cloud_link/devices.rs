//! Sub-devices: in the topology and logged in before their data flows, told of commands and notices.

use crate::broker::{Broker, Say, ok};
use crate::gateway::{Gateway, config, credentials, healthy, now};
use crate::outlet::{batch, names};
use enos_edge::cloud::{self, State};
use enos_edge::model::{Credential, Names};
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test]
async fn devices_are_added_and_logged_in_before_data_and_a_reply_acknowledges() {
    let broker = Broker::start(healthy).await;
    let names = names(3, 4);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 1, 2], 4, now()));
    gateway.store.until_acknowledged(1).await;
    {
        let seen = broker.seen.lock().unwrap();
        let version = |t: &&str| !t.ends_with("ota/device/inform");
        let topics: Vec<&str> = seen.published.iter().map(|(t, _)| t.as_str()).filter(version).collect();
        assert_eq!(topics.len() + 1, seen.published.len(), "the version is told once");
        assert_eq!(
            topics,
            [
                "/sys/gwPK/gw/thing/topo/get",
                "/sys/gwPK/gw/thing/topo/add",
                "/ext/session/gwPK/gw/combine/login/batch",
                "/sys/gwPK/gw/thing/measurepoint/post/batch"
            ]
        );
        assert_eq!(seen.ledger.len(), 12);
        let connect = &seen.connects[0];
        assert!(connect.client_id.starts_with("gw|securemode=2,signmethod=sha256,timestamp="));
        assert_eq!((connect.keep_alive, connect.clean_session), (60, true));
        assert!(seen.subscriptions.contains(&"/sys/gwPK/gw/thing/measurepoint/post/batch_reply".to_owned()));
    }
    let status = gateway.status.snapshot();
    assert_eq!(status.state, State::Online);
    assert!(status.sub_devices.iter().all(|d| d.login == cloud::Login::Online));
    assert_eq!((gateway.counters.messages.get(), gateway.counters.sub_devices_online.get()), (1, 3));
    gateway.stop().await;
}

#[tokio::test]
async fn a_sub_device_the_cloud_refuses_is_named_and_the_rest_goes_on() {
    let broker = Broker::start(|topic: &str, payload: &Value| {
        if !topic.ends_with("combine/login/batch") {
            return ok();
        }
        let all = payload["params"]["subDevices"].as_array().unwrap();
        let (bad, good): (Vec<Value>, Vec<Value>) = all.iter().cloned().partition(|d| d["deviceKey"] == "d1");
        let code = if bad.is_empty() { 200 } else { 740 };
        Say::Reply(json!({ "code": code.to_string(), "message": "pk&d1 is not a sub-device",
            "data": { "loginedSubDevices": good, "failedSubDevices": bad } }))
    })
    .await;
    let names = names(3, 1);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 2], 1, now()));
    gateway.store.until_acknowledged(1).await;
    let logins: Vec<_> = gateway.status.snapshot().sub_devices.into_iter().map(|d| d.login).collect();
    let refused = cloud::Login::Refused { code: 740, message: "pk&d1 is not a sub-device".to_owned() };
    assert_eq!(logins, [cloud::Login::Online, refused, cloud::Login::Online]);
    assert_eq!(gateway.counters.sub_devices_refused.get(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn commands_are_answered_and_notices_obeyed_without_a_subscription() {
    let broker = Broker::start(healthy).await;
    let names = names(2, 1);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    broker.push("/sys/pk/d0/thing/service/measurepoint/set", json!({ "id": "5", "params": { "p0": 1 } })).await;
    broker.until("the answer", |seen| !seen.topics("measurepoint/set_reply").is_empty()).await;
    {
        let seen = broker.seen.lock().unwrap();
        let answer = seen.topics("measurepoint/set_reply")[0];
        assert!(answer["code"].as_i64().unwrap() >= 2000 && answer["id"] == "5");
    }
    let both = json!({ "id": "6", "params": [{ "productKey": "pk", "deviceKey": "d0" }] });
    broker.push("/ext/session/gwPK/gw/combine/disable", both.clone()).await;
    broker.until("the answer", |seen| !seen.topics("combine/disable_reply").is_empty()).await;
    gateway.store.add(true, batch(&names, &[0, 1], 1, now() + 1));
    gateway.store.until_acknowledged(2).await;
    assert_eq!(gateway.store.held_values(), [("d0".to_owned(), "p0".to_owned(), 723)]);
    broker.push("/ext/session/gwPK/gw/combine/enable", both).await;
    broker.until("the new login", |seen| seen.topics("login/batch").len() == 2).await;
    gateway.store.add(true, batch(&names, &[0], 1, now() + 2));
    // With what waited for the device.
    gateway.store.until_acknowledged(4).await;
    assert_eq!((gateway.store.aside().len(), gateway.store.held_values().len()), (0, 0));
    gateway.stop().await;
}

#[tokio::test]
async fn readings_of_a_logic_asset_are_set_aside_with_their_reason() {
    let broker = Broker::start(healthy).await;
    let base = names(2, 1);
    let mut devices = base.devices.clone();
    (devices[1].product_key, devices[1].device_key) = (String::new(), String::new());
    let names = Arc::new(Names::new(devices));
    let mut credentials = credentials(&names);
    credentials[1] = Credential::Logic;
    let gateway = Gateway::start_with(config(broker.address), &names, credentials);
    gateway.store.add(true, batch(&names, &[0, 1], 1, now()));
    gateway.store.until_acknowledged(1).await;
    assert_eq!(gateway.store.aside().len(), 1);
    assert_eq!(broker.seen.lock().unwrap().ledger.len(), 1);
    gateway.stop().await;
}
