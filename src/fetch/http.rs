//! HTTP and HTTPS: one connection a request, each step told, redirects followed by our own rules.

use super::digest;
use super::http_rules::{self, Have, Head, REDIRECTS, Verdict};
use super::incoming::{Incoming, Mark, Writer};
use super::journal::{Chance, Journal, Step, Trouble};
use super::pace::{self, Pace};
use super::pull::{Found, Whole, missing_sidecar, sidecar_text};
use super::{reach, tls};
use crate::config::{Address, Checksum, Scheme, Secret, SourceConfig, Trust};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming as Body;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::Url;
use rustls::pki_types::ServerName;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A body that tells a digest has one line.
const SIDECAR_MOST: usize = 64 << 10;
/// The head of a proxy's answer.
const PROXY_HEAD: usize = 8 << 10;

/// An answer and what keeps its connection going.
struct Answer {
    response: Response<Body>,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Fetches the archive, or the rest of it, unless `look` wants to know only whether it could.
///
/// # Errors
/// The step that failed. What came is kept and the next attempt goes on there.
pub(super) async fn fetch(
    source: &SourceConfig,
    incoming: &mut Incoming,
    look: bool,
    journal: &mut Journal<'_>,
) -> Result<Found, Trouble> {
    // At most twice: the second time without what is half here.
    for _ in 0..2 {
        let address = source.known_as.clone().unwrap_or_else(|| source.address.to_string());
        let have = have(incoming, &address, source.vouched);
        let answer = ask(source, &source.address, &http_rules::ask(&have), journal).await?;
        let head = head(&answer.response);
        let verdict = http_rules::judge(&head, &have, source.max_bytes)?;
        journal.done(Step::Ask, asked(&head, &verdict, have.held));
        if look {
            return Ok(Found::Looked);
        }
        let told = told(answer.response.headers());
        let (size, resumed) = match verdict {
            Verdict::Unchanged => return Ok(Found::Unchanged),
            Verdict::Again => {
                incoming.forget_part();
                continue;
            }
            Verdict::Complete => (have.held, true),
            Verdict::Whole => {
                let mark = Mark { address, etag: head.etag, modified: head.modified, size: head.length };
                let writer = incoming.begin(mark)?;
                (receive(answer, writer, head.length, source, journal).await?, false)
            }
            Verdict::Rest { total } => {
                let writer = incoming.go_on()?;
                (receive(answer, writer, Some(total), source, journal).await?, true)
            }
        };
        let sha256 = match told {
            Some(told) => Some(told),
            None => sidecar(source, journal).await?,
        };
        return Ok(Found::Whole(Whole { size, sha256, resumed }));
    }
    Err(Trouble::new(Step::Ask, "the server sends parts of changing archives")
        .help("put the archive there under a new name, then rename it"))
}

fn have(incoming: &Incoming, address: &str, vouched: bool) -> Have {
    let mine = |mark: &&Mark| mark.address == address;
    let part = incoming.memory.part.as_ref().filter(mine).cloned();
    let held = if part.is_some() { incoming.held() } else { 0 };
    Have { held, part, taken: incoming.memory.taken.as_ref().filter(mine).cloned(), vouched }
}

fn asked(head: &Head, verdict: &Verdict, held: u64) -> String {
    let size = head.length.map_or_else(|| "an archive of unknown size".to_owned(), |length| format!("{length} bytes"));
    match verdict {
        Verdict::Unchanged => "unchanged since it was taken".to_owned(),
        Verdict::Whole => format!("the server sends {size}"),
        Verdict::Rest { total } => format!("goes on at {held} of {total} bytes"),
        Verdict::Complete => "all bytes are here already".to_owned(),
        Verdict::Again => "the archive has changed; what was here of the old one is dropped".to_owned(),
    }
}

/// Asks, and follows redirects.
async fn ask(
    source: &SourceConfig,
    address: &Address,
    more: &[(&'static str, String)],
    journal: &mut Journal<'_>,
) -> Result<Answer, Trouble> {
    let mut at = address.clone();
    for _ in 0..=REDIRECTS {
        let answer = ask_once(source, &at, more, journal).await?;
        if !matches!(answer.response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(answer);
        }
        let location = answer.response.headers().get("location").and_then(|value| value.to_str().ok());
        let to = http_rules::redirected(&at, location)?;
        http_rules::may_follow(&source.address, &to, &source.redirect_hosts)?;
        journal.done(Step::Ask, format!("redirected to {to}"));
        at = to;
    }
    Err(Trouble::new(Step::Ask, format!("more than {REDIRECTS} redirects"))
        .help("write the final address in url")
        .chance(Chance::Slim))
}

async fn ask_once(
    source: &SourceConfig,
    at: &Address,
    more: &[(&'static str, String)],
    journal: &mut Journal<'_>,
) -> Result<Answer, Trouble> {
    let stream = open(source, at, journal).await?;
    let request = request(source, at, more)?;
    let silent = || {
        Trouble::new(Step::Ask, format!("no answer within {:?}", source.stall))
            .help("the server is stuck; stall_s sets the limit")
    };
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            // What goes wrong is told by the request and the body.
            let _ = connection.await;
        });
        let response = sender.send_request(request).await;
        match response {
            Ok(response) => Ok(Answer { response, connection }),
            Err(error) => {
                connection.abort();
                Err(error)
            }
        }
    };
    let answer: Result<Answer, hyper::Error> = timeout(source.stall, exchange).await.map_err(|_| silent())?;
    answer.map_err(|error| {
        Trouble::new(Step::Ask, chain(&error)).help("is this a port of http? check port and scheme in url")
    })
}

fn request(
    source: &SourceConfig,
    at: &Address,
    more: &[(&'static str, String)],
) -> Result<Request<Empty<Bytes>>, Trouble> {
    let setup = |problem: String| Trouble::new(Step::Setup, problem);
    let through_proxy = source.proxy.is_some() && at.scheme == Scheme::Http;
    let target = if through_proxy { format!("http://{}{}", at.authority(), at.path) } else { at.path.clone() };
    let mut request = Request::get(target)
        .header("host", at.authority())
        .header("user-agent", crate::version::user_agent())
        .header("accept-encoding", "identity")
        .header("connection", "close");
    if is_own(source, at)
        && let Some(user) = &source.user
    {
        request = request.header("authorization", basic(user, source.password.as_ref())?);
    }
    if through_proxy && let Some(account) = source.proxy.as_ref().and_then(proxy_account) {
        request = request.header("proxy-authorization", account);
    }
    for (name, value) in more {
        request = request.header(*name, value);
    }
    request.body(Empty::new()).map_err(|error| setup(format!("make the request: {error}")))
}

/// An account and a client certificate are for the server that was configured, not for whom it points to.
fn is_own(source: &SourceConfig, at: &Address) -> bool {
    (&at.host, at.port, at.scheme) == (&source.address.host, source.address.port, source.address.scheme)
}

fn basic(user: &str, password: Option<&Secret>) -> Result<HeaderValue, Trouble> {
    let pair = Secret::new(format!("{user}:{}", password.map_or("", Secret::reveal)));
    let coded = digest::to_base64(pair.reveal().as_bytes());
    let mut value = HeaderValue::from_str(&format!("Basic {coded}"))
        .map_err(|error| Trouble::new(Step::Setup, error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// An open way to the server, encrypted if it is to be.
async fn open(source: &SourceConfig, at: &Address, journal: &mut Journal<'_>) -> Result<Box<dyn Stream>, Trouble> {
    let encrypted = at.scheme == Scheme::Https;
    source
        .places
        .allow_host(&at.host)
        .map_err(|problem| Trouble::new(Step::Setup, problem).chance(Chance::Forbidden))?;
    let stream = match &source.proxy {
        None => reach::connect_to(&at.host, at.port, source.connect_timeout, &source.places, journal).await?,
        Some(proxy) => through(proxy, source, at, encrypted, journal).await?,
    };
    if !encrypted {
        return Ok(Box::new(stream));
    }
    let own = is_own(source, at);
    let trust = Trust { client: source.trust.client.clone().filter(|_| own), ..source.trust.clone() };
    let config = tls::client(&trust)?;
    let name = ServerName::try_from(at.host.clone())
        .map_err(|_| Trouble::new(Step::Tls, "the host is no name that a certificate can bear"))?;
    let handshake = tokio_rustls::TlsConnector::from(config).connect(name, stream);
    let silent = || {
        Trouble::new(Step::Tls, format!("no answer within {:?}", source.connect_timeout))
            .help("this port may speak no tls")
    };
    let stream = timeout(source.connect_timeout, handshake)
        .await
        .map_err(|_| silent())?
        .map_err(|error| tls::trouble(&error))?;
    journal.done(Step::Tls, format!("{} proved who it is", at.host));
    Ok(Box::new(stream))
}

/// To the proxy; for an encrypted server also through it (RFC 9110 9.3.6).
async fn through(
    proxy: &Secret,
    source: &SourceConfig,
    at: &Address,
    encrypted: bool,
    journal: &mut Journal<'_>,
) -> Result<TcpStream, Trouble> {
    let trouble = |problem: String| {
        Trouble::new(Step::Proxy, problem).help("check proxy of the source, and what the proxy lets through")
    };
    let url = Url::parse(proxy.reveal()).map_err(|_| trouble("no address of a proxy".to_owned()))?;
    if url.scheme() != "http" {
        return Err(trouble("the proxy itself is spoken to without encryption: write http://".to_owned()));
    }
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let mut stream =
        reach::connect(host, url.port_or_known_default().unwrap_or(80), source.connect_timeout, journal).await?;
    if !encrypted {
        return Ok(stream);
    }
    let target =
        format!("{}:{}", if at.host.contains(':') { format!("[{}]", at.host) } else { at.host.clone() }, at.port);
    let account = proxy_account(proxy)
        .and_then(|value| value.to_str().map(|text| format!("Proxy-Authorization: {text}\r\n")).ok());
    let request =
        Secret::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{}\r\n", account.unwrap_or_default()));
    let exchange = async {
        stream.write_all(request.reveal().as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= PROXY_HEAD {
                return Err(io::Error::other("its answer is longer than any"));
            }
            head.push(stream.read_u8().await?);
        }
        Ok(head)
    };
    let head =
        timeout(source.stall, exchange).await.map_err(|_| trouble(format!("no answer within {:?}", source.stall)))?;
    let head = head.map_err(|error: io::Error| trouble(error.to_string()))?;
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let status = line.split(' ').nth(1).and_then(|word| word.parse::<u16>().ok()).unwrap_or(0);
    if !(200..300).contains(&status) {
        return Err(trouble(format!("it does not open the way to {target}: status {status}")));
    }
    journal.done(Step::Proxy, format!("the way to {target} is open"));
    Ok(stream)
}

fn proxy_account(proxy: &Secret) -> Option<HeaderValue> {
    let url = Url::parse(proxy.reveal()).ok()?;
    let password = Secret::new(url.password().unwrap_or_default().to_owned());
    (!url.username().is_empty()).then(|| basic(url.username(), Some(&password)).ok()).flatten()
}

fn head(response: &Response<Body>) -> Head {
    let text = |name: &str| {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        value.map(str::trim).filter(|text| text.len() <= 1024).map(str::to_owned)
    };
    Head {
        status: response.status().as_u16(),
        etag: text("etag"),
        modified: text("last-modified"),
        length: text("content-length").and_then(|text| text.parse().ok()),
        range: text("content-range"),
        encoding: text("content-encoding").map(|text| text.to_ascii_lowercase()),
        retry_after: http_rules::retry_after(text("retry-after").as_deref(), text("date").as_deref()),
    }
}

fn told(headers: &HeaderMap) -> Option<String> {
    digest::of_headers(|name| headers.get(name).and_then(|value| value.to_str().ok()))
}

/// Takes the body to its end; answers the length of the archive.
async fn receive(
    mut answer: Answer,
    mut writer: Writer,
    total: Option<u64>,
    source: &SourceConfig,
    journal: &mut Journal<'_>,
) -> Result<u64, Trouble> {
    let begun = pace::now();
    let first = writer.length();
    let taken = take_body(&mut answer, &mut writer, source).await;
    // What came is kept whatever happened.
    writer.finish().await?;
    taken?;
    let length = writer.length();
    if let Some(total) = total.filter(|total| *total != length) {
        return Err(Trouble::new(Step::Transfer, format!("it ended after {length} of {total} bytes")));
    }
    journal.done(Step::Transfer, format!("{} bytes in {:.1} s", length - first, begun.elapsed().as_secs_f32()));
    Ok(length)
}

async fn take_body(answer: &mut Answer, writer: &mut Writer, source: &SourceConfig) -> Result<(), Trouble> {
    let mut pace = Pace::new(pace::now(), source.stall);
    loop {
        match timeout_at(pace.until().into(), answer.response.body_mut().frame()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                pace.came(data.len());
                within(writer.length() + data.len() as u64, source.max_bytes)?;
                writer.append(&data).await?;
            }
            Ok(Some(Err(error))) => {
                let problem = format!("it broke after {} bytes: {}", writer.length(), chain(&error));
                return Err(
                    Trouble::new(Step::Transfer, problem).help("the next attempt goes on there if the server can")
                );
            }
            Err(_) => {}
        }
        paced(&mut pace, source)?;
    }
}

/// # Errors
/// When the archive is larger than it may be.
pub(super) fn within(length: u64, most: u64) -> Result<(), Trouble> {
    if length <= most {
        return Ok(());
    }
    Err(Trouble::new(Step::Transfer, format!("the archive is larger than {most} bytes"))
        .help("max_mb of the source sets the limit; of an update, the size that the cloud told")
        .chance(Chance::Slim))
}

/// # Errors
/// When too little came in the span that is over.
pub(super) fn paced(pace: &mut Pace, source: &SourceConfig) -> Result<(), Trouble> {
    if pace.judge(pace::now()) {
        return Ok(());
    }
    let problem = format!("less than 100 bytes a second for {:?}", source.stall);
    Err(Trouble::new(Step::Transfer, problem).help("the next attempt goes on there; stall_s sets the limit"))
}

/// `ADDRESS.sha256`, beside the archive.
async fn sidecar(source: &SourceConfig, journal: &mut Journal<'_>) -> Result<Option<String>, Trouble> {
    if source.checksum == Checksum::Ignore {
        return Ok(None);
    }
    let mut at = source.address.clone();
    let (path, query) = at.path.split_once('?').map_or((at.path.as_str(), None), |(path, query)| (path, Some(query)));
    at.path = query.map_or_else(|| format!("{path}.sha256"), |query| format!("{path}.sha256?{query}"));
    let beside = at.to_string();
    let missing = |why: String| missing_sidecar(source, &beside, &why);
    // Its steps are those of the archive, told once.
    let quiet = &|_: &_| ();
    let mut answer = match ask(source, &at, &[], &mut Journal::new(quiet)).await {
        Ok(answer) => answer,
        Err(trouble) => return missing(trouble.to_string()),
    };
    if answer.response.status().as_u16() != 200 {
        return missing(format!("http status {}", answer.response.status().as_u16()));
    }
    let read = timeout(source.stall, small_body(&mut answer)).await;
    let Some(text) = read.ok().flatten() else { return missing("it broke, or is longer than a digest".to_owned()) };
    sidecar_text(source, &beside, &text, journal)
}

async fn small_body(answer: &mut Answer) -> Option<String> {
    let mut text = Vec::new();
    while let Some(frame) = answer.response.body_mut().frame().await {
        text.extend_from_slice(&frame.ok()?.into_data().unwrap_or_default());
        if text.len() > SIDECAR_MOST {
            return None;
        }
    }
    String::from_utf8(text).ok()
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    words.dedup();
    words.join(": ")
}
