//! Installs one package after the other while the gateway is killed, so that kills come into the middle of switches.

use crate::parts::write_package;
use crate::quickstart::Program;
use crate::site::Site;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Between two installations, and while no gateway runs.
const PAUSE: Duration = Duration::from_millis(50);
/// An installation whose gateway was killed is told by the door that closes; this is for one that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Swaps until it is dropped.
pub(super) struct Swapper {
    task: tokio::task::JoinHandle<()>,
    count: Arc<Count>,
}

#[derive(Default)]
struct Count {
    done: AtomicU64,
    cut: AtomicU64,
}

impl Swapper {
    pub fn start(program: Program, site: Site, folder: &Path, socket: PathBuf) -> Swapper {
        let count = Arc::new(Count::default());
        let (counted, folder) = (Arc::clone(&count), folder.join("swap"));
        let task = tokio::spawn(async move {
            for swap in 1.. {
                let written = write_package(&turned(&site, swap), &folder);
                // Through the door alone: onto the state of a gateway that was just killed nobody installs.
                let Ok(mut install) = program.command() else { return };
                let install = install
                    .args(["package", "install", "--json", "--socket"])
                    .args([&socket, &folder])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .kill_on_drop(true)
                    .status();
                let installed = timeout(PATIENCE, install).await.is_ok_and(|status| status.is_ok_and(|s| s.success()));
                let counter = if written.is_ok() && installed { &counted.done } else { &counted.cut };
                counter.fetch_add(1, Relaxed);
                sleep(PAUSE).await;
            }
        });
        Swapper { task, count }
    }

    /// Installed, and those that a kill (or the start after it) came into.
    pub fn counts(&self) -> (u64, u64) {
        (self.count.done.load(Relaxed), self.count.cut.load(Relaxed))
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The same devices in another order, so that each has another number; the first line is opened anew, the others go on.
fn turned(site: &Site, swap: usize) -> Site {
    let mut site = site.clone();
    site.version = format!("1.0.{swap}");
    let devices = site.devices.len().max(1);
    site.devices.rotate_left(swap % devices);
    if let Some(first) = site.connections.first_mut() {
        let timeout = if swap.is_multiple_of(2) { "1000" } else { "1100" };
        first.parameters.retain(|(name, _)| *name != "timeout_ms");
        first.parameters.push(("timeout_ms", timeout.into()));
    }
    site
}
