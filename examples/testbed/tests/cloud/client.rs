//! A small device for tests: rumqttc with the signs of EnOS.

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, PublishOptions, QoS};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use testbed::cloud::Triple;
use testbed::cloud::sign::{Signed, sign};
use tokio::time::timeout;

pub const WAIT: Duration = Duration::from_secs(5);
pub const TIMESTAMP: &str = "1700000000123";

pub struct Device {
    pub client: AsyncClient,
    pub eventloop: EventLoop,
    pub triple: Triple,
    next_id: u32,
}

pub fn sign_of(triple: &Triple, client_id: &str) -> String {
    let fields =
        Signed { client_id, device_key: &triple.device_key, product_key: &triple.product_key, timestamp: TIMESTAMP };
    sign("sha256", fields, &triple.secret).expect("sha256 is known")
}

pub fn options(address: SocketAddr, triple: &Triple) -> MqttOptions {
    options_of_mode(address, triple, 2, "cid")
}

/// The CONNECT of any secure mode; the secret of the triple is the one that mode signs with.
pub fn options_of_mode(address: SocketAddr, triple: &Triple, mode: u8, cid: &str) -> MqttOptions {
    let id = format!("{cid}|securemode={mode},signmethod=sha256,timestamp={TIMESTAMP}|");
    let mut options = MqttOptions::new(id, (address.ip().to_string(), address.port()));
    options
        .set_credentials(format!("{}&{}", triple.device_key, triple.product_key), sign_of(triple, cid).to_uppercase());
    options.set_max_packet_size(4 << 20, 4 << 20);
    options
}

/// CONNACK code of a connect, or nothing when the connection ends without one.
pub async fn connect(options: MqttOptions) -> Result<(AsyncClient, EventLoop), String> {
    let (client, mut eventloop) = AsyncClient::builder(options).capacity(100).build();
    loop {
        match timeout(WAIT, eventloop.poll()).await.map_err(|_| "no CONNACK".to_owned())? {
            Ok(Event::Incoming(Packet::ConnAck(_))) => return Ok((client, eventloop)),
            Ok(_) => {}
            Err(error) => return Err(format!("{error:?}")),
        }
    }
}

impl Device {
    pub async fn connect(address: SocketAddr, triple: &Triple) -> Result<Device, String> {
        let mut device = Device::open(options(address, triple), triple).await?;
        let own = format!("{}/{}", triple.product_key, triple.device_key);
        device.subscribe(&format!("/ext/session/{own}/#")).await;
        device.subscribe(&format!("/sys/{own}/#")).await;
        Ok(device)
    }

    /// Without any subscription.
    pub async fn open(options: MqttOptions, triple: &Triple) -> Result<Device, String> {
        let (client, eventloop) = connect(options).await?;
        Ok(Device { client, eventloop, triple: triple.clone(), next_id: 0 })
    }

    /// Publishes without waiting for anything.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic.to_owned(), payload.into(), PublishOptions::at_least_once()).await.unwrap();
    }

    /// Takes the next message for a command and answers it with this code.
    pub async fn answer(&mut self, code: i64) -> (String, Value) {
        let (topic, payload) = self.message().await;
        let command: Value = serde_json::from_slice(&payload).unwrap();
        let reply = json!({"id": command["id"], "code": code, "data": {}});
        self.publish(&format!("{topic}_reply"), reply.to_string()).await;
        (topic, command)
    }

    /// Lets everything that is on its way be sent: the broker answers one request after the other.
    pub async fn settle(&mut self) {
        self.request("thing/tag/query", json!({"tags": []})).await;
    }

    /// The SUBACK's code.
    pub async fn subscribe(&mut self, filter: &str) -> u8 {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.unwrap();
        loop {
            if let Event::Incoming(Packet::SubAck(ack)) = self.event().await {
                return match ack.return_codes[0] {
                    rumqttc::SubscribeReasonCode::Success(qos) => qos as u8,
                    rumqttc::SubscribeReasonCode::Failure => 0x80,
                };
            }
        }
    }

    pub async fn event(&mut self) -> Event {
        timeout(WAIT, self.eventloop.poll()).await.expect("something happens in time").expect("the connection stands")
    }

    /// Waits until the connection is gone.
    pub async fn ended(&mut self) {
        let gone = async { while self.eventloop.poll().await.is_ok() {} };
        timeout(WAIT, gone).await.expect("the connection ends in time");
    }

    /// The next message.
    pub async fn message(&mut self) -> (String, Vec<u8>) {
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = self.event().await {
                return (String::from_utf8(publish.topic.to_vec()).unwrap(), publish.payload.to_vec());
            }
        }
    }

    /// Publishes bytes and waits for the reply.
    pub async fn send(&mut self, topic: &str, payload: impl Into<Vec<u8>>) -> Value {
        self.client.publish(topic.to_owned(), payload.into(), PublishOptions::at_least_once()).await.unwrap();
        let (reply_topic, reply) = self.message().await;
        assert_eq!(reply_topic, format!("{topic}_reply"));
        serde_json::from_slice(&reply).unwrap()
    }

    /// A request below `/sys/pk/dk` of this device.
    pub async fn request(&mut self, rest: &str, params: Value) -> Value {
        let topic = format!("/sys/{}/{}/{rest}", self.triple.product_key, self.triple.device_key);
        self.envelope(&topic, rest, params).await
    }

    /// A request below `/ext/session/pk/dk`.
    pub async fn session(&mut self, rest: &str, params: Value) -> Value {
        let topic = format!("/ext/session/{}/{}/{rest}", self.triple.product_key, self.triple.device_key);
        self.envelope(&topic, rest, params).await
    }

    async fn envelope(&mut self, topic: &str, rest: &str, params: Value) -> Value {
        self.next_id += 1;
        let id = self.next_id.to_string();
        let body = json!({"id": id, "version": "1.0", "method": rest.replace('/', "."), "params": params});
        let reply = self.send(topic, body.to_string()).await;
        assert_eq!(reply["id"], id);
        reply
    }

    pub async fn login(&mut self, sub: &Triple) -> Value {
        let params = json!({
            "productKey": sub.product_key, "deviceKey": sub.device_key, "clientId": "c", "timestamp": TIMESTAMP,
            "signMethod": "sha256", "secureMode": "2", "sign": sign_of(sub, "c"),
        });
        self.session("combine/login", params).await
    }

    /// A `post/batch` (or `resume/batch`), with flags.
    pub async fn batch(&mut self, kind: &str, items: Value, allow_offline: bool, skip_invalid: bool) -> Value {
        let topic =
            format!("/sys/{}/{}/thing/measurepoint/{kind}/batch", self.triple.product_key, self.triple.device_key);
        let body = json!({
            "id": "b", "version": "1.0", "method": format!("thing.measurepoint.{kind}.batch"), "params": items,
            "allowOfflineSubDevice": allow_offline, "skipInvalidMeasurepoints": skip_invalid,
        });
        self.send(&topic, body.to_string()).await
    }
}
