//! The REST side of the stand-in cloud: token, signatures, certificates of a small authority, readings of logic assets,
//! and faults on demand.
//!
//! A route is one line in `routes.rs`: method, path, what proves the caller, who answers.

mod account;
mod authority;
mod certificates;
mod integration;
mod knobs;
mod request;
mod routes;
mod server;

pub use authority::Authority;
pub use certificates::{Certificate, Standing};
pub use integration::{Arrivals, RestStats};
pub use knobs::{RestKnobs, Wrong};
pub(crate) use request::parse_query;
pub use request::{Answer, Request};

use account::Account;
use certificates::Certificates;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How to start.
#[derive(Debug, Clone)]
pub struct RestOptions {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    pub access_key: String,
    pub secret_key: String,
    pub org_id: String,
    /// With a certificate of the authority for `localhost` and `127.0.0.1`.
    pub tls: bool,
    /// Certificates live this long, whatever is asked for. `None`: the days of the request, 730 without.
    pub life: Option<Duration>,
    pub token_life: Duration,
}

impl Default for RestOptions {
    fn default() -> RestOptions {
        RestOptions {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            access_key: "testbed-access-key".into(),
            secret_key: "testbed-secret-key".into(),
            org_id: "o1".into(),
            tls: false,
            life: None,
            token_life: Duration::from_secs(7200),
        }
    }
}

/// What all requests share.
pub struct State {
    pub options: RestOptions,
    pub knobs: RestKnobs,
    account: Account,
    certificates: Certificates,
    arrivals: Arrivals,
    asked: Vec<String>,
}

/// Requests remembered for [`RestCloud::asked`].
const REMEMBERED: usize = 10_000;

/// A running REST side. Dropping it closes the port.
pub struct RestCloud {
    address: SocketAddr,
    tls: bool,
    authority: Arc<Authority>,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl RestCloud {
    /// # Errors
    /// When the port is taken or the authority can not be made.
    pub async fn start(options: RestOptions) -> anyhow::Result<RestCloud> {
        let authority = Arc::new(Authority::new("enos-edge testbed device CA")?);
        let tls = options.tls;
        let state = State {
            account: Account::default(),
            certificates: Certificates::new(Arc::clone(&authority)),
            knobs: RestKnobs::default(),
            arrivals: Arrivals::default(),
            asked: Vec::new(),
            options,
        };
        let acceptor = if tls { Some(authority.acceptor()?) } else { None };
        let address = state.options.address;
        let state = Arc::new(Mutex::new(state));
        let (address, task) = server::start(address, acceptor, Arc::clone(&state)).await?;
        Ok(RestCloud { address, tls, authority, state, task })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `rest: url` of edge.yaml.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// Who signs the certificates, and the server's own.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Turns faults on and off.
    pub fn knobs<T>(&self, turn: impl FnOnce(&mut RestKnobs) -> T) -> T {
        turn(&mut self.lock().knobs)
    }

    /// From now on certificates live this long.
    pub fn set_life(&self, life: Option<Duration>) {
        self.lock().options.life = life;
    }

    /// No token that was given out counts any more.
    pub fn expire_tokens(&self) {
        self.lock().account.forget();
    }

    /// Every certificate issued so far.
    #[must_use]
    pub fn certificates(&self) -> Vec<Certificate> {
        self.lock().certificates.all().to_vec()
    }

    /// What came of logic assets.
    pub fn arrivals<T>(&self, look: impl FnOnce(&mut Arrivals) -> T) -> T {
        look(&mut self.lock().arrivals)
    }

    /// Method, path and query of the requests so far, oldest first.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.lock().asked.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for RestCloud {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn remember(&mut self, request: &Request) {
        if self.asked.len() < REMEMBERED {
            self.asked.push(request.line());
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no request panics while it holds the state")
}
