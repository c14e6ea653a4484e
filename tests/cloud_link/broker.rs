//! A small scripted MQTT server: it takes one connection at a time and does what the script of the test says.

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

/// A reading as the cloud counts it.
pub type Key = (String, String, i64);

/// What the server says to one request.
pub enum Say {
    /// Answer with PUBACK and a reply.
    Reply(Value),
    /// PUBACK only.
    Nothing,
    /// Not even PUBACK.
    Silence,
    /// Cut the connection.
    Drop,
}

#[must_use]
pub fn ok() -> Say {
    code(200, "")
}

#[must_use]
pub fn code(code: i64, message: &str) -> Say {
    Say::Reply(json!({ "code": code, "data": null, "message": message }))
}

pub type Script = dyn FnMut(&str, &Value) -> Say + Send;

#[derive(Default)]
pub struct Seen {
    pub connects: Vec<Connect>,
    pub subscriptions: Vec<String>,
    /// Topic and payload of everything published, in order.
    pub published: Vec<(String, Value)>,
    /// Readings the server took with code 200 (or with PUBACK alone, when the script says so), and how often.
    pub ledger: HashMap<Key, u32>,
    pub largest: usize,
}

impl Seen {
    pub fn topics(&self, ending: &str) -> Vec<&Value> {
        self.published.iter().filter(|(t, _)| t.ends_with(ending)).map(|(_, p)| p).collect()
    }
}

pub struct Broker {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Seen>>,
    pub connack: Arc<Mutex<Option<ConnectReturnCode>>>,
    /// When set, nothing is answered any more, pings neither: what a half-open link looks like.
    pub deaf: Arc<AtomicBool>,
    push: mpsc::Sender<(String, Value)>,
    changed: watch::Receiver<u64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Broker {
    pub async fn start(script: impl FnMut(&str, &Value) -> Say + Send + 'static) -> Broker {
        Broker::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub async fn start_tls(tls: TlsAcceptor, script: impl FnMut(&str, &Value) -> Say + Send + 'static) -> Broker {
        Broker::start_with("127.0.0.1:0".parse().unwrap(), Some(tls), script).await
    }

    pub async fn start_at(address: SocketAddr, script: impl FnMut(&str, &Value) -> Say + Send + 'static) -> Broker {
        Broker::start_with(address, None, script).await
    }

    async fn start_with(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        script: impl FnMut(&str, &Value) -> Say + Send + 'static,
    ) -> Broker {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(16).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let connack = Arc::new(Mutex::new(Some(ConnectReturnCode::Success)));
        let deaf = Arc::new(AtomicBool::new(false));
        let (push, pushed) = mpsc::channel(16);
        let (change, changed) = watch::channel(0);
        let server = Server {
            seen: Arc::clone(&seen),
            connack: Arc::clone(&connack),
            change,
            tls,
            deaf: Arc::clone(&deaf),
            script: Box::new(script),
        };
        let task = tokio::spawn(server.run(listener, pushed));
        Broker { address, seen, connack, deaf, push, changed, task }
    }

    /// Ends the server and its connections; the port is free again then.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    /// Sends a command to the client that is connected.
    pub async fn push(&self, topic: &str, payload: Value) {
        self.push.send((topic.to_owned(), payload)).await.unwrap();
    }

    /// Waits until what the server has seen fits.
    pub async fn until(&self, what: &str, fits: impl Fn(&Seen) -> bool) {
        let mut changed = self.changed.clone();
        let waited = tokio::time::timeout(std::time::Duration::from_secs(20), async {
            while !fits(&self.seen.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        });
        if waited.await.is_err() {
            let seen = self.seen.lock().unwrap();
            let topics: Vec<_> = seen.published.iter().map(|(t, _)| t.clone()).collect();
            panic!("{what} did not come; connects {}, readings {}, {topics:?}", seen.connects.len(), seen.ledger.len());
        }
    }
}

struct Server {
    seen: Arc<Mutex<Seen>>,
    connack: Arc<Mutex<Option<ConnectReturnCode>>>,
    change: watch::Sender<u64>,
    tls: Option<TlsAcceptor>,
    deaf: Arc<AtomicBool>,
    script: Box<Script>,
}

impl Server {
    async fn run(mut self, listener: TcpListener, mut pushed: mpsc::Receiver<(String, Value)>) {
        while let Ok((stream, _)) = listener.accept().await {
            match self.tls.clone() {
                None => self.serve(stream, &mut pushed).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => self.serve(stream, &mut pushed).await,
                    Err(_) => None,
                },
            };
        }
    }

    async fn serve(
        &mut self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        pushed: &mut mpsc::Receiver<(String, Value)>,
    ) -> Option<()> {
        let mut buffer = BytesMut::new();
        loop {
            let mut out = BytesMut::new();
            while let Some(packet) = parse(&mut buffer) {
                let greeting = matches!(packet, Packet::Connect(_));
                let go_on = !greeting && self.deaf.load(Ordering::Relaxed) || self.packet(packet, &mut out);
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
                    write(&Packet::Publish(message(&topic, &payload)), &mut out);
                    stream.write_all(&out).await.ok()?;
                }
            }
        }
    }

    fn packet(&mut self, packet: Packet, out: &mut BytesMut) -> bool {
        match packet {
            Packet::Connect(connect) => {
                self.seen.lock().unwrap().connects.push(connect);
                let Some(code) = *self.connack.lock().unwrap() else { return true };
                write(&Packet::ConnAck(ConnAck { session_present: false, code }), out);
                code == ConnectReturnCode::Success
            }
            Packet::Subscribe(subscribe) => {
                let codes = subscribe.filters.iter().map(|_| SubscribeReasonCode::Success(QoS::AtLeastOnce)).collect();
                self.seen.lock().unwrap().subscriptions.extend(subscribe.filters.into_iter().map(|f| f.path));
                write(&Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes: codes }), out);
                true
            }
            Packet::Publish(publish) => self.publish(&publish, out),
            Packet::PingReq => {
                write(&Packet::PingResp, out);
                true
            }
            Packet::Disconnect => false,
            _ => true,
        }
    }

    fn publish(&mut self, publish: &Publish, out: &mut BytesMut) -> bool {
        let topic = String::from_utf8(publish.topic.to_vec()).unwrap();
        let payload: Value = serde_json::from_slice(&publish.payload).expect("every message is JSON");
        let say = (self.script)(&topic, &payload);
        {
            let mut seen = self.seen.lock().unwrap();
            seen.largest = seen.largest.max(publish.payload.len());
            let taken = match &say {
                Say::Reply(reply) => reply["code"] == 200 || reply["code"] == "200",
                Say::Nothing => true,
                Say::Silence | Say::Drop => false,
            };
            if taken && topic.ends_with("/batch") && topic.contains("measurepoint") {
                count(&mut seen.ledger, &payload);
            }
            seen.published.push((topic.clone(), payload.clone()));
        }
        let ack = Packet::PubAck(PubAck { pkid: publish.pkid });
        match say {
            Say::Drop => return false,
            Say::Silence => {}
            Say::Nothing => write(&ack, out),
            Say::Reply(mut reply) => {
                write(&ack, out);
                if reply.get("id").is_none() {
                    reply["id"] = payload["id"].clone();
                }
                if !topic.ends_with("_reply") {
                    write(&Packet::Publish(message(&format!("{topic}_reply"), &reply)), out);
                }
            }
        }
        true
    }
}

fn count(ledger: &mut HashMap<Key, u32>, payload: &Value) {
    for item in payload["params"].as_array().unwrap() {
        for point in item["measurepoints"].as_object().unwrap().keys() {
            let device = item["deviceKey"].as_str().unwrap().to_owned();
            *ledger.entry((device, point.clone(), item["time"].as_i64().unwrap())).or_default() += 1;
        }
    }
}

fn message(topic: &str, payload: &Value) -> Publish {
    Publish::new(topic, QoS::AtMostOnce, payload.to_string())
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
