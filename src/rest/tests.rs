//! The client against a server that says what a test tells it to say.

use super::*;
use crate::config::RestConfig;
use crate::model::Secret;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SECRET: &str = "sk-0001-hunter2";
const GET: &str = "/apim-token-service/v2.0/token/get";

/// What was asked: the first line with the head, and the body.
#[derive(Clone, Debug)]
struct Asked {
    head: String,
    body: String,
}

struct Script {
    /// Part of the first line, HTTP status, body. An answer counts once; the last one stays.
    answers: Vec<(&'static str, VecDeque<(u16, String)>)>,
    asked: Vec<Asked>,
}

struct Server {
    url: String,
    script: Arc<Mutex<Script>>,
}

impl Server {
    async fn start(answers: &[(&'static str, &[(u16, &str)])]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let own = |list: &[(u16, &str)]| list.iter().map(|(status, body)| (*status, (*body).to_owned())).collect();
        let answers = answers.iter().map(|(path, list)| (*path, own(list))).collect();
        let script = Arc::new(Mutex::new(Script { answers, asked: Vec::new() }));
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Server { url, script }
    }

    fn asked(&self, part: &str) -> Vec<Asked> {
        self.script.lock().unwrap().asked.iter().filter(|asked| asked.head.contains(part)).cloned().collect()
    }

    fn client(&self) -> Client {
        Client::new(RestConfig::new(&self.url, "ak-0001", Secret::new(SECRET.into()), "o1")).unwrap()
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<Script>>) {
    while let Some(asked) = request(&mut stream).await {
        let answer = {
            let mut script = script.lock().unwrap();
            let line = asked.head.lines().next().unwrap_or_default().to_owned();
            script.asked.push(asked);
            let list = script.answers.iter_mut().find(|(part, _)| line.contains(part)).map(|(_, list)| list);
            list.and_then(|list| if list.len() > 1 { list.pop_front() } else { list.front().cloned() })
        };
        // Nothing scripted: the server stays silent.
        let Some((status, body)) = answer else { return std::future::pending().await };
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length.map_or(0, |l| l.parse().unwrap()) {
                return Some(Asked { head: head.to_owned(), body: body.to_owned() });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

const TOKEN: &[(u16, &str)] = &[
    (200, r#"{"status":0,"data":{"accessToken":"tok-1","expire":7200}}"#),
    (200, r#"{"status":0,"data":{"accessToken":"tok-2","expire":7200}}"#),
];
const OK: &[(u16, &str)] = &[(200, r#"{"code":0,"data":{"certSN":7}}"#)];

fn call<'a>(body: Option<&'a serde_json::Value>) -> Call<'a> {
    Call { path: "/c", query: &[("orgId", "o1"), ("deviceKey", "设备 1&x"), ("action", "apply")], body }
}

#[tokio::test]
async fn a_call_carries_token_time_and_a_signature_over_what_is_meant() {
    let server = Server::start(&[(GET, TOKEN), ("/c", OK)]).await;
    let client = server.client();
    let body = json!({"csr": "x\ny"});
    assert_eq!(client.signed(&call(Some(&body))).await.unwrap(), json!({"certSN": 7}));
    assert_eq!(client.signed(&call(None)).await.unwrap(), json!({"certSN": 7}));
    assert_eq!(server.asked(GET).len(), 1, "one token serves both");
    let asked = server.asked("/c");
    let header = |name: &str| {
        let line = asked[0].head.lines().find_map(|l| l.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("{name} is missing in {}", asked[0].head))
    };
    assert_eq!(header("apim-accesstoken"), "tok-1");
    assert_eq!(asked[0].body, body.to_string());
    let query = call(None).query;
    let expected = sign::of_call("tok-1", query, Some(&asked[0].body), &header("apim-timestamp"), SECRET);
    assert_eq!(header("apim-signature"), expected);
    assert!(asked[0].head.starts_with("POST /c?orgId=o1&deviceKey=%E8%AE%BE%E5%A4%87+1%26x&action=apply "));
    assert!(asked[1].head.starts_with("GET /c?"));
    assert!(!asked.iter().any(|a| format!("{a:?}").contains(SECRET)));
}

#[tokio::test]
async fn a_token_the_cloud_no_longer_takes_is_got_anew_once() {
    const STALE: (u16, &str) = (200, r#"{"code":401,"msg":"token invalid"}"#);
    let server = Server::start(&[(GET, TOKEN), ("/c", &[STALE, OK[0]])]).await;
    assert!(server.client().signed(&call(None)).await.is_ok());
    assert_eq!(server.asked(GET).len(), 2);
    assert!(server.asked("/c")[1].head.contains("tok-2"));

    let server = Server::start(&[(GET, TOKEN), ("/c", &[STALE])]).await;
    let error = server.client().signed(&call(None)).await.unwrap_err();
    assert!(matches!(error, RestError::NotAuthorised { code: 401, .. }), "{error}");
    assert_eq!(server.asked("/c").len(), 2, "no third try");
}

#[tokio::test]
async fn one_question_about_a_token_is_under_way_at_a_time() {
    let server = Server::start(&[(GET, TOKEN), ("/c", OK)]).await;
    let client = server.client();
    let one = call(None);
    let all = tokio::join!(client.signed(&one), client.signed(&one), client.signed(&one), client.signed(&one));
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok());
    assert_eq!(server.asked(GET).len(), 1);
}

#[tokio::test]
async fn who_waited_for_a_token_that_did_not_come_does_not_ask_again() {
    let server = Server::start(&[(GET, &[(503, "")])]).await;
    let client = server.client();
    let one = call(None);
    let all = tokio::join!(client.signed(&one), client.signed(&one), client.signed(&one));
    for error in [all.0.unwrap_err(), all.1.unwrap_err(), all.2.unwrap_err()] {
        assert!(matches!(error, RestError::Status { status: 503, .. }), "{error}");
    }
    assert_eq!(server.asked(GET).len(), 1);
    client.signed(&one).await.unwrap_err();
    assert_eq!(server.asked(GET).len(), 2, "a later call asks anew");
}

#[tokio::test]
async fn a_short_token_is_refreshed_while_it_counts_and_kept_when_that_fails() {
    const SHORT: &str = r#"{"status":0,"data":{"accessToken":"tok-1","expire":1}}"#;
    const LONG: &str = r#"{"status":0,"data":{"accessToken":"tok-2","expire":7200}}"#;
    for (refreshed, then) in [((200, LONG), "tok-2"), ((500, ""), "tok-1")] {
        let server = Server::start(&[(GET, &[(200, SHORT)]), ("token/refresh", &[refreshed]), ("/c", OK)]).await;
        let client = server.client();
        let begun = std::time::Instant::now();
        // Calls without a pause until the last quarter of the second is reached.
        while server.asked("token/refresh").is_empty() && begun.elapsed() < Duration::from_millis(990) {
            client.signed(&call(None)).await.unwrap();
        }
        let refresh = &server.asked("token/refresh")[0];
        assert!(refresh.body.contains("\"accessToken\":\"tok-1\""), "{}", refresh.body);
        assert!(server.asked("/c").last().unwrap().head.contains(then));
    }
}

#[tokio::test]
async fn a_refused_account_is_told_as_not_authorised() {
    let server = Server::start(&[(GET, &[(200, r#"{"status":10010,"msg":"signature mismatch"}"#)])]).await;
    let error = server.client().signed(&call(None)).await.unwrap_err();
    assert!(matches!(&error, RestError::NotAuthorised { code: 10010, .. }), "{error}");
    assert!(error.to_string().contains("access_key and secret_key") && !error.is_passing());
}

#[tokio::test]
async fn a_silent_peer_and_a_closed_port_end_within_the_dead_line() {
    let server = Server::start(&[]).await;
    let mut config = RestConfig::new(&server.url, "a", Secret::new("s".into()), "o");
    config.timeout = Duration::from_millis(50);
    let error = Client::new(config).unwrap().signed(&call(None)).await.unwrap_err();
    assert!(matches!(error, RestError::Silent { .. }), "{error}");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = RestConfig::new(&format!("http://{closed}"), "a", Secret::new("s".into()), "o");
    let error = Client::new(config).unwrap().signed(&call(None)).await.unwrap_err();
    assert!(matches!(&error, RestError::Unreachable { reason, .. } if reason.contains("refused")), "{error}");
}

/// A server with TLS of its own making, and the PEM that vouches for it.
async fn tls_server() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let body = TOKEN[0].1;
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    (format!("https://localhost:{port}"), made.cert.pem())
}

fn trusting(url: &str, pem: &str) -> Client {
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), pem).unwrap();
    let mut config = RestConfig::new(url, "a", Secret::new("s".into()), "o");
    config.ca_file = Some(ca.path().to_owned());
    Client::new(config).unwrap()
}

#[tokio::test]
async fn a_peer_nobody_vouches_for_gets_nothing() {
    let (url, pem) = tls_server().await;
    let (_, other) = tls_server().await;
    let error = trusting(&url, &other).signed(&call(None)).await.unwrap_err();
    assert!(matches!(&error, RestError::Tls { reason, .. } if reason.contains("ertificate")), "{error}");
    let error = trusting(&url.replace("localhost", "127.0.0.1"), &pem).signed(&call(None)).await.unwrap_err();
    assert!(matches!(error, RestError::Tls { .. }), "another name: {error}");
    // Trusted, the token comes; its answer to the call itself has no code and is a token's.
    let done = trusting(&url, &pem).signed(&call(None)).await;
    assert_eq!(done.unwrap()["accessToken"], "tok-1");
}

#[tokio::test]
async fn a_plain_server_gets_no_plain_text() {
    let server = Server::start(&[(GET, TOKEN), ("/c", OK)]).await;
    let (_, pem) = tls_server().await;
    let mut config = RestConfig::new(&server.url.replace("http://", "https://"), "a", Secret::new("s".into()), "o");
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), pem).unwrap();
    config.ca_file = Some(ca.path().to_owned());
    config.timeout = Duration::from_millis(200);
    Client::new(config).unwrap().signed(&call(None)).await.unwrap_err();
    assert!(server.asked("POST").is_empty());
}

#[tokio::test]
async fn an_endless_answer_and_a_redirect_are_refused() {
    let long = format!("{{\"code\":0,\"data\":\"{}\"}}", "x".repeat(1 << 20));
    let server = Server::start(&[(GET, TOKEN), ("/c", &[(200, &long), (302, "")])]).await;
    let client = server.client();
    let error = client.signed(&call(None)).await.unwrap_err();
    assert!(matches!(&error, RestError::Garbled { reason, .. } if reason.contains("longer")), "{error}");
    let error = client.signed(&call(None)).await.unwrap_err();
    assert!(matches!(error, RestError::Status { status: 302, .. }), "{error}");
}

#[tokio::test]
async fn parts_travel_with_the_token_and_without_a_signature() {
    let server = Server::start(&[(GET, TOKEN), ("/integration", OK)]).await;
    let part =
        Part { name: "enos-message", file_name: None, content_type: "application/json", content: b"{\"id\":\"1\"}" };
    let query = [("action", "postMeasurepoint"), ("orgId", "o1")];
    server.client().multipart("/integration", &query, &[part]).await.unwrap();
    let asked = &server.asked("/integration")[0];
    assert!(asked.head.contains("apim-accesstoken: tok-1") && !asked.head.contains("apim-signature"), "{}", asked.head);
    assert!(asked.head.contains("multipart/form-data; boundary=") && asked.body.contains("{\"id\":\"1\"}"));
}

#[test]
fn nothing_shows_a_secret() {
    let config = RestConfig::new("http://127.0.0.1:1", "a", Secret::new(SECRET.into()), "o");
    assert!(!format!("{:?}", Client::new(config).unwrap()).contains("hunter"));
}
