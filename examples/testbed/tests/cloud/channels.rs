//! Secure mode 4: one connection for all devices of a product.

use crate::client::{Device, options_of_mode};
use crate::{Site, site};
use serde_json::{Value, json};
use testbed::cloud::{Options, Triple};
use testbed::ledger::Received;

const SECRET: &str = "productSecret";

fn channel_of(secret: &str) -> Triple {
    Triple::new("subPK", "%channel%", secret)
}

async fn open(site: &Site, mode: u8, secret: &str) -> Result<Device, String> {
    let triple = channel_of(secret);
    let mut device = Device::open(options_of_mode(site.cloud.address(), &triple, mode, "subPK"), &triple).await?;
    assert_eq!(device.subscribe("/sys/subPK/integration/#").await, 1);
    Ok(device)
}

async fn channel() -> (Site, Device) {
    let site = site(Options::default()).await;
    site.cloud.registry(|registry| registry.activating_product("subPK", SECRET).key.clone());
    let device = open(&site, 4, SECRET).await.unwrap();
    (site, device)
}

async fn ask(device: &mut Device, rest: &str, params: Value) -> Value {
    let method = format!("integration.{}", rest.replace('/', ".").replace("attributes", "attribute"));
    let body = json!({"id": "9", "version": "1.0", "method": method, "params": params});
    device.send(&format!("/sys/subPK/integration/{rest}"), body.to_string()).await
}

#[tokio::test]
async fn points_of_several_devices_are_taken_all_or_none() {
    let (site, mut device) = channel().await;
    let item =
        |key: &str, time: i64, value: Value| json!({"deviceKey": key, "time": time, "measurepoints": {"reads": value}});
    let good = json!([item("sub1", 1, json!(1)), item("loose", 1, json!(2))]);
    assert_eq!(ask(&mut device, "measurepoint/post", good).await["code"], 200);
    for (bad, code) in [
        (json!([item("sub1", 2, json!(1)), item("nobody", 2, json!(1))]), 1257),
        (json!([item("sub1", 2, json!(1)), item("sub2", 2, json!("text"))]), 1204),
        (json!([item("sub1", 2, json!(1)), {"deviceKey": "sub2"}]), 1206),
        (json!({"deviceKey": "sub1", "measurepoints": {"reads": 1}}), 1206),
    ] {
        assert_eq!(ask(&mut device, "measurepoint/post", bad.clone()).await["code"], code, "{bad}");
    }
    site.cloud.ledger(|ledger| {
        assert_eq!(ledger.received("subPK/loose", "reads", 1), Received::Once);
        assert_eq!(ledger.received("subPK/sub1", "reads", 2), Received::Never);
    });
}

#[tokio::test]
async fn events_and_attributes_are_kept_and_raw_bytes_come_back() {
    let (site, mut device) = channel().await;
    let events = json!([{"deviceKey": "sub1", "time": 3, "events": {"alarm": {"level": 2}, "other": {}}}]);
    assert_eq!(ask(&mut device, "event/post", events).await["code"], 200);
    let bad = json!([{"deviceKey": "sub1", "events": {"alarm": {}}}, {"deviceKey": "nobody", "events": {}}]);
    assert_eq!(ask(&mut device, "event/post", bad).await["code"], 1257);
    assert_eq!(site.cloud.events().len(), 2);
    // The plural of the documentation is taken too.
    for (rest, value) in [("attribute/post", 1), ("attributes/post", 2)] {
        let attributes = json!([{"deviceKey": "sub1", "attributes": {"rated": value}}]);
        assert_eq!(ask(&mut device, rest, attributes).await["code"], 200);
    }
    let topic = "/sys/subPK/integration/model/up_raw";
    device.publish(topic, vec![1, 2, 0xff]).await;
    assert_eq!(device.message().await, (format!("{topic}_reply"), vec![1, 2, 0xff]));
}

#[tokio::test]
async fn a_channel_speaks_only_for_its_product_and_only_on_its_topics() {
    let (_site, mut device) = channel().await;
    assert_eq!(device.subscribe("/sys/gwPK/#").await, 0x80);
    device.subscribe("#").await;
    let body =
        json!({"id": "9", "method": "thing.measurepoint.post", "params": {"measurepoints": {"reads": 1}}}).to_string();
    assert_eq!(device.send("/sys/gwPK/integration/measurepoint/post", body.clone()).await["code"], 1009);
    assert_eq!(device.send("/sys/subPK/sub1/thing/measurepoint/post", body.clone()).await["code"], 1009);
    assert_eq!(device.send("/sys/subPK/integration/measurepoint/post", body).await["code"], 1260);
    assert_eq!(device.send("/sys/subPK/integration/measurepoint/post", "{").await["code"], 1220);
    assert_eq!(device.send("/sys/subPK/integration/nonsense", "{}").await["code"], 1009);
}

#[tokio::test]
async fn there_is_one_channel_a_product_and_it_needs_the_products_secret() {
    let (site, mut first) = channel().await;
    assert!(open(&site, 4, "wrong").await.err().unwrap().contains("BadUserNamePassword"));
    assert!(open(&site, 3, SECRET).await.err().unwrap().contains("BadUserNamePassword"));
    // The documentation of 2.0 logs a channel in with mode 2.
    open(&site, 2, SECRET).await.unwrap();
    first.ended().await;
    let none = Triple::new("gwPK", "%channel%", "x");
    let refused = Device::open(options_of_mode(site.cloud.address(), &none, 4, "gwPK"), &none).await;
    assert!(refused.err().unwrap().contains("NotAuthorized"), "a product without a secret has no channel");
}
