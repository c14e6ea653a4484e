//! A small MQTT server: one connection at a time, and a script that says what becomes of each message.

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// What the server does with a message.
pub enum Say {
    Ack,
    /// PUBACK after this time; nothing else is read meanwhile.
    AckAfter(Duration),
    Nothing,
    /// Cut the connection.
    Drop,
}

pub type Script = dyn FnMut(&str, &str) -> Say + Send;

#[derive(Clone)]
pub struct Published {
    pub topic: String,
    pub payload: String,
    pub retained: bool,
    /// It was acknowledged.
    pub taken: bool,
}

#[derive(Default)]
pub struct Seen {
    pub connects: Vec<Connect>,
    pub subscriptions: Vec<String>,
    pub published: Vec<Published>,
    /// Messages in one piece of reading, at most.
    pub most_open: usize,
}

impl Seen {
    pub fn topics(&self) -> Vec<&str> {
        self.published.iter().map(|p| p.topic.as_str()).collect()
    }

    /// Readings in acknowledged messages: device, point, time.
    pub fn ledger(&self) -> BTreeSet<(String, String, i64)> {
        let mut all = BTreeSet::new();
        for one in self.published.iter().filter(|p| p.taken) {
            let array: Value = serde_json::from_str(&one.payload).unwrap();
            for reading in array.as_array().unwrap() {
                let text = |key: &str| reading[key].as_str().unwrap().to_owned();
                all.insert((text("device"), text("point"), reading["time"].as_i64().unwrap()));
            }
        }
        all
    }
}

/// How often the server does something odd.
#[derive(Default)]
pub struct Knobs {
    pub close_after_connack: u32,
    pub refuse_subscriptions: u32,
}

pub struct Broker {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
    pub knobs: Arc<Mutex<Knobs>>,
    push: mpsc::Sender<(String, String)>,
    changed: watch::Receiver<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Broker {
    pub async fn start(script: impl FnMut(&str, &str) -> Say + Send + 'static) -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, knobs) = (Arc::new(Mutex::new(Seen::default())), Arc::new(Mutex::new(Knobs::default())));
        let (push, pushed) = mpsc::channel(16);
        let (change, changed) = watch::channel(0);
        let server = Server { seen: seen.clone(), knobs: knobs.clone(), change, script: Box::new(script) };
        let task = tokio::spawn(server.run(listener, pushed));
        Broker { address, seen, knobs, push, changed, task }
    }

    /// Sends a message to the client that is connected.
    pub async fn push(&self, topic: &str, payload: &str) {
        self.push.send((topic.to_owned(), payload.to_owned())).await.unwrap();
    }

    /// Waits until what the server has seen fits.
    pub async fn until(&self, what: &str, fits: impl Fn(&Seen) -> bool) {
        let mut changed = self.changed.clone();
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !fits(&self.seen.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        });
        assert!(waited.await.is_ok(), "{what} did not come");
    }
}

struct Server {
    seen: Arc<Mutex<Seen>>,
    knobs: Arc<Mutex<Knobs>>,
    change: watch::Sender<u64>,
    script: Box<Script>,
}

impl Server {
    async fn run(mut self, listener: TcpListener, mut pushed: mpsc::Receiver<(String, String)>) {
        while let Ok((stream, _)) = listener.accept().await {
            self.serve(stream, &mut pushed).await;
        }
    }

    async fn serve(&mut self, mut stream: TcpStream, pushed: &mut mpsc::Receiver<(String, String)>) -> Option<()> {
        let mut buffer = BytesMut::new();
        loop {
            let mut out = BytesMut::new();
            let mut open = 0;
            while let Some(packet) = parse(&mut buffer) {
                open += usize::from(matches!(packet, Packet::Publish(_)));
                let go_on = self.packet(packet, &mut out).await;
                self.count_open(open);
                self.change.send_modify(|n| *n += 1);
                if !go_on {
                    let _ = stream.write_all(&out).await;
                    return None;
                }
            }
            stream.write_all(&out).await.ok()?;
            tokio::select! {
                n = stream.read_buf(&mut buffer) => if n.ok()? == 0 { return None },
                Some((topic, payload)) = pushed.recv() => {
                    let mut out = BytesMut::new();
                    write(&Packet::Publish(Publish::new(topic, QoS::AtMostOnce, payload)), &mut out);
                    stream.write_all(&out).await.ok()?;
                }
            }
        }
    }

    fn count_open(&self, open: usize) {
        let mut seen = self.seen.lock().unwrap();
        seen.most_open = seen.most_open.max(open);
    }

    /// Whether the connection goes on.
    async fn packet(&mut self, packet: Packet, out: &mut BytesMut) -> bool {
        match packet {
            Packet::Connect(connect) => {
                self.seen.lock().unwrap().connects.push(connect);
                write(&Packet::ConnAck(ConnAck { session_present: false, code: ConnectReturnCode::Success }), out);
                let mut knobs = self.knobs.lock().unwrap();
                let closes = knobs.close_after_connack > 0;
                knobs.close_after_connack = knobs.close_after_connack.saturating_sub(1);
                !closes
            }
            Packet::Subscribe(subscribe) => {
                let mut knobs = self.knobs.lock().unwrap();
                let refused = knobs.refuse_subscriptions > 0;
                knobs.refuse_subscriptions = knobs.refuse_subscriptions.saturating_sub(1);
                let code = match refused {
                    true => SubscribeReasonCode::Failure,
                    false => SubscribeReasonCode::Success(QoS::AtLeastOnce),
                };
                let return_codes = vec![code; subscribe.filters.len()];
                self.seen.lock().unwrap().subscriptions.extend(subscribe.filters.into_iter().map(|f| f.path));
                write(&Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes }), out);
                true
            }
            Packet::Publish(publish) => self.publish(&publish, out).await,
            Packet::PingReq => {
                write(&Packet::PingResp, out);
                true
            }
            Packet::Disconnect => false,
            _ => true,
        }
    }

    async fn publish(&mut self, publish: &Publish, out: &mut BytesMut) -> bool {
        let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
        let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
        let say = (self.script)(&topic, &payload);
        if let Say::AckAfter(wait) = say {
            tokio::time::sleep(wait).await;
        }
        let taken = matches!(say, Say::Ack | Say::AckAfter(_));
        self.seen.lock().unwrap().published.push(Published { topic, payload, retained: publish.retain, taken });
        if taken {
            write(&Packet::PubAck(PubAck { pkid: publish.pkid }), out);
        }
        !matches!(say, Say::Drop)
    }
}

fn parse(buffer: &mut BytesMut) -> Option<Packet> {
    match Packet::read(buffer, 1 << 20) {
        Ok(packet) => Some(packet),
        Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => None,
        Err(error) => panic!("the client broke the protocol: {error}"),
    }
}

fn write(packet: &Packet, out: &mut BytesMut) {
    packet.write(out, 1 << 20).unwrap();
}
