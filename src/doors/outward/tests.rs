//! Outward doors against a stand-in of the cloud's side, over real sockets.

use super::*;
use crate::config::{Right, Secret};
use crate::model::cloud_ask::Wish;
use crate::model::command::Data;
use crate::model::{Command, Outcome};
use crate::operate::{Frames, Refusal, UpdateWish};
use driver::Answer;
use ring::hmac;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::sync::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

const KEY: &str = "a key of the plant";

/// A gateway that says what it is asked.
#[derive(Default)]
struct Plant {
    commands: Mutex<Vec<Command>>,
}

fn no<T>() -> Result<T, Refusal> {
    Err(Refusal::new("not_here", "not in this test"))
}

struct Echo(u8);

impl Frames for Echo {
    fn next(&mut self) -> Answer<'_, Json> {
        Box::pin(async move {
            self.0 += 1;
            if self.0 > 2 {
                std::future::pending::<()>().await;
            }
            json!({ "direction": "sent", "time": 1, "hex": format!("{:02x}", self.0) })
        })
    }
}

impl Gateway for Plant {
    fn status(&self, _: bool) -> Answer<'_, Json> {
        Box::pin(async { json!({ "counters": {} }) })
    }
    fn values(&self, filter: &str) -> Json {
        json!([{ "device": "Meter 1", "point": filter, "time": 5, "value": 230.5 }])
    }
    fn frames(&self, connection: &str) -> Result<Box<dyn Frames>, Refusal> {
        if connection == "line" { Ok(Box::new(Echo(0))) } else { no() }
    }
    fn command(&self, command: Command) -> Answer<'static, Outcome> {
        self.commands.lock().unwrap().push(command);
        Box::pin(async { Outcome::done(Data::Nothing) })
    }
    fn audit(&self) -> PathBuf {
        PathBuf::new()
    }
    fn certificate(&self) -> Result<Json, Refusal> {
        no()
    }
    fn renew_certificate(&self) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(async { no() })
    }
    fn read<'a>(&'a self, device: &'a str, _: Option<&'a str>) -> Answer<'a, Result<Json, Refusal>> {
        Box::pin(async move {
            // A device that never answers: requests stay under way.
            if device == "deaf" {
                std::future::pending::<()>().await;
            }
            Ok(json!(device))
        })
    }
    fn install_package(&self, _: PathBuf, _: bool) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(async { no() })
    }
    fn roll_package_back(&self, _: Option<u64>) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(async { no() })
    }
    fn package_job(&self, _: u64) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(async { no() })
    }
    fn packages(&self) -> Answer<'_, Json> {
        Box::pin(async { Json::Null })
    }
    fn package_history(&self) -> Answer<'_, Json> {
        Box::pin(async { Json::Null })
    }
    fn cloud(&self, _: Wish) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(async { no() })
    }
    fn update(&self, _: UpdateWish) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(async { no() })
    }
    fn fetch(&self, _: Option<&str>, _: bool) -> Result<Json, Refusal> {
        no()
    }
}

/// The cloud's side.
struct Peer {
    listener: TcpListener,
    plant: Arc<Plant>,
    status: Arc<Status>,
    stop: channel::Sender<bool>,
    task: JoinHandle<()>,
}

struct Talk {
    lines: Lines<BufReader<OwnedReadHalf>>,
    out: OwnedWriteHalf,
    session: String,
    n: u64,
}

impl Peer {
    async fn new(key: Option<&str>, allow: &[Right]) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = DoorConfig {
            name: "control".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            tls: None,
            client_files: None,
            key: key.map(|key| Secret::new(key.to_owned())),
            allow: allow.to_vec(),
        };
        let (plant, status) = (Arc::<Plant>::default(), Arc::new(Status::new("control", String::new())));
        let (stop, stopped) = channel::channel(false);
        let hello = Hello { product_key: Some("pk".to_owned()), device_key: Some("dk".to_owned()) };
        let gateway = Arc::clone(&plant) as Arc<dyn Gateway>;
        let task = tokio::spawn(run(config, hello, gateway, Arc::clone(&status), stopped));
        Peer { listener, plant, status, stop, task }
    }

    async fn open(&self) -> Talk {
        let (stream, _) = self.listener.accept().await.unwrap();
        let (reader, out) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let hello: Json = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        let session = hello["hello"]["session"].as_str().unwrap().to_owned();
        assert_eq!((&hello["hello"]["device_key"], session.len()), (&json!("dk"), 32), "{hello}");
        assert!(!hello.to_string().contains(KEY));
        Talk { lines, out, session, n: 0 }
    }
}

impl Talk {
    async fn say(&mut self, operation: &str, arguments: Json) {
        self.n += 1;
        let json = json!({ "n": self.n, "operation": operation, "arguments": arguments }).to_string();
        let key = hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes());
        let proof = hmac::sign(&key, format!("{}\n{json}", self.session).as_bytes());
        let line = format!("{} {json}\n", words::hex(proof.as_ref()));
        self.out.write_all(line.as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, operation: &str, arguments: Json) -> Json {
        self.say(operation, arguments).await;
        self.heard().await.unwrap()
    }

    /// The next line but for signs of life; `None` when the gateway hung up.
    async fn heard(&mut self) -> Option<Json> {
        loop {
            let line: Json = serde_json::from_str(&self.lines.next_line().await.ok()??).unwrap();
            if line.get("alive").is_none() {
                return Some(line);
            }
        }
    }
}

#[tokio::test]
async fn what_is_asked_and_allowed_is_done_under_the_doors_own_name() {
    let peer = Peer::new(Some(KEY), &[Right::Look, Right::Test, Right::Control]).await;
    let mut talk = peer.open().await;
    assert_eq!(talk.ask("read", json!({"device": "Meter 1"})).await, json!({"n": 1, "ok": true, "data": "Meter 1"}));
    let write = json!({"device": "Meter 1", "points": {"setpoint": 21}, "id": "7", "@door": "local", "door": "enos"});
    assert_eq!(talk.ask("write", write).await["ok"], true);
    assert_eq!(peer.plant.commands.lock().unwrap()[0].door, "control", "whatever the visitor says of himself");
    let refused = talk.ask("package_install", json!({"path": "/p"})).await;
    assert_eq!((&refused["n"], &refused["error"]["code"]), (&json!(3), &json!("forbidden")));
    assert!(refused["error"]["message"].as_str().unwrap().contains("manage"));
    assert_eq!(peer.status.snapshot()["refused"], 1);
    peer.stop.send(true).unwrap();
    peer.task.await.unwrap();
    assert!(talk.heard().await.is_none());
}

#[tokio::test]
async fn a_line_without_its_proof_ends_the_conversation_and_a_new_one_begins() {
    let peer = Peer::new(Some(KEY), &[Right::Look, Right::Control]).await;
    let mut talk = peer.open().await;
    let write = br#"{"n":1,"operation":"write","arguments":{"device":"Meter 1","points":{"p":1}}}"#;
    talk.out.write_all(write).await.unwrap();
    talk.out.write_all(b"\n").await.unwrap();
    assert_eq!(talk.heard().await.unwrap()["error"]["code"], "unproven");
    assert!(talk.heard().await.is_none(), "hung up");
    assert!(peer.plant.commands.lock().unwrap().is_empty());
    // What was proven in one conversation proves nothing in the next.
    let mut next = peer.open().await;
    let own = std::mem::replace(&mut next.session, talk.session.clone());
    assert_eq!(next.ask("status", json!({})).await["error"]["code"], "unproven");
    assert_ne!(own, talk.session);
}

#[tokio::test]
async fn garbage_half_lines_and_endless_lines_end_only_their_own_conversation() {
    let peer = Peer::new(None, &[Right::Look]).await;
    let mut talk = peer.open().await;
    for _ in 0..8 {
        talk.out.write_all(b"\xff\x00GET / HTTP/1.1\r\n").await.unwrap();
        assert_eq!(talk.heard().await.unwrap()["error"]["code"], "bad_request");
    }
    assert!(talk.heard().await.is_none(), "eight in a row are no visitor");
    let mut talk = peer.open().await;
    // The gateway hangs up in the middle of it.
    let _ = talk.out.write_all(&[b'a'; 80 << 10]).await;
    assert!(talk.heard().await.is_none());
    let mut talk = peer.open().await;
    talk.out.write_all(b"{\"operation\":\"sta").await.unwrap();
    talk.out.shutdown().await.unwrap();
    assert!(talk.heard().await.is_none(), "half a line is no request");
    let mut talk = peer.open().await;
    talk.out.write_all(b"{\"n\":1,\"operation\":\"status\"}\r\n{\"n\":2,\"operation\":\"staus\"}\n").await.unwrap();
    let mut answers = [talk.heard().await.unwrap(), talk.heard().await.unwrap()];
    answers.sort_by_key(|answer| answer["n"].as_u64());
    assert_eq!((&answers[0]["ok"], &answers[1]["error"]["code"]), (&json!(true), &json!("forbidden")));
}

#[tokio::test]
async fn watches_tell_under_their_number_until_they_are_stopped() {
    let peer = Peer::new(Some(KEY), &[Right::Look, Right::Test]).await;
    let mut talk = peer.open().await;
    assert_eq!(talk.ask("watch", json!({"what": "frames", "connection": "line"})).await["data"]["watching"], "frames");
    assert_eq!(talk.heard().await.unwrap()["frame"]["hex"], "01");
    assert_eq!(talk.heard().await.unwrap(), json!({"n": 1, "frame": {"direction": "sent", "time": 1, "hex": "02"}}));
    talk.ask("watch", json!({"what": "values", "filter": "u", "period_ms": 200})).await;
    assert_eq!(talk.heard().await.unwrap()["values"][0]["value"], 230.5);
    for (wrong, code) in [
        (json!({"what": "frames", "connection": "lin"}), "not_here"),
        (json!({"what": "films"}), "bad_argument"),
        (json!({"what": "flow", "period_ms": 1}), "bad_argument"),
    ] {
        assert_eq!(talk.ask("watch", wrong).await["error"]["code"], code);
    }
    assert_eq!(talk.ask("stop", json!({"watch": 2})).await["ok"], true);
    assert_eq!(talk.ask("stop", json!({"watch": 2})).await["error"]["code"], "bad_argument");
}

#[tokio::test]
async fn more_than_four_requests_at_once_are_refused_and_watches_go_on() {
    let peer = Peer::new(Some(KEY), &[Right::Look, Right::Test]).await;
    let mut talk = peer.open().await;
    for _ in 0..4 {
        talk.say("read", json!({"device": "deaf"})).await;
    }
    assert_eq!(talk.ask("status", json!({})).await["error"]["code"], "busy");
    assert_eq!(talk.ask("watch", json!({"what": "logs"})).await["ok"], true);
}

#[tokio::test(start_paused = true)]
async fn a_door_that_nobody_opens_is_tried_again_with_growing_waits() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let peer = Peer::new(None, &[]).await;
    peer.task.abort();
    let config = DoorConfig {
        name: "c".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        tls: None,
        client_files: None,
        key: None,
        allow: Vec::new(),
    };
    let (status, (_stop, stopped)) = (Arc::new(Status::new("c", String::new())), channel::channel(false));
    let door = run(config, Hello::default(), peer.plant, Arc::clone(&status), stopped);
    let _ = tokio::time::timeout(Duration::from_secs(3600), door).await;
    let shown = status.snapshot();
    assert_eq!(shown["visits"], 0);
    assert!(
        shown["last_error"].as_str().unwrap().contains("outgoing connections to that port must be allowed"),
        "{shown}"
    );
}
