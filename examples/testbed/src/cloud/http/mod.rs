//! The cloud's HTTP broker, as far as devices fetch files there: a login with the device's secret, then files by their
//! `enos-connect://` or `enos-lark://` address, in parts if one likes, and faults on demand.

mod answer;
mod body;
mod desk;
mod server;

pub use desk::{HttpKnobs, HttpStats};

use super::Cloud;
use super::world::World;
use crate::rest::Authority;
use crate::web;
use anyhow::Context as _;
use bytes::Bytes;
use desk::Desk;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What its requests share.
struct State {
    world: Arc<Mutex<World>>,
    desk: Mutex<Desk>,
    /// Where links of `file/download/url` lead.
    base: String,
}

impl State {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().expect("the broker's lock is not poisoned")
    }
}

/// A running HTTP broker. Dropping it closes the port.
pub struct HttpBroker {
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl HttpBroker {
    /// Beside a cloud, whose devices may log in. With an authority it speaks TLS.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(address: SocketAddr, cloud: &Cloud, tls: Option<&Authority>) -> anyhow::Result<HttpBroker> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let address = listener.local_addr().context("local address")?;
        let acceptor = tls.map(Authority::acceptor).transpose()?;
        let base = format!("{}://{address}", if tls.is_some() { "https" } else { "http" });
        let state = Arc::new(State { world: Arc::clone(&cloud.world), desk: Mutex::default(), base });
        let task = tokio::spawn(web::accept(listener, acceptor, Arc::clone(&state)));
        Ok(HttpBroker { state, task })
    }

    /// For `update: http_broker` of edge.yaml.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.state.base
    }

    /// Keeps a file under an address like `enos-connect://a.zip`; another one under the same address takes its place.
    pub fn keep(&self, uri: &str, file: impl Into<Bytes>) {
        self.state.desk().keep(uri, file.into());
    }

    /// Turns faults on and off.
    pub fn knobs<T>(&self, turn: impl FnOnce(&mut HttpKnobs) -> T) -> T {
        turn(&mut self.state.desk().knobs)
    }

    /// Every session is over.
    pub fn expire(&self) {
        self.state.desk().expire();
    }

    #[must_use]
    pub fn stats(&self) -> HttpStats {
        self.state.desk().stats.clone()
    }
}

impl Drop for HttpBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}
