//! The HTTP port: takes requests whole, turns the knobs' faults into behaviour, answers.

use super::request::{Answer, Request, parse_query};
use super::{State, lock, routes};
use crate::web::{self, Answers};
use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// No request of this interface is larger.
const LARGEST: usize = 16 << 20;

pub(super) async fn start(
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    state: Arc<Mutex<State>>,
) -> anyhow::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    let address = listener.local_addr().context("local address")?;
    Ok((address, tokio::spawn(web::accept(listener, acceptor, state))))
}

impl Answers for Arc<Mutex<State>> {
    type Body = Full<Bytes>;

    async fn answer(self, incoming: hyper::Request<Incoming>) -> anyhow::Result<hyper::Response<Full<Bytes>>> {
        answer(incoming, self).await
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
