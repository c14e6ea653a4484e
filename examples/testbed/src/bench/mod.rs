//! Measures the real gateway as a process: devices, cloud and clock are ours, processor time is the kernel's word.

pub mod process;

use crate::cloud::Options;
use crate::parts::{Parts, Plan};
use crate::quickstart::{Gateway, Program, last_lines, write_files};
use crate::site::Shape;
use anyhow::{Context as _, bail};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Modbus TCP devices, each on a connection of its own.
    #[arg(long, default_value_t = 10)]
    devices: usize,
    /// 16-bit registers of each device, one value each.
    #[arg(long, default_value_t = 1000)]
    registers: u16,
    /// Milliseconds between two scans.
    #[arg(long, default_value_t = 1000)]
    period: u64,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds before, for connecting and settling.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// Then stop the cloud for this many seconds and measure how fast the backlog goes.
    #[arg(long, default_value_t = 0)]
    outage: u64,
    /// The `enos-edge` to be measured, instead of the gateway within this program.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// More lines for edge.yaml.
    #[arg(long, default_value = "")]
    config: String,
    /// One line of JSON.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    devices: usize,
    registers: u16,
    period_ms: u64,
    /// From the start of the gateway's process to the first value in the cloud.
    first_value_s: f64,
    values_per_second: f64,
    cpu_seconds_per_million_values: f64,
    cpu_share_of_a_core: f64,
    rss_mb: f64,
    peak_rss_mb: f64,
    latency_p50_ms: u64,
    latency_p99_ms: u64,
    messages_per_second: f64,
    written_bytes_per_value: f64,
    missing: u64,
    outage: Option<Outage>,
}

/// How the gateway came back.
#[derive(Debug, Serialize)]
struct Outage {
    seconds: u64,
    first_value_s: f64,
    backlog_values: u64,
    catch_up_s: f64,
    catch_up_values_per_second: f64,
    disk_bytes_per_reading: f64,
    peak_rss_mb: f64,
}

const MEGA: f64 = 1024.0 * 1024.0;
/// Longest wait for a gateway that has to come back or catch up.
const PATIENCE: Duration = Duration::from_secs(180);

/// # Errors
/// When a part can not start or the gateway dies.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("temporary folder")?;
    let parts = Parts::start(plan(&arguments)).await?;
    // What is measured is the gateway, not what the cloud agrees to take.
    let own_pace = arguments.config.contains("upstream_kb_per_s");
    let more = if own_pace { "" } else { "  upstream_kb_per_s: 0\n" }.to_owned() + &arguments.config;
    let config = write_files(&parts, folder.path(), &more)?;
    let log = folder.path().join("gateway.log");
    let program = arguments.gateway.clone().map_or(Program::Own, Program::At);
    let began = Instant::now();
    let gateway = Gateway::start(program, &config, &log)?;
    let bench = Bench { parts, gateway, arguments, began };
    let figures = bench.measure().await.with_context(|| last_lines(&log))?;
    if bench.arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    }
    bench.gateway.stop().await
}

fn plan(arguments: &Arguments) -> Plan {
    Plan {
        name: "bench".into(),
        meters: arguments.devices,
        shape: Shape {
            units: 1,
            registers: arguments.registers,
            displayed: 0,
            period: Duration::from_millis(arguments.period),
        },
        machine: None,
        cloud: Options::default(),
    }
}

struct Bench {
    parts: Parts,
    gateway: Gateway,
    arguments: Arguments,
    began: Instant,
}

impl Bench {
    async fn measure(&self) -> anyhow::Result<Figures> {
        self.wait_for_values(0).await?;
        let first_value = self.began.elapsed();
        sleep(Duration::from_secs(self.arguments.warm_up)).await;
        let pid = self.gateway.pid().context("the gateway has ended")?;
        self.parts.cloud.ledger(|ledger| ledger.latency = Default::default());
        let (begun, cpu, written) = (Instant::now(), process::cpu(pid)?, process::written(pid)?);
        let before = self.parts.cloud.stats();
        sleep(Duration::from_secs(self.arguments.seconds)).await;
        let (took, cpu) = (begun.elapsed().as_secs_f64(), process::cpu(pid)?.saturating_sub(cpu).as_secs_f64());
        let after = self.parts.cloud.stats();
        let values = (after.values - before.values) as f64;
        let (rss, peak) = process::memory(pid)?;
        let (p50, p99, missing) = self
            .parts
            .cloud
            .ledger(|ledger| (ledger.latency.quantile(0.5), ledger.latency.quantile(0.99), ledger.missing()));
        let written = process::written(pid)? - written;
        let outage = match self.arguments.outage {
            0 => None,
            seconds => Some(self.outage(pid, seconds, values / took).await?),
        };
        Ok(Figures {
            devices: self.arguments.devices,
            registers: self.arguments.registers,
            period_ms: self.arguments.period,
            first_value_s: first_value.as_secs_f64(),
            values_per_second: values / took,
            cpu_seconds_per_million_values: cpu * 1e6 / values.max(1.0),
            cpu_share_of_a_core: cpu / took,
            rss_mb: rss as f64 / MEGA,
            peak_rss_mb: peak as f64 / MEGA,
            latency_p50_ms: p50,
            latency_p99_ms: p99,
            messages_per_second: (after.messages - before.messages) as f64 / took,
            written_bytes_per_value: written as f64 / values.max(1.0),
            missing,
            outage,
        })
    }

    async fn outage(&self, pid: u32, seconds: u64, live_rate: f64) -> anyhow::Result<Outage> {
        self.parts.cloud.down().await;
        sleep(Duration::from_secs(seconds)).await;
        let counters = self.counters().await?;
        let before = self.parts.cloud.stats().values;
        self.parts.cloud.up().await;
        let up = Instant::now();
        self.wait_for_values(before).await?;
        let first = up.elapsed();
        let backlog = counters("outbox_readings");
        // Caught up: no more waits than a second brings. The ledger's count needs no question to the gateway.
        let wanted = before + backlog;
        while (self.parts.cloud.stats().values as f64)
            < wanted as f64 + live_rate * up.elapsed().as_secs_f64() - live_rate
        {
            if up.elapsed() > PATIENCE {
                bail!("backlog not delivered within {PATIENCE:?}");
            }
            sleep(Duration::from_millis(20)).await;
        }
        let took = (up.elapsed() - first).as_secs_f64();
        let delivered = (self.parts.cloud.stats().values - before) as f64;
        Ok(Outage {
            seconds,
            first_value_s: first.as_secs_f64(),
            backlog_values: backlog,
            catch_up_s: took,
            catch_up_values_per_second: delivered / took.max(0.001),
            disk_bytes_per_reading: counters("outbox_bytes") as f64 / backlog.max(1) as f64,
            peak_rss_mb: process::memory(pid)?.1 as f64 / MEGA,
        })
    }

    async fn counters(&self) -> anyhow::Result<impl Fn(&str) -> u64> {
        let status = self.gateway.status().await.context("the gateway does not answer")?;
        Ok(move |name: &str| status["counters"][name].as_u64().unwrap_or(0))
    }

    async fn wait_for_values(&self, more_than: u64) -> anyhow::Result<()> {
        let arrived = async {
            while self.parts.cloud.stats().values <= more_than {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, arrived).await.context("no values arrive")
    }
}
