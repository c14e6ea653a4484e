//! A broker that is no EnOS Cloud: nobody logs in, and its PUBACK acknowledges.

use crate::broker::{Broker, Say};
use crate::gateway::{Gateway, is_data, now, plain};
use crate::outlet::{batch, names};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[tokio::test]
async fn a_plain_broker_acknowledges_with_puback_and_needs_no_login() {
    let broker = Broker::start(|_: &str, _: &Value| Say::Nothing).await;
    let names = names(2, 10);
    let gateway = Gateway::start(plain(broker.address), &names);
    for n in 0..100 {
        gateway.store.add(n % 2 == 0, batch(&names, &[0, 1], 10, now() + n));
    }
    gateway.store.until_acknowledged(100).await;
    {
        let seen = broker.seen.lock().unwrap();
        assert_eq!(seen.ledger.len(), 2000);
        assert!(seen.published.iter().all(|(topic, _)| is_data(topic)));
        assert!(seen.subscriptions.contains(&"/sys/pk/d1/thing/service/+".to_owned()));
        assert_eq!(seen.connects[0].client_id, "gw");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn held_back_pubacks_hold_back_the_window_and_no_more() {
    let broker = Broker::start(|_: &str, _: &Value| Say::Silence).await;
    let names = names(1, 10);
    let gateway = Gateway::start(plain(broker.address), &names);
    for n in 0..100 {
        gateway.store.add(true, batch(&names, &[0], 10, now() + n));
    }
    broker.until("the first message", |seen| !seen.published.is_empty()).await;
    // Many parcels share the messages; each slot is filled at most once.
    let sent = broker.seen.lock().unwrap().published.len();
    assert!(sent <= 8, "{sent}");
    assert_eq!(gateway.store.acknowledged(), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn unanswered_publishes_to_a_plain_broker_end_the_connection_and_arrive_on_the_next() {
    let silent = Arc::new(Mutex::new(true));
    let held = Arc::clone(&silent);
    let broker =
        Broker::start(move |_: &str, _: &Value| if *held.lock().unwrap() { Say::Silence } else { Say::Nothing }).await;
    let names = names(1, 10);
    let mut hasty = plain(broker.address);
    hasty.reply_timeout = Duration::from_millis(300);
    let gateway = Gateway::start(hasty, &names);
    gateway.store.add(true, batch(&names, &[0], 10, now()));
    broker.until("a second connect", |seen| seen.connects.len() >= 2).await;
    *silent.lock().unwrap() = false;
    gateway.store.until_acknowledged(1).await;
    gateway.stop().await;
}
