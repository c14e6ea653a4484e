//! Starts and steers the stand-in devices.

use super::connection::serve;
use super::faults::Faults;
use super::journal::{Given, Written};
use super::pty::Pty;
use super::registers::{Area, Pattern, Registers};
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// How requests are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Tcp,
    Rtu,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) units: RangeInclusive<u8>,
    pub(super) registers: Registers,
    pub(super) served: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) on_a_line: bool,
    connections: AtomicU64,
    faults: RwLock<Box<[Option<Arc<Faults>>; 256]>>,
}

impl Shared {
    pub(super) fn faults(&self, unit: u8) -> Option<Arc<Faults>> {
        self.faults.read().unwrap_or_else(PoisonError::into_inner)[usize::from(unit)].clone()
    }
}

/// Stand-in devices behind one address. Dropping the handle stops them.
pub struct Meters {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    path: Option<PathBuf>,
    wire: Wire,
    task: Mutex<JoinHandle<()>>,
}

impl Meters {
    /// Modbus TCP or RTU over TCP on `address`; port 0 takes a free one.
    pub async fn listen(wire: Wire, address: &str, units: RangeInclusive<u8>, pattern: Pattern) -> io::Result<Meters> {
        let shared = shared(units, pattern, false);
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = Mutex::new(tokio::spawn(accept(listener, wire, Arc::clone(&shared))));
        Ok(Meters { shared, address: Some(address), path: None, wire, task })
    }

    /// Modbus TCP on a free port of this machine, units 1 to 247.
    pub async fn tcp() -> io::Result<Meters> {
        Meters::listen(Wire::Tcp, "127.0.0.1:0", 1..=247, Pattern::Address).await
    }

    /// RTU over TCP on a free port of this machine, units 1 to 247.
    pub async fn rtu_over_tcp() -> io::Result<Meters> {
        Meters::listen(Wire::Rtu, "127.0.0.1:0", 1..=247, Pattern::Address).await
    }

    /// RTU on a pseudo-terminal, see [`Meters::path`].
    pub fn serial(units: RangeInclusive<u8>, pattern: Pattern) -> io::Result<Meters> {
        let shared = shared(units, pattern, true);
        let pty = Pty::open()?;
        let path = pty.path.clone();
        let served = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let Pty { reader, writer, _other, .. } = pty;
            if let Err(error) = serve(reader, writer, Wire::Rtu, &served).await {
                tracing::warn!(%error, "stand-in serial line broke");
            }
        });
        Ok(Meters { shared, address: None, path: Some(path), wire: Wire::Rtu, task: Mutex::new(task) })
    }

    /// Where the devices listen.
    ///
    /// # Panics
    /// On a serial line.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address.expect("only devices on TCP have an address")
    }

    /// The driver's end of the serial line.
    ///
    /// # Panics
    /// On TCP.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.path.as_deref().expect("only devices on a serial line have a path")
    }

    /// Requests that came.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Requests that were answered, late or not, sound or not.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Connections ever accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Turns the knobs of one unit; the next request feels it.
    pub fn set_faults(&self, unit: u8, faults: Faults) {
        self.shared.faults.write().unwrap_or_else(PoisonError::into_inner)[usize::from(unit)] = knobs(faults);
    }

    /// Turns the knobs of every unit.
    pub fn set_all_faults(&self, faults: Faults) {
        let faults = knobs(faults);
        self.shared.faults.write().unwrap_or_else(PoisonError::into_inner).fill(faults);
    }

    /// What a read of this register gives now.
    #[must_use]
    pub fn register(&self, unit: u8, area: Area, address: u16) -> u16 {
        self.shared.registers.read(unit, area, address)
    }

    /// How often a holding register was read under [`Pattern::Reads`], modulo 65536.
    #[must_use]
    pub fn reads(&self, unit: u8, address: u16) -> u16 {
        self.shared.registers.reads(unit, address)
    }

    /// From now on the time of every answer with holding registers is noted.
    pub fn keep_journal(&self) {
        self.shared.registers.journal.keep();
    }

    /// What was noted, in order: the nth answer that holds a register gave out its count n, if noting began before
    /// the first.
    #[must_use]
    pub fn journal(&self) -> Vec<Given> {
        self.shared.registers.journal.all()
    }

    /// Every register and coil that requests wrote since noting began, in order.
    #[must_use]
    pub fn writes(&self) -> Vec<Written> {
        self.shared.registers.journal.writes()
    }

    /// Puts a value into a register, as a write of the driver would.
    pub fn set_register(&self, unit: u8, area: Area, address: u16, value: u16) {
        self.shared.registers.write(unit, area, address, value);
    }

    /// Closes listener and connections, waits, and listens on the same port again.
    pub async fn restart(&self, pause: Duration) -> io::Result<()> {
        let mut task = self.task.lock().await;
        stop(&mut task).await;
        sleep(pause).await;
        let listener = TcpListener::bind(self.address()).await?;
        *task = tokio::spawn(accept(listener, self.wire, Arc::clone(&self.shared)));
        Ok(())
    }

    /// Closes listener and connections for good, or until [`Meters::restart`].
    pub async fn stop(&self) {
        stop(&mut *self.task.lock().await).await;
    }
}

impl Drop for Meters {
    fn drop(&mut self) {
        self.task.get_mut().abort();
    }
}

/// `None` spares healthy units every look at their knobs.
fn knobs(faults: Faults) -> Option<Arc<Faults>> {
    (faults != Faults::default()).then(|| Arc::new(faults))
}

fn shared(units: RangeInclusive<u8>, pattern: Pattern, on_a_line: bool) -> Arc<Shared> {
    Arc::new(Shared {
        units,
        registers: Registers::new(pattern),
        served: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        on_a_line,
        connections: AtomicU64::new(0),
        faults: RwLock::new(Box::new([const { None }; 256])),
    })
}

async fn stop(task: &mut JoinHandle<()>) {
    task.abort();
    // Aborted or ended by itself: either way it is over, and its connections with it.
    let _ = task.await;
}

/// Owns all connections: when this task ends, they are closed.
async fn accept(listener: TcpListener, wire: Wire, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: give connections time to end.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        shared.connections.fetch_add(1, Ordering::Relaxed);
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let (reader, writer) = stream.split();
            if let Err(error) = serve(reader, writer, wire, &shared).await {
                tracing::debug!(%error, "stand-in connection broke");
            }
        });
    }
}
