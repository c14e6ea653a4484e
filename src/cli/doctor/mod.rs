//! Finds what is wrong on a gateway and says the remedy, whether the gateway runs or not and whoever asks.
//!
//! One probe one file in `probes/`; the table below is all that knows them. All run at once, each within a dead-line, and
//! none changes anything.

pub(super) mod command;
mod finding;
mod ground;
mod holders;
mod page;
mod people;
mod places;
pub(super) mod probes;
pub(super) mod program;
mod seek;
mod site;

pub use finding::{Finding, Level, Report};
pub use ground::Ground;
pub use page::page;
pub(in crate::cli) use probes::service::UNIT;

use driver::Answer;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// One probe. With what the ground takes at most (8 s), a run ends within 20 s.
const PATIENCE: Duration = Duration::from_secs(11);

/// Looks at one thing.
pub struct Probe {
    pub name: &'static str,
    /// What it looks at, for people.
    pub about: &'static str,
    run: fn(Arc<Ground>) -> Answer<'static, Vec<Finding>>,
}

/// What blocks on files runs beside the runtime.
fn blocking(ground: Arc<Ground>, look: fn(&Ground) -> Vec<Finding>) -> Answer<'static, Vec<Finding>> {
    Box::pin(async move {
        let looked = tokio::task::spawn_blocking(move || look(&ground)).await;
        looked.unwrap_or_else(|error| vec![Finding::unseen("this", error)])
    })
}

/// In the order they are shown.
pub const PROBES: &[Probe] = &[
    Probe { name: "configuration", about: "edge.yaml", run: |g| blocking(g, probes::configuration::look) },
    Probe { name: "service", about: "systemd: restarts, watchdog", run: |g| Box::pin(probes::service::look(g)) },
    Probe { name: "rights", about: "who may read secrets and state", run: |g| blocking(g, probes::rights::look) },
    Probe { name: "disk", about: "room, wear and speed of the state disk", run: |g| blocking(g, probes::disk::look) },
    Probe { name: "clock", about: "time, and what keeps it", run: |g| Box::pin(probes::clock::look(g)) },
    Probe { name: "names", about: "name servers", run: |g| Box::pin(probes::names::look(g)) },
    Probe { name: "network", about: "TCP and TLS of every server", run: |g| Box::pin(probes::network::look(g)) },
    Probe { name: "login", about: "what brokers and the cloud say", run: |g| Box::pin(probes::login::look(g)) },
    Probe { name: "certificate", about: "certificates and keys", run: |g| blocking(g, probes::certificate::look) },
    Probe { name: "ports", about: "where the gateway listens", run: |g| blocking(g, probes::ports::look) },
    Probe { name: "package", about: "resource package", run: |g| blocking(g, probes::package::look) },
    Probe { name: "serial", about: "serial ports of the package", run: |g| blocking(g, probes::serial::look) },
    Probe { name: "devices", about: "sub-devices", run: |g| Box::pin(probes::devices::look(g)) },
    Probe { name: "outbox", about: "what waits, and what was lost", run: |g| blocking(g, probes::outbox::look) },
    Probe { name: "delivery", about: "acknowledgements", run: |g| blocking(g, probes::delivery::look) },
    Probe { name: "engine", about: "version, slots, firmware targets", run: |g| blocking(g, probes::engine::look) },
    Probe { name: "update", about: "the update job", run: |g| blocking(g, probes::update::look) },
    Probe { name: "machine", about: "memory, load, limits, system", run: |g| Box::pin(probes::machine::look(g)) },
];

/// Runs the probes named in `only`, or all.
pub async fn examine(ground: Ground, only: &[String], seen: &(dyn Fn(usize, usize) + Sync)) -> Report {
    let begun = Instant::now();
    let ground = Arc::new(ground);
    let wanted = |probe: &&Probe| only.is_empty() || only.iter().any(|name| name == probe.name);
    let probes: Vec<&Probe> = PROBES.iter().filter(wanted).collect();
    let mut running = tokio::task::JoinSet::new();
    for (place, probe) in probes.iter().enumerate() {
        let (name, work) = (probe.name, (probe.run)(Arc::clone(&ground)));
        running.spawn(async move { (place, named(name, timeout(PATIENCE, work).await.ok())) });
    }
    let mut found: Vec<Option<Vec<Finding>>> = vec![None; probes.len()];
    let mut done = 0;
    while let Some(ended) = running.join_next().await {
        done += 1;
        seen(done, probes.len());
        // A probe that panics is a defect of ours; the others still tell what they saw.
        if let Ok((place, findings)) = ended {
            found[place] = Some(findings);
        }
    }
    let whole = |(found, probe): (Option<Vec<Finding>>, &&Probe)| match found {
        Some(findings) if findings.is_empty() => named(probe.name, Some(vec![Finding::note("nothing to look at")])),
        Some(findings) => findings,
        None => named(probe.name, Some(vec![Finding::warning("this probe failed; that is a defect of the doctor")])),
    };
    let findings: Vec<Finding> = found.into_iter().zip(&probes).flat_map(whole).collect();
    Report {
        version: env!("CARGO_PKG_VERSION"),
        at: ground.now,
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        gateway: ground.gateway.word(),
        worst: findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok),
        findings,
    }
}

/// What a person may always do.
const OTHERWISE: &str =
    "the log says more: `journalctl -u enos-edge`; whoever helps from afar wants `enos-edge support-bundle`";

fn named(probe: &'static str, findings: Option<Vec<Finding>>) -> Vec<Finding> {
    let late = || {
        let what = format!("no answer within {PATIENCE:?}");
        vec![
            Finding::warning(what).help("a disk or a network that hangs: look at the other findings, and run it again"),
        ]
    };
    let complete = |finding: Finding| {
        let helpless = finding.level >= Level::Warning && finding.remedy.is_empty();
        let finding = if helpless { finding.help(OTHERWISE) } else { finding };
        Finding { probe, ..finding }
    };
    findings.unwrap_or_else(late).into_iter().map(complete).collect()
}
