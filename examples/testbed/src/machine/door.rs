//! The machine's front door: a TCP relay that can close, fall silent and slam.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub(super) struct Door {
    port: u16,
    paused: watch::Sender<bool>,
    /// Counts the slams; a connection ends when it changes.
    slams: watch::Sender<u64>,
    /// Held from the start, so that the first port is ours before the server is up.
    listener: Option<TcpListener>,
    keeper: Option<JoinHandle<()>>,
    accepted: Arc<AtomicU64>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close();
    }
}

impl Door {
    pub(super) async fn open(port: u16) -> io::Result<Door> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        Ok(Door {
            port,
            paused: watch::Sender::new(false),
            slams: watch::Sender::new(0),
            listener: Some(listener),
            keeper: None,
            accepted: Arc::default(),
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Connections ever accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Nobody listens and no connection lives.
    pub(super) fn close(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
            self.listener = None;
        }
        self.drop_connections();
    }

    /// Listens on the same port as before and relays to `inner`.
    pub(super) async fn reopen(&mut self, inner: u16) -> io::Result<()> {
        let listener = match self.listener.take() {
            Some(listener) => listener,
            // The aborted keeper gives its listener back when it is next scheduled.
            None => bind_again(self.port).await?,
        };
        let relay = Relay { inner, paused: self.paused.subscribe(), slams: self.slams.subscribe() };
        self.keeper = Some(tokio::spawn(keep(listener, relay, Arc::clone(&self.accepted))));
        Ok(())
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    pub(super) fn drop_connections(&self) {
        self.slams.send_modify(|n| *n += 1);
    }
}

async fn bind_again(port: u16) -> io::Result<TcpListener> {
    let mut last = None;
    for _ in 0..1000 {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return Ok(listener),
            Err(e) => last = Some(e),
        }
        tokio::task::yield_now().await;
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

#[derive(Clone)]
struct Relay {
    inner: u16,
    paused: watch::Receiver<bool>,
    slams: watch::Receiver<u64>,
}

async fn keep(listener: TcpListener, relay: Relay, count: Arc<AtomicU64>) {
    // Ends with its connections when the keeper is aborted.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((outside, _)) = accepted {
                    count.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connection(outside, relay.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(outside: TcpStream, mut relay: Relay) {
    relay.slams.mark_unchanged();
    let Ok(inside) = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.inner)).await else { return };
    let _ = (outside.set_nodelay(true), inside.set_nodelay(true));
    let (outside_read, outside_write) = outside.into_split();
    let (inside_read, inside_write) = inside.into_split();
    tokio::select! {
        () = pipe(outside_read, inside_write, relay.paused.clone()) => {}
        () = pipe(inside_read, outside_write, relay.paused.clone()) => {}
        _ = relay.slams.changed() => {}
    }
}

async fn pipe(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut paused: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        if paused.wait_for(|p| !p).await.is_err() {
            return;
        }
        let count = tokio::select! {
            count = from.read(&mut buffer) => count.unwrap_or(0),
            _ = paused.changed() => continue,
        };
        // What was under way when the pause came stays under way.
        if count == 0 || paused.wait_for(|p| !p).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
