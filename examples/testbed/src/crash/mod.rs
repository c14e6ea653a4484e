//! Kills the gateway and fails the cloud at random moments, and lets the ledger say what was lost and what came twice.

mod faults;
pub mod loss;
mod rounds;
mod swapper;
pub mod verdict;
mod witness;

use crate::parts::{Parts, Plan};
use crate::quickstart::{Gateway, ProgramArguments, last_lines, write_files_with_state};
use crate::site::Shape;
use anyhow::{Context as _, bail};
use clap::Args;
use rounds::{Moment, Round};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use swapper::Swapper;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use verdict::{Allowance, Figures, Kill, Life, Repeats};
use witness::Witness;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Each a kill, an outage of the cloud, or both overlapping.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Values a second, from meters of 1000 registers each.
    #[arg(long, default_value_t = 10_000)]
    rate: usize,
    /// Store before sending: nothing that was stored may be lost.
    #[arg(long)]
    strict: bool,
    /// Install one package after the other meanwhile: devices change their numbers, a line is opened anew.
    #[arg(long)]
    swaps: bool,
    /// Repeats the moments of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// Only the verdict on standard output, as one line of JSON.
    #[arg(long)]
    json: bool,
    /// The gateway's state folder; a temporary one unless set.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Runs after each kill, before the restart: for example a power cut of the file system below the state.
    #[arg(long, value_name = "COMMAND")]
    after_kill: Option<String>,
    /// Work in this folder and keep it.
    #[arg(long)]
    keep: Option<PathBuf>,
    #[command(flatten)]
    program: ProgramArguments,
}

/// For what must happen some time: first data, catching up.
const PATIENCE: Duration = Duration::from_secs(90);
const REGISTERS: usize = 1000;
/// The default of `outbox.bound_ms`.
const BOUND_MS: i64 = 1000;
/// From a device's first answer to the end of the scan that holds it and the outbox's tail, on a machine that is shared.
const SCAN_MS: i64 = 250;
/// A group commit, likewise. Only strict mode waits for it before it accepts anything.
const COMMIT_MS: i64 = 250;
/// Half of the default window, so that a backlog of seconds is more than one.
const IN_FLIGHT: u64 = 8;
const MESSAGE_KB: u64 = 128;
/// Encoded bytes acknowledged out of the store before the store is told (docs/reference/outbox.md), and a parcel more.
const ACKNOWLEDGED_BYTES: u64 = (256 + 16) << 10;
/// Fewest bytes of a reading in an encoded batch: point, tag, and a number below 64; others make the window smaller.
const ENCODED_BYTES: f64 = 3.0;

/// # Errors
/// When a part can not start, or a promise was broken.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir().context("temporary folder")?;
    let folder = arguments.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    let log = folder.join("gateway.log");
    let mut story = Story::start(arguments, &folder, &log).await?;
    let told = story.play().await;
    let (figures, rounds) = told.with_context(|| last_lines(&log))?;
    if story.arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    }
    let mut faults = figures.faults(&rounds);
    if story.arguments.swaps && figures.swaps < figures.kills {
        faults.push(format!("{} packages were installed, too few to be hit by {} kills", figures.swaps, figures.kills));
    }
    if !faults.is_empty() {
        bail!("seed {}: {}", figures.seed, faults.join("; "));
    }
    Ok(())
}

/// A run: the parts, the gateway of the moment, and what happened so far.
struct Story {
    arguments: Arguments,
    parts: Parts,
    config: PathBuf,
    log: PathBuf,
    socket: PathBuf,
    gateway: Option<Gateway>,
    witness: Witness,
    swapper: Option<Swapper>,
    born: i64,
    kills: Vec<Kill>,
    lives: Vec<Life>,
    timeouts: u64,
    /// Packages that were installed, and installations a kill came into.
    swaps: (u64, u64),
    seed: u64,
}

impl Story {
    async fn start(arguments: Arguments, folder: &Path, log: &Path) -> anyhow::Result<Story> {
        let parts = Parts::start(plan(arguments.rate, &arguments.program)).await?;
        parts.meters.iter().for_each(crate::meter::Meters::keep_journal);
        // Restarts are ours: they must not run into the cloud's rule against too many connects.
        parts.cloud.knobs(|knobs| knobs.connect_limit = false);
        let state = arguments.state.clone().unwrap_or_else(|| folder.join("state"));
        let durability = if arguments.strict { "strict" } else { "bounded" };
        let more = format!(
            "  upstream_kb_per_s: 0\n  in_flight: {IN_FLIGHT}\n  max_message_kb: {MESSAGE_KB}\n  reply_timeout_ms: 2000\n\
             outbox:\n  durability: {durability}\n  bound_ms: {BOUND_MS}\n"
        );
        std::fs::create_dir_all(folder).context("make the folder")?;
        let config = write_files_with_state(&parts, folder, &state, &more)?;
        let gateway = Gateway::start(arguments.program.program(), &config, log)?;
        let socket = state.join("control.sock");
        let swapper = arguments.swaps.then(|| {
            let site = parts.site.clone();
            Swapper::start(arguments.program.program(), site, folder, socket.clone())
        });
        let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
        Ok(Story {
            witness: Witness::start(&socket),
            swapper,
            arguments,
            parts,
            config,
            log: log.to_owned(),
            socket,
            gateway: Some(gateway),
            born: now_ms(),
            kills: Vec::new(),
            lives: Vec::new(),
            timeouts: 0,
            swaps: (0, 0),
            seed,
        })
    }

    async fn play(&mut self) -> anyhow::Result<(Figures, Vec<Repeats>)> {
        let points = self.parts.site.counting_points().count() as u64;
        self.until("first data", |story| story.delivered() >= points).await?;
        let (begun, before) = (Instant::now(), self.parts.polled());
        let mut repeats = Vec::new();
        for (number, round) in rounds::rounds(self.arguments.rounds, self.seed).iter().enumerate() {
            let twice = self.duplicated();
            self.round(round).await.with_context(|| format!("seed {}, round {}", self.seed, number + 1))?;
            let duplicated = self.duplicated() - twice;
            let events =
                Repeats { kills: round.kill.is_some().into(), outages: round.outage.is_some().into(), duplicated };
            eprintln!("round={} kill={:?} outage={:?} duplicated={duplicated}", number + 1, round.kill, round.outage);
            repeats.push(events);
        }
        let rate = (self.parts.polled() - before) as f64 / begun.elapsed().as_secs_f64();
        self.end().await?;
        Ok((self.figures(&repeats, rate as u64), repeats))
    }

    /// Plays one round and waits until everything was caught up, so that what came twice is its own.
    async fn round(&mut self, round: &Round) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut acts = Vec::new();
        if let Some(Moment::At(at)) = round.kill {
            acts.push((at, Act::Kill));
        }
        if let Some(outage) = &round.outage {
            acts.extend([(outage.from, Act::Break(outage.fault)), (outage.until, Act::Mend(outage.fault))]);
        }
        acts.sort_by_key(|(at, _)| *at);
        let mut delivered = self.delivered();
        for (at, act) in acts {
            sleep_until(begun + at).await;
            match act {
                Act::Kill => self.kill().await?,
                Act::Break(fault) => faults::begin(&self.parts.cloud, fault).await,
                Act::Mend(fault) => faults::end(&self.parts.cloud, fault).await,
            }
            delivered = self.delivered();
        }
        if let Some(Moment::Returning(after)) = round.kill {
            self.until("back", |story| story.delivered() > delivered).await?;
            sleep(after).await;
            self.kill().await?;
        }
        let (delivered, rate) = (self.delivered(), self.arguments.rate as u64);
        self.until("caught up", |story| {
            let waiting = story.witness.seen().map(|seen| seen.waiting);
            let arrived = story.delivered() > delivered + rate;
            arrived && waiting.is_some_and(|waiting| waiting < rate * 3 / 2)
        })
        .await
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Story) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            if let Some(status) = self.gateway.as_mut().and_then(|g| g.ended().transpose()).transpose()? {
                bail!("gateway ended by itself with {status}");
            }
            if Instant::now() > deadline {
                bail!("not {what} within {PATIENCE:?}; the gateway said {:?}", self.witness.seen());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        let gateway = self.gateway.take().context("a gateway runs between two kills")?;
        let from = now_ms();
        gateway.kill().await?;
        let to = now_ms();
        self.kills.push(Kill { from, to });
        self.close_life(to);
        if let Some(command) = &self.arguments.after_kill {
            let child = tokio::process::Command::new("sh").arg("-c").arg(command).kill_on_drop(true).status();
            let status = timeout(PATIENCE, child).await.context("the command after a kill does not end")??;
            anyhow::ensure!(status.success(), "the command after a kill ended with {status}");
        }
        forget_connects(&self.socket)?;
        self.gateway = Some(Gateway::start(self.arguments.program.program(), &self.config, &self.log)?);
        self.born = now_ms();
        self.witness = Witness::start(&self.socket);
        Ok(())
    }

    fn close_life(&mut self, to: i64) {
        let seen = self.witness.seen().unwrap_or_default();
        self.timeouts += seen.timeouts;
        self.lives.push(Life { from: self.born, to, stored: seen.stored });
    }

    /// Devices fall silent, the backlog drains, the gateway stops.
    async fn end(&mut self) -> anyhow::Result<()> {
        if let Some(swapper) = self.swapper.take() {
            self.swaps = swapper.counts();
        }
        self.parts.silence().await;
        // What was read last may still be on its way into the outbox.
        sleep(Duration::from_secs(1)).await;
        self.until("drained", |story| story.witness.seen().is_some_and(|seen| seen.waiting == 0)).await?;
        self.close_life(now_ms());
        self.gateway.take().context("a gateway runs at the end")?.stop().await
    }

    fn figures(&self, repeats: &[Repeats], rate: u64) -> Figures {
        let in_flight_ms = if self.arguments.strict { SCAN_MS + COMMIT_MS } else { SCAN_MS };
        let allowance = Allowance { bound_ms: if self.arguments.strict { 0 } else { BOUND_MS }, in_flight_ms };
        let found = loss::find(&self.parts, &self.kills, &self.lives, allowance);
        let totals = self.parts.cloud.ledger(|ledger| ledger.totals());
        let mut figures = Figures {
            rounds: repeats.len(),
            kills: self.kills.len() as u64,
            outages: repeats.iter().map(|r| r.outages).sum(),
            delivered: totals.delivered,
            lost: found.lost.within_bound + found.lost.beyond_bound,
            lost_within_bound: found.lost.within_bound,
            lost_beyond_bound: found.lost.beyond_bound,
            oldest_lost_ms: found.lost.oldest_ms,
            allowed_ms: allowance.bound_ms + allowance.in_flight_ms,
            stored_and_lost: found.stored_and_lost,
            duplicated: totals.duplicated,
            max_duplicates_per_kill: 0,
            max_duplicates_per_outage: 0,
            window: self.window(),
            repeated: totals.repeated,
            timeouts: self.timeouts,
            values_per_second: rate,
            strict: self.arguments.strict,
            swaps: self.swaps.0,
            swaps_cut: self.swaps.1,
            seed: self.seed,
        };
        figures.repeats(repeats);
        figures
    }

    /// Readings that one kill may send twice: messages not acknowledged, and acknowledgements not yet stored.
    fn window(&self) -> u64 {
        let stats = self.parts.cloud.stats();
        let value_bytes = stats.message_bytes as f64 / stats.values.max(1) as f64;
        let in_flight = (IN_FLIGHT * MESSAGE_KB * 1024) as f64 / value_bytes.max(1.0);
        (in_flight + ACKNOWLEDGED_BYTES as f64 / ENCODED_BYTES) as u64
    }

    fn delivered(&self) -> u64 {
        self.parts.cloud.ledger(|ledger| ledger.totals().delivered)
    }

    fn duplicated(&self) -> u64 {
        self.parts.cloud.ledger(|ledger| ledger.totals().duplicated)
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Kill,
    Break(rounds::Fault),
    Mend(rounds::Fault),
}

fn plan(rate: usize, program: &ProgramArguments) -> Plan {
    let meters = rate.div_ceil(REGISTERS).max(1);
    let registers = u16::try_from(rate.div_ceil(meters).max(1)).unwrap_or(1000);
    Plan {
        name: "crash".into(),
        meters,
        shape: Shape { units: 1, registers, displayed: 0, period: Duration::from_secs(1) },
        machine: None,
        cloud: program.cloud(),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The gateway remembers its connects across restarts and waits two minutes when there were many. This cloud does not
/// count them, and a story of dozens of kills has no time for it. `socket` lies in the state folder.
fn forget_connects(socket: &Path) -> anyhow::Result<()> {
    let Some(folder) = socket.parent().map(|state| state.join("identity")).filter(|folder| folder.is_dir()) else {
        return Ok(());
    };
    for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry.context("read the identity's folder")?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("connects-")) {
            std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}
