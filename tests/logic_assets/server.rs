//! A stand-in for the cloud's REST integration that keeps a ledger: token, multipart, and days on which it is not itself.

use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How it answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Mood {
    Well,
    Http(u16),
    /// The envelope of a refusal.
    Code(i64, &'static str),
    /// Refuses messages that hold a negative value of this point.
    RefusesNegative(&'static str),
    /// Takes the message and hangs up without an answer.
    HangsUp,
}

#[derive(Debug)]
pub struct Ledger {
    pub mood: Mood,
    /// (asset, point, time) -> (how often, whether as realtime)
    pub readings: BTreeMap<(String, String, i64), (u32, bool)>,
    pub messages: u32,
    pub refused: u32,
    pub wrong: Vec<String>,
    pub most_at_once: u32,
    at_once: u32,
}

pub struct Server {
    pub url: String,
    pub ledger: Arc<Mutex<Ledger>>,
}

impl Server {
    pub async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ledger = Ledger {
            mood: Mood::Well,
            readings: BTreeMap::new(),
            messages: 0,
            refused: 0,
            wrong: Vec::new(),
            most_at_once: 0,
            at_once: 0,
        };
        let ledger = Arc::new(Mutex::new(ledger));
        let shared = Arc::clone(&ledger);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Server { url, ledger }
    }

    pub fn mood(&self, mood: Mood) {
        self.ledger.lock().unwrap().mood = mood;
    }
}

async fn serve(mut stream: TcpStream, ledger: Arc<Mutex<Ledger>>) {
    let mut bytes = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut bytes).await {
        let token = head.starts_with("POST /apim-token-service/");
        {
            let mut ledger = ledger.lock().unwrap();
            ledger.at_once += 1;
            ledger.most_at_once = ledger.most_at_once.max(ledger.at_once);
        }
        // A network takes its time: others may come meanwhile.
        tokio::task::yield_now().await;
        let answer = {
            let mut ledger = ledger.lock().unwrap();
            ledger.at_once -= 1;
            if token {
                Some((200, json!({"status": 0, "data": {"accessToken": "t-1", "expire": 7200}})))
            } else {
                post(&mut ledger, &head, &body)
            }
        };
        let Some((status, json)) = answer else { return };
        let json = json.to_string();
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{json}", json.len());
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length =
                head.lines().find_map(|l| l.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            let whole = end + 4 + length.unwrap_or(0usize);
            if bytes.len() >= whole {
                let body = bytes[end + 4..whole].to_vec();
                bytes.drain(..whole);
                return Some((head, body));
            }
        }
        let mut part = [0; 16 << 10];
        match stream.read(&mut part).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&part[..n]),
            _ => return None,
        }
    }
}

fn post(ledger: &mut Ledger, head: &str, body: &[u8]) -> Option<(u16, Json)> {
    let line = head.lines().next().unwrap_or_default();
    let message = match message(head, line, body) {
        Ok(message) => message,
        Err(wrong) => {
            ledger.wrong.push(wrong);
            return Some((400, json!({"code": 99400, "msg": "wrong"})));
        }
    };
    let negative = |point: &str| {
        let items = message["params"].as_array().unwrap();
        items.iter().any(|item| item["measurepoints"][point].as_f64().is_some_and(|value| value < 0.0))
    };
    let answer = match ledger.mood.clone() {
        Mood::Http(status) => Some((status, json!({"code": status, "msg": "no"}))),
        Mood::Code(code, words) => Some((200, json!({"code": code, "msg": words}))),
        Mood::RefusesNegative(point) if negative(point) => {
            Some((200, json!({"code": 1204, "msg": "value out of range"})))
        }
        Mood::Well | Mood::RefusesNegative(_) | Mood::HangsUp => None,
    };
    if answer.is_some() {
        ledger.refused += 1;
        return answer;
    }
    ledger.messages += 1;
    let realtime = message["isRealtimeIntegration"].as_bool().unwrap();
    for item in message["params"].as_array().unwrap() {
        let (asset, time) = (item["assetId"].as_str().unwrap(), item["time"].as_i64().unwrap());
        for point in item["measurepoints"].as_object().unwrap().keys() {
            let key = (asset.to_owned(), point.clone(), time);
            ledger.readings.entry(key).and_modify(|(times, _)| *times += 1).or_insert((1, realtime));
        }
    }
    (ledger.mood != Mood::HangsUp).then(|| (200, json!({"code": 0, "msg": "OK", "data": {}})))
}

/// Checks what the wire contract says of the request.
fn message(head: &str, line: &str, body: &[u8]) -> Result<Json, String> {
    let lower = head.to_lowercase();
    if !line.starts_with("POST /connect-service/v2.1/integration?action=postMeasurepoint&orgId=o1 ") {
        return Err(format!("line {line}"));
    }
    if !lower.contains("apim-accesstoken: t-1") || lower.contains("apim-signature") {
        return Err("token only".to_owned());
    }
    let boundary =
        lower.split("boundary=").nth(1).and_then(|rest| rest.lines().next()).ok_or("no boundary")?.to_owned();
    let body = std::str::from_utf8(body).map_err(|e| e.to_string())?;
    let parts: Vec<&str> = body.split(&format!("--{boundary}")).filter(|part| part.len() > 8).collect();
    let [part] = parts[..] else { return Err(format!("{} parts", parts.len())) };
    let (head, content) = part.split_once("\r\n\r\n").ok_or("no head")?;
    if !head.contains("name=\"enos-message\"") {
        return Err(format!("part {head}"));
    }
    let message: Json = serde_json::from_str(content.trim_end()).map_err(|e| e.to_string())?;
    let whole = message["version"] == "1.1" && message["id"].is_string() && message["params"].is_array();
    if whole { Ok(message) } else { Err(message.to_string()) }
}
