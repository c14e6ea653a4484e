//! Changes the package of the real gateway again and again under load, and counts what devices that did not change lost.

mod door;
mod figures;
mod orders;
mod sites;

use crate::cloud::{Cloud, Options};
use crate::meter::{Faults, Meters, Pattern, Wire};
use crate::parts::{Parts, Plan, write_package};
use crate::quickstart::{Gateway, Program, last_lines, write_files};
use crate::site::{Device, Shape};
use anyhow::{Context as _, bail};
use clap::Args;
use door::Door;
use figures::{Figures, Process, Times};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep};

#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(long, default_value_t = 1000)]
    swaps: usize,
    /// Values a second of the devices that never change.
    #[arg(long, default_value_t = 10_000)]
    rate: usize,
    /// Milliseconds between two scans of them.
    #[arg(long, default_value_t = 200)]
    period: u64,
    /// Milliseconds between two swaps.
    #[arg(long, default_value_t = 100)]
    pause: u64,
    /// Periods a device may miss at a swap; a busy machine is late by itself.
    #[arg(long, default_value_t = 1)]
    missed: u64,
    /// The `enos-edge` to be measured, instead of the gateway within this program.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// More lines for edge.yaml.
    #[arg(long, default_value = "")]
    config: String,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
    /// Work in this folder and keep it.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Modbus TCP devices that never change; beside them an OPC UA machine.
const METERS: usize = 10;
/// Largest read that the meters take: something to be learned, and not to be forgotten.
const LARGEST_READ: u16 = 60;
const MACHINE_TICK: Duration = Duration::from_millis(200);
/// For what must happen some time: first data, draining.
const PATIENCE: Duration = Duration::from_secs(90);
/// Without swaps, for comparison.
const CALM: Duration = Duration::from_secs(3);
/// Swaps before the first look at memory and handles: each kind of package has run by then.
const WARM: usize = 8;
/// How memory and handles are looked at.
const LOOKS: usize = 10;
const LOOK: Duration = Duration::from_millis(100);
/// The gateway ends a thread that had no work for a second.
const IDLE: Duration = Duration::from_secs(20);
/// More than that.
const QUIET: Duration = Duration::from_secs(2);
/// Looks at memory on the way, evenly spread: a curve tells a leak from a level.
const CURVE: usize = 20;

/// # Errors
/// When a part can not start, or a promise was broken.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(arguments.swaps > WARM, "at least {} swaps are needed", WARM + 1);
    let temporary = tempfile::tempdir().context("temporary folder")?;
    let folder = arguments.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    let log = folder.join("gateway.log");
    let json = arguments.json;
    let story = Story::start(arguments, &folder, &log).await?;
    let figures = story.play().await.with_context(|| last_lines(&log))?;
    let text = if json { serde_json::to_string(&figures) } else { serde_json::to_string_pretty(&figures) };
    println!("{}", text?);
    let faults = figures.faults();
    if !faults.is_empty() {
        bail!("{}", faults.join("; "));
    }
    Ok(())
}

struct Story {
    arguments: Arguments,
    parts: Parts,
    cloud: Arc<Cloud>,
    /// The meter of the changing line, and the devices it ever has.
    spare: Meters,
    changing: Vec<Device>,
    gateway: Gateway,
    socket: PathBuf,
    packages: PathBuf,
}

/// What was seen between the first and the last swap.
#[derive(Default)]
struct Seen {
    request: Times,
    prepared: Times,
    switched: Times,
    /// Lines that an answer did not count as gone on, and lines that had to be cut off.
    not_kept: u64,
    cut_off: u64,
    /// Most periods a device missed at one swap.
    most_skipped: u64,
    first: Process,
    rss_kb: Vec<u64>,
}

impl Story {
    async fn start(arguments: Arguments, folder: &Path, log: &Path) -> anyhow::Result<Story> {
        let mut parts = Parts::start(plan(&arguments)?).await?;
        for meters in &parts.meters {
            meters.keep_journal();
            meters.set_all_faults(Faults { max_registers: Some(LARGEST_READ), ..Faults::default() });
        }
        let spare = Meters::listen(Wire::Tcp, "127.0.0.1:0", 1..=sites::MOST, Pattern::Reads).await.context("meter")?;
        spare.keep_journal();
        sites::with_setpoint(&mut parts.site);
        let changing = sites::changing(&parts.site);
        register(&parts, &changing);
        std::fs::create_dir_all(folder).context("make the folder")?;
        let config = write_files(&parts, folder, &format!("  upstream_kb_per_s: 0\n{}", arguments.config))?;
        let program = arguments.gateway.clone().map_or(Program::Own, Program::At);
        let gateway = Gateway::start(program, &config, log)?;
        let (socket, packages) = (folder.join("state/control.sock"), folder.join("packages"));
        let cloud = Arc::clone(&parts.cloud);
        Ok(Story { arguments, parts, cloud, spare, changing, gateway, socket, packages })
    }

    async fn play(mut self) -> anyhow::Result<Figures> {
        let points = self.parts.site.counting_points().count() as u64;
        self.until("first data", |story| story.delivered() >= points).await?;
        let mut door = Door::open(&self.socket).await?;
        self.settled(&mut door).await?;
        let calm = (now_ms(), self.skipped(&mut door).await?);
        sleep(CALM).await;
        let orders = tokio::spawn(orders::give(Arc::clone(&self.cloud), self.kept_keys(), keys(&self.changing)));
        let before = self.look(&mut door).await?;
        let (begun, from, delivered) = (Instant::now(), now_ms(), self.delivered());
        let seen = self.swap_all(&mut door).await?;
        let (rate, until) = ((self.delivered() - delivered) as f64 / begun.elapsed().as_secs_f64(), now_ms());
        let after = self.look(&mut door).await?;
        orders.abort();
        let last = self.rested(&mut door, &seen.first).await?;
        let product = &self.parts.site.devices[0].triple.product_key;
        let commands = orders::settle(&self.cloud, product, &self.parts.meters, &self.spare).await;
        let tcp_max = self.parts.meters.iter().map(Meters::connections).max().unwrap_or(0);
        let longest_gap_ms = (self.longest_gap(calm.0, from), self.longest_gap(from, until));
        let counters = self.end(&mut door).await?;
        let mut figures = Figures {
            swaps: self.arguments.swaps,
            seconds: begun.elapsed().as_secs(),
            values_per_second: rate as u64,
            period_ms: self.arguments.period,
            modbus_connections_accepted_each: tcp_max,
            opcua_connections_since_first_swap: after.machine_connections - before.machine_connections,
            sessions_of_unchanged_lines: after.sessions,
            learned_forgotten: before.learned.iter().filter(|line| !after.learned.contains(line)).count(),
            learned: before.learned.len(),
            timeouts: after.timeouts - before.timeouts,
            skipped_without_swaps: before.skipped - calm.1,
            skipped: after.skipped - before.skipped,
            most_skipped_at_a_swap: seen.most_skipped,
            may_skip: self.arguments.missed,
            longest_gap_without_swaps_ms: longest_gap_ms.0,
            longest_gap_ms: longest_gap_ms.1,
            not_kept: seen.not_kept,
            cut_off: seen.cut_off,
            dropped: counters("dropped"),
            set_aside: counters("set_aside"),
            commands,
            request_ms: seen.request.figures(),
            prepared_ms: seen.prepared.figures(),
            switched_ms: seen.switched.figures(),
            rss_kb: seen.rss_kb,
            first: seen.first,
            last,
            ..Figures::default()
        };
        figures.ledger(&self.cloud, &self.changing);
        Ok(figures)
    }

    async fn swap_all(&self, door: &mut Door) -> anyhow::Result<Seen> {
        let (mut seen, lines) = (Seen::default(), self.parts.site.connections.len() as u64);
        let mut skipped = self.each_skipped(door).await?;
        for swap in 1..=self.arguments.swaps {
            let folder = self.packages.join(swap.to_string());
            let site = sites::package(&self.parts.site, &self.changing, self.spare.address(), swap);
            write_package(&site, &folder)?;
            let began = Instant::now();
            let answer = door.ask("package_install", json!({ "path": folder })).await;
            let answer = answer.with_context(|| format!("swap {swap}"))?;
            seen.request.add(began.elapsed().as_secs_f64() * 1000.0);
            seen.prepared.add(answer["prepared_ms"].as_f64().unwrap_or_default());
            seen.switched.add(answer["switched_ms"].as_f64().unwrap_or_default());
            seen.not_kept += lines.saturating_sub(answer["applied"]["kept"].as_u64().unwrap_or_default());
            seen.cut_off += answer["applied"]["cut_off"].as_array().map_or(0, Vec::len) as u64;
            // The gateway keeps its own.
            std::fs::remove_dir_all(&folder).context("remove a package")?;
            sleep(Duration::from_millis(self.arguments.pause)).await;
            let now = self.each_skipped(door).await?;
            let most = now.iter().zip(&skipped).map(|(now, before)| now - before).max().unwrap_or_default();
            seen.most_skipped = seen.most_skipped.max(most);
            skipped = now;
            if swap == WARM {
                seen.first = self.process(door).await?;
            }
            if swap % (self.arguments.swaps / CURVE).max(1) == 0 {
                let pid = self.gateway.pid().context("the gateway has ended")?;
                seen.rss_kb.push(crate::bench::process::memory(pid)?.0 / 1024);
            }
        }
        Ok(seen)
    }

    /// Devices fall silent, the backlog drains, the gateway stops.
    async fn end(&mut self, door: &mut Door) -> anyhow::Result<impl Fn(&str) -> u64 + use<>> {
        self.spare.set_all_faults(Faults { exception: Some(6), ..Faults::default() });
        self.parts.silence().await;
        self.settle_spare();
        // What was read last may still be on its way into the outbox.
        sleep(Duration::from_secs(1)).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = status(door).await?;
            let counters = status["counters"].clone();
            if counters["outbox_readings"] == 0 || Instant::now() > deadline {
                return Ok(move |name: &str| counters[name].as_u64().unwrap_or(0));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn settle_spare(&self) {
        self.cloud.ledger(|ledger| {
            for (device, unit) in self.changing.iter().zip(1..) {
                for number in 0..self.parts.shape().registers {
                    let given = self.spare.reads(unit, crate::meter::FIRST_COUNTING + number);
                    ledger.settle(&name(device), &format!("r{number}"), u64::from(given));
                }
            }
        });
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Story) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            if let Some(status) = self.gateway.ended()? {
                bail!("gateway ended by itself with {status}");
            }
            anyhow::ensure!(Instant::now() < deadline, "not {what} within {PATIENCE:?}");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// All limits are learned: nothing new for a second.
    async fn settled(&self, door: &mut Door) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = self.look(door).await?.learned;
        loop {
            sleep(Duration::from_secs(1)).await;
            let now = self.look(door).await?.learned;
            if now == before && now.len() >= METERS {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "meters are not learned within {PATIENCE:?}: {now:?}");
            before = now;
        }
    }

    fn delivered(&self) -> u64 {
        self.cloud.ledger(|ledger| ledger.totals().delivered)
    }

    fn kept_keys(&self) -> Vec<orders::Keys> {
        keys(&self.parts.site.devices[..METERS])
    }

    /// What the process holds when no package is on its way: the least of ten looks.
    async fn process(&self, door: &mut Door) -> anyhow::Result<Process> {
        let pid = self.gateway.pid().context("the gateway has ended")?;
        let mut least = Process::look(pid, &status(door).await?)?;
        for _ in 1..LOOKS {
            sleep(LOOK).await;
            least = least.least(Process::look(pid, &status(door).await?)?);
        }
        Ok(least)
    }

    /// The same, when threads that are out of work had time to end. Their number is judged, so they are waited for and not cut;
    /// and it is counted while nobody asks the gateway anything: whoever asks ten times a second keeps them at work.
    async fn rested(&self, door: &mut Door, first: &Process) -> anyhow::Result<Process> {
        let pid = self.gateway.pid().context("the gateway has ended")?;
        let deadline = Instant::now() + IDLE;
        let threads = loop {
            sleep(QUIET).await;
            let (threads, _) = crate::bench::process::handles(pid)?;
            if first.may_have(threads) || Instant::now() > deadline {
                break threads;
            }
        };
        let now = self.process(door).await?;
        Ok(Process { threads: threads.min(now.threads), ..now })
    }

    /// Longest time between two answers of a meter that never changes, milliseconds.
    fn longest_gap(&self, from: i64, until: i64) -> i64 {
        let gap = |meters: &Meters| {
            let at: Vec<i64> = meters.journal().iter().map(|given| given.at).collect();
            let inside = at.windows(2).filter(|pair| pair[0] >= from && pair[1] <= until);
            inside.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        self.parts.meters.iter().map(gap).max().unwrap_or_default()
    }

    async fn look(&self, door: &mut Door) -> anyhow::Result<Lines> {
        let status = status(door).await?;
        let mut lines = Lines { machine_connections: self.machine_connections(), ..Lines::default() };
        for line in self.unchanged(&status) {
            lines.sessions = lines.sessions.max(line["sessions"].as_u64().unwrap_or_default());
            let learned = line["learned"].as_array().into_iter().flatten();
            lines.learned.extend(learned.map(|what| format!("{} {what}", line["name"])));
            for device in line["devices"].as_array().into_iter().flatten() {
                lines.skipped += device["skipped"].as_u64().unwrap_or_default();
                lines.timeouts += device["timeouts"].as_u64().unwrap_or_default();
            }
        }
        Ok(lines)
    }

    fn machine_connections(&self) -> u64 {
        self.parts.machine.as_ref().map_or(0, crate::machine::Machine::connections)
    }

    fn unchanged<'s>(&'s self, status: &'s Value) -> impl Iterator<Item = &'s Value> {
        let lines = status["south"]["connections"].as_array().into_iter().flatten();
        lines.filter(|line| self.parts.site.connections.iter().any(|one| line["name"] == one.name.as_str()))
    }

    async fn skipped(&self, door: &mut Door) -> anyhow::Result<u64> {
        Ok(self.each_skipped(door).await?.iter().sum())
    }

    async fn each_skipped(&self, door: &mut Door) -> anyhow::Result<Vec<u64>> {
        let status = status(door).await?;
        let devices = self.unchanged(&status).flat_map(|line| line["devices"].as_array().into_iter().flatten());
        Ok(devices.map(|device| device["skipped"].as_u64().unwrap_or_default()).collect())
    }
}

/// The lines that never change, in sum.
#[derive(Default)]
struct Lines {
    sessions: u64,
    learned: Vec<String>,
    skipped: u64,
    timeouts: u64,
    machine_connections: u64,
}

async fn status(door: &mut Door) -> anyhow::Result<Value> {
    door.ask("status", json!({ "listings": false })).await
}

fn plan(arguments: &Arguments) -> anyhow::Result<Plan> {
    let registers = arguments.rate as u64 * arguments.period / 1000 / METERS as u64;
    Ok(Plan {
        name: "swaps".into(),
        meters: METERS,
        shape: Shape {
            units: 1,
            registers: u16::try_from(registers).context("--rate times --period is too much")?.max(1),
            displayed: 0,
            period: Duration::from_millis(arguments.period),
        },
        machine: Some(MACHINE_TICK),
        cloud: Options::default(),
    })
}

/// The cloud knows the devices that come and go, and the ledger counts their readings.
fn register(parts: &Parts, changing: &[Device]) {
    let (gateway, model) = (&parts.site.gateway, parts.site.model("meter"));
    parts.cloud.registry(|registry| {
        let gateway = registry.find(&gateway.product_key, &gateway.device_key).expect("Parts::start registers it");
        for device in changing {
            registry.sub_device(gateway, device.triple.clone(), model.clone());
        }
    });
    parts.cloud.ledger(|ledger| {
        for device in changing {
            for number in 0..parts.shape().registers {
                ledger.counts(&name(device), &format!("r{number}"), 1 << 16);
            }
        }
    });
}

/// As the ledger calls it.
fn name(device: &Device) -> String {
    format!("{}/{}", device.triple.product_key, device.triple.device_key)
}

fn keys(devices: &[Device]) -> Vec<orders::Keys> {
    devices.iter().map(|device| (device.triple.product_key.clone(), device.triple.device_key.clone())).collect()
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
