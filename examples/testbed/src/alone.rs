//! A site and its cloud without a gateway, for one that runs elsewhere: in a container, under systemd, as a package.
//!
//! Devices and ledger live on while the gateway is killed, powered off or upgraded, so the verdict is theirs.

use crate::parts::{Parts, Plan};
use crate::quickstart::{cloud, write_files_with_state};
use crate::site::Shape;
use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::Instant;

/// So long a backlog may take once the devices are silent, and so long nothing may come before it counts as drained.
const DRAIN: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(6);
const ORDERS: &str = "report, silence, polled, down, up, quit, upgrade JSON, ota, events";

#[derive(Debug, Args)]
pub struct Arguments {
    /// Where `package/` and `edge.yaml` for the gateway are written.
    folder: PathBuf,
    /// Where the gateway keeps its state.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/enos-edge")]
    state: PathBuf,
    /// Meters, each a connection with counting registers and 3 for people.
    #[arg(long, default_value_t = 1)]
    meters: usize,
    /// Counting registers of each meter, one point each.
    #[arg(long, default_value_t = 47)]
    registers: u16,
    /// Milliseconds from scan to scan.
    #[arg(long, default_value_t = 200)]
    period_ms: u64,
    /// No OPC UA machine.
    #[arg(long)]
    no_machine: bool,
    /// The cloud is spoken to over TLS; its authority lies beside edge.yaml.
    #[arg(long)]
    tls: bool,
    /// Lines for `edge.yaml`, at its end: of the cloud section, or sections of their own.
    #[arg(long, default_value = "")]
    more: String,
}

/// How long the gateway may take to answer an offer.
const OFFERED: Duration = Duration::from_secs(30);

/// Runs until standard input says `quit` or ends. Orders: report, silence, polled, down, up, quit, and of the gateway's
/// updates `upgrade JSON`, ota, events; each is answered with a line of JSON.
///
/// # Errors
/// When a part can not start.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let period = Duration::from_millis(arguments.period_ms);
    let mut parts = Parts::start(Plan {
        name: "alone".into(),
        meters: arguments.meters,
        shape: Shape { units: 1, registers: arguments.registers, displayed: 3, period },
        machine: (!arguments.no_machine).then_some(Duration::from_millis(500)),
        cloud: cloud(arguments.tls),
    })
    .await?;
    // Restarts are what it is for.
    parts.cloud.knobs(|knobs| knobs.connect_limit = false);
    write_files_with_state(&parts, &arguments.folder, &arguments.state, &arguments.more)?;
    println!("READY {}", parts.cloud.address());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.context("read standard input")? {
        let said = match line.trim() {
            "report" => serde_json::to_value(parts.cloud.ledger(|ledger| ledger.report()))?,
            "silence" => serde_json::to_value(silence(&mut parts).await)?,
            "down" => {
                parts.cloud.down().await;
                json!({ "cloud": "down" })
            }
            "up" => {
                parts.cloud.up().await;
                json!({ "cloud": "up" })
            }
            "polled" => json!({ "polled": parts.polled() }),
            "ota" => told(&parts),
            "events" => serde_json::to_value(parts.cloud.events())?,
            "quit" => return Ok(()),
            other => match other.strip_prefix("upgrade ") {
                Some(offer) => upgrade(&parts, offer).await,
                None => json!({ "error": format!("{other} is not known; orders: {ORDERS}") }),
            },
        };
        println!("{said}");
    }
    Ok(())
}

/// What the cloud was told of the gateway's engine: the version, and the progress of all jobs.
fn told(parts: &Parts) -> Value {
    let gateway = &parts.site.gateway;
    let ota = parts.cloud.ota(&gateway.product_key, &gateway.device_key).unwrap_or_default();
    json!({ "version": ota.version, "progress": ota.progress })
}

/// The cloud pushes an update, and the gateway answers.
async fn upgrade(parts: &Parts, offer: &str) -> Value {
    let gateway = &parts.site.gateway;
    let offer = match serde_json::from_str(offer) {
        Ok(offer) => offer,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    match parts.cloud.upgrade((&gateway.product_key, &gateway.device_key), offer, OFFERED).await {
        Ok(answer) => json!({ "answer": answer }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// The devices give nothing out any more, the backlog drains, and the ledger speaks.
async fn silence(parts: &mut Parts) -> crate::ledger::Report {
    parts.silence().await;
    let look = || parts.cloud.ledger(|ledger| (ledger.missing(), ledger.totals().delivered));
    let begun = Instant::now();
    let (mut before, mut changed) = (look(), begun);
    // What did not come by the end counts as lost.
    while before.0 > 0 && changed.elapsed() < QUIET && begun.elapsed() < DRAIN {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = look();
        if now != before {
            (before, changed) = (now, Instant::now());
        }
    }
    parts.cloud.ledger(|ledger| ledger.report())
}
