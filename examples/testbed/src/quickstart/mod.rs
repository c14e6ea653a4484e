//! The whole product on one screen: a site, a gateway, a cloud that fails and comes back, and the ledger's verdict.

mod gateway;
mod screen;
mod story;

pub use gateway::{Gateway, Program, ProgramArguments, cloud};

use crate::ledger::Report;
use crate::parts::{Parts, Plan};
use crate::site::Shape;
use anyhow::{Context as _, bail};
use clap::Args;
use screen::{Screen, View};
use std::path::{Path, PathBuf};
use std::time::Duration;
use story::{Act, Story};
use tokio::time::{Instant, sleep_until, timeout};

#[derive(Debug, Args)]
pub struct Arguments {
    /// End after this many seconds of live data, with one outage in between when there are at least 8.
    #[arg(long = "for", value_name = "SECONDS")]
    length: Option<u64>,
    /// Print only the ledger's verdict on standard output, as one line of JSON.
    #[arg(long)]
    json: bool,
    /// Work in this folder and keep it.
    #[arg(long)]
    keep: Option<PathBuf>,
    #[command(flatten)]
    program: ProgramArguments,
}

/// What the gateway must have sent at least once by now.
const FIRST_DATA: Duration = Duration::from_secs(30);
/// How long the backlog may take after the devices fell silent.
const DRAIN: Duration = Duration::from_secs(60);
/// Beside edge.yaml: who vouches for the cloud.
const AUTHORITY: &str = "cloud-ca.pem";

/// 50 values in 200 ms from the meter, 8 in 500 ms from the machine: lively, and light on a small gateway.
fn plan(program: &ProgramArguments) -> Plan {
    Plan {
        name: "quickstart".into(),
        meters: 1,
        shape: Shape { units: 1, registers: 47, displayed: 3, period: Duration::from_millis(200) },
        machine: Some(Duration::from_millis(500)),
        cloud: program.cloud(),
    }
}

/// Runs until it is stopped, or for as long as it was told to.
///
/// # Errors
/// When a part cannot start, the gateway ends by itself, or anything was lost.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let temporary = tempfile::tempdir().context("temporary folder")?;
    let folder = arguments.keep.as_deref().unwrap_or(temporary.path());
    let mut parts = Parts::start(plan(&arguments.program)).await?;
    let config = write_files(&parts, folder, "  late_data: { threshold_s: 5 }\n")?;
    let log = folder.join("gateway.log");
    let mut run = Run {
        gateway: Gateway::start(arguments.program.program(), &config, &log)?,
        screen: Screen::new(arguments.json),
        started,
        view: View { note: "starting", cloud_up: true, ..View::default() },
        before: (Instant::now(), 0, 0),
    };
    let story = Story::new(arguments.length.map(Duration::from_secs));
    let lived = tokio::select! {
        lived = run.live(&parts, story) => lived,
        signal = tokio::signal::ctrl_c() => signal.context("wait for a signal"),
    };
    if let Err(error) = lived {
        return Err(error.context(last_lines(&log)));
    }
    let report = run.end(&mut parts).await?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    if report.lost > 0 || report.delivered == 0 {
        bail!("{} readings lost, {} delivered", report.lost, report.delivered);
    }
    Ok(())
}

/// Package, configuration and state folder; returns the configuration's path. `more` ends the file: lines of the
/// cloud section, or sections of their own.
///
/// # Errors
/// When the disk refuses.
pub fn write_files(parts: &Parts, folder: &Path, more: &str) -> anyhow::Result<PathBuf> {
    write_files_with_state(parts, folder, &folder.join("state"), more)
}

/// As [`write_files`], with the gateway's state elsewhere.
///
/// # Errors
/// When the disk refuses.
pub fn write_files_with_state(parts: &Parts, folder: &Path, state: &Path, more: &str) -> anyhow::Result<PathBuf> {
    // The gateway takes paths of a file from where the file lies, whoever writes it from where he is.
    let absolute = |path: &Path| std::path::absolute(path).with_context(|| format!("find {}", path.display()));
    let (folder, state) = (&*absolute(folder)?, &*absolute(state)?);
    parts.write_package(&folder.join("package"))?;
    if let Some((_, authority)) = parts.cloud.tls() {
        let path = folder.join(AUTHORITY);
        std::fs::write(&path, authority).with_context(|| format!("write {}", path.display()))?;
    }
    let path = folder.join("edge.yaml");
    std::fs::write(&path, edge_yaml(parts, folder, state) + more)
        .with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

fn edge_yaml(parts: &Parts, folder: &Path, state: &Path) -> String {
    let gateway = &parts.site.gateway;
    let path = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    let link = match parts.cloud.tls() {
        Some((address, _)) => format!("ssl://{address}\n  ca_file: {AUTHORITY}"),
        None => format!("tcp://{}", parts.cloud.address()),
    };
    format!(
        "state_dir: {}\npackage: {}\ncloud:\n  url: {link}\n  product_key: {}\n  device_key: {}\n  \
         device_secret: {}\n",
        path(state),
        path(&folder.join("package")),
        gateway.product_key,
        gateway.device_key,
        gateway.secret,
    )
}

/// The end of the gateway's log: it says best why it went.
pub fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("gateway's log ends with:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
}

/// One run of the demonstration.
struct Run {
    gateway: Gateway,
    screen: Screen,
    started: Instant,
    view: View,
    /// When the counts behind the rates were taken, and what they were.
    before: (Instant, u64, u64),
}

impl Run {
    async fn live(&mut self, parts: &Parts, story: Story) -> anyhow::Result<()> {
        self.first_data(parts).await?;
        let first = Instant::now();
        let mut outage = None;
        loop {
            let act = story.at(first.elapsed());
            match act {
                Act::End => break,
                Act::CloudDown if self.view.cloud_up => {
                    parts.cloud.down().await;
                    (self.view.cloud_up, self.view.note) = (false, "cloud stopped: watch the outbox grow");
                    outage = Some(parts.cloud.ledger(|ledger| ledger.totals().delivered));
                }
                Act::CloudUp if !self.view.cloud_up => {
                    parts.cloud.up().await;
                    (self.view.cloud_up, self.view.note) = (true, "cloud is back: catching up");
                }
                Act::CloudUp | Act::CloudDown => {}
            }
            self.step(parts).await?;
            if self.view.cloud_up && outage.is_some_and(|delivered| self.caught_up(delivered)) {
                outage = None;
                self.view.note = "caught up: nothing was lost";
                self.screen.say(&format!(
                    "outage over: {} delivered, {} lost, {} twice",
                    self.view.delivered, self.view.missing, self.view.duplicated
                ));
            }
        }
        if !self.view.cloud_up {
            parts.cloud.up().await;
            self.view.cloud_up = true;
        }
        Ok(())
    }

    /// Data came again since the outage began, no hole is left, and no more waits than a second brings.
    fn caught_up(&self, delivered_before: u64) -> bool {
        let nothing_waits = self.view.waiting.is_none_or(|waiting| waiting <= self.view.polled);
        self.view.delivered > delivered_before && self.view.missing == 0 && nothing_waits
    }

    async fn first_data(&mut self, parts: &Parts) -> anyhow::Result<()> {
        let deadline = Instant::now() + FIRST_DATA;
        while parts.cloud.stats().values == 0 {
            if Instant::now() > deadline {
                bail!("no data reached the cloud within {FIRST_DATA:?}");
            }
            self.step(parts).await?;
        }
        self.view.note = "healthy";
        self.screen.say(&format!("first data after {:.1} s", self.started.elapsed().as_secs_f32()));
        Ok(())
    }

    /// Waits for the next moment and shows it.
    async fn step(&mut self, parts: &Parts) -> anyhow::Result<()> {
        sleep_until(Instant::now() + self.screen.period()).await;
        if let Some(status) = self.gateway.ended()? {
            bail!("gateway ended by itself with {status}");
        }
        self.look(parts).await;
        self.screen.show(&self.view);
        Ok(())
    }

    async fn look(&mut self, parts: &Parts) {
        let (now, polled, received) = (Instant::now(), parts.polled(), parts.cloud.stats().values);
        let (then, polled_then, received_then) = self.before;
        let since = (now - then).as_secs_f64();
        if since >= 1.0 {
            let rate = |now: u64, then: u64| (now.saturating_sub(then) as f64 / since).round() as u64;
            (self.view.polled, self.view.received) = (rate(polled, polled_then), rate(received, received_then));
            self.before = (now, polled, received);
            let status = self.gateway.status().await;
            let number = |name: &str| status.as_ref()?.get("counters")?.get(name)?.as_u64();
            (self.view.waiting, self.view.bytes_on_disk) = (number("outbox_readings"), number("outbox_bytes"));
        }
        self.view.elapsed = self.started.elapsed();
        let shown =
            [("meter-pk/meter-0-1", "voltage_1"), ("meter-pk/meter-0-1", "r0"), ("machine-pk/machine", "ticks_0")];
        parts.cloud.ledger(|ledger| {
            let totals = ledger.totals();
            (self.view.delivered, self.view.duplicated) = (totals.delivered, totals.duplicated);
            self.view.missing = ledger.missing();
            self.view.last_values = shown
                .iter()
                .filter_map(|(device, point)| Some((format!("{device} {point}"), ledger.last(device, point)?.value)))
                .collect();
        });
    }

    /// Devices fall silent, the backlog drains, the gateway stops, the ledger speaks.
    async fn end(mut self, parts: &mut Parts) -> anyhow::Result<Report> {
        parts.cloud.up().await;
        parts.silence().await;
        self.view.note = "devices are silent: draining";
        let drained = async {
            while parts.cloud.ledger(|ledger| ledger.missing()) > 0 {
                self.step(parts).await?;
            }
            anyhow::Ok(())
        };
        // Late or not, the verdict is the ledger's: what did not come by now counts as lost.
        if let Ok(result) = timeout(DRAIN, drained).await {
            result?;
        }
        self.gateway.stop().await?;
        let report = parts.cloud.ledger(|ledger| ledger.report());
        let verdict = if report.lost == 0 { "nothing was lost" } else { "readings were lost" };
        self.screen.say(&format!(
            "{verdict}: {} delivered, {} lost, {} twice, {} of them late",
            report.delivered, report.lost, report.duplicated, report.late
        ));
        Ok(report)
    }
}
