//! Commands: cached for devices that are away, one at a time, every answer accounted for.

use crate::client::{Device, WAIT};
use crate::{Site, site};
use serde_json::json;
use std::time::Duration;
use testbed::cloud::{Change, CommandError, CommandState, Form, Options, Order};

const SUB: (&str, &str) = ("subPK", "sub1");

async fn connected() -> (Site, Device) {
    let site = site(Options::default()).await;
    site.cloud.knobs(|knobs| knobs.connect_limit = false);
    let device = Device::connect(site.cloud.address(), &site.gateway).await.unwrap();
    (site, device)
}

fn order(value: i64, pending: Duration) -> Order {
    Order { pending, timeout: WAIT, ..Order::new(SUB, "thing/service/measurepoint/set", json!({"reads": value})) }
}

/// What the next message is about, leaving the replies to requests aside.
async fn next_value(device: &mut Device, code: i64) -> i64 {
    let (topic, command) = device.answer(code).await;
    assert_eq!(topic, "/sys/subPK/sub1/thing/service/measurepoint/set");
    command["params"]["reads"].as_i64().unwrap()
}

#[tokio::test]
async fn cached_commands_come_after_login_in_order_each_when_the_one_before_is_answered() {
    let (site, mut device) = connected().await;
    let numbers: Vec<u64> =
        (0..50).map(|value| site.cloud.order(order(value, Duration::from_secs(60))).unwrap()).collect();
    assert_eq!(site.cloud.order(order(50, Duration::from_secs(60))), Err(CommandError::CacheFull));
    assert_eq!(site.cloud.order(order(50, Duration::ZERO)), Err(CommandError::Offline));
    assert!(site.cloud.revoke(numbers[1]) && !site.cloud.revoke(numbers[1]));
    assert_eq!(device.login(&site.subs[0]).await["code"], 200);
    assert_eq!(next_value(&mut device, 200).await, 0);
    // With pendingTtl 0 it waits behind the others all the same.
    site.cloud.order(order(99, Duration::ZERO)).unwrap();
    for expected in (2..50).chain([99]) {
        assert_eq!(site.cloud.command_report().outstanding, 1, "one at a time");
        assert_eq!(next_value(&mut device, if expected == 3 { 2005 } else { 200 }).await, expected);
    }
    device.settle().await;
    let report = site.cloud.command_report();
    assert_eq!((report.succeeded, report.failed, report.revoked, report.waiting), (49, 1, 1, 0));
    assert_eq!((report.missing_answers, report.duplicate_answers, report.unasked_answers), (0, 0, 0));
    assert_eq!(site.cloud.command_record(numbers[3]).unwrap().code, Some(2005));
}

#[tokio::test]
async fn what_is_not_answered_in_time_makes_room_for_the_next_and_its_answer_is_late() {
    let (site, mut device) = connected().await;
    assert_eq!(device.login(&site.subs[0]).await["code"], 200);
    let short = Order { timeout: Duration::from_millis(80), ..order(1, Duration::from_secs(60)) };
    let first = site.cloud.order(short).unwrap();
    let second = site.cloud.order(order(2, Duration::from_secs(60))).unwrap();
    let (topic, late) = device.message().await;
    assert_eq!(next_value(&mut device, 200).await, 2, "the second comes though the first was not answered");
    assert_eq!(site.cloud.command_record(first).unwrap().state, CommandState::TimedOut);
    assert_eq!(site.cloud.command_report().missing_answers, 1);
    let id = serde_json::from_slice::<serde_json::Value>(&late).unwrap()["id"].clone();
    device.publish(&format!("{topic}_reply"), json!({"id": id, "code": 200}).to_string()).await;
    device.settle().await;
    let report = site.cloud.command_report();
    assert_eq!((report.missing_answers, report.late_answers), (0, 1));
    assert_eq!(site.cloud.command_record(second).unwrap().state, CommandState::Succeeded);
}

#[tokio::test]
async fn an_expired_command_is_never_sent() {
    let (site, mut device) = connected().await;
    let soon = site.cloud.carry_out(order(1, Duration::from_millis(50)));
    assert_eq!(soon.await, Err(CommandError::Expired));
    site.cloud.order(order(2, Duration::from_secs(60))).unwrap();
    assert_eq!(device.login(&site.subs[0]).await["code"], 200);
    assert_eq!(next_value(&mut device, 200).await, 2);
    assert_eq!(site.cloud.command_report().expired, 1);
}

#[tokio::test]
async fn a_repeated_command_owes_an_answer_each_time_and_one_too_many_is_counted() {
    let (site, mut device) = connected().await;
    assert_eq!(device.login(&site.subs[0]).await["code"], 200);
    let number = site.cloud.order(Order { id: Some("77".to_owned()), ..order(1, Duration::ZERO) }).unwrap();
    let (topic, first) = device.answer(200).await;
    site.cloud.repeat(number).unwrap();
    assert_eq!(device.answer(200).await, (topic.clone(), first));
    device.publish(&format!("{topic}_reply"), r#"{"id":"77","code":200}"#).await;
    device.publish(&format!("{topic}_reply"), r#"{"id":"78","code":200}"#).await;
    device.settle().await;
    let report = site.cloud.command_report();
    assert_eq!((report.issued, report.sent, report.answers), (1, 2, 3));
    assert_eq!((report.duplicate_answers, report.unasked_answers), (1, 1));
}

#[tokio::test]
async fn services_raw_bytes_and_rrpc_reach_their_device() {
    let (site, mut device) = connected().await;
    assert_eq!(device.login(&site.subs[0]).await["code"], 200);
    let answering = async {
        let (topic, command) = device.answer(200).await;
        assert_eq!(
            (topic.as_str(), &command["method"]),
            ("/sys/subPK/sub1/thing/service/reset", &json!("thing.service.reset"))
        );
        for (end, reply) in [("thing/model/down_raw", "_reply"), ("rrpc/request/2", "")] {
            let (topic, payload) = device.message().await;
            assert!(topic.ends_with(end), "{topic}");
            let to = topic.replace("/request/", "/response/") + reply;
            device.publish(&to, payload.into_iter().rev().collect::<Vec<u8>>()).await;
        }
        device.ended().await;
    };
    let asking = async {
        assert_eq!(site.cloud.invoke(SUB, "reset", json!({}), WAIT).await.unwrap()["code"], 200);
        assert_eq!(&site.cloud.raw(SUB, vec![1, 2].into(), WAIT).await.unwrap()[..], [2, 1]);
        assert_eq!(&site.cloud.rrpc(SUB, vec![3, 4].into(), WAIT).await.unwrap()[..], [4, 3]);
        site.cloud.drop_connections();
    };
    tokio::join!(answering, asking);
}

#[tokio::test]
async fn the_gateway_is_told_of_its_sub_devices_in_every_form() {
    let (site, mut device) = connected().await;
    assert_eq!(device.login(&site.subs[0]).await["code"], 200);
    let keys = json!({"productKey": "subPK", "deviceKey": "sub1"});
    for (change, form, topic, params) in [
        (Change::Disable, Form::Array, "/ext/session/gwPK/gwDK/combine/disable", json!([keys])),
        (Change::Enable, Form::Object, "/ext/session/gwPK/gwDK/combine/enable", keys.clone()),
    ] {
        site.cloud.change(SUB, change, form).unwrap();
        let (got, command) = device.answer(200).await;
        assert_eq!((got.as_str(), &command["params"]), (topic, &params));
        assert!(!site.cloud.is_online(SUB.0, SUB.1), "disabled, or not logged in again yet");
        let code = if change == Change::Disable { 723 } else { 200 };
        if change == Change::Disable {
            assert_eq!(device.login(&site.subs[0]).await["code"], code);
        }
    }
    assert_eq!(device.login(&site.subs[0]).await["code"], 200);
    site.cloud.change(SUB, Change::Delete, Form::OwnTopic).unwrap();
    assert_eq!(device.answer(200).await.0, "/sys/subPK/sub1/thing/delete");
    assert_eq!(device.login(&site.subs[0]).await["code"], 705);
    let children = device.request("thing/topo/get", json!({})).await;
    assert_eq!(children["data"].as_array().unwrap().len(), 1);
    assert_eq!(site.cloud.command_report().missing_answers, 0);
}
