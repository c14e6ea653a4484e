//! Servers that lie, drip and loop (F13), each a few lines on a loopback port, and what the gateway makes of them.

mod liars;

use super::desk::recorder::Recorder;
use super::incoming::{Incoming, Mark};
use super::journal::{Journal, Step, Trouble};
use super::pull::{self, Fetched};
use super::push::Push;
use crate::config::{Address, Checksum, PublishConfig, PushConfig, Secret, SourceConfig, Trust, When};
use crate::diagnostic::{Diagnostic, Place};
use crate::model::{Refused, RefusedAt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

fn source(url: &str) -> SourceConfig {
    SourceConfig {
        name: "site".to_owned(),
        address: Address::parse(url).unwrap(),
        when: When::Manual,
        user: None,
        password: None,
        key_file: None,
        known_hosts_file: None,
        trust: Trust::default(),
        proxy: None,
        redirect_hosts: Vec::new(),
        implicit_tls: false,
        checksum: Checksum::Ignore,
        max_bytes: 1 << 20,
        connect_timeout: Duration::from_secs(5),
        stall: Duration::from_secs(30),
        deadline: Duration::from_secs(600),
        places: crate::config::Places::Anywhere,
        known_as: None,
        vouched: false,
    }
}

async fn pulled(source: &SourceConfig, incoming: &mut Incoming) -> Result<Fetched, Trouble> {
    pull::fetch(source, incoming, false, &mut Journal::new(&|_| ())).await
}

/// Answers each connection with the next of `answers`; the requests are kept.
async fn http(answers: Vec<Vec<u8>>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.zip", listener.local_addr().unwrap());
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            kept.lock().unwrap().push(String::from_utf8(head).unwrap().to_ascii_lowercase());
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    (url, asked)
}

fn said(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_ended_and_is_not_repeated_when_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let etag = "etag: \"1\"\r\n";
    let (url, asked) = http(vec![
        said("200 OK", &format!("{etag}content-length: 11\r\n"), "hello "),
        said("206 Partial Content", &format!("{etag}content-range: bytes 6-10/11\r\ncontent-length: 5\r\n"), "world"),
        said("304 Not Modified", etag, ""),
    ])
    .await;
    let source = source(&url);
    let trouble = pulled(&source, &mut Incoming::open(folder.path(), "site").unwrap()).await.unwrap_err();
    assert_eq!(trouble.step, Step::Transfer, "{trouble}");
    // As after a restart.
    let mut incoming = Incoming::open(folder.path(), "site").unwrap();
    let Fetched::New { sha256, bytes: 11, unsure: true } = pulled(&source, &mut incoming).await.unwrap() else {
        panic!("not fetched")
    };
    assert!(sha256.starts_with("b94d27b9"), "{sha256}");
    pull::taken(&mut incoming, sha256).unwrap();
    assert_eq!(pulled(&source, &mut incoming).await.unwrap(), Fetched::Unchanged);
    let asked = asked.lock().unwrap();
    assert!(asked[1].contains("range: bytes=6-") && asked[1].contains("if-range: \"1\""), "{}", asked[1]);
    assert!(asked[2].contains("if-none-match: \"1\"") && !asked[2].contains("range:"), "{}", asked[2]);
}

#[tokio::test]
async fn http_servers_that_lie_are_refused_with_the_step() {
    let large = "x".repeat(2 << 20);
    let digest = format!("x-sha256: {}\r\ncontent-length: 2\r\n", "0".repeat(64));
    for (answer, step, word) in [
        (said("200 OK", "content-length: 99999999\r\n", ""), Step::Ask, "max_mb"),
        (said("200 OK", "", &large), Step::Transfer, "max_mb"),
        (said("200 OK", "content-encoding: gzip\r\n", "x"), Step::Ask, "packs the archive"),
        (said("206 Partial Content", "content-range: bytes 0-0/1\r\n", "x"), Step::Ask, "206"),
        (said("200 OK", &digest, "hi"), Step::Digest, "the source tells"),
        (said("302 Found", "location: file:///etc/passwd\r\n", ""), Step::Ask, "redirect refused"),
        (b"SSH-2.0-OpenSSH\r\n".to_vec(), Step::Ask, "port of http"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (url, _) = http(vec![answer]).await;
        let trouble = pulled(&source(&url), &mut Incoming::open(folder.path(), "site").unwrap()).await.unwrap_err();
        assert!(trouble.step == step && trouble.to_string().contains(word), "{word}: {trouble}");
    }
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_whole_address_or_for_the_way_through() {
    let folder = tempfile::tempdir().unwrap();
    let (proxy, asked) = http(vec![said("200 OK", "content-length: 2\r\n", "hi"), said("403 Forbidden", "", "")]).await;
    let proxy = proxy.replace("http://", "http://me:secret@").replace("/a.zip", "");
    let through = |url: &str| SourceConfig { proxy: Some(Secret::new(proxy.clone())), ..source(url) };
    let mut incoming = Incoming::open(folder.path(), "site").unwrap();
    let fetched = pulled(&through("http://nowhere.invalid:81/a.zip"), &mut incoming).await.unwrap();
    assert!(matches!(fetched, Fetched::New { bytes: 2, .. }));
    let trouble = pulled(&through("https://nowhere.invalid/a.zip"), &mut incoming).await.unwrap_err();
    assert!(trouble.step == Step::Proxy && trouble.problem.contains("status 403"), "{trouble}");
    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("get http://nowhere.invalid:81/a.zip http/1.1\r\n"), "{}", asked[0]);
    assert!(asked[1].starts_with("connect nowhere.invalid:443 http/1.1\r\n"), "{}", asked[1]);
    assert!(asked.iter().all(|head| head.contains("proxy-authorization: basic bwu6c2vjcmv0")), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_file_of_a_stick_is_told_beside_it_and_tried_again_only_when_it_changes() {
    let (folder, stick) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let recorder = Arc::<Recorder>::default();
    let url = format!("file://{}", stick.path().display());
    let at_work = super::source::Source::new(source(&url), &PublishConfig::default(), folder.path(), &recorder.desk());
    let archive = stick.path().join("site-2.zip");
    std::fs::write(&archive, "bad").unwrap();
    std::fs::write(stick.path().join("site-1.zip"), "old").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", stick.path().join("site-9.zip")).unwrap();
    let fault = Diagnostic::error(Place::new(&"point.csv".into(), 14, 3), "value type \"flaot\" is not known");
    *recorder.refuse.lock().unwrap() =
        Some(Refused { reason: "check".to_owned(), at: RefusedAt::Check, faults: vec![fault], passing: false });
    let trouble = super::source::attempt(&at_work).await.unwrap_err();
    assert!(trouble.step == Step::Check && trouble.problem.contains("point.csv:14:3"), "{trouble}");
    let note = stick.path().join("site-2.zip.error.txt");
    assert!(std::fs::read_to_string(&note).unwrap().contains("point.csv:14:3"));
    super::source::attempt(&at_work).await.unwrap();
    assert_eq!(recorder.arrived.lock().unwrap().len(), 1, "the same file is not handed over again");
    *recorder.refuse.lock().unwrap() = None;
    std::fs::write(&archive, "good now").unwrap();
    super::source::attempt(&at_work).await.unwrap();
    assert_eq!(recorder.arrived.lock().unwrap()[1].1, b"good now");
    assert!(!note.exists(), "what is mended is not complained of");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_left_within_a_minute() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for scheme in ["http", "ftp"] {
        let begun = tokio::time::Instant::now();
        let trouble =
            pulled(&source(&format!("{scheme}://{at}/a.zip")), &mut Incoming::open(folder.path(), scheme).unwrap())
                .await;
        assert!(trouble.unwrap_err().problem.contains("no answer within 30s"));
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

/// How a server of FTP misbehaves.
#[derive(Clone, Copy, Default)]
struct Quirks {
    rest_ignored: bool,
    no_rest: bool,
    no_size: bool,
    no_time: bool,
    ascii_only: bool,
    endless: bool,
    listing: &'static str,
}

const FILE: &[u8] = b"hello world";

/// PASV always names a third host.
async fn ftp(quirks: Quirks) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ftp://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((control, _)) = listener.accept().await {
            tokio::spawn(ftp_session(control, quirks));
        }
    });
    url
}

async fn ftp_session(control: TcpStream, quirks: Quirks) {
    let (reader, mut writer) = control.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut data: Option<TcpListener> = None;
    let mut from = 0;
    let mut answer = "220 here\r\n".to_owned();
    loop {
        if writer.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
        let Ok(Some(line)) = lines.next_line().await else { return };
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        answer = match word {
            "USER" => "331 password\r\n".to_owned(),
            "PASS" => "230 in\r\n".to_owned(),
            "TYPE" if quirks.ascii_only => "504 text only\r\n".to_owned(),
            "TYPE" => "200 binary\r\n".to_owned(),
            "SIZE" if quirks.no_size => "502 what\r\n".to_owned(),
            "MDTM" if quirks.no_time => "550 no times here\r\n".to_owned(),
            "REST" if quirks.no_rest => "502 what\r\n".to_owned(),
            "SIZE" if rest.ends_with("a.zip") => format!("213 {}\r\n", FILE.len()),
            "MDTM" if rest.ends_with("a.zip") => "213 20250101000000\r\n".to_owned(),
            "REST" => {
                from = if quirks.rest_ignored { 0 } else { rest.parse().unwrap() };
                "350 from there\r\n".to_owned()
            }
            "PASV" => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let port = listener.local_addr().unwrap().port();
                data = Some(listener);
                format!("227 Entering Passive Mode (192,0,2,1,{},{})\r\n", port >> 8, port & 255)
            }
            "RETR" | "NLST" if data.is_some() && !rest.ends_with(".sha256") => {
                writer.write_all(b"150 coming\r\n").await.unwrap();
                let (mut stream, _) = data.take().unwrap().accept().await.unwrap();
                let bytes = if word == "NLST" { quirks.listing.as_bytes() } else { &FILE[from..] };
                let mut alive = stream.write_all(bytes).await.is_ok();
                while quirks.endless && alive {
                    alive = stream.write_all(&[0; 4096]).await.is_ok();
                }
                drop(stream);
                from = 0;
                "226 done\r\n".to_owned()
            }
            _ => "502 what\r\n".to_owned(),
        };
    }
}

fn half_here(folder: &std::path::Path, url: &str) -> Incoming {
    let mut incoming = Incoming::open(folder, "site").unwrap();
    let modified = Some("2025-01-01 00:00:00".to_owned());
    let mark = Mark { address: format!("{url}a.zip#/a.zip"), etag: None, modified, size: Some(11) };
    drop(incoming.begin(mark).unwrap());
    std::fs::write(incoming.part(), "hello ").unwrap();
    incoming
}

#[tokio::test]
async fn ftp_resumes_over_its_own_host_whatever_address_the_server_names() {
    let folder = tempfile::tempdir().unwrap();
    let url = ftp(Quirks::default()).await;
    let mut incoming = half_here(folder.path(), &url);
    let fetched = pulled(&source(&format!("{url}a.zip")), &mut incoming).await.unwrap();
    assert!(matches!(fetched, Fetched::New { bytes: 11, unsure: true, .. }), "{fetched:?}");
    assert_eq!(std::fs::read(incoming.part()).unwrap(), FILE);
}

#[tokio::test]
async fn a_rest_that_is_ignored_never_makes_an_archive_of_two_beginnings() {
    let folder = tempfile::tempdir().unwrap();
    let url = ftp(Quirks { rest_ignored: true, ..Quirks::default() }).await;
    let mut incoming = half_here(folder.path(), &url);
    let source = source(&format!("{url}a.zip"));
    let trouble = pulled(&source, &mut incoming).await.unwrap_err();
    assert!(trouble.problem.contains("more than the file has"), "{trouble}");
    assert!(matches!(pulled(&source, &mut incoming).await.unwrap(), Fetched::New { bytes: 11, unsure: false, .. }));
}

#[tokio::test]
async fn a_server_without_rest_size_or_times_is_fetched_whole() {
    for quirks in [
        Quirks { no_rest: true, ..Quirks::default() },
        Quirks { no_time: true, ..Quirks::default() },
        Quirks { no_size: true, no_time: true, ..Quirks::default() },
    ] {
        let folder = tempfile::tempdir().unwrap();
        let url = ftp(quirks).await;
        let mut incoming = half_here(folder.path(), &url);
        let own = source(&format!("{url}a.zip"));
        if quirks.no_rest {
            let trouble = pulled(&own, &mut incoming).await.unwrap_err();
            assert!(trouble.problem.contains("does not know REST"), "{trouble}");
        }
        let fetched = pulled(&own, &mut incoming).await.unwrap();
        assert!(matches!(fetched, Fetched::New { bytes: 11, unsure: false, .. }), "{fetched:?}");
        assert_eq!(std::fs::read(incoming.part()).unwrap(), FILE);
    }
    let url = ftp(Quirks { ascii_only: true, ..Quirks::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let mut incoming = Incoming::open(folder.path(), "site").unwrap();
    let trouble = pulled(&source(&format!("{url}a.zip")), &mut incoming).await.unwrap_err();
    assert!(trouble.step == Step::Login && trouble.problem.contains("text only"), "{trouble}");
}

#[tokio::test]
async fn an_endless_file_and_a_listing_that_leads_out_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = ftp(Quirks { endless: true, ..Quirks::default() }).await;
    let mut incoming = Incoming::open(folder.path(), "site").unwrap();
    let trouble = pulled(&source(&format!("{url}a.zip")), &mut incoming).await.unwrap_err();
    assert!(trouble.problem.contains("more than the file has"), "{trouble}");
    let url = ftp(Quirks { listing: "../b.zip\r\n/etc/c.zip\r\n-d.zip\r\n", ..Quirks::default() }).await;
    let trouble = pulled(&source(&url), &mut incoming).await.unwrap_err();
    assert!(trouble.step == Step::List && trouble.problem.contains("no archive"), "{trouble}");
    let url = ftp(Quirks { listing: "../b.zip\r\na.zip\r\n", ..Quirks::default() }).await;
    assert!(matches!(pulled(&source(&url), &mut incoming).await.unwrap(), Fetched::New { .. }));
}

struct Pushed {
    at: std::net::SocketAddr,
    recorder: Arc<Recorder>,
    _folder: tempfile::TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
}

async fn push() -> Pushed {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Arc::<Recorder>::default();
    let config = PushConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        client_ca_file: None,
        token: Some(Secret::new("0123456789abcdef".to_owned())),
        max_bytes: 1000,
        stall: Duration::from_secs(30),
        deadline: Duration::from_secs(60),
    };
    let push = Push::open(config, folder.path(), recorder.desk()).await.unwrap();
    let at = push.status().snapshot()["listen"].as_str().unwrap().parse().unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    drop(push.serve(stopped));
    Pushed { at, recorder, _folder: folder, _stop: stop }
}

impl Pushed {
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A refusal before the body's end may reset the connection.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn put(&self, headers: &str, body: &str) -> String {
        let length = body.len();
        self.ask(&format!("PUT /package HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n{headers}\r\n{body}")).await
    }
}

const TOKEN: &str = "authorization: Bearer 0123456789abcdef\r\n";

#[tokio::test]
async fn a_pushed_archive_arrives_whole_and_its_faults_go_back() {
    let push = push().await;
    let answer = push.put(TOKEN, "hello world").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"taken\":true"), "{answer}");
    let (origin, bytes) = push.recorder.arrived.lock().unwrap().remove(0);
    assert_eq!((origin.source.as_str(), &*bytes), ("push", &b"hello world"[..]));
    let fault = Diagnostic::error(Place::new(&"point.csv".into(), 14, 3), "value type \"flaot\" is not known");
    let refused = Refused { reason: "check".to_owned(), at: RefusedAt::Check, faults: vec![fault], passing: false };
    *push.recorder.refuse.lock().unwrap() = Some(refused);
    let answer = push.put(TOKEN, "other").await;
    assert!(answer.starts_with("HTTP/1.1 422") && answer.contains("point.csv:14:3"), "{answer}");
    assert_eq!(push.recorder.states(), ["begun", "verified", "begun", "verified"]);
    let last = push.ask(&format!("GET /package HTTP/1.1\r\nhost: h\r\n{TOKEN}\r\n")).await;
    assert!(last.contains("\"state\":\"refused\""), "{last}");
}

#[tokio::test]
async fn strangers_oversize_and_wrong_digests_never_arrive() {
    let push = push().await;
    let large = "x".repeat(1001);
    for (answer, status) in [
        (push.put("", "x").await, "401"),
        (push.put("authorization: Bearer 0123456789abcdeX\r\n", "x").await, "401"),
        (push.put(TOKEN, &large).await, "413"),
        (push.put(&format!("{TOKEN}x-sha256: {}\r\n", "0".repeat(64)), "x").await, "400"),
        (push.put(&format!("{TOKEN}x-sha256: abc\r\n"), "x").await, "400"),
        (push.put(&format!("{TOKEN}content-encoding: gzip\r\n"), "x").await, "415"),
        (push.ask(&format!("DELETE /package HTTP/1.1\r\nhost: h\r\n{TOKEN}\r\n")).await, "405"),
        (push.ask(&format!("GET / HTTP/1.1\r\nhost: h\r\n{TOKEN}\r\n")).await, "404"),
    ] {
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    assert!(push.recorder.arrived.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_broken_upload_goes_on_with_what_is_missing_if_its_digest_was_told() {
    let push = push().await;
    let sha256 = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";
    let head = format!("PUT /package HTTP/1.1\r\nhost: h\r\ncontent-length: 11\r\n{TOKEN}x-sha256: {sha256}\r\n\r\n");
    let mut stream = TcpStream::connect(push.at).await.unwrap();
    stream.write_all(format!("{head}hello ").as_bytes()).await.unwrap();
    drop(stream);
    let asking = format!("GET /package HTTP/1.1\r\nhost: h\r\n{TOKEN}\r\n");
    let tries = AtomicUsize::new(0);
    while !push.ask(&asking).await.contains("\"bytes\":6") {
        assert!(tries.fetch_add(1, Ordering::Relaxed) < 1000, "what came is not kept");
        tokio::task::yield_now().await;
    }
    let rest = |range: &str, sha256: &str| format!("{TOKEN}x-sha256: {sha256}\r\ncontent-range: bytes {range}\r\n");
    for (range, told, status) in
        [("5-9/11", sha256, 416), ("6-10/11", &"0".repeat(64), 416), ("6-9/11", sha256, 400), ("6-10/999", sha256, 416)]
    {
        let mut answer = push.put(&rest(range, told), "world").await;
        // The broken one is put away first.
        while answer.starts_with("HTTP/1.1 409") && tries.fetch_add(1, Ordering::Relaxed) < 1000 {
            answer = push.put(&rest(range, told), "world").await;
        }
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{range}: {answer}");
    }
    let answer = push.put(&rest("6-8/11", sha256), "wor").await;
    assert!(answer.starts_with("HTTP/1.1 202") && answer.contains("\"held\":9"), "{answer}");
    let answer = push.put(&rest("9-10/11", sha256), "ld").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(push.recorder.arrived.lock().unwrap()[0].1, b"hello world");
    assert!(push.ask(&asking).await.contains("\"held\":null"));
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let push = push().await;
    let mut silent = Vec::new();
    for at in 0..100 {
        let mut stream = TcpStream::connect(push.at).await.unwrap();
        if at % 2 == 0 {
            stream.write_all(b"PUT /package HT").await.unwrap();
        }
        silent.push(stream);
    }
    let begun = std::time::Instant::now();
    assert!(push.put(TOKEN, "hello").await.starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn whoever_sends_too_much_hears_why() {
    let push = push().await;
    for headers in ["", TOKEN] {
        let answer = push.put(headers, &"x".repeat(1 << 20)).await;
        assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("reason"), "{answer}");
    }
}

#[tokio::test]
async fn a_second_upload_is_told_to_wait_and_a_broken_one_makes_room() {
    let push = push().await;
    let mut first = TcpStream::connect(push.at).await.unwrap();
    first
        .write_all(
            format!("PUT /package HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\nexpect: 100-continue\r\n{TOKEN}\r\n")
                .as_bytes(),
        )
        .await
        .unwrap();
    // The listener reads the body of the first when it asks for it.
    let mut asked = [0; 12];
    first.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100");
    assert!(push.put(TOKEN, "x").await.starts_with("HTTP/1.1 409"));
    drop(first);
    let tries = AtomicUsize::new(0);
    while !push.put(TOKEN, "x").await.starts_with("HTTP/1.1 200") {
        assert!(tries.fetch_add(1, Ordering::Relaxed) < 1000, "the place is never free again");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_and_a_slow_body_lose_their_place() {
    let push = push().await;
    for head in
        ["PUT /pack".to_owned(), format!("PUT /package HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n{TOKEN}\r\n")]
    {
        let begun = tokio::time::Instant::now();
        let answer = push.ask(&head).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(begun.elapsed() <= Duration::from_secs(60));
    }
    assert!(push.recorder.arrived.lock().unwrap().is_empty());
}
