//! What a device may send in a second, and which spellings are let pass.

use crate::client::Device;
use crate::site;
use serde_json::json;
use testbed::cloud::{Options, OverLimit, RateLimit};

fn post(bytes: usize) -> String {
    json!({
        "id": "1", "method": "thing.measurepoint.post",
        "params": {"measurepoints": {"text": "x".repeat(bytes)}, "time": 1},
    })
    .to_string()
}

#[tokio::test]
async fn more_than_the_limit_is_answered_or_ends_the_connection_and_is_not_taken() {
    let topic = "/sys/gwPK/gwDK/thing/measurepoint/post";
    let site = site(Options::default()).await;
    let mut device = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    let limit = |answer| Some(RateLimit { bytes_per_second: 20_000, answer });
    site.cloud.knobs(|knobs| knobs.rate_limit = limit(OverLimit::Code(429)));
    assert_eq!(device.send(topic, post(15_000)).await["code"], 200);
    assert_eq!(device.send(topic, post(15_000)).await["code"], 429);
    assert_eq!((site.cloud.stats().over_limit, site.cloud.stats().live_messages), (1, 1));
    site.cloud.knobs(|knobs| knobs.rate_limit = limit(OverLimit::Close));
    device.publish(topic, post(19_999)).await;
    device.ended().await;
    assert_eq!(site.cloud.stats().live_messages, 1);
}

#[tokio::test]
async fn misspelt_methods_of_the_sdk_pass_and_are_counted_unless_the_cloud_is_strict() {
    let site = site(Options::default()).await;
    let mut device = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    let inform = json!({"id": "1", "method": "ota.inform", "params": {"version": "1"}}).to_string();
    let event = json!({"id": "1", "method": "thing.event.%s.postalarm", "params": {"events": {}}}).to_string();
    for (strict, code) in [(false, 200), (true, 1260)] {
        site.cloud.knobs(|knobs| knobs.strict_methods = strict);
        assert_eq!(device.send("/sys/gwPK/gwDK/ota/device/inform", inform.clone()).await["code"], code);
        assert_eq!(device.send("/sys/gwPK/gwDK/thing/event/alarm/post", event.clone()).await["code"], code);
    }
    assert_eq!(site.cloud.stats().misspelt_methods, 4);
}
