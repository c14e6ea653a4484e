//! HTTP and TLS as attackers and worn-out servers speak them.

use super::{Fetched, Incoming, Step, http, pulled, said, source};
use crate::config::{Secret, SourceConfig, Trust};
use crate::fetch::source::attempt;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_redirect_to_a_third_host_brings_nobody_s_account_there() {
    let folder = tempfile::tempdir().unwrap();
    let (third, asked_third) = http(vec![said("200 OK", "content-length: 2\r\n", "hi")]).await;
    let third = third.replace("127.0.0.1", "localhost");
    let redirect = said("302 Found", &format!("location: {third}\r\n"), "");
    let (url, asked) = http(vec![redirect.clone(), redirect]).await;
    let account = (Some("me".to_owned()), Some(Secret::new("secret".to_owned())));
    let own = SourceConfig { user: account.0, password: account.1, ..source(&url) };
    let mut incoming = Incoming::open(folder.path(), "site").unwrap();
    let trouble = pulled(&own, &mut incoming).await.unwrap_err();
    assert!(trouble.step == Step::Ask && trouble.to_string().contains("localhost"), "{trouble}");
    assert!(asked_third.lock().unwrap().is_empty(), "the third host was asked");
    let named = SourceConfig { redirect_hosts: vec!["localhost".to_owned()], ..own };
    assert!(matches!(pulled(&named, &mut incoming).await.unwrap(), Fetched::New { bytes: 2, .. }));
    assert!(asked.lock().unwrap()[1].contains("authorization: basic"));
    assert!(!asked_third.lock().unwrap()[0].contains("authorization"), "{asked_third:?}");
}

#[tokio::test]
async fn lengths_that_lie_never_make_an_archive() {
    let etag = "etag: \"1\"\r\n";
    for (answer, word) in [
        (said("200 OK", &format!("{etag}content-length: 99\r\n"), "short"), "it broke after 5 bytes"),
        (said("200 OK", "content-length: 2\r\ncontent-length: 3\r\n", "abc"), "content-length"),
        (said("200 OK", "content-length: -1\r\n", "abc"), "content-length"),
        (said("200 OK", "content-length: 18446744073709551616\r\n", "abc"), "content-length"),
        (said("200 OK", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n"), "it broke after 5 bytes"),
        (said("200 OK", "transfer-encoding: chunked\r\n", "ffffffffffffffff\r\nhello"), "it broke"),
        (said("206 Partial Content", "content-range: bytes 3-4/5\r\n", "lo"), "206"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (url, _) = http(vec![answer]).await;
        let trouble = pulled(&source(&url), &mut Incoming::open(folder.path(), "site").unwrap()).await.unwrap_err();
        assert!(trouble.to_string().contains(word), "{word}: {trouble}");
    }
    // More than it says is not taken for the archive.
    let folder = tempfile::tempdir().unwrap();
    let (url, _) = http(vec![said("200 OK", "content-length: 2\r\n", "hi there")]).await;
    let fetched = pulled(&source(&url), &mut Incoming::open(folder.path(), "site").unwrap()).await.unwrap();
    assert!(matches!(fetched, Fetched::New { bytes: 2, .. }));
}

#[tokio::test]
async fn an_answer_tells_its_remedy_and_when_to_come_again() {
    for (status, headers, word, after) in [
        ("401 Unauthorized", "", "user and password", None),
        ("403 Forbidden", "", "client certificate", None),
        ("404 Not Found", "", "path in url", None),
        ("429 Too Many Requests", "retry-after: 120\r\n", "busy", Some(120)),
        ("503 Service Unavailable", "retry-after: 7200\r\n", "busy", Some(7200)),
        ("500 Oops", "", "500", None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (url, _) = http(vec![said(status, headers, "")]).await;
        let trouble = pulled(&source(&url), &mut Incoming::open(folder.path(), "site").unwrap()).await.unwrap_err();
        assert!(trouble.step == Step::Ask && trouble.to_string().contains(word), "{status}: {trouble}");
        assert_eq!(trouble.retry_after, after.map(Duration::from_secs), "{status}");
    }
}

/// A byte a second after `head`, for ever.
async fn dripping(head: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.zip", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
        }
    });
    url
}

#[tokio::test(start_paused = true)]
async fn a_byte_a_second_is_left_in_the_head_and_in_the_body() {
    for (head, word) in [
        ("HTTP/1.1 200 OK\r\nx: ", "no answer within 30s"),
        ("HTTP/1.1 200 OK\r\n\r\n", "less than 100 bytes a second"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let begun = tokio::time::Instant::now();
        let url = dripping(head).await;
        let trouble = pulled(&source(&url), &mut Incoming::open(folder.path(), "site").unwrap()).await.unwrap_err();
        assert!(trouble.problem.contains(word), "{trouble}");
        assert!(begun.elapsed() <= Duration::from_secs(61), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_transfer_that_is_cut_fifty_times_ends_with_the_right_bytes() {
    let content: Arc<Vec<u8>> = Arc::new((0..600_000_u32).flat_map(|at| at.to_le_bytes()).collect());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.zip", listener.local_addr().unwrap());
    let sent = Arc::clone(&content);
    tokio::spawn(async move {
        let mut rng = fastrand::Rng::with_seed(7);
        for connection in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            let from = head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
            let (first, total) = (from.unwrap_or(0_usize), sent.len());
            let status = if first > 0 { "206 Partial Content" } else { "200 OK" };
            let answer = format!(
                "HTTP/1.1 {status}\r\netag: \"1\"\r\ncontent-length: {}\r\ncontent-range: bytes {first}-{}/{total}\r\n\r\n",
                total - first,
                total - 1
            );
            let last = if connection < 50 { (first + rng.usize(1..total / 60)).min(total) } else { total };
            // Sometimes not even the head comes whole.
            let bytes = [answer.as_bytes(), &sent[first..last]].concat();
            let cut = if connection < 50 && connection % 10 == 9 { answer.len() / 2 } else { bytes.len() };
            let _ = stream.write_all(&bytes[..cut]).await;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let own = SourceConfig { max_bytes: 1 << 30, ..source(&url) };
    let (mut cuts, mut held) = (0, 0);
    loop {
        // As after a restart.
        let mut incoming = Incoming::open(folder.path(), "site").unwrap();
        assert!(incoming.held() >= held, "what was here is lost");
        held = incoming.held();
        match pulled(&own, &mut incoming).await {
            Ok(Fetched::New { bytes, unsure, .. }) => {
                assert!(bytes == content.len() as u64 && unsure);
                assert!(std::fs::read(incoming.part()).unwrap() == *content, "other bytes");
                break;
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => cuts += 1,
        }
    }
    assert_eq!(cuts, 50);
}

/// What a server shows in TLS.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// What would have to be trusted for it.
    ca: String,
}

/// By an authority of its own, or by itself.
fn shown(name: &str, until: i32, own_authority: bool) -> Shown {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let (certificate, ca) = if own_authority {
        let mut above = CertificateParams::new(Vec::new()).unwrap();
        above.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let above_key = KeyPair::generate().unwrap();
        let ca = above.self_signed(&above_key).unwrap().pem();
        (params.signed_by(&key, &Issuer::new(above, above_key)).unwrap(), ca)
    } else {
        let own = params.self_signed(&key).unwrap();
        let pem = own.pem();
        (own, pem)
    };
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    Shown { chain: vec![certificate.der().clone()], key, ca }
}

async fn https(shown: &Shown) -> String {
    let config = rustls::ServerConfig::builder_with_provider(crate::fetch::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.chain.clone(), shown.key.clone_key())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/a.zip", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let _ = stream.write_all(&said("200 OK", "content-length: 2\r\n", "hi")).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

fn pin(shown: &Shown) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, &shown.chain[0]).as_ref().try_into().unwrap()
}

#[tokio::test]
async fn only_the_right_certificate_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let trust = |shown: &Shown| {
        let file = folder.path().join(format!("{}.pem", fastrand::u64(..)));
        std::fs::write(&file, &shown.ca).unwrap();
        Trust { ca_file: Some(file), ..Trust::default() }
    };
    let (good, other) = (shown("127.0.0.1", 2090, true), shown("127.0.0.1", 2090, true));
    let (wrong_name, expired) = (shown("files.example.com", 2090, true), shown("127.0.0.1", 2020, true));
    let alone = shown("127.0.0.1", 2090, false);
    let pinned = |shown: &Shown| Trust { pin: Some(pin(shown)), ..Trust::default() };
    for (what, server, trust, fault) in [
        ("good", &good, trust(&good), None),
        ("another authority", &good, trust(&other), Some("certificate")),
        ("another name", &wrong_name, trust(&wrong_name), Some("127.0.0.1")),
        ("expired", &expired, trust(&expired), Some("xpired")),
        ("signed by itself", &alone, trust(&good), Some("certificate")),
        ("pinned, whatever name and authority", &wrong_name, pinned(&wrong_name), None),
        ("pinned, signed by itself", &alone, pinned(&alone), None),
        ("renewed since it was pinned", &good, pinned(&other), Some("not the pinned one")),
    ] {
        let url = https(server).await;
        let own = SourceConfig { trust, ..source(&url) };
        let fetched = pulled(&own, &mut Incoming::open(&folder.path().join(what), "site").unwrap()).await;
        match (fault, fetched) {
            (None, fetched) => assert!(matches!(fetched, Ok(Fetched::New { bytes: 2, .. })), "{what}: {fetched:?}"),
            (Some(word), Err(trouble)) => {
                assert!(trouble.step == Step::Tls && trouble.problem.contains(word), "{what}: {trouble}");
                assert!(!trouble.remedy.is_empty(), "{what}: {trouble}");
            }
            (Some(_), Ok(fetched)) => panic!("{what} was believed: {fetched:?}"),
        }
    }
}

#[tokio::test]
async fn a_proxy_that_dies_is_told_as_the_proxy() {
    for (answer, word) in [
        ("", "end of file"),
        ("HTTP/1.1 200", "end of file"),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "status 502"),
        ("HTTP/1.1 200 OK\r\n\r\n", "eof"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (proxy, _) = http(vec![answer.as_bytes().to_vec()]).await;
        let proxy = Some(Secret::new(proxy.replace("/a.zip", "")));
        let own = SourceConfig { proxy, ..source("https://nowhere.invalid/a.zip") };
        let trouble = pulled(&own, &mut Incoming::open(folder.path(), "site").unwrap()).await.unwrap_err();
        assert!(matches!(trouble.step, Step::Proxy | Step::Tls), "{answer}: {trouble}");
        assert!(trouble.problem.contains(word) && !trouble.to_string().contains("nowhere.invalid/a"), "{trouble}");
    }
}

#[tokio::test]
async fn what_the_cloud_wants_is_fetched_from_there_told_and_forgotten_only_when_it_came_to_its_end() {
    let (folder, recorder) = (tempfile::tempdir().unwrap(), Arc::<super::Recorder>::default());
    let (url, asked) = http(vec![
        said("503 Busy", "", ""),
        said("200 OK", "content-length: 11\r\n", "hello world"),
        said("200 OK", "content-length: 3\r\n", "old"),
    ])
    .await;
    let publish = crate::config::PublishConfig::default();
    let at_work = super::super::source::Source::new(source(&url), &publish, folder.path(), &recorder.desk());
    let wish = crate::fetch::Wish {
        publish: crate::model::Publish { id: "17".to_owned(), source: "site".to_owned() },
        url: Some(url.replace("a.zip", "b.zip")),
        sha256: Some("b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9".to_owned()),
        version: None,
        at: crate::model::Timestamp::now().0,
    };
    at_work.wish_for(wish);
    assert_eq!(attempt(&at_work).await.unwrap_err().step, Step::Ask);
    attempt(&at_work).await.unwrap();
    assert_eq!(recorder.states(), ["begun", "failed", "verified"]);
    assert_eq!(recorder.arrived.lock().unwrap()[0].0.publish.id, "17");
    // The usual look is at the usual address, and begins with nothing of the other one.
    attempt(&at_work).await.unwrap();
    let asked = asked.lock().unwrap();
    assert!(asked[1].starts_with("get /b.zip") && asked[2].starts_with("get /a.zip"), "{asked:?}");
    assert!(!asked[2].contains("if-none-match"), "{}", asked[2]);
    let incoming = Incoming::open(&folder.path().join("incoming"), "site").unwrap();
    assert_ne!(incoming.memory.taken_sha256, None);
}
