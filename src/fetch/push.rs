//! Packages that are pushed: an own HTTPS listener, mutual TLS or a bearer token, one upload at a time. Off until
//! configured.
//!
//! `PUT /package` takes an archive, or the rest of one (`Content-Range`), `GET /package` tells what became of the last one
//! and what is half here.

use super::desk::{self, Desk};
use super::digest;
use super::guests::Guests;
use super::incoming::{FOLDER, Incoming, Writer};
use super::journal::{Step, Trouble};
use super::pace::{self, Pace};
use super::tls;
use super::upload::{self, Told};
use crate::config::PushConfig;
use crate::model::{Origin, Publish, Stage, Timestamp};
use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Body;
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ring::digest::{SHA256, digest as hash};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value as Json, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

/// For the handshake, and for the head of a request: a slow head holds a place no longer.
const HEAD: Duration = Duration::from_secs(10);
/// Headers of a request.
const HEADERS: usize = 32;
const HEAD_BYTES: usize = 16 << 10;
/// What is read of a body that nobody wants.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 4 << 20;
/// Whoever sent the archive waits so long for what became of it, then asks with GET.
const PATIENCE: Duration = Duration::from_secs(20);

/// The listener, bound.
pub struct Push {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
}

struct Shared {
    config: PushConfig,
    folder: PathBuf,
    desk: Arc<Desk>,
    /// One upload at a time.
    upload: Arc<tokio::sync::Mutex<()>>,
    last: Mutex<Json>,
    guests: Guests,
}

/// What is shown of it.
#[derive(Clone)]
pub struct PushStatus(Arc<Shared>, SocketAddr);

impl PushStatus {
    #[must_use]
    pub fn snapshot(&self) -> Json {
        json!({ "listen": self.1.to_string(), "encrypted": self.0.config.tls.is_some(), "last": self.0.last() })
    }
}

impl Shared {
    fn last(&self) -> Json {
        // Every change is whole before the lock is given back.
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, last: Json) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }
}

impl Push {
    /// Reads the certificate and binds the address.
    ///
    /// # Errors
    /// In words for a person.
    pub async fn open(config: PushConfig, state_dir: &std::path::Path, desk: Arc<Desk>) -> anyhow::Result<Push> {
        let tls = config.tls.as_ref().map(|files| acceptor(files, &config)).transpose()?;
        anyhow::ensure!(
            tls.is_some() || config.listen.ip().is_loopback(),
            "listen without encryption beyond this machine"
        );
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("listen at {}", config.listen))?;
        let upload = Arc::default();
        let (folder, last) = (state_dir.join(FOLDER), Mutex::new(Json::Null));
        upload::tidy(&folder);
        let shared = Shared { config, folder, desk, upload, last, guests: Guests::default() };
        Ok(Push { listener, tls, shared: Arc::new(shared) })
    }

    #[must_use]
    pub fn status(&self) -> PushStatus {
        let bound = self.listener.local_addr().unwrap_or(self.shared.config.listen);
        PushStatus(Arc::clone(&self.shared), bound)
    }

    /// Serves until `stopped`.
    #[must_use]
    pub fn serve(self, mut stopped: watch::Receiver<bool>) -> JoinHandle<()> {
        tokio::spawn(async move {
            tokio::select! {
                _ = stopped.wait_for(|stopped| *stopped) => {}
                () = self.accept() => {}
            }
        })
    }

    async fn accept(self) {
        // Dropped with this future: whoever is connected is cut off at the end.
        let mut guests = tokio::task::JoinSet::new();
        loop {
            while guests.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, from)) => {
                    let (tls, shared) = (self.tls.clone(), Arc::clone(&self.shared));
                    let number = self.shared.guests.number();
                    let task = guests.spawn(async move {
                        guest(stream, from, tls, &shared, number).await;
                        shared.guests.leave(number);
                    });
                    self.shared.guests.enter(number, task);
                }
                Err(error) => {
                    tracing::warn!(%error, "the listener for packages can not accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

fn acceptor((certificate, key): &(PathBuf, PathBuf), config: &PushConfig) -> anyhow::Result<TlsAcceptor> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("read certificate {}", certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("read key {}", key.display()))?;
    let builder = ServerConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions()?;
    let builder = match &config.client_ca_file {
        Some(file) => {
            let roots = tls::roots(file)?;
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), tls::provider()).build()?,
            )
        }
        None => builder.with_no_client_auth(),
    };
    let server = builder.with_single_cert(chain, key).context("use certificate and key of push")?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

async fn guest(stream: TcpStream, from: SocketAddr, tls: Option<TlsAcceptor>, shared: &Arc<Shared>, number: u64) {
    let Some(tls) = tls else { return serve(stream, from, shared, number).await };
    match timeout(HEAD, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve(stream, from, shared, number).await,
        Ok(Err(error)) => tracing::warn!(%from, %error, "tls with whoever pushes a package failed"),
        Err(_) => tracing::debug!(%from, "no handshake in time"),
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    from: SocketAddr,
    shared: &Arc<Shared>,
    number: u64,
) {
    let deadline = shared.config.deadline + HEAD + PATIENCE;
    let service = service_fn(move |request| {
        let shared = Arc::clone(shared);
        async move { Ok::<_, Infallible>(*answer(request, from, shared, number).await) }
    });
    let mut builder = http1::Builder::new();
    // One request a connection: a place is held no longer than it is used.
    builder
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    match timeout(deadline, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%from, %error, "whoever pushes a package hung up"),
        Err(_) => tracing::debug!(%from, "whoever pushes a package did not end"),
    }
}

async fn answer(mut request: Request<Body>, from: SocketAddr, shared: Arc<Shared>, number: u64) -> Said {
    let said = answered(&mut request, from, &shared, number).await;
    if said.status().is_client_error() {
        linger(&mut request).await;
    }
    said
}

/// A connection that is closed over unread bytes is reset, and the answer goes with them: some of what still comes is
/// read. Whoever waits to be told that it may send is not told so.
async fn linger(request: &mut Request<Body>) {
    if request.headers().contains_key("expect") {
        return;
    }
    let drain = async {
        let mut left = LINGER_BYTES;
        while left > 0 {
            let Some(Ok(frame)) = request.body_mut().frame().await else { return };
            left = left.saturating_sub(frame.data_ref().map_or(1, |data| data.len().max(1)));
        }
    };
    // Best effort: whoever sends more, or slowly, may lose the answer.
    let _ = timeout(LINGER, drain).await;
}

async fn answered(request: &mut Request<Body>, from: SocketAddr, shared: &Arc<Shared>, number: u64) -> Said {
    if !may(request.headers(), &shared.config) {
        tracing::warn!(%from, "a package was pushed without the right token");
        let mut response = said(StatusCode::UNAUTHORIZED, "the bearer token is not the right one");
        response.headers_mut().insert("www-authenticate", hyper::header::HeaderValue::from_static("Bearer"));
        return response;
    }
    let Some(_place) = shared.guests.admit(number) else {
        return said(StatusCode::SERVICE_UNAVAILABLE, "too many ask at once; ask again in a while");
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/package") => {
            response(StatusCode::OK, &json!({ "last": shared.last(), "held": upload::held(&shared.folder) }))
        }
        (&Method::PUT, "/package") => match put(request, from, shared).await {
            Ok(response) | Err(response) => response,
        },
        (_, "/package") => {
            let mut response = said(StatusCode::METHOD_NOT_ALLOWED, "PUT or GET");
            response.headers_mut().insert("allow", hyper::header::HeaderValue::from_static("GET, PUT"));
            response
        }
        _ => said(StatusCode::NOT_FOUND, "there is /package only"),
    }
}

/// Of equal length whatever was sent, so the time tells nothing.
fn may(headers: &HeaderMap, config: &PushConfig) -> bool {
    let Some(token) = &config.token else { return config.client_ca_file.is_some() };
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|text| text.split_once(' ')).filter(|(word, _)| word.eq_ignore_ascii_case("bearer"));
    let (wanted, shown) = (
        hash(&SHA256, token.reveal().as_bytes()),
        hash(&SHA256, shown.map_or("", |(_, token)| token.trim()).as_bytes()),
    );
    let differing =
        wanted.as_ref().iter().zip(shown.as_ref()).fold(0, |differing, (one, other)| differing | (one ^ other));
    std::hint::black_box(differing) == 0
}

/// Boxed: most ways out of an upload are refusals, and each is as large as a response.
type Said = Box<Response<Full<Bytes>>>;

async fn put(request: &mut Request<Body>, from: SocketAddr, shared: &Arc<Shared>) -> Result<Said, Said> {
    let Ok(turn) = Arc::clone(&shared.upload).try_lock_owned() else {
        return Err(said(StatusCode::CONFLICT, "another package is being uploaded or applied; ask again in a while"));
    };
    let told = admitted(request.headers(), shared.config.max_bytes)?;
    let internal = |trouble: Trouble| said(StatusCode::INSUFFICIENT_STORAGE, &trouble.to_string());
    let mut incoming = Incoming::open(&shared.folder, upload::NAME).map_err(internal)?;
    incoming.copies = 2;
    let mut writer = begin(&mut incoming, &told)?;
    let received = receive(request.body_mut(), &mut writer, &shared.config).await;
    let written = writer.finish().await;
    let length = writer.length();
    if let Err(refusal) = received.and(written.map_err(internal)) {
        // With its digest told the rest may come later; what is larger than it may be never.
        if told.sha256.is_none() || refusal.status() == StatusCode::PAYLOAD_TOO_LARGE {
            incoming.forget_part();
        }
        return Err(refusal);
    }
    if told.ends_at().is_some_and(|end| end != length) {
        incoming.forget_part();
        return Err(said(StatusCode::BAD_REQUEST, "content-range tells another length than was sent"));
    }
    if told.total.is_some_and(|total| length < total) {
        return Ok(response(StatusCode::ACCEPTED, &json!({ "state": "part", "held": length, "total": told.total })));
    }
    let (sha256, bytes) = incoming.digest().await.map_err(internal)?;
    if let Some(told) = told.sha256.filter(|told| *told != sha256) {
        incoming.forget_part();
        return Err(said(StatusCode::BAD_REQUEST, &format!("SHA-256 is {sha256}, the request tells {told}")));
    }
    let publish = Publish::new(None, "push", Timestamp::now());
    shared.desk.tell(&publish, Stage::Begun, &format!("pushed from {}", from.ip()), &[("bytes", json!(bytes))]);
    let (source, address) = ("push".to_owned(), from.ip().to_string());
    let origin = Origin { source, address, sha256, bytes, publish, version: None };
    let about = json!({ "sha256": origin.sha256, "bytes": bytes, "from": origin.address });
    shared.set(merged(&about, json!({ "state": "applying" })));
    let mut applying = tokio::spawn(apply(Arc::clone(shared), incoming, origin, about, turn));
    // Whoever hangs up or waits too long does not stop it.
    match timeout(PATIENCE, &mut applying).await {
        Ok(Ok((status, told))) => Ok(response(status, &told)),
        Ok(Err(_)) => Err(said(StatusCode::INTERNAL_SERVER_ERROR, "the package was not applied")),
        Err(_) => Ok(response(StatusCode::ACCEPTED, &shared.last())),
    }
}

async fn apply(
    shared: Arc<Shared>,
    mut incoming: Incoming,
    origin: Origin,
    about: Json,
    turn: tokio::sync::OwnedMutexGuard<()>,
) -> (StatusCode, Json) {
    let outcome = shared.desk.hand_over(&incoming.part(), origin).await;
    incoming.forget_part();
    let (status, state) = match &outcome {
        Ok(_) => (StatusCode::OK, "taken"),
        Err(refused) if refused.passing => (StatusCode::SERVICE_UNAVAILABLE, "refused"),
        Err(_) => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
    };
    let told = merged(&merged(&about, json!({ "state": state })), desk::told(&outcome));
    shared.set(told.clone());
    drop(turn);
    (status, told)
}

/// Where the body goes: at the end of what is half here, or to a new file.
fn begin(incoming: &mut Incoming, told: &Told) -> Result<Writer, Said> {
    let internal = |trouble: Trouble| said(StatusCode::INSUFFICIENT_STORAGE, &trouble.to_string());
    if told.first == 0 {
        return incoming.begin(told.mark()).map_err(internal);
    }
    let same = incoming.memory.part.as_ref() == Some(&told.mark());
    let held = if same { incoming.held() } else { 0 };
    if held == told.first {
        return incoming.go_on().map_err(internal);
    }
    let words = format!("{held} bytes of this archive are here; send what follows them");
    let mut refusal = response(
        StatusCode::RANGE_NOT_SATISFIABLE,
        &json!({ "taken": false, "reason": words, "held": held, "total": told.total }),
    );
    if let Ok(value) = format!("bytes */{held}").parse() {
        refusal.headers_mut().insert("content-range", value);
    }
    Err(refusal)
}

/// What the head of the request tells.
fn admitted(headers: &HeaderMap, most: u64) -> Result<Told, Said> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("content-encoding").is_some_and(|encoding| encoding != "identity") {
        return Err(said(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the archive as it is, without content-encoding"));
    }
    let named = ["x-sha256", "digest", "repr-digest", "content-digest"].iter().any(|name| headers.contains_key(*name));
    let sha256 = digest::of_headers(text);
    if named && sha256.is_none() {
        return Err(said(StatusCode::BAD_REQUEST, "the digest can not be read: x-sha256 has 64 hex digits"));
    }
    let told = Told::read(sha256, text("content-length"), text("content-range"));
    let told = told.map_err(|why| said(StatusCode::BAD_REQUEST, why))?;
    if told.total.is_some_and(|total| total > most) {
        return Err(said(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("{most} bytes are allowed; max_mb of push sets the limit"),
        ));
    }
    Ok(told)
}

async fn receive(body: &mut Body, writer: &mut Writer, config: &PushConfig) -> Result<(), Said> {
    let deadline = pace::now() + config.deadline;
    let mut pace = Pace::new(pace::now(), config.stall);
    loop {
        match timeout_at(pace.until().min(deadline).into(), body.frame()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                pace.came(data.len());
                if writer.length() + data.len() as u64 > config.max_bytes {
                    let most = config.max_bytes;
                    return Err(said(
                        StatusCode::PAYLOAD_TOO_LARGE,
                        &format!("{most} bytes are allowed; max_mb of push sets the limit"),
                    ));
                }
                let written = writer.append(&data).await;
                written.map_err(|trouble| said(StatusCode::INSUFFICIENT_STORAGE, &trouble.to_string()))?;
            }
            Ok(Some(Err(error))) => return Err(said(StatusCode::BAD_REQUEST, &format!("the upload broke: {error}"))),
            Err(_) => {}
        }
        if !pace.judge(pace::now()) || pace::now() >= deadline {
            return Err(said(StatusCode::REQUEST_TIMEOUT, &format!("{}: too slow", Step::Transfer.word())));
        }
    }
}

fn merged(one: &Json, other: Json) -> Json {
    let mut fields = one.as_object().cloned().unwrap_or_default();
    fields.extend(other.as_object().cloned().unwrap_or_default());
    Json::Object(fields)
}

fn said(status: StatusCode, words: &str) -> Said {
    response(status, &json!({ "taken": false, "reason": words }))
}

fn response(status: StatusCode, told: &Json) -> Said {
    let mut response = Response::new(Full::new(Bytes::from(format!("{told}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    Box::new(response)
}
