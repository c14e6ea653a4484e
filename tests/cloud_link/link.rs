//! The connection itself: broken, refused, half open, stopped, and made again.

use crate::broker::{Broker, Say};
use crate::gateway::{Gateway, config, healthy, is_data, now, plain};
use crate::outlet::{batch, names};
use enos_edge::cloud::State;
use rumqttc::mqttbytes::v4::ConnectReturnCode;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test]
async fn what_was_under_way_when_the_link_broke_comes_again() {
    let mut countdown = 5;
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if is_data(topic) {
            countdown -= 1;
            if countdown == 0 {
                return Say::Drop;
            }
        }
        healthy(topic, payload)
    })
    .await;
    let names = names(2, 10);
    let gateway = Gateway::start(config(broker.address), &names);
    for n in 0..50 {
        gateway.store.add(true, batch(&names, &[0, 1], 10, now() + n));
        if n % 5 == 0 {
            tokio::task::yield_now().await;
            let sent = n as usize / 5;
            broker.until("messages", |seen| seen.topics("post/batch").len() > sent.min(3)).await;
        }
    }
    gateway.store.until_acknowledged(50).await;
    assert_eq!(broker.seen.lock().unwrap().ledger.len(), 1000);
    assert_eq!(gateway.counters.cloud_connects.get(), 2);
    assert!(gateway.store.ups() == 2);
    gateway.stop().await;
}

#[tokio::test]
async fn the_first_reconnect_after_a_restart_is_quick() {
    let names = names(1, 1);
    let first = Broker::start(healthy).await;
    let address = first.address;
    let gateway = Gateway::start(config(address), &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    first.stop().await;
    let second = Broker::start_at(address, healthy).await;
    let began = Instant::now();
    gateway.store.add(true, batch(&names, &[0], 1, now() + 1));
    gateway.store.until_acknowledged(2).await;
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    assert_eq!(second.seen.lock().unwrap().connects.len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_refused_login_is_shown_with_its_reason_and_not_repeated_soon() {
    let broker = Broker::start(healthy).await;
    *broker.connack.lock().unwrap() = Some(ConnectReturnCode::BadUserNamePassword);
    let names = names(1, 1);
    let gateway = Gateway::start(config(broker.address), &names);
    broker.until("the connect", |seen| !seen.connects.is_empty()).await;
    let shown = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            if let State::Refused { code, until, .. } = gateway.status.snapshot().state
                && until > 0
            {
                return (code, until - now());
            }
            tokio::task::yield_now().await;
        }
    });
    let (code, wait) = shown.await.unwrap();
    assert_eq!(code, 4);
    assert!(wait > 10_000, "{wait}");
    let text = serde_json::to_string(&gateway.status.snapshot()).unwrap();
    assert!(!text.contains("planted"), "{text}");
    gateway.stop().await;
}

#[tokio::test]
async fn stopping_waits_for_what_is_under_way() {
    let broker = Broker::start(|topic: &str, payload: &Value| healthy(topic, payload)).await;
    let names = names(1, 5);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0], 5, now()));
    gateway.store.until_acknowledged(1).await;
    let store = Arc::clone(&gateway.store);
    let status = Arc::clone(&gateway.status);
    gateway.stop().await;
    assert_eq!((store.handed_out(), status.snapshot().state), (0, State::Stopped));
}

#[tokio::test]
async fn a_half_open_link_is_noticed_within_one_and_a_half_keep_alives() {
    for data in [false, true] {
        let broker = Broker::start(|_: &str, _: &Value| Say::Nothing).await;
        let names = names(1, 1);
        let mut brisk = plain(broker.address);
        brisk.keep_alive = Duration::from_secs(3);
        let gateway = Gateway::start(brisk, &names);
        gateway.store.add(true, batch(&names, &[0], 1, now()));
        gateway.store.until_acknowledged(1).await;
        broker.deaf.store(true, std::sync::atomic::Ordering::Relaxed);
        let began = Instant::now();
        if data {
            gateway.store.add(true, batch(&names, &[0], 1, now() + 1));
        }
        let noticed = tokio::time::timeout(Duration::from_millis(4500), async {
            while gateway.status.snapshot().last_error.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(noticed.await.is_ok(), "{:?}", began.elapsed());
        broker.deaf.store(false, std::sync::atomic::Ordering::Relaxed);
        if data {
            gateway.store.until_acknowledged(2).await;
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn nobody_there_is_no_reason_to_end() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let names = names(1, 1);
    let gateway = Gateway::start(config(address), &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    // The server comes up later, and is found within two seconds.
    let broker = Broker::start_at(address, healthy).await;
    gateway.store.until_acknowledged(1).await;
    drop(broker);
    gateway.stop().await;
}
