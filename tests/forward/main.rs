//! Destinations against a broker on loopback that does what a test says.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod broker;
#[path = "../cloud_link/outlet.rs"]
#[allow(dead_code, reason = "shared with the tests of the cloud link")]
mod outlet;
#[path = "../watching/mod.rs"]
mod watching;

use broker::{Broker, Say};
use enos_edge::config::template::{Part, Template, Word};
use enos_edge::config::{DestinationConfig, Payload, Pick, Subscription};
use enos_edge::forward::{Feed, FeedDesk, ForwardPorts, Place, State, Status, run};
use enos_edge::model::command::Data;
use enos_edge::model::{
    Batch, BatchBuilder, Command, Commands, DataType, Inlet, LinkPulses, Measurepoint, Names, Outcome, Signal,
    Standing, ThingModel, Timestamp, TopicFilter, Upload, Value,
};
use enos_edge::telemetry::Counters;
use enos_edge::watchdog::Act;
use outlet::{Store, batch, names};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use watching::watched;

#[derive(Default)]
struct Inbox {
    batches: Mutex<Vec<Batch>>,
    came: Notify,
}

impl Inlet for Inbox {
    fn append(&self, batch: Batch) {
        self.batches.lock().unwrap().push(batch);
        self.came.notify_one();
    }
}

/// Carries out everything at once and says what it was.
struct Echo;

impl Commands for Echo {
    fn perform(&self, command: Command) -> driver::Answer<'static, Outcome> {
        let data = Data::Json(serde_json::json!(format!("{:?} {:?}", command.door, command.target)));
        Box::pin(async move { Outcome::done(data) })
    }
}

struct Gateway {
    store: Arc<Store>,
    inbox: Arc<Inbox>,
    status: Arc<Status>,
    pulses: LinkPulses,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

fn config(address: SocketAddr) -> DestinationConfig {
    DestinationConfig {
        linger: Duration::ZERO,
        topic: Template(vec![Part::Literal("out/".to_owned()), Part::Word(Word::DeviceKey)]),
        ..DestinationConfig::new("plain", &address.ip().to_string(), address.port())
    }
}

fn model(points: usize) -> Arc<ThingModel> {
    let point = |n| Measurepoint {
        id: format!("p{n}"),
        name: String::new(),
        data_type: DataType::Double,
        signal: Signal::Ai,
        unit: None,
        has_quality: false,
        mandatory: false,
        upload: Upload::Realtime,
        late: None,
    };
    let measurepoints = (0..points).map(point).collect();
    Arc::new(ThingModel { id: "m".to_owned(), name: String::new(), parent: None, measurepoints })
}

impl Gateway {
    fn start(config: DestinationConfig, names: &Arc<Names>) -> Gateway {
        let pulses = LinkPulses::default();
        let (store, status) = (Store::new(Arc::clone(names)), Arc::new(Status::default()));
        let inbox = Arc::new(Inbox::default());
        let (stop, stopped) = watch::channel(false);
        let points = names.devices[0].points.points.len();
        let feed = FeedDesk::new(Feed::new(Arc::clone(names), vec![Some(model(points)); names.devices.len()]));
        let ports = ForwardPorts {
            outlet: Arc::clone(&store) as _,
            inlet: Arc::clone(&inbox) as _,
            feed: Arc::new(feed),
            commands: Arc::new(Echo),
            counters: Arc::new(Counters::default()),
            status: Arc::clone(&status),
            pulses: pulses.clone(),
        };
        let task = tokio::spawn(run(config, Place::default(), ports, stopped));
        Gateway { store, inbox, status, pulses, stop, task }
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(4), self.task).await.expect("stops in time").unwrap();
    }
}

fn now() -> i64 {
    Timestamp::now().0
}

#[tokio::test]
async fn readings_of_a_device_travel_together_and_puback_acknowledges() {
    let broker = Broker::start(|_, _| Say::Ack).await;
    let names = names(3, 4);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 1, 2], 4, now()));
    gateway.store.until_acknowledged(1).await;
    let status = gateway.status.snapshot();
    {
        let seen = broker.seen.lock().unwrap();
        assert_eq!(seen.topics(), ["out/d0", "out/d1", "out/d2"]);
        assert_eq!(seen.ledger().len(), 12);
        assert_eq!((seen.connects[0].clean_session, seen.connects[0].client_id.as_str()), (false, "enos-edge-plain"));
    }
    assert_eq!((status.state, status.messages, status.readings_sent), (State::Online, 3, 12));
    gateway.stop().await;
}

#[tokio::test]
async fn a_parcel_is_not_acknowledged_before_its_last_message() {
    let broker = Broker::start(|topic, _| if topic == "out/d1" { Say::Nothing } else { Say::Ack }).await;
    let names = names(3, 1);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 1, 2], 1, now()));
    gateway.store.add(true, batch(&names, &[0, 2], 1, now() + 1));
    gateway.store.until_acknowledged(1).await;
    broker.until("all messages", |seen| seen.published.len() == 5).await;
    assert_eq!((gateway.store.acknowledged(), gateway.store.handed_out()), (1, 1), "d1 was never acknowledged");
    gateway.stop().await;
}

#[tokio::test]
async fn what_was_under_way_when_the_connection_broke_comes_again() {
    let mut countdown = 4;
    let broker = Broker::start(move |_, _| {
        countdown -= 1;
        if countdown == 0 { Say::Drop } else { Say::Ack }
    })
    .await;
    let names = names(5, 3);
    let gateway = Gateway::start(config(broker.address), &names);
    for n in 0..20 {
        gateway.store.add(n % 3 == 0, batch(&names, &[0, 1, 2, 3, 4], 3, now() + n));
    }
    gateway.store.until_acknowledged(20).await;
    let seen = broker.seen.lock().unwrap();
    assert_eq!((seen.ledger().len(), seen.connects.len()), (20 * 15, 2));
}

#[tokio::test]
async fn a_broker_with_a_limit_of_its_own_is_learned() {
    let broker = Broker::start(|_, payload| if payload.len() > 2000 { Say::Drop } else { Say::Ack }).await;
    let names = names(4, 200);
    let gateway = Gateway::start(config(broker.address), &names);
    for n in 0..4 {
        gateway.store.add(true, batch(&names, &[0, 1, 2, 3], 200, now() + n));
    }
    gateway.store.until_acknowledged(4).await;
    assert_eq!(gateway.store.aside(), []);
    assert_eq!(broker.seen.lock().unwrap().ledger().len(), 4 * 800);
    gateway.stop().await;
}

#[tokio::test]
async fn one_reading_that_ends_connections_is_set_aside_and_all_others_arrive() {
    let broker = Broker::start(|_, payload| if payload.contains("\"p7\"") { Say::Drop } else { Say::Ack }).await;
    let names = names(2, 20);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0], 20, now()));
    gateway.store.add(true, batch(&names, &[1], 5, now() + 1));
    gateway.store.until_acknowledged(2).await;
    assert_eq!(gateway.store.aside(), [("d0".to_owned(), "p7".to_owned(), 2102)]);
    assert_eq!(broker.seen.lock().unwrap().ledger().len(), 24);
    gateway.stop().await;
}

#[tokio::test]
async fn a_broker_that_closes_after_connack_or_takes_nothing_loses_nothing() {
    let mut refusals = 4;
    let broker = Broker::start(move |_, _| {
        refusals -= i32::from(refusals > 0);
        if refusals > 0 { Say::Drop } else { Say::Ack }
    })
    .await;
    broker.knobs.lock().unwrap().close_after_connack = 1;
    let names = names(2, 5);
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0, 1], 5, now()));
    gateway.store.until_acknowledged(1).await;
    assert_eq!(gateway.store.aside(), [], "a broker that takes nothing is no judge");
    let seen = broker.seen.lock().unwrap();
    assert_eq!(seen.ledger().len(), 10);
    assert!(seen.connects.len() >= 5, "{}", seen.connects.len());
}

#[tokio::test]
async fn a_broker_slower_than_the_patience_is_given_more_of_it() {
    let broker = Broker::start(|_, _| Say::AckAfter(Duration::from_millis(900))).await;
    let names = names(1, 1);
    let hasty = DestinationConfig { reply_timeout: Duration::from_millis(300), ..config(broker.address) };
    let gateway = Gateway::start(hasty, &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    assert!(broker.seen.lock().unwrap().connects.len() >= 2);
    gateway.stop().await;
}

#[tokio::test]
async fn messages_feed_points_and_a_refused_subscription_stops_nothing() {
    let broker = Broker::start(|_, _| Say::Ack).await;
    broker.knobs.lock().unwrap().refuse_subscriptions = 1;
    let names = names(1, 2);
    let subscription = Subscription {
        filter: TopicFilter::parse("in/+/#").unwrap(),
        device: Pick::Wildcard(0),
        point: Pick::Wildcard(1),
        value: None,
        time: None,
    };
    let config = DestinationConfig { subscribe: vec![subscription], ..config(broker.address) };
    let gateway = Gateway::start(config, &names);
    gateway.store.add(true, batch(&names, &[0], 2, now()));
    gateway.store.until_acknowledged(1).await;
    broker.until("the subscription", |seen| seen.subscriptions == ["in/+/#"]).await;
    broker.push("in/Device 0/p1", "2.5").await;
    broker.push("in/Device 9/p1", "2.5").await;
    gateway.inbox.came.notified().await;
    let fed = gateway.inbox.batches.lock().unwrap()[0].clone();
    let block = fed.blocks().next().unwrap().unwrap();
    let entry = block.entries().next().unwrap().unwrap();
    assert_eq!((block.device, entry.point, entry.value.to_value()), (0, 1, Value::Double(2.5)));
    broker.push("in/Device 0/p0", "1").await;
    gateway.inbox.came.notified().await;
    let status = gateway.status.snapshot();
    assert_eq!((status.more.received.messages, status.more.received.readings, status.more.received.refused), (3, 2, 1));
    assert!(status.more.received.last_refusal.unwrap().contains("\"Device 9\" is not in the package"));
    assert!(status.last_error.unwrap().contains("refused a subscription"));
    gateway.stop().await;
}

#[tokio::test]
async fn messages_of_one_millisecond_are_readings_of_different_times() {
    let broker = Broker::start(|_, _| Say::Ack).await;
    let subscription = Subscription {
        filter: TopicFilter::parse("in/+/#").unwrap(),
        device: Pick::Wildcard(0),
        point: Pick::Wildcard(1),
        value: None,
        time: None,
    };
    let config = DestinationConfig { subscribe: vec![subscription], ..config(broker.address) };
    let gateway = Gateway::start(config, &names(1, 2));
    broker.until("the subscription", |seen| seen.subscriptions == ["in/+/#"]).await;
    for i in 0..15 {
        broker.push("in/Device 0/p0", &i.to_string()).await;
    }
    while gateway.inbox.batches.lock().unwrap().len() < 15 {
        gateway.inbox.came.notified().await;
    }
    let batches = gateway.inbox.batches.lock().unwrap().clone();
    let times: Vec<i64> = batches.iter().flat_map(|b| b.blocks()).map(|block| block.unwrap().time.0).collect();
    assert!(times.len() == 15 && times.is_sorted_by(|a, b| a < b), "{times:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_retained_message_is_the_newest_live_one_only() {
    let broker = Broker::start(|_, _| Say::Ack).await;
    let names = names(1, 1);
    let gateway = Gateway::start(DestinationConfig { retain: true, ..config(broker.address) }, &names);
    gateway.store.add(true, batch(&names, &[0], 1, now()));
    gateway.store.until_acknowledged(1).await;
    gateway.store.add(false, batch(&names, &[0], 1, 1000));
    gateway.store.until_acknowledged(2).await;
    let seen = broker.seen.lock().unwrap();
    assert_eq!(seen.published.iter().map(|p| p.retained).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn bare_values_go_out_one_by_one_within_the_window() {
    let broker = Broker::start(|_, _| Say::Ack).await;
    let names = names(3, 50);
    let mut config = config(broker.address);
    config.topic.0.extend([Part::Literal("/".to_owned()), Part::Word(Word::Point)]);
    let config = DestinationConfig { payload: Payload::Value, in_flight: 3, ..config };
    let gateway = Gateway::start(config, &names);
    let mut builder = BatchBuilder::default();
    for device in 0..3 {
        builder.begin(device, Timestamp(now()));
        (0..50).for_each(|point| builder.push(point, 0, &Value::Int(7)));
    }
    gateway.store.add(true, builder.finish(names.epoch).unwrap());
    gateway.store.until_acknowledged(1).await;
    let seen = broker.seen.lock().unwrap();
    assert_eq!(seen.published.len(), 150);
    assert!(seen.published.iter().all(|p| p.payload == "7") && seen.most_open <= 3, "{}", seen.most_open);
}

#[tokio::test]
async fn a_command_of_the_broker_is_answered_on_its_reply_topic() {
    let broker = Broker::start(|_, _| Say::Ack).await;
    let names = names(1, 1);
    let config = DestinationConfig { commands: Some("cmd/g1".to_owned()), ..config(broker.address) };
    let gateway = Gateway::start(config, &names);
    broker.until("the subscriptions", |seen| seen.subscriptions.len() == 3).await;
    broker.push("cmd/g1/Device 0/set", "{\"id\":5,\"values\":{\"p0\":1}}").await;
    broker.push("cmd/g1/Device 0/set", "nonsense").await;
    broker.until("the answers", |seen| seen.published.len() == 2).await;
    let (topics, published) = {
        let seen = broker.seen.lock().unwrap();
        (seen.topics().into_iter().map(str::to_owned).collect::<Vec<_>>(), seen.published.clone())
    };
    assert_eq!(topics, ["cmd/g1/Device 0/set/reply"; 2]);
    let mut codes: Vec<i64> = Vec::new();
    for one in &published {
        let answer: serde_json::Value = serde_json::from_str(&one.payload).unwrap();
        codes.push(answer["code"].as_i64().unwrap());
        if answer["code"] == 200 {
            assert_eq!((&answer["id"], &answer["data"]), (&5.into(), &"\"plain\" Name(\"Device 0\")".into()));
        }
    }
    codes.sort_unstable();
    assert_eq!(codes, [200, 2000]);
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_or_says_nothing_is_no_hang_and_an_idle_link_neither() {
    let names = names(1, 4);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = Broker::start(|_, _| Say::Nothing).await;
    let well = Broker::start(|_, _| Say::Ack).await;
    for (address, readings) in [(free, true), (silent.address, true), (well.address, true), (well.address, false)] {
        let gateway = Gateway::start(config(address), &names);
        if readings {
            gateway.store.add(true, batch(&names, &[0], 4, now()));
        }
        assert_eq!(watched(&gateway.pulses, Duration::from_secs(7200)).await, [], "{address} {readings}");
        gateway.stop().await;
    }
}

/// As a link whose task waits for something that never comes.
#[tokio::test(start_paused = true)]
async fn a_link_that_stands_still_is_found_and_named() {
    let names = names(1, 4);
    let broker = Broker::start(|_, _| Say::Ack).await;
    let gateway = Gateway::start(config(broker.address), &names);
    gateway.store.add(true, batch(&names, &[0], 4, now()));
    gateway.store.until_acknowledged(1).await;
    assert!(matches!(gateway.pulses.link.standing(), Standing::Back(_)));
    gateway.task.abort();
    let acts = watched(&gateway.pulses, Duration::from_secs(60)).await;
    assert!(
        matches!(&acts[..], [Act::Say(words), Act::Trigger] if words.starts_with("stuck: link (for 3")),
        "{acts:?}"
    );
}
