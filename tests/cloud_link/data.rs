//! Data on its way: late or fresh, too large, refused for one value, sent again; acknowledged once it arrived.

use crate::broker::{Broker, Say, code};
use crate::gateway::{Gateway, config, healthy, is_data, items, now};
use crate::outlet::{batch, names};
use enos_edge::model::Timestamp;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[tokio::test]
async fn late_readings_travel_as_resume_and_fresh_ones_as_post() {
    let broker = Broker::start(healthy).await;
    let names = names(1, 2);
    let gateway = Gateway::start(config(broker.address), &names);
    let (old, fresh) = (now() - 3 * 3_600_000, now());
    let mut builder = enos_edge::model::BatchBuilder::default();
    for time in [old, fresh] {
        builder.begin(0, Timestamp(time));
        builder.push(0, 0, &enos_edge::model::Value::Int(1));
    }
    gateway.store.add(false, builder.finish(names.epoch).unwrap());
    gateway.store.until_acknowledged(1).await;
    let seen = broker.seen.lock().unwrap();
    assert_eq!(seen.topics("post/batch")[0]["params"][0]["time"], fresh);
    let resume = seen.topics("resume/batch")[0];
    assert_eq!(
        (&resume["params"][0]["time"], &resume["method"]),
        (&json!(old), &json!("thing.measurepoint.resume.batch"))
    );
}

#[tokio::test]
async fn one_guilty_value_is_found_and_set_aside_and_all_others_arrive() {
    let guilty = |item: &Value| item["deviceKey"] == "d3" && item["measurepoints"].get("p17").is_some();
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if is_data(topic) && items(payload).any(guilty) { code(1204, "no such point") } else { healthy(topic, payload) }
    })
    .await;
    let names = names(8, 50);
    let gateway = Gateway::start(config(broker.address), &names);
    for n in 0..20 {
        gateway.store.add(n % 2 == 0, batch(&names, &[0, 1, 2, 3, 4, 5, 6, 7], 50, now() + n));
    }
    gateway.store.until_acknowledged(20).await;
    let aside = gateway.store.aside();
    assert_eq!(aside.len(), 20, "{aside:?}");
    assert!(aside.iter().all(|a| *a == ("d3".to_owned(), "p17".to_owned(), 1204)));
    let before = {
        let seen = broker.seen.lock().unwrap();
        assert_eq!(seen.ledger.len(), 20 * (8 * 50 - 1));
        seen.published.len()
    };
    // What was found out is remembered: the next parcel costs one message.
    gateway.store.add(true, batch(&names, &[3], 50, now() + 99));
    gateway.store.until_acknowledged(21).await;
    assert_eq!(broker.seen.lock().unwrap().published.len(), before + 1);
    assert_eq!(gateway.store.aside().len(), 21);
    gateway.stop().await;
}

#[tokio::test]
async fn others_flow_while_a_message_is_searched() {
    // The cloud never gets to an end with device d0: its parts are refused for lack of capacity now and then.
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if is_data(topic) && items(payload).any(|i| i["deviceKey"] == "d0") {
            code(1212, "offline")
        } else {
            healthy(topic, payload)
        }
    })
    .await;
    let names = names(2, 10);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 1], 10, now()));
    broker.until("the refused message", |seen| !seen.topics("post/batch").is_empty()).await;
    gateway.store.add(true, batch(&names, &[1], 10, now() + 1));
    gateway.store.until_acknowledged(1).await;
    assert_eq!(gateway.store.aside().len(), 0, "the device is logged in again first");
    gateway.store.until_acknowledged(2).await;
    let held = gateway.store.held_values();
    assert!(held.len() == 10 && held.iter().all(|a| a.0 == "d0" && a.2 == 1212), "{held:?}");
    assert_eq!(gateway.store.aside().len(), 0, "what waits for its device is not given up");
    let logins = broker.seen.lock().unwrap().topics("login/batch").len();
    assert!(logins >= 2, "{logins}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_busy_cloud_gets_pauses_and_loses_nothing() {
    let came = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&came);
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if is_data(topic) {
            let mut times = times.lock().unwrap();
            times.push(Instant::now());
            if times.len() <= 3 {
                return code(429, "slow down");
            }
        }
        healthy(topic, payload)
    })
    .await;
    let names = names(1, 5);
    let mut slow = config(broker.address);
    slow.in_flight = 1;
    let gateway = Gateway::start(slow, &names);
    gateway.store.add(true, batch(&names, &[0], 5, now()));
    gateway.store.until_acknowledged(1).await;
    let came = came.lock().unwrap().clone();
    let waits: Vec<Duration> = came.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(waits.len(), 3, "never hammered");
    // Chance takes away up to half of 0.5, 1 and 2 s.
    for (wait, least) in waits.iter().zip([250, 500, 1000]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
    {
        let seen = broker.seen.lock().unwrap();
        assert_eq!(seen.ledger.len(), 5);
        assert!(seen.ledger.values().all(|n| *n == 1));
    }
    assert_eq!(gateway.store.aside(), []);
    assert!(gateway.counters.slowed.get() > 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_message_too_large_for_the_cloud_is_halved() {
    let broker = Broker::start(|topic: &str, payload: &Value| {
        if is_data(topic) && payload.to_string().len() > 3000 {
            code(1008, "too large")
        } else {
            healthy(topic, payload)
        }
    })
    .await;
    let names = names(4, 200);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 1, 2, 3], 200, now()));
    gateway.store.until_acknowledged(1).await;
    assert_eq!(broker.seen.lock().unwrap().ledger.len(), 800);
    assert_eq!(gateway.store.aside(), []);
    gateway.stop().await;
}

#[tokio::test]
async fn a_parcel_larger_than_a_message_is_split_and_acknowledged_once() {
    let broker = Broker::start(healthy).await;
    let names = names(40, 500);
    let mut small = config(broker.address);
    small.max_message_bytes = 20_000;
    let gateway = Gateway::start(small, &names);
    gateway.store.add(true, batch(&names, &(0..40).collect::<Vec<_>>(), 500, now()));
    gateway.store.until_acknowledged(1).await;
    let seen = broker.seen.lock().unwrap();
    assert_eq!(seen.ledger.len(), 20_000);
    assert!(seen.ledger.values().all(|n| *n == 1));
    assert!(seen.largest <= 20_000, "{}", seen.largest);
}

#[tokio::test]
async fn a_message_without_an_answer_is_sent_again_with_another_id() {
    let mut first = true;
    let broker = Broker::start(move |topic: &str, payload: &Value| {
        if is_data(topic) && std::mem::take(&mut first) { Say::Nothing } else { healthy(topic, payload) }
    })
    .await;
    let names = names(1, 1);
    let mut hasty = config(broker.address);
    hasty.reply_timeout = Duration::from_millis(300);
    let gateway = Gateway::start(hasty, &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    let seen = broker.seen.lock().unwrap();
    let posts = seen.topics("post/batch");
    assert_eq!((posts.len(), seen.connects.len()), (2, 1));
    assert_eq!(posts[0]["params"], posts[1]["params"]);
    assert_ne!(posts[0]["id"], posts[1]["id"]);
}
