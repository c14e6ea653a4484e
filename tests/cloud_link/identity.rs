//! Dynamic activation against the scripted broker: the secret is on disk before the cloud hears of it, no data flows
//! before, and a restart needs no second one.

use crate::broker::{Broker, Say, ok};
use crate::gateway::{Gateway, config, healthy, is_data, now};
use crate::outlet::{batch, names};
use enos_edge::cloud::State;
use enos_edge::config::{CloudConfig, Secret};
use enos_edge::identity::Keeper;
use enos_edge::identity::activation::{Keys, Known};
use enos_edge::model::Names;
use enos_edge::model::identity::{Activation, Identity, LoginSecret};
use enos_edge::store::RealDisk;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const PRODUCT_SECRET: &str = "planted-product-secret";
const DEVICE_SECRET: &str = "planted-device-secret";

fn unactivated(broker: &Broker) -> CloudConfig {
    CloudConfig {
        device_secret: None,
        product_secret: Some(Secret::new(PRODUCT_SECRET.to_owned())),
        product_key: "产品".to_owned(),
        device_key: "网关-1".to_owned(),
        ..config(broker.address)
    }
}

fn start(config: &CloudConfig, state: &Path, names: &Arc<Names>) -> (Gateway, Arc<Keeper>) {
    let keeper = Arc::new(Keeper::open(config, state, Arc::new(RealDisk)));
    (Gateway::start_as(config.clone(), names, Arc::clone(&keeper) as _), keeper)
}

fn stored(state: &Path) -> Option<String> {
    let (known, _) = Known::load(&RealDisk, &state.join("identity"), &Keys::new("产品", "网关-1"));
    known.current.map(|record| record.secret.reveal().to_owned())
}

fn info(device: &str, secret: &str) -> Value {
    json!({ "id": "5", "version": "1.0", "method": "thing.activate.info", "params": {
        "assetId": "asset-1", "productKey": "产品", "deviceKey": device, "deviceSecret": secret } })
}

const TOPIC: &str = "/ext/session/产品/网关-1/thing/activate/info";

fn signed(connect: &rumqttc::mqttbytes::v4::Connect, secret: &str) -> bool {
    let timestamp = connect.client_id.split("timestamp=").nth(1).unwrap().trim_end_matches('|');
    let text = format!("clientId网关-1deviceKey网关-1productKey产品timestamp{timestamp}{secret}");
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let login = format!("{connect:?}");
    login.contains(&hex) && login.contains("网关-1&产品")
}

#[tokio::test]
async fn the_product_secret_brings_the_device_secret_and_then_data_flows() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_owned();
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if topic.ends_with("activate/info_reply") && payload["code"] == 200 {
            assert_eq!(stored(&folder).as_deref(), Some(DEVICE_SECRET), "answered before it was on disk");
        }
        healthy(topic, payload)
    })
    .await;
    let config = unactivated(&broker);
    let names = names(1, 2);
    let (gateway, keeper) = start(&config, state.path(), &names);
    gateway.store.add(true, batch(&names, &[0], 2, now()));
    broker.until("the first connect", |seen| seen.subscriptions.contains(&TOPIC.to_owned())).await;
    for wrong in [info("网关-2", "other"), json!({ "id": "6", "params": {} }), json!("what")] {
        broker.push(TOPIC, wrong).await;
    }
    broker.push(TOPIC, info("网关-1", DEVICE_SECRET)).await;
    gateway.store.until_acknowledged(1).await;
    {
        let seen = broker.seen.lock().unwrap();
        let answers: Vec<&Value> = seen.topics("activate/info_reply");
        assert!(answers[..3].iter().all(|a| a["code"].as_i64().unwrap() >= 2000), "{answers:?}");
        assert_eq!((&answers[3]["code"], &answers[3]["id"], answers.len()), (&json!(200), &json!("5"), 4));
        let activated = seen.published.iter().position(|(_, p)| p["code"] == 200).unwrap();
        assert_eq!(activated, 3, "nothing but answers flows before the activation");
        assert_eq!(seen.connects.len(), 2);
        assert!(seen.connects[0].client_id.starts_with("网关-1|securemode=3,"));
        assert!(signed(&seen.connects[0], PRODUCT_SECRET));
        assert!(seen.connects[1].client_id.starts_with("网关-1|securemode=2,"));
        assert!(signed(&seen.connects[1], DEVICE_SECRET));
        assert!(seen.topics("post/batch").len() == 1);
    }
    assert_eq!(keeper.asset_id().as_deref(), Some("asset-1"));
    gateway.stop().await;
    for file in std::fs::read_dir(state.path().join("identity")).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    // A restart knows the secret.
    let (gateway, _) = start(&config, state.path(), &names);
    broker.until("the third connect", |seen| seen.connects.len() == 3).await;
    assert!(signed(&broker.seen.lock().unwrap().connects[2], DEVICE_SECRET));
    gateway.stop().await;
}

#[tokio::test]
async fn an_activation_that_comes_again_is_answered_and_a_new_secret_is_kept_beside_the_old() {
    let state = tempfile::tempdir().unwrap();
    let broker = Broker::start(healthy).await;
    let config = unactivated(&broker);
    let names = names(1, 1);
    let first = Keeper::open(&config, state.path(), Arc::new(RealDisk));
    let activation = Activation { secret: Secret::new(DEVICE_SECRET.to_owned()), asset_id: None };
    first.activated(activation).await.unwrap();
    let (gateway, _) = start(&config, state.path(), &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    broker.push(TOPIC, info("网关-1", DEVICE_SECRET)).await;
    broker.until("an answer", |seen| seen.topics("info_reply").len() == 1).await;
    broker.push(TOPIC, info("网关-1", "planted-new")).await;
    broker.until("an answer", |seen| seen.topics("info_reply").len() == 2).await;
    assert!(broker.seen.lock().unwrap().topics("info_reply").iter().all(|a| a["code"] == 200));
    assert_eq!(broker.seen.lock().unwrap().connects.len(), 1, "data flows on");
    gateway.stop().await;
    let (known, _) = Known::load(&RealDisk, &state.path().join("identity"), &Keys::new("产品", "网关-1"));
    assert_eq!(known.current.unwrap().secret.reveal(), "planted-new");
    assert_eq!(known.previous.unwrap().secret.reveal(), DEVICE_SECRET);
}

#[tokio::test]
async fn a_configured_secret_is_not_replaced_by_the_cloud() {
    let state = tempfile::tempdir().unwrap();
    let broker = Broker::start(healthy).await;
    let secret = Some(Secret::new("planted-configured".to_owned()));
    let config = CloudConfig { device_secret: secret, ..unactivated(&broker) };
    let names = names(1, 1);
    let (gateway, keeper) = start(&config, state.path(), &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    broker.push(TOPIC, info("网关-1", DEVICE_SECRET)).await;
    broker.until("an answer", |seen| seen.topics("info_reply").len() == 1).await;
    assert!(broker.seen.lock().unwrap().topics("info_reply")[0]["code"].as_i64().unwrap() >= 2000);
    assert!(
        matches!(keeper.proof().await.unwrap().secret, LoginSecret::Device(s) if s.reveal() == "planted-configured")
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_cloud_that_does_not_activate_is_told_with_the_remedy_and_nothing_leaks() {
    let state = tempfile::tempdir().unwrap();
    let broker = Broker::start(|_: &str, _: &Value| ok()).await;
    let config = unactivated(&broker);
    let names = names(1, 1);
    let (gateway, keeper) = start(&config, state.path(), &names);
    broker.until("the first connect", |seen| !seen.subscriptions.is_empty()).await;
    broker.push(TOPIC, json!({ "id": "1", "code": 770, "message": "not allowed" })).await;
    let error = gateway.until_error(|error| error.contains("770")).await;
    assert!(error.contains("enable it there"), "{error}");
    let shown = format!("{error} {} {:?} {:?}", keeper.status(), gateway.status.snapshot(), config);
    assert!(!shown.contains("planted"), "{shown}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_cloud_that_sends_no_secret_is_not_waited_for_for_ever() {
    let state = tempfile::tempdir().unwrap();
    let broker = Broker::start(|topic: &str, _: &Value| {
        assert!(!is_data(topic), "no data flows with the product secret");
        Say::Nothing
    })
    .await;
    let config = CloudConfig { reply_timeout: Duration::from_millis(300), ..unactivated(&broker) };
    let names = names(1, 1);
    let (gateway, _) = start(&config, state.path(), &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    let error = gateway.until_error(|error| error.contains("sent no device secret")).await;
    assert!(error.contains("dynamic activation"), "{error}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_started_again_and_again_does_not_trip_the_connect_limit() {
    let state = tempfile::tempdir().unwrap();
    let broker = Broker::start(healthy).await;
    let config = CloudConfig { device_secret: Some(Secret::new("s".to_owned())), ..unactivated(&broker) };
    let names = names(1, 1);
    // EnOS takes four in two minutes.
    for n in 1..=4 {
        let (gateway, _) = start(&config, state.path(), &names);
        broker.until("a connect", |seen| seen.connects.len() == n).await;
        gateway.until_state(|state| *state == State::Online).await;
        gateway.stop().await;
    }
    let (gateway, _) = start(&config, state.path(), &names);
    gateway.until_state(|state| matches!(state, State::Waiting { until } if *until > now() + 100_000)).await;
    assert_eq!(broker.seen.lock().unwrap().connects.len(), 4);
    gateway.stop().await;
}
