//! A port that can be down and come back under the same number.

use super::connection;
use super::tls;
use super::world::World;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// Whether the port takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    Shut,
}

/// One port with its task.
pub(super) struct Listener {
    pub address: SocketAddr,
    wanted: watch::Sender<Door>,
    actual: watch::Receiver<Door>,
}

impl Listener {
    pub async fn bind(
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
        world: Arc<Mutex<World>>,
    ) -> anyhow::Result<Listener> {
        let socket = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        let address = socket.local_addr().context("local address")?;
        let (wanted, wanted_seen) = watch::channel(Door::Open);
        let (actual_set, actual) = watch::channel(Door::Open);
        let port = Port { address, tls, world, wanted: wanted_seen, actual: actual_set };
        tokio::spawn(port.run(socket));
        Ok(Listener { address, wanted, actual })
    }

    /// Opens or shuts the door and waits until that is so.
    pub async fn set(&self, door: Door) {
        self.wanted.send_replace(door);
        // An error means that the task is gone, and with it the port.
        let _ = self.actual.clone().wait_for(|actual| *actual == door).await;
    }
}

struct Port {
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    world: Arc<Mutex<World>>,
    wanted: watch::Receiver<Door>,
    actual: watch::Sender<Door>,
}

impl Port {
    /// Ends when the cloud's handle is dropped; its connections end with it.
    async fn run(mut self, first: TcpListener) {
        let mut socket = Some(first);
        loop {
            let listening = match socket.take() {
                Some(listening) => listening,
                None => self.bind_again().await,
            };
            self.actual.send_replace(Door::Open);
            let mut connections = JoinSet::new();
            let shut = self.accept_until_shut(&listening, &mut connections).await;
            drop(listening);
            connections.shutdown().await;
            self.actual.send_replace(Door::Shut);
            if shut.is_err() || self.wanted.wait_for(|door| *door == Door::Open).await.is_err() {
                return;
            }
        }
    }

    async fn bind_again(&self) -> TcpListener {
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listening) => return listening,
                Err(error) => warn!(address = %self.address, %error, "port is not free yet"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn accept_until_shut(
        &mut self,
        listening: &TcpListener,
        connections: &mut JoinSet<()>,
    ) -> Result<(), watch::error::RecvError> {
        loop {
            tokio::select! {
                changed = self.wanted.changed() => {
                    changed?;
                    if *self.wanted.borrow_and_update() == Door::Shut {
                        return Ok(());
                    }
                }
                accepted = listening.accept() => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(serve(stream, peer, self.tls.clone(), Arc::clone(&self.world)));
                    }
                    Err(error) => {
                        // Out of file descriptors, mostly: waiting lets some go.
                        warn!(%error, "accept failed");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// A client must finish the TLS handshake within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

async fn serve(stream: TcpStream, peer: SocketAddr, tls: Option<TlsAcceptor>, world: Arc<Mutex<World>>) {
    // Replies are small and waited for; delayed by Nagle they would cost the peer 40 ms each.
    let _ = stream.set_nodelay(true);
    let served = match tls {
        None => connection::serve(stream, world, None).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificate = tls::serial_of(stream.get_ref().1.peer_certificates());
                connection::serve(stream, world, certificate).await
            }
            Ok(Err(error)) => Err(error.into()),
            Err(late) => Err(late.into()),
        },
    };
    if let Err(error) = served {
        debug!(%peer, error = format!("{error:#}"), "connection ended");
    }
}
