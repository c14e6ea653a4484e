//! Secure mode 3: the device's own secret is brought after CONNACK.

use crate::client::{Device, TIMESTAMP, options, options_of_mode, sign_of};
use crate::{Site, site};
use serde_json::{Value, json};
use std::time::Duration;
use testbed::cloud::{Activation, Options, Triple};

const PRODUCT_SECRET: &str = "productSecret";

async fn activating() -> Site {
    let site = site(Options::default()).await;
    site.cloud.registry(|registry| {
        registry.activating_product("gwPK", PRODUCT_SECRET);
        registry.activating_product("subPK", PRODUCT_SECRET);
    });
    site.cloud.knobs(|knobs| knobs.connect_limit = false);
    site
}

async fn connect(site: &Site, device_key: &str, secret: &str) -> Result<Device, String> {
    let signing = Triple::new("gwPK", device_key, secret);
    Device::open(options_of_mode(site.cloud.address(), &signing, 3, "cid"), &signing).await
}

#[tokio::test]
async fn the_secret_comes_unasked_and_logs_the_device_in() {
    let site = activating().await;
    let mut device = connect(&site, "gwDK", PRODUCT_SECRET).await.unwrap();
    let (topic, info) = device.answer(200).await;
    assert_eq!(topic, "/ext/session/gwPK/gwDK/thing/activate/info");
    assert_eq!(info["method"], "thing.activate.info");
    let params = &info["params"];
    assert_eq!((&params["productKey"], &params["deviceKey"]), (&json!("gwPK"), &json!("gwDK")));
    assert!(params["assetId"].is_string());
    device.subscribe("/sys/gwPK/gwDK/#").await;
    device.settle().await;
    assert!(site.cloud.is_activated("gwPK", "gwDK"));
    let own = Triple::new("gwPK", "gwDK", params["deviceSecret"].as_str().unwrap());
    Device::connect(site.cloud.address(), &own).await.unwrap();
    let report = site.cloud.command_report();
    assert_eq!((report.issued, report.answers, report.missing_answers), (1, 1, 0));
}

#[tokio::test]
async fn a_wrong_secret_an_unknown_device_and_a_product_without_activation_are_refused() {
    let site = activating().await;
    let refused = |device_key: &'static str, secret: &'static str| {
        let site = &site;
        async move { connect(site, device_key, secret).await.err().unwrap() }
    };
    assert!(refused("gwDK", "wrong").await.contains("BadUserNamePassword"));
    assert!(refused("nobody", PRODUCT_SECRET).await.contains("NotAuthorized"));
    site.cloud.registry(|registry| registry.product("gwPK").dynamic_activation = false);
    assert!(refused("gwDK", PRODUCT_SECRET).await.contains("NotAuthorized"));
}

#[tokio::test]
async fn the_secret_comes_twice_never_or_again_as_the_knobs_say() {
    let site = activating().await;
    site.cloud.knobs(|knobs| knobs.activation = Activation { copies: 2, ..Activation::default() });
    let mut device = connect(&site, "gwDK", PRODUCT_SECRET).await.unwrap();
    let (first, second) = (device.answer(200).await, device.answer(200).await);
    assert_eq!(first, second);
    site.cloud.knobs(|knobs| knobs.activation.copies = 0);
    let mut device = connect(&site, "gwDK", PRODUCT_SECRET).await.unwrap();
    device.subscribe("/sys/gwPK/gwDK/#").await;
    device.settle().await;
    site.cloud.knobs(|knobs| knobs.activation.copies = 1);
    let mut again = connect(&site, "gwDK", PRODUCT_SECRET).await.unwrap();
    assert_eq!(again.answer(200).await.1["params"], first.1["params"], "an activated device gets it again");
    again.subscribe("/sys/gwPK/gwDK/#").await;
    again.settle().await;
    site.cloud.knobs(|knobs| knobs.activation.once = true);
    assert!(connect(&site, "gwDK", PRODUCT_SECRET).await.err().unwrap().contains("NotAuthorized"));
    assert_eq!(site.cloud.stats().activations, 3);
}

#[tokio::test]
async fn a_late_secret_finds_the_device_at_work_and_a_lost_reply_leaves_it_unknown_to_be_activated() {
    let site = activating().await;
    site.cloud.knobs(|knobs| {
        knobs.activation.delay = Duration::from_millis(100);
        knobs.activation.lose_replies = 1;
    });
    let mut device = connect(&site, "gwDK", PRODUCT_SECRET).await.unwrap();
    device.subscribe("/sys/gwPK/gwDK/#").await;
    let post = json!({"measurepoints": {"a": 1}, "time": 1});
    assert_eq!(device.request("thing/measurepoint/post", post).await["code"], 200);
    device.answer(200).await;
    device.settle().await;
    assert!(!site.cloud.is_activated("gwPK", "gwDK"));
    assert_eq!(site.cloud.command_report().outstanding, 1);
}

#[tokio::test]
async fn a_sub_device_logs_in_with_its_products_secret_and_gets_its_own() {
    let site = activating().await;
    let mut device = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    let login = |secret: &str| -> Value {
        let signing = Triple::new("subPK", "sub1", secret);
        json!({
            "productKey": "subPK", "deviceKey": "sub1", "clientId": "c", "timestamp": TIMESTAMP,
            "signMethod": "sha256", "secureMode": "3", "sign": sign_of(&signing, "c"),
        })
    };
    assert_eq!(device.session("combine/login", login("wrong")).await["code"], 742);
    let reply = device.session("combine/login", login(PRODUCT_SECRET)).await;
    assert_eq!((&reply["code"], &reply["data"]["deviceSecret"]), (&json!(200), &json!("secret1")));
    let mut batch = login(PRODUCT_SECRET);
    batch["subDevices"] = json!([login(PRODUCT_SECRET)]);
    let reply = device.session("combine/login/batch", batch).await;
    assert_eq!(reply["data"]["loginedSubDevices"][0]["deviceSecret"], "secret1");
    site.cloud.registry(|registry| registry.product("subPK").dynamic_activation = false);
    assert_eq!(device.session("combine/login", login(PRODUCT_SECRET)).await["code"], 770);
}

#[tokio::test]
async fn gzip_is_spoken_both_ways_when_the_client_id_asks_for_it() {
    use std::io::{Read as _, Write as _};
    let site = site(Options::default()).await;
    let cid = "gwDK{ip=127.0.0.1,version=x,compress=GZIP}";
    let asked = options_of_mode(site.cloud.address(), &site.gateway, 2, cid);
    let mut device = Device::open(asked, &site.gateway).await.unwrap();
    device.subscribe("/sys/gwPK/gwDK/#").await;
    let topic = "/sys/gwPK/gwDK/thing/measurepoint/post";
    let body = br#"{"id":"1","method":"thing.measurepoint.post","params":{"measurepoints":{"a":1},"time":5}}"#;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(body).unwrap();
    for (payload, code) in [(packed.finish().unwrap(), 200), (b"no gzip".to_vec(), 1220)] {
        device.publish(topic, payload).await;
        let (_, reply) = device.message().await;
        let mut text = String::new();
        flate2::read::GzDecoder::new(&reply[..]).read_to_string(&mut text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["code"], code, "{text}");
    }
    let lz4 = options_of_mode(site.cloud.address(), &site.gateway, 2, "gwDK{compress=LZ4}");
    assert!(Device::open(lz4, &site.gateway).await.err().unwrap().contains("BadClientId"));
    Device::open(options(site.cloud.address(), &site.gateway), &site.gateway).await.unwrap();
}
