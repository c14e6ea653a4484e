//! A stand-in for the EnOS Cloud: MQTT 3.1.1, its signs, its messages, its codes, and faults on demand.

mod activation;
mod codec;
mod commands;
mod compression;
mod connect;
mod connect_rules;
mod connection;
mod http;
mod integration;
mod knobs;
mod listener;
mod md5;
pub mod message;
mod model;
mod ota;
mod pace;
mod points;
mod properties;
mod register;
mod registry;
mod request;
pub mod sign;
mod sub_devices;
mod subscriptions;
mod tag;
mod tls;
pub mod topic;
mod world;

pub use commands::{Change, CommandError, CommandRecord, CommandReport, CommandState, Form, Order};
pub use http::{HttpBroker, HttpKnobs, HttpStats};
pub use knobs::{Activation, Delay, Knobs, MEGABYTE_PER_SECOND, OverLimit, RateLimit, Refusal};
pub use model::{Feature, Model, ModelPoint};
pub use ota::OtaState;
pub use registry::{Product, Registry, Triple};
pub use world::{Event, Report, Stats};

use crate::ledger::Ledger;
use bytes::Bytes;
use listener::{Door, Listener};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use world::{Outbound, World};

/// How to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// A second port with TLS, its certificate made at start.
    pub tls_address: Option<SocketAddr>,
    /// PEM of the authorities whose client certificates are taken on the TLS port. Without, none is asked for.
    pub client_ca: Option<String>,
    /// Messages kept for [`Cloud::journal`].
    pub journal: usize,
    /// User name and password of clients that only look.
    pub monitor: Option<(String, String)>,
}

impl Default for Options {
    fn default() -> Options {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Options { address: any, tls_address: None, client_ca: None, journal: 0, monitor: None }
    }
}

/// A running cloud. Dropping it closes everything.
pub struct Cloud {
    world: Arc<Mutex<World>>,
    plain: Listener,
    tls: Option<(Listener, String)>,
    deadlines: tokio::task::JoinHandle<()>,
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.deadlines.abort();
    }
}

impl Cloud {
    /// Starts the cloud with what it knows.
    ///
    /// # Errors
    /// When a port is taken or the certificate cannot be made.
    pub async fn start(options: Options, registry: Registry) -> anyhow::Result<Cloud> {
        let world = Arc::new(Mutex::new(World::new(registry, options.journal, options.monitor)));
        let plain = Listener::bind(options.address, None, Arc::clone(&world)).await?;
        let tls = match options.tls_address {
            Some(address) => {
                let made = tls::make(options.client_ca.as_deref(), &world)?;
                Some((Listener::bind(address, Some(made.acceptor), Arc::clone(&world)).await?, made.ca_pem))
            }
            None => None,
        };
        let deadlines = tokio::spawn(commands::watch_deadlines(Arc::downgrade(&world)));
        Ok(Cloud { world, plain, tls, deadlines })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.plain.address
    }

    /// The TLS port and the PEM of the authority that vouches for it.
    #[must_use]
    pub fn tls(&self) -> Option<(SocketAddr, &str)> {
        self.tls.as_ref().map(|(listener, pem)| (listener.address, pem.as_str()))
    }

    /// Closes the ports and every connection.
    pub async fn down(&self) {
        self.set_doors(Door::Shut).await;
    }

    /// Opens the same ports again.
    pub async fn up(&self) {
        self.set_doors(Door::Open).await;
    }

    async fn set_doors(&self, door: Door) {
        self.plain.set(door).await;
        if let Some((tls, _)) = &self.tls {
            tls.set(door).await;
        }
    }

    /// Closes every connection; the ports stay open.
    pub fn drop_connections(&self) {
        for link in self.lock().links.values() {
            link.kick.notify_one();
        }
    }

    /// Forgets all logins of sub-devices; connections stay.
    pub fn forget_logins(&self) {
        self.lock().forget_logins();
    }

    /// Turns faults on and off.
    pub fn knobs<T>(&self, turn: impl FnOnce(&mut Knobs) -> T) -> T {
        let mut world = self.lock();
        let held = world.knobs.withhold_pubacks;
        let result = turn(&mut world.knobs);
        if held && !world.knobs.withhold_pubacks {
            for link in world.links.values() {
                // A full queue keeps its PUBACKs held; the client will send again.
                let _ = link.outbound.try_send(Outbound::ReleasePubacks);
            }
        }
        result
    }

    /// Looks into the ledger.
    pub fn ledger<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(&mut self.lock().ledger)
    }

    /// Changes what the cloud knows of its assets.
    pub fn registry<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        let mut world = self.lock();
        let result = change(&mut world.registry);
        world.open_books();
        result
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.lock().stats
    }

    /// Whether a device is connected, or logged in through its gateway.
    #[must_use]
    pub fn is_online(&self, product_key: &str, device_key: &str) -> bool {
        let world = self.lock();
        world.registry.find(product_key, device_key).and_then(|device| world.link_of(device)).is_some()
    }

    /// Sub-devices that are logged in.
    #[must_use]
    pub fn sub_devices_online(&self) -> usize {
        self.lock().online.len()
    }

    /// The last messages of all clients: topic and payload.
    #[must_use]
    pub fn journal(&self) -> Vec<(String, Bytes)> {
        self.lock().journal_entries()
    }

    /// The events devices posted, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.iter().cloned().collect()
    }

    /// Logs, network states and connection states devices posted, oldest first.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.lock().reports.iter().cloned().collect()
    }

    /// Offers an upgrade to a device that asks for one (`ota/device/getversion`).
    ///
    /// # Errors
    /// When the device is not known.
    pub fn offer_upgrade(
        &self,
        product_key: &str,
        device_key: &str,
        upgrade: serde_json::Value,
    ) -> Result<(), CommandError> {
        let mut world = self.lock();
        let device = world.registry.find(product_key, device_key).ok_or(CommandError::Unknown)?;
        world.registry.devices[device as usize].ota.offered.push(upgrade);
        Ok(())
    }

    /// Serial number, in hex, of the certificate a connected device showed.
    #[must_use]
    pub fn certificate_of(&self, product_key: &str, device_key: &str) -> Option<String> {
        let world = self.lock();
        let link = world.device_links.get(&world.registry.find(product_key, device_key)?)?;
        world.links.get(link)?.certificate.clone()
    }

    /// Whether a device answered the message that brought its secret.
    #[must_use]
    pub fn is_activated(&self, product_key: &str, device_key: &str) -> bool {
        let world = self.lock();
        world.registry.find(product_key, device_key).is_some_and(|device| world.registry.get(device).activated)
    }

    /// What the cloud knows of a device's upgrades.
    #[must_use]
    pub fn ota(&self, product_key: &str, device_key: &str) -> Option<OtaState> {
        let world = self.lock();
        world.registry.find(product_key, device_key).map(|device| world.registry.get(device).ota.clone())
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("the cloud's lock is not poisoned")
    }
}
