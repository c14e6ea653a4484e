//! Connecting, being cut off, and commands nobody subscribed to.

use crate::client::{Device, WAIT, connect, options};
use crate::site;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, PublishOptions, QoS, TlsConfiguration, Transport};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use testbed::cloud::{Options, Triple};

#[tokio::test]
async fn a_wrong_secret_and_an_unknown_device_are_refused() {
    let site = site(Options::default()).await;
    let wrong = Triple::new("gwPK", "gwDK", "wrong");
    let refused = Device::connect(site.cloud.address(), &wrong).await.err().unwrap();
    assert!(refused.contains("BadUserNamePassword"), "{refused}");
    let unknown = Triple::new("gwPK", "nobody", "x");
    let refused = Device::connect(site.cloud.address(), &unknown).await.err().unwrap();
    assert!(refused.contains("NotAuthorized"), "{refused}");
    let sub_device = Device::connect(site.cloud.address(), &site.subs[0]).await.err().unwrap();
    assert!(sub_device.contains("NotAuthorized"), "{sub_device}");
    assert_eq!(site.cloud.stats().connects, 0);
}

#[tokio::test]
async fn the_fifth_connect_in_two_minutes_is_refused_unless_switched_off() {
    let site = site(Options::default()).await;
    for _ in 0..4 {
        Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    }
    let refused = Device::connect(site.cloud.address(), &site.gateway).await.err().unwrap();
    assert!(refused.contains("ServiceUnavailable"), "{refused}");
    site.cloud.knobs(|knobs| knobs.connect_limit = false);
    Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
}

#[tokio::test]
async fn a_second_connection_closes_the_first_and_its_logins() {
    let site = site(Options::default()).await;
    let mut first = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    assert_eq!(first.login(&site.subs[0]).await["code"], 200);
    let _second = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    first.ended().await;
    assert!(!site.cloud.is_online("subPK", "sub1"));
    assert_eq!(site.cloud.stats().takeovers, 1);
}

#[tokio::test]
async fn the_cloud_goes_down_and_comes_up_on_the_same_port() {
    let site = site(Options::default()).await;
    let mut device = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    site.cloud.down().await;
    device.ended().await;
    assert!(Device::connect(site.cloud.address(), &site.gateway).await.is_err());
    site.cloud.up().await;
    Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
}

#[tokio::test]
async fn tls_is_offered_by_a_certificate_of_our_own_authority() {
    let tls_address = Some(([127, 0, 0, 1], 0).into());
    let site = site(Options { tls_address, ..Options::default() }).await;
    let (address, ca_pem) = site.cloud.tls().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject as _;
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut options = options(address, &site.gateway);
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
    connect(options).await.unwrap();
}

#[tokio::test]
async fn a_command_comes_without_a_subscription_and_its_reply_is_collected() {
    let site = site(Options::default()).await;
    let mut device = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    assert_eq!(device.login(&site.subs[0]).await["code"], 200);
    let answering = async {
        let (topic, payload) = device.message().await;
        assert_eq!(topic, "/sys/subPK/sub1/thing/service/measurepoint/set");
        let command: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(command["method"], "thing.service.measurepoint.set");
        let reply = json!({"id": command["id"], "code": 200, "data": {}}).to_string();
        device.client.publish(format!("{topic}_reply"), reply, PublishOptions::at_least_once()).await.unwrap();
        loop {
            device.eventloop.poll().await.unwrap();
        }
    };
    let reply = tokio::select! {
        reply = site.cloud.set(("subPK", "sub1"), json!({"reads": 5}), WAIT) => reply.unwrap(),
        () = answering => unreachable!(),
    };
    assert_eq!(reply["code"], 200);
    let offline = site.cloud.set(("subPK", "sub2"), json!({}), WAIT).await;
    assert_eq!(offline, Err(testbed::cloud::CommandError::Offline));
}

#[tokio::test]
async fn withheld_pubacks_come_once_they_are_released() {
    let site = site(Options::default()).await;
    let mut device = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    site.cloud.knobs(|knobs| knobs.withhold_pubacks = true);
    device.client.publish("/x", "x", PublishOptions::at_least_once()).await.unwrap();
    let held = async {
        loop {
            if let Event::Incoming(Packet::PubAck(_)) = device.event().await {
                return;
            }
        }
    };
    let mut held = std::pin::pin!(held);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut held).await.is_err());
    site.cloud.knobs(|knobs| knobs.withhold_pubacks = false);
    tokio::time::timeout(WAIT, held).await.unwrap();
}

#[tokio::test]
async fn a_monitor_sees_what_others_publish() {
    let monitor = Some(("watch".to_owned(), "s3".to_owned()));
    let site = site(Options { monitor, ..Options::default() }).await;
    let address = site.cloud.address();
    let mut options = MqttOptions::new("watcher", (address.ip().to_string(), address.port()));
    options.set_credentials("watch", "s3");
    let (client, mut eventloop): (AsyncClient, _) = connect(options).await.unwrap();
    client.subscribe("/sys/+/gwDK/#", QoS::AtMostOnce).await.unwrap();
    while !matches!(eventloop.poll().await.unwrap(), Event::Incoming(Packet::SubAck(_))) {}
    let mut device = Device::connect(address, &site.gateway).await.unwrap();
    device.request("thing/measurepoint/post", json!({"measurepoints": {"a": 1}, "time": 1})).await;
    let seen = tokio::time::timeout(WAIT, async {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = eventloop.poll().await.unwrap() {
                return publish.topic;
            }
        }
    });
    assert_eq!(&seen.await.unwrap()[..], b"/sys/gwPK/gwDK/thing/measurepoint/post");
}
