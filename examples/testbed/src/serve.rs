//! One stand-in alone, for peers in other languages. Prints READY, takes orders as lines on standard input.

use crate::cloud::{Cloud, HttpBroker, Options, Registry, Triple};
use crate::http_orders;
use crate::machine::{Machine, MachineConfig};
use crate::meter::{Faults, Meters, Pattern, Wire};
use crate::orders::{self, Extras};
use crate::rest::{Authority, RestCloud, RestOptions};
use crate::rest_orders;
use anyhow::{Context as _, bail};
use clap::Args;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};

#[derive(Debug, Args)]
pub struct CloudArguments {
    /// TCP port on loopback; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Also listen with TLS on this port, and write the authority's PEM to --ca-file.
    #[arg(long, requires = "ca_file")]
    tls_port: Option<u16>,
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Also answer REST (tokens, certificates, readings of logic assets) on this port; without --client-ca its authority is the clients'.
    #[arg(long)]
    rest_port: Option<u16>,
    /// accessKey:secretKey of the service account.
    #[arg(long, value_parser = user, default_value = "testbed-access-key:testbed-secret-key")]
    rest_account: (String, String),
    /// Certificates live this many seconds, whatever is asked for.
    #[arg(long)]
    rest_life: Option<u64>,
    /// Write the PEM of the authority that signs certificates to this file.
    #[arg(long, requires = "rest_port")]
    rest_ca_file: Option<PathBuf>,
    /// HTTPS, with a certificate of that authority.
    #[arg(long, requires = "rest_ca_file")]
    rest_tls: bool,
    /// Also be the HTTP broker, where files of `enos-connect://` are fetched, on this port.
    #[arg(long)]
    http_port: Option<u16>,
    /// HTTPS there; the PEM of the authority that vouches for it is written to this file.
    #[arg(long, requires = "http_port")]
    http_ca_file: Option<PathBuf>,
    /// A gateway or directly connected device: productKey/deviceKey/secret.
    #[arg(long, value_parser = triple)]
    gateway: Vec<Triple>,
    /// A sub-device in the topology of the first gateway.
    #[arg(long, value_parser = triple)]
    sub_device: Vec<Triple>,
    /// A device in no topology.
    #[arg(long, value_parser = triple)]
    device: Vec<Triple>,
    /// Take unknown devices and points as they come.
    #[arg(long)]
    accept_all: bool,
    /// user:password of clients that see everything and may push commands.
    #[arg(long, value_parser = user)]
    monitor: Option<(String, String)>,
    /// Do not refuse a device that connects more than 4 times in 2 minutes.
    #[arg(long)]
    no_connect_limit: bool,
    #[command(flatten)]
    extras: Extras,
}

#[derive(Debug, Args)]
pub struct MeterArguments {
    /// TCP port on loopback; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Units 1 to this one answer.
    #[arg(long, default_value_t = 247)]
    units: u8,
    /// RTU frames instead of Modbus TCP.
    #[arg(long)]
    rtu: bool,
    /// What registers hold: address (who they are), counter, wave, reads (how often they were read).
    #[arg(long, value_parser = pattern, default_value = "address")]
    pattern: Pattern,
    /// Faults of every unit, for example `delay=5-20,hole=10-12,one_in=10`.
    #[arg(long, default_value = "")]
    faults: Faults,
}

#[derive(Debug, Args)]
pub struct MachineArguments {
    /// TCP port on loopback; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Variables `ns=2;s=Machine.Var000` and on.
    #[arg(long, default_value_t = 8)]
    variables: usize,
    /// How often they change.
    #[arg(long, default_value_t = 1000)]
    tick_ms: u64,
    /// user:password that may log in beside anonymous clients.
    #[arg(long, value_parser = user)]
    user: Vec<(String, String)>,
}

const PATTERNS: &[(&str, Pattern)] =
    &[("address", Pattern::Address), ("counter", Pattern::Counter), ("wave", Pattern::Wave), ("reads", Pattern::Reads)];

fn pattern(text: &str) -> Result<Pattern, String> {
    let found = PATTERNS.iter().find(|(word, _)| *word == text);
    found.map(|(_, pattern)| *pattern).ok_or_else(|| "known: address counter wave reads".to_owned())
}

fn triple(text: &str) -> Result<Triple, String> {
    let mut parts = text.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(product_key), Some(device_key), Some(secret)) => Ok(Triple::new(product_key, device_key, secret)),
        _ => Err("expected productKey/deviceKey/secret".to_owned()),
    }
}

fn user(text: &str) -> Result<(String, String), String> {
    let (name, password) = text.split_once(':').ok_or("expected user:password")?;
    Ok((name.to_owned(), password.to_owned()))
}

fn registry(arguments: &CloudArguments) -> anyhow::Result<Registry> {
    let mut registry = if arguments.accept_all { Registry::accept_all() } else { Registry::default() };
    let gateways: Vec<u32> = arguments.gateway.iter().map(|triple| registry.gateway(triple.clone())).collect();
    for sub_device in &arguments.sub_device {
        let Some(gateway) = gateways.first() else { bail!("--sub-device needs a --gateway") };
        registry.sub_device(*gateway, sub_device.clone(), None);
    }
    for device in &arguments.device {
        registry.loose_device(device.clone(), None);
    }
    arguments.extras.register(&mut registry);
    Ok(registry)
}

/// Runs the cloud until standard input says `quit`, or a signal comes.
///
/// # Errors
/// When a port is taken.
pub async fn cloud(arguments: CloudArguments) -> anyhow::Result<()> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let rest = match arguments.rest_port {
        Some(port) => Some(start_rest(&arguments, at(port)).await?),
        None => None,
    };
    let own_ca = rest.as_ref().map(|rest| rest.authority().pem().to_owned());
    let options = Options {
        address: at(arguments.port),
        tls_address: arguments.tls_port.map(at),
        client_ca: arguments.extras.client_ca()?.or(own_ca),
        monitor: arguments.monitor.clone(),
        ..Options::default()
    };
    let cloud = Arc::new(Cloud::start(options, registry(&arguments)?).await?);
    cloud.knobs(|knobs| knobs.connect_limit = !arguments.no_connect_limit);
    arguments.extras.apply(&cloud)?;
    if let (Some((_, pem)), Some(file)) = (cloud.tls(), &arguments.ca_file) {
        std::fs::write(file, pem).with_context(|| format!("write {}", file.display()))?;
    }
    let tls = cloud.tls().map_or_else(String::new, |(address, _)| format!(" tls {address}"));
    let rest_url = rest.as_ref().map_or_else(String::new, |rest| format!(" rest {}", rest.url()));
    let http = match arguments.http_port {
        Some(port) => Some(start_http(&arguments, at(port), &cloud).await?),
        None => None,
    };
    let http_url = http.as_ref().map_or_else(String::new, |http| format!(" http {}", http.url()));
    println!("READY {}{tls}{rest_url}{http_url}", cloud.address());
    let sides = Sides { cloud, rest, http };
    tokio::select! {
        result = take_orders(&sides) => result,
        signal = tokio::signal::ctrl_c() => signal.context("wait for a signal"),
    }
}

async fn start_rest(arguments: &CloudArguments, address: SocketAddr) -> anyhow::Result<RestCloud> {
    let (access_key, secret_key) = arguments.rest_account.clone();
    let life = arguments.rest_life.map(Duration::from_secs);
    let options =
        RestOptions { address, access_key, secret_key, life, tls: arguments.rest_tls, ..RestOptions::default() };
    let rest = RestCloud::start(options).await?;
    if let Some(file) = &arguments.rest_ca_file {
        std::fs::write(file, rest.authority().pem()).with_context(|| format!("write {}", file.display()))?;
    }
    Ok(rest)
}

async fn start_http(arguments: &CloudArguments, address: SocketAddr, cloud: &Arc<Cloud>) -> anyhow::Result<HttpBroker> {
    let Some(file) = &arguments.http_ca_file else { return HttpBroker::start(address, cloud, None).await };
    let authority = Authority::new("enos-edge testbed HTTP broker CA")?;
    std::fs::write(file, authority.pem()).with_context(|| format!("write {}", file.display()))?;
    HttpBroker::start(address, cloud, Some(&authority)).await
}

/// What takes orders.
struct Sides {
    cloud: Arc<Cloud>,
    rest: Option<RestCloud>,
    http: Option<HttpBroker>,
}

async fn take_orders(sides: &Sides) -> anyhow::Result<()> {
    let cloud = &sides.cloud;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.context("read standard input")? {
        match line.trim() {
            "" => {}
            "down" => cloud.down().await,
            "up" => cloud.up().await,
            "drop" => cloud.drop_connections(),
            "forget" => cloud.forget_logins(),
            "report" => println!("{}", serde_json::to_string(&cloud.ledger(|ledger| ledger.report()))?),
            "stats" => println!("{}", serde_json::to_string(&cloud.stats())?),
            "quit" => return Ok(()),
            other => match carry_out(sides, other) {
                Ok(Some(said)) => println!("{said}"),
                Ok(None) => {}
                Err(error) => {
                    let known = format!("{}, {}, {}", orders::ORDERS, rest_orders::ORDERS, http_orders::ORDERS);
                    let error = format!("{error:#}; orders: down, up, drop, forget, report, stats, quit, {known}");
                    println!("{}", serde_json::json!({"error": error}));
                }
            },
        }
    }
    // Standard input was never ours: run until a signal comes.
    std::future::pending().await
}

fn carry_out(sides: &Sides, line: &str) -> anyhow::Result<Option<serde_json::Value>> {
    match line.split_once(' ') {
        Some(("rest", words)) => rest_orders::carry_out(sides.rest.as_ref().context("there is no --rest-port")?, words),
        Some(("http", words)) => http_orders::carry_out(sides.http.as_ref().context("there is no --http-port")?, words),
        _ => orders::carry_out(&sides.cloud, line),
    }
}

/// Runs Modbus devices until a signal comes.
///
/// # Errors
/// When the port is taken.
pub async fn meter(arguments: MeterArguments) -> anyhow::Result<()> {
    let wire = if arguments.rtu { Wire::Rtu } else { Wire::Tcp };
    let address = format!("127.0.0.1:{}", arguments.port);
    let meters = Meters::listen(wire, &address, 1..=arguments.units, arguments.pattern).await.context("meter")?;
    meters.set_all_faults(arguments.faults);
    println!("READY {}", meters.address());
    tokio::signal::ctrl_c().await.context("wait for a signal")
}

/// Runs an OPC UA machine until a signal comes.
///
/// # Errors
/// When it cannot start.
pub async fn machine(arguments: MachineArguments) -> anyhow::Result<()> {
    let config = MachineConfig {
        port: arguments.port,
        variables: arguments.variables,
        tick: Duration::from_millis(arguments.tick_ms),
        users: arguments.user,
        ..MachineConfig::default()
    };
    let machine = Machine::start(config).await?;
    println!("READY {}", machine.endpoint());
    tokio::signal::ctrl_c().await.context("wait for a signal")
}
