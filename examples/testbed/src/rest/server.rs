//! The HTTP port: takes requests whole, turns the knobs' faults into behaviour, answers.

use super::request::{Answer, Request, parse_query};
use super::{State, lock, routes};
use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

/// No request of this interface is larger.
const LARGEST: usize = 16 << 20;

pub(super) async fn start(
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    state: Arc<Mutex<State>>,
) -> anyhow::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let address = listener.local_addr().context("local address")?;
    Ok((address, tokio::spawn(accept(listener, acceptor, state))))
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    // Ends, and with it every connection, when the handle is dropped.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        connections.spawn(async move {
            match acceptor {
                None => serve(stream, state).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => serve(stream, state).await,
                    Err(error) => debug!(%error, "no TLS"),
                },
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    if let Err(error) = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    {
        debug!(%error, "connection ended");
    }
}

/// An error closes the connection without an answer.
async fn answer(
    incoming: hyper::Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> anyhow::Result<hyper::Response<Full<Bytes>>> {
    let request = whole(incoming).await?;
    let (delay, status) = {
        let mut state = lock(&state);
        state.remember(&request);
        anyhow::ensure!(!state.knobs.down, "down");
        (state.knobs.delay, state.knobs.status)
    };
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    let (status, body) = match status {
        Some(status) => (status, String::new()),
        None => {
            let answer = routes::answer(&mut lock(&state), &request);
            anyhow::ensure!(answer != Answer::nothing(), "no answer");
            (answer.status, answer.body.to_string())
        }
    };
    let response = hyper::Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::new(Bytes::from(body)))?)
}

async fn whole(incoming: hyper::Request<Incoming>) -> anyhow::Result<Request> {
    let (head, body) = incoming.into_parts();
    let body = Limited::new(body, LARGEST).collect().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    Ok(Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: parse_query(head.uri.query().unwrap_or_default()),
        headers: headers.collect(),
        body: body.to_bytes().to_vec(),
    })
}
