//! One MQTT connection from CONNECT to its end: the only file that polls the MQTT client.
//!
//! A client lives as long as one connection. Its own queue and its reconnects are never used: after a loss it is
//! thrown away with all it held, and the outbox hands out again what was not acknowledged.
//!
//! The event loop of the client is not cancel-safe (a flush cut short leaves bytes behind until the next one), so it
//! runs as one long future that is kept beside the caller's loop and never dropped before the connection ends.

use super::payload;
use super::tls;
use crate::config::Compress;
use bytes::Bytes;
use rumqttc::{
    AsyncClient, Broker, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing,
    Packet, PublishOptions, QoS, SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::warn;

/// TCP, TLS and CONNACK together; also how long one write may block.
const PATIENCE: u64 = 20;
/// One address of a host that has several.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(7);
/// Bytes sent and not acknowledged by the peer's TCP for this long end the connection: a half-open link that carries
/// data is noticed then, an idle one this long after the next ping. A slow link that gets through is not touched.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// Topology lists and commands are the largest things the cloud sends.
const LARGEST_INCOMING: usize = 4 << 20;
/// Two keys of 64 characters, of three bytes each, their names, and a secret that `topo/get` gives.
const LISTED_DEVICE: usize = 512;
const MOST_INCOMING: usize = 64 << 20;
/// Events between the event loop and its reader; when full the event loop waits.
const EVENTS: usize = 64;
/// More packet ids than messages are ever in flight, so that the client never holds one back.
const PACKET_IDS: u16 = 4096;
/// Topics in one SUBSCRIBE.
const FILTERS: usize = 200;

/// What the CONNECT packet carries.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub client_id: String,
    pub user_name: String,
    pub password: String,
}

/// Where and how to connect.
#[derive(Clone)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    pub tls: Option<Arc<rustls::ClientConfig>>,
    pub login: Option<Login>,
    pub client_id: String,
    /// False: the broker may keep subscriptions and what it owes us across connections.
    pub clean_session: bool,
    pub keep_alive: Duration,
    pub largest_message: usize,
    /// Devices that one answer may list: an answer of that length is taken, whatever it is.
    pub devices: usize,
    /// Messages, subscriptions and answers that may wait for the event loop. When full, `publish` says so.
    pub requests: usize,
}

impl Endpoint {
    fn largest_incoming(&self) -> usize {
        (self.devices.saturating_mul(LISTED_DEVICE)).clamp(LARGEST_INCOMING, MOST_INCOMING)
    }
}

/// What the connection has to tell.
#[derive(Debug)]
pub enum Heard {
    Connected,
    /// The broker has this message.
    Acknowledged(u16),
    Subscribed {
        refused: usize,
    },
    Message {
        topic: String,
        payload: Bytes,
        /// The broker kept it from earlier: nobody knows how old it is.
        retained: bool,
        /// It may have come before.
        again: bool,
    },
}

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("the cloud refused the login: {reason} (code {code})")]
    Refused { code: u8, reason: &'static str },
    /// The peer closed TLS because of our certificate.
    #[error("the cloud refused the client certificate: {0}")]
    Certificate(String),
    #[error("{0}")]
    Broken(String),
}

/// What kept a login that was tried once from being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Keys, certificate, or what the account may do.
    Login,
    /// There was no conversation: name, TCP or TLS.
    Link,
    /// There was one, and nothing was said in it.
    Silent,
    /// The server has too much to do.
    Overload,
}

/// CONNACK 3: it passes by itself, and slower.
const UNAVAILABLE: &str = "the server is unavailable (code 3)";

impl Lost {
    /// Where to look for what is wrong.
    #[must_use]
    pub fn missed(&self) -> Missed {
        match self {
            Lost::Refused { .. } | Lost::Certificate(_) => Missed::Login,
            Lost::Broken(_) if self.is_overload() => Missed::Overload,
            // Some hang up on who may not log in.
            Lost::Broken(_) if self.is_wordless() => Missed::Login,
            Lost::Broken(_) => Missed::Link,
        }
    }

    /// The peer has more connections or data than it can take.
    #[must_use]
    pub fn is_overload(&self) -> bool {
        matches!(self, Lost::Broken(text) if text == UNAVAILABLE)
    }
}

/// How it looks when a peer hangs up without saying why: some do when they do not like a certificate.
const WORDLESS: &[&str] =
    &["onnection reset", "onnection closed by peer", "roken pipe", "handshake eof", "HandshakeFailure", "close_notify"];

impl Lost {
    /// The peer hung up and gave no reason.
    #[must_use]
    pub fn is_wordless(&self) -> bool {
        matches!(self, Lost::Broken(text) if WORDLESS.iter().any(|words| text.contains(words)))
    }
}

/// The client takes nothing more at the moment.
#[derive(Debug, thiserror::Error)]
#[error("the mqtt client takes nothing more")]
pub struct NotTaken;

pub struct Connection {
    client: AsyncClient,
    poller: Pin<Box<dyn Future<Output = Lost> + Send>>,
    events: mpsc::Receiver<Event>,
    reached: watch::Receiver<bool>,
    /// Messages handed to the client, in order, until it tells their packet id.
    unnumbered: VecDeque<Option<u16>>,
    numbered: HashMap<u16, Option<u16>>,
    beside: Beside,
    compress: Compress,
    largest_incoming: usize,
}

/// What was sent without a token since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Messages and their bytes.
    pub requests: (u64, u64),
    /// Those whose topic ends in `_reply`.
    pub answers: (u64, u64),
}

impl Connection {
    /// Nothing happens before [`Connection::next`] is called.
    #[must_use]
    pub fn begin(endpoint: &Endpoint) -> Connection {
        let (reach, reached) = watch::channel(false);
        let options = options(endpoint, reach);
        let (client, mut event_loop) = AsyncClient::builder(options).capacity(endpoint.requests).build();
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(PATIENCE);
        event_loop.set_network_options(network);
        let (heard, events) = mpsc::channel(EVENTS);
        let poller = Box::pin(poll(event_loop, heard, endpoint.keep_alive));
        Connection {
            client,
            poller,
            events,
            reached,
            unnumbered: VecDeque::new(),
            numbered: HashMap::new(),
            beside: Beside::default(),
            compress: Compress::None,
            largest_incoming: endpoint.largest_incoming(),
        }
    }

    /// From here on payloads are packed like this, both ways.
    #[must_use]
    pub fn compressed(mut self, compress: Compress) -> Connection {
        self.compress = compress;
        self
    }

    /// Whether TCP stood, so that the cloud may have counted a connect.
    #[must_use]
    pub fn reached(&self) -> bool {
        *self.reached.borrow()
    }

    /// Resolves when TCP stands; never when it will not.
    pub fn until_reached(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut reached = self.reached.clone();
        async move {
            if reached.wait_for(|reached| *reached).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits for the next thing the connection has to tell. Cancel-safe.
    ///
    /// # Errors
    /// When the connection is over; it is of no use any more then.
    pub async fn next(&mut self) -> Result<Heard, Lost> {
        loop {
            let event = tokio::select! {
                biased;
                Some(event) = self.events.recv() => event,
                lost = &mut self.poller => return Err(lost),
            };
            if let Some(heard) = self.understand(event) {
                return Ok(heard);
            }
        }
    }

    fn understand(&mut self, event: Event) -> Option<Heard> {
        match event {
            Event::Outgoing(Outgoing::Publish(packet)) => {
                let token = self.unnumbered.pop_front()?;
                self.numbered.insert(packet, token);
                None
            }
            Event::Incoming(Packet::PubAck(ack)) => self.numbered.remove(&ack.pkid)?.map(Heard::Acknowledged),
            Event::Incoming(Packet::Publish(message)) => {
                let topic = String::from_utf8(message.topic.to_vec()).ok()?;
                match payload::unpack(self.compress, message.payload, self.largest_incoming) {
                    Ok(payload) => {
                        Some(Heard::Message { topic, payload, retained: message.retain, again: message.dup })
                    }
                    Err(error) => {
                        warn!(topic, %error, "a message is left out");
                        None
                    }
                }
            }
            Event::Incoming(Packet::ConnAck(_)) => Some(Heard::Connected),
            Event::Incoming(Packet::SubAck(ack)) => {
                let refused = ack.return_codes.iter().filter(|code| matches!(code, SubscribeReasonCode::Failure));
                Some(Heard::Subscribed { refused: refused.count() })
            }
            _ => None,
        }
    }

    /// Hands a message to the client, at QoS 1. With a token, [`Heard::Acknowledged`] tells of its PUBACK.
    ///
    /// # Errors
    /// When the client's queue is full.
    pub fn publish(&mut self, token: Option<u16>, topic: &str, payload: Vec<u8>) -> Result<(), NotTaken> {
        self.publish_with(token, topic, payload, false)
    }

    /// As [`Connection::publish`]; with `retain` the broker keeps the message for those who subscribe later.
    ///
    /// # Errors
    /// When the client's queue is full.
    pub fn publish_with(
        &mut self,
        token: Option<u16>,
        topic: &str,
        payload: Vec<u8>,
        retain: bool,
    ) -> Result<(), NotTaken> {
        let payload = payload::pack(self.compress, payload);
        let bytes = payload.len() as u64;
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(retain);
        self.client.try_publish(topic, payload, options).map_err(|_| NotTaken)?;
        self.unnumbered.push_back(token);
        if token.is_none() {
            let beside = &mut self.beside;
            let count = if topic.ends_with("_reply") { &mut beside.answers } else { &mut beside.requests };
            *count = (count.0 + 1, count.1 + bytes);
        }
        Ok(())
    }

    /// What was sent without a token since the last call: requests and answers to commands, for the accounts.
    pub fn take_beside(&mut self) -> Beside {
        std::mem::take(&mut self.beside)
    }

    /// Asks for topics, some in each packet. Returns the number of packets, each of which is answered.
    ///
    /// # Errors
    /// When the client's queue is full.
    pub fn subscribe(&mut self, topics: &[String]) -> Result<usize, NotTaken> {
        let mut packets = 0;
        for some in topics.chunks(FILTERS) {
            let filters = some.iter().map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
            self.client.try_subscribe_many(filters).map_err(|_| NotTaken)?;
            packets += 1;
        }
        Ok(packets)
    }

    /// Says DISCONNECT and waits until it is out.
    pub async fn close(mut self, patience: Duration) {
        if self.client.try_disconnect_now().is_ok() {
            // Best effort: the outbox keeps what the cloud has not confirmed.
            let _ = timeout(patience, async { while self.next().await.is_ok() {} }).await;
        }
    }
}

fn options(endpoint: &Endpoint, reach: watch::Sender<bool>) -> MqttOptions {
    let mut options = MqttOptions::new(endpoint.client_id.clone(), Broker::tcp(endpoint.host.clone(), endpoint.port));
    if let Some(login) = &endpoint.login {
        options.set_credentials(login.user_name.clone(), login.password.clone());
    }
    if let Some(tls) = &endpoint.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::clone(tls))));
    }
    options.set_keep_alive(u16::try_from(endpoint.keep_alive.as_secs()).unwrap_or(u16::MAX));
    options.set_clean_session(endpoint.clean_session);
    options.set_max_packet_size(endpoint.largest_incoming(), endpoint.largest_message + (64 << 10));
    options.set_inflight(PACKET_IDS);
    options.set_max_request_batch(16);
    let (host, port, reach) = (endpoint.host.clone(), endpoint.port, Arc::new(reach));
    options.set_socket_connector(move |_, _| {
        let (host, reach) = (host.clone(), Arc::clone(&reach));
        async move {
            let stream = connect(&host, port).await?;
            reach.send_replace(true);
            Ok(stream)
        }
    });
    options
}

/// Every address of the host in turn, each with its own dead-line: the first may be a black hole.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match timeout(ADDRESS_PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                // Best effort: without it the pings find a dead link, only later.
                let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "no answer to TCP"),
        }
    }
    Err(last)
}

async fn poll(mut event_loop: EventLoop, heard: mpsc::Sender<Event>, keep_alive: Duration) -> Lost {
    loop {
        match event_loop.poll().await {
            Ok(event) => {
                if matches!(event, Event::Incoming(Packet::ConnAck(_))) {
                    // CONNECT promised `keep_alive`; we ask three times as often, and one question without an
                    // answer ends the connection. So a half-open link is noticed in two thirds of the keep-alive.
                    let ping = (keep_alive.as_secs() / 3).max(1);
                    event_loop.mqtt_options.set_keep_alive(u16::try_from(ping).unwrap_or(u16::MAX));
                }
                if heard.send(event).await.is_err() {
                    return Lost::Broken("closed".to_owned());
                }
            }
            Err(error) => return lost(&error),
        }
    }
}

fn lost(error: &ConnectionError) -> Lost {
    let (code, reason) = match error {
        ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion) => (1, "wrong protocol version"),
        ConnectionError::ConnectionRefused(ConnectReturnCode::BadClientId) => (2, "client id not accepted"),
        ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword) => (4, "bad user name or sign"),
        ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized) => (5, "not authorized"),
        other if tls::blame(other).is_some() => {
            return Lost::Certificate(tls::blame(other).unwrap_or_default().to_owned());
        }
        // 3 passes by itself.
        ConnectionError::ConnectionRefused(ConnectReturnCode::ServiceUnavailable) => {
            return Lost::Broken(UNAVAILABLE.to_owned());
        }
        other => return Lost::Broken(with_advice(chain(other))),
    };
    Lost::Refused { code, reason }
}

/// Words of libraries, and what a person in the field makes of them.
const ADVICE: &[(&str, &str)] = &[
    ("UnknownIssuer", "no authority of ca_file, or of this machine, signed the server's certificate"),
    ("BadSignature", "no authority of ca_file, or of this machine, signed the server's certificate"),
    ("NotValidForName", "the server's certificate is for another host name than url says"),
    ("certificate not valid for name", "the server's certificate is for another host name than url says"),
    ("Expired", "the server's certificate has expired, or the clock of this machine is wrong"),
    ("NotValidYet", "the clock of this machine is wrong, or the server's certificate is not valid yet"),
    ("handshake eof", "the server hung up on TLS: is this its TLS port?"),
    ("InvalidContentType", "the server does not speak TLS: is this its TLS port?"),
    ("failed to lookup address", "the host name is not known: see url, and the name servers of this machine"),
    ("Incorrect packet format", "what answers is no MQTT broker, or wants TLS: see scheme and port of url"),
    ("Network timeout", "connected, but the server does not speak: see scheme and port of url"),
];

fn with_advice(text: String) -> String {
    match ADVICE.iter().find(|(words, _)| text.contains(words)) {
        Some((_, advice)) => format!("{text} ({advice})"),
        None => text,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    // rustls tells a developer where to read more.
    text.split(": https://docs.rs").next().map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_ends_when_its_bytes_are_not_acknowledged() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect("127.0.0.1", listener.local_addr().unwrap().port()).await.unwrap();
        assert_eq!(socket2::SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
    }
}
