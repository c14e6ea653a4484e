//! What the publisher does with answers, pauses and windows, on a clock that the test moves.

use super::*;
use crate::config::{LateDataConfig, Order};
use crate::model::LatePolicy;
use crate::model::{BatchBuilder, DeviceNames, Names, PointName, PointNames, Value};
use serde_json::Value as Json;

fn config() -> CloudConfig {
    CloudConfig {
        late_data: LateDataConfig { threshold: Duration::from_secs(7200), ..LateDataConfig::default() },
        upstream_bytes_per_second: None,
        linger: Duration::ZERO,
        max_message_bytes: 500_000,
        in_flight: 4,
        ..CloudConfig::new("", 0, "gwPK", "gw")
    }
}

/// Three devices of four points, a publisher, and a clock that the test moves.
struct Bench {
    publisher: Publisher,
    names: Arc<Names>,
    now: Duration,
    seq: u64,
    id: u16,
    acknowledged: Vec<u64>,
    aside: Vec<(i64, u32)>,
    log_in_again: usize,
}

impl Bench {
    fn new(config: &CloudConfig) -> Bench {
        let points = (0..4).map(|n| PointName { id: format!("p{n}"), has_quality: false }).collect();
        let points = Arc::new(PointNames { model: String::new(), points });
        let devices = (0..3).map(|n| DeviceNames {
            name: format!("d{n}"),
            product_key: "pk".to_owned(),
            device_key: format!("d{n}"),
            asset_id: None,
            points: Arc::clone(&points),
        });
        Bench {
            publisher: Publisher::new(config),
            names: Arc::new(Names::new(devices.collect())),
            now: Duration::from_secs(1),
            seq: 0,
            id: 0,
            acknowledged: Vec::new(),
            aside: Vec::new(),
            log_in_again: 0,
        }
    }

    fn now(&self) -> Now {
        let millis = i64::try_from(self.now.as_millis()).unwrap();
        Now { at: self.now, wall: Timestamp(1_700_000_000_000 + millis) }
    }

    fn take(&mut self, lane: Lane, devices: &[u32]) {
        let mut builder = BatchBuilder::default();
        for device in devices {
            builder.begin(*device, self.now().wall);
            (0..4).for_each(|point| builder.push(point, 0, &Value::Int(1)));
        }
        self.seq += 1;
        let batch = builder.finish(self.names.epoch).unwrap();
        let parcel = Parcel { seq: self.seq, lane, names: Arc::clone(&self.names), batch };
        self.publisher.take(vec![parcel], self.now());
    }

    fn next(&mut self) -> Option<(u16, Json)> {
        self.id += 1;
        let outgoing = self.publisher.next_message(self.id, self.now())?;
        Some((self.id, serde_json::from_slice(&outgoing.text).unwrap()))
    }

    fn answer(&mut self, id: u16, code: i64) {
        self.publisher.answered(id, code, "because", self.now());
        self.collect();
    }

    fn collect(&mut self) {
        let effects = self.publisher.effects();
        self.aside.extend(effects.set_aside.iter().map(|aside| (aside.code, aside.batch.count)));
        self.acknowledged.extend(effects.acknowledge);
        self.log_in_again += effects.log_in_again.len();
    }

    /// Answers everything until nothing is left to do, moving the clock through all pauses.
    fn settle(&mut self, mut code: impl FnMut(&Json) -> i64) -> usize {
        let mut messages = 0;
        for _ in 0..10_000 {
            while let Some((id, json)) = self.next() {
                messages += 1;
                let code = code(&json);
                self.answer(id, code);
            }
            self.collect();
            match self.publisher.wake(self.now()) {
                Some(wake) => self.now = wake,
                None => return messages,
            }
        }
        panic!("it never comes to rest");
    }
}

fn has(json: &Json, device: &str, point: &str) -> bool {
    json["params"]
        .as_array()
        .unwrap()
        .iter()
        .any(|item| item["deviceKey"] == device && item["measurepoints"].get(point).is_some())
}

#[test]
fn a_mended_model_is_noticed_after_ten_minutes_at_the_price_of_one_message() {
    let mut bench = Bench::new(&config());
    bench.take(Lane::Live, &[0, 1, 2]);
    bench.settle(|json| if has(json, "d1", "p2") { 1204 } else { 200 });
    assert_eq!((bench.aside.as_slice(), bench.acknowledged.as_slice()), ([(1204, 1)].as_slice(), [1].as_slice()));
    bench.now += Duration::from_secs(700);
    bench.take(Lane::Live, &[0, 1, 2]);
    assert_eq!(bench.settle(|json| if has(json, "d1", "p2") { 1204 } else { 200 }), 2, "the trial travels alone");
    assert_eq!(bench.aside.len(), 2);
    bench.now += Duration::from_secs(700);
    bench.take(Lane::Live, &[1]);
    assert_eq!(bench.settle(|_| 200), 2);
    bench.take(Lane::Live, &[1]);
    assert_eq!(bench.settle(|_| 200), 1, "the point is like any other again");
    assert_eq!((bench.aside.len(), bench.acknowledged.len()), (2, 4));
}

#[test]
fn a_cloud_that_stumbles_over_one_value_for_ever_does_not_keep_the_rest() {
    let mut bench = Bench::new(&config());
    let mut sent_bad = 0;
    for round in 0..200 {
        bench.take(Lane::Live, if round < 10 { &[0, 1, 2] } else { &[0] });
        sent_bad += usize::from(round < 10);
        while let Some((id, json)) = bench.next() {
            bench.answer(id, if has(&json, "d2", "p3") { 500 } else { 200 });
        }
        bench.now = bench.publisher.wake(bench.now()).unwrap_or(bench.now + Duration::from_secs(1));
    }
    assert!(bench.acknowledged.len() >= 190, "the rest goes on meanwhile: {}", bench.acknowledged.len());
    bench.settle(|json| if has(json, "d2", "p3") { 500 } else { 200 });
    assert_eq!(bench.acknowledged.len(), 200);
    assert_eq!(bench.aside, vec![(500, 1); sent_bad]);
}

#[test]
fn when_nobody_may_send_no_device_is_blamed_at_once() {
    let mut bench = Bench::new(&config());
    bench.take(Lane::Live, &[0, 1]);
    let mut refusals = 0;
    bench.settle(|_| {
        refusals += 1;
        if refusals > 5 { 200 } else { 1009 }
    });
    assert_eq!((bench.aside.len(), bench.acknowledged.as_slice()), (0, [1].as_slice()));
    assert!(bench.log_in_again >= 2);
}

#[test]
fn live_readings_wait_for_company_as_long_as_asked() {
    let mut bench = Bench::new(&CloudConfig { linger: Duration::from_millis(500), ..config() });
    bench.take(Lane::Live, &[0]);
    assert!(bench.next().is_none());
    assert!(bench.publisher.wants(Lane::Live, bench.now()).is_some(), "company is welcome");
    bench.now += Duration::from_millis(300);
    bench.take(Lane::Live, &[1]);
    assert_eq!(bench.publisher.wake(bench.now()), Some(Duration::from_millis(1500)));
    bench.now += Duration::from_millis(200);
    let (_, json) = bench.next().unwrap();
    assert!(has(&json, "d0", "p0") && has(&json, "d1", "p0"));
}

#[test]
fn backlog_keeps_its_pace_and_leaves_a_slot_to_live_data() {
    let mut bench = Bench::new(&CloudConfig { backlog_bytes_per_second: Some(1000), ..config() });
    bench.take(Lane::Backlog, &[0]);
    assert!(bench.next().is_some());
    assert_eq!(bench.publisher.wants(Lane::Backlog, bench.now()), None, "the pace");
    let mut bench = Bench::new(&config());
    for _ in 0..3 {
        bench.take(Lane::Backlog, &[0]);
        assert!(bench.next().is_some());
    }
    assert_eq!(bench.publisher.wants(Lane::Backlog, bench.now()), None);
    bench.take(Lane::Live, &[0]);
    assert!(bench.next().is_some());
    assert_eq!(bench.publisher.wants(Lane::Live, bench.now()), None, "the window is full");
}

#[test]
fn a_lost_link_forgets_all_and_late_answers_mean_nothing() {
    let mut bench = Bench::new(&config());
    bench.take(Lane::Live, &[0]);
    let (id, _) = bench.next().unwrap();
    bench.publisher.lost(bench.now());
    bench.answer(id, 200);
    assert!(bench.acknowledged.is_empty());
    assert!(bench.next().is_none());
}

#[test]
fn only_where_sub_devices_log_in_do_readings_wait_for_the_topology() {
    for sub_device_login in [true, false] {
        let mut bench = Bench::new(&CloudConfig { sub_device_login, ..config() });
        bench.publisher.absent(vec![("pk".to_owned(), "d0".to_owned())]);
        bench.take(Lane::Live, &[0]);
        assert_eq!(bench.next().is_none(), sub_device_login);
        assert_eq!(bench.publisher.effects().hold.is_empty(), !sub_device_login);
    }
}

#[test]
fn a_peer_that_hangs_up_slows_the_sender_only_when_it_repeats() {
    let mut bench = Bench::new(&config());
    let cut = |bench: &mut Bench, delivered: bool| {
        bench.take(Lane::Live, &[0]);
        if delivered {
            let (id, _) = bench.next().unwrap();
            bench.answer(id, 200);
            bench.take(Lane::Live, &[0]);
        }
        assert!(bench.next().is_some());
        bench.publisher.lost(bench.now());
        bench.now += Duration::from_secs(5);
        bench.publisher.slowed_to(bench.now())
    };
    assert_eq!(cut(&mut bench, true), None, "a cable cut once is no overload");
    // It takes a few bytes each time: that is no measure of what it can take.
    assert!(cut(&mut bench, true).is_none_or(|rate| rate > 30_000));
    let mut bench = Bench::new(&config());
    assert_eq!(cut(&mut bench, false), None);
    assert!(cut(&mut bench, false).is_some(), "twice without a delivery it is one");
    bench.now += Duration::from_secs(1000);
    bench.settle(|_| 200);
    let before = bench.publisher.slowed_to(bench.now());
    assert_eq!(cut(&mut bench, false), before, "long after, it begins anew");
}

impl Bench {
    /// One reading of device 0, point 0, taken at this many seconds before now.
    fn take_old(&mut self, lane: Lane, seconds: i64) {
        let mut builder = BatchBuilder::default();
        builder.begin(0, Timestamp(self.now().wall.0 - seconds * 1000));
        builder.push(0, 0, &Value::Int(1));
        self.seq += 1;
        let batch = builder.finish(self.names.epoch).unwrap();
        let parcel = Parcel { seq: self.seq, lane, names: Arc::clone(&self.names), batch };
        self.publisher.take(vec![parcel], self.now());
    }

    fn next_route(&mut self) -> Option<(u16, Route, usize)> {
        self.id += 1;
        let outgoing = self.publisher.next_message(self.id, self.now())?;
        Some((self.id, outgoing.route, outgoing.readings))
    }
}

fn late(order: Order, policy: LatePolicy) -> CloudConfig {
    let late_data = LateDataConfig { order, threshold: Duration::from_secs(30), policy };
    CloudConfig { late_data, ..config() }
}

#[test]
fn what_became_late_while_it_waited_goes_the_way_of_late_data() {
    let mut bench = Bench::new(&late(Order::RealTimeFirst, LatePolicy::HisChannel));
    bench.take_old(Lane::Live, 0);
    let (id, route, _) = bench.next_route().unwrap();
    assert_eq!(route, Route::Post);
    bench.answer(id, 429);
    bench.now += Duration::from_secs(40);
    assert_eq!(bench.next_route().map(|(_, route, _)| route), Some(Route::Resume), "it is sent again, late by now");
    let mut bench = Bench::new(&late(Order::RealTimeFirst, LatePolicy::Remove));
    bench.take_old(Lane::Live, 29);
    bench.now += Duration::from_secs(2);
    assert_eq!(bench.next_route(), None);
    let effects = bench.publisher.effects();
    assert_eq!((effects.acknowledge.as_slice(), effects.late_removed), ([1].as_slice(), 1));
}

#[test]
fn readings_from_the_future_are_live() {
    let mut bench = Bench::new(&late(Order::RealTimeFirst, LatePolicy::Remove));
    bench.take_old(Lane::Backlog, -86_400 * 365);
    assert_eq!(bench.next_route().map(|(_, route, readings)| (route, readings)), Some((Route::Post, 1)));
}

#[test]
fn removed_readings_are_counted_once_and_only_when_their_parcel_is_done() {
    let mut bench = Bench::new(&late(Order::RealTimeFirst, LatePolicy::Remove));
    for _ in 0..2 {
        bench.seq = 0;
        let mut builder = BatchBuilder::default();
        for age in [100, 0] {
            builder.begin(0, Timestamp(bench.now().wall.0 - age * 1000));
            builder.push(0, 0, &Value::Int(1));
        }
        let batch = builder.finish(bench.names.epoch).unwrap();
        let parcel = Parcel { seq: 7, lane: Lane::Backlog, names: Arc::clone(&bench.names), batch };
        bench.publisher.take(vec![parcel], bench.now());
        assert_eq!(bench.next_route().map(|(_, _, readings)| readings), Some(1));
        let effects = bench.publisher.effects();
        assert_eq!((effects.acknowledge.len(), effects.late_removed), (0, 0));
        if bench.id == 1 {
            bench.publisher.lost(bench.now());
        }
    }
    bench.publisher.answered(bench.id, 200, "", bench.now());
    assert_eq!(bench.publisher.effects().late_removed, 1);
}

#[test]
fn first_in_first_out_lets_live_readings_wait_behind_the_backlog() {
    let mut bench = Bench::new(&CloudConfig { in_flight: 1, ..late(Order::Fifo, LatePolicy::HisChannel) });
    assert!(bench.publisher.in_order() && bench.publisher.wants(Lane::Backlog, bench.now()).is_none());
    for (lane, age) in
        [(Lane::Backlog, 100), (Lane::Backlog, 90), (Lane::Backlog, 5), (Lane::Backlog, 80), (Lane::Live, 0)]
    {
        bench.take_old(lane, age);
    }
    let mut routes = Vec::new();
    while let Some((id, route, readings)) = bench.next_route() {
        routes.push((route, readings));
        bench.answer(id, 200);
    }
    assert_eq!(routes, [(Route::Resume, 2), (Route::Post, 1), (Route::Resume, 1), (Route::Post, 1)]);
    assert_eq!(bench.acknowledged, [1, 2, 3, 4, 5]);
}

#[test]
fn an_overload_that_hits_the_same_message_again_and_again_blames_nobody() {
    let mut bench = Bench::new(&config());
    bench.take(Lane::Live, &[0]);
    let mut answers = 0;
    bench.settle(|_| {
        answers += 1;
        if answers < 40 { 429 } else { 200 }
    });
    assert_eq!((bench.aside.len(), bench.acknowledged.as_slice()), (0, [1].as_slice()));
}

#[test]
fn compressed_messages_hold_more_and_stay_within_the_limit() {
    let mut bench = Bench::new(&CloudConfig { compress: Compress::Gzip, max_message_bytes: 20_000, ..config() });
    let (mut most, mut ratio, mut readings) = (0, 0, 0);
    for _ in 0..60 {
        (0..200).for_each(|_| bench.take(Lane::Backlog, &[0, 1, 2]));
        loop {
            bench.id += 1;
            let Some(outgoing) = bench.publisher.next_message(bench.id, bench.now()) else { break };
            let text = crate::mqtt::payload::unpack(Compress::Gzip, outgoing.text.clone().into(), 4 << 20).unwrap();
            assert!(outgoing.text.len() <= 20_000);
            assert!(serde_json::from_slice::<Json>(&text).is_ok());
            most = most.max(text.len());
            ratio = ratio.max(text.len() / outgoing.text.len());
            readings += outgoing.readings;
            bench.answer(bench.id, 200);
        }
        bench.now += Duration::from_millis(100);
    }
    assert_eq!(readings, 60 * 200 * 12);
    assert_eq!((bench.acknowledged.len(), bench.aside.len()), (12_000, 0));
    assert!(most > 25_000 && ratio >= 4, "{most} bytes of text, packed to a part in {ratio}");
}

#[test]
fn a_plain_broker_is_waited_for_from_its_last_puback_and_twice_as_long_the_next_time() {
    let patience = Duration::from_secs(2);
    let plain = CloudConfig { acknowledge: Acknowledge::Puback, reply_timeout: patience, ..config() };
    let mut bench = Bench::new(&plain);
    let sent: Vec<u16> = std::iter::from_fn(|| {
        bench.take(Lane::Live, &[0]);
        bench.next().map(|(id, _)| id)
    })
    .take(3)
    .collect();
    assert_eq!(sent.len(), 3);
    for id in sent {
        // The last of them waits longer than the patience, behind others that are acknowledged.
        bench.now += patience * 3 / 4;
        assert!(!bench.publisher.time_out(bench.now()));
        bench.publisher.acknowledged(id, bench.now());
    }
    bench.settle(|_| 200);
    for patience in [patience, patience * 2, patience * 4] {
        bench.take(Lane::Live, &[0]);
        assert!(bench.next().is_some());
        bench.now += patience - Duration::from_millis(1);
        assert!(!bench.publisher.time_out(bench.now()), "{patience:?}");
        bench.now += Duration::from_millis(1);
        assert!(bench.publisher.time_out(bench.now()), "{patience:?}");
        bench.publisher.lost(bench.now());
    }
}
