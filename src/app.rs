//! The only place that joins the parts: makes channels, spawns tasks, stops them in order.

mod field;
mod oneself;

use crate::cloud::{CloudPorts, CloudSite};
use crate::config::{CloudConfig, Config, DestinationConfig};
use crate::doors::local::LocalDoor;
use crate::forward::{self, Feed, ForwardPorts};
use crate::identity::Keeper;
use crate::model::{Command, Commands, Inlet, Outcome, Site};
use crate::operate::command::Carrier;
use crate::operate::{self, Gateway, Refusal};
use crate::outbox::{DestinationSettings, Outbox};
use crate::rest::Client;
use crate::south::protocols::Protocols;
use crate::south::{Filter, South};
use crate::telemetry::Counters;
use crate::{cloud, diagnostic, outbox, package, shutdown};
use anyhow::Context;
use driver::Answer;
use oneself::Oneself;
use serde_json::{Value as Json, json};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The cloud's name as a destination.
const ENOS: &str = "enos";

/// Threads for what blocks: names of hosts, cryptography of a connect, questions to the outbox. More wait.
const BLOCKING: usize = 16;
/// None of that needs more stack.
const STACK: usize = 512 << 10;

/// Gaps and refused values that `status` lists, the newest last.
const LISTED: usize = 20;

/// A device that has not answered by then does not answer.
const READ_PATIENCE: Duration = Duration::from_secs(20);

/// Runs the gateway until a signal says stop.
///
/// # Errors
/// When it can not start: package, state folder, outbox or door. Never because a peer is out of reach.
pub fn run_blocking(config: Config) -> anyhow::Result<()> {
    // One thread: what the package reader gives back is used again by what runs, and nobody is woken to take over.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(STACK)
        .thread_name("enos-edge")
        .enable_all()
        .build()
        .context("start the runtime")?;
    let done = runtime.block_on(run(config));
    // A library's stuck thread does not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

async fn run(config: Config) -> anyhow::Result<()> {
    let stop_signal = shutdown::signal().context("watch for signals")?;
    make_state_dir(&config.state_dir)?;
    let counters = Arc::new(Counters::default());
    let site = load(&config)?;
    let outbox = outbox::open(
        &config.state_dir.join("outbox"),
        &config.outbox,
        &destinations(&config),
        Arc::clone(&site.names),
        Arc::clone(&counters),
    )
    .context("open the outbox")?;
    let door = LocalDoor::open(&config.control_socket)?;

    let inlet: Arc<dyn Inlet> = outbox.inlet();
    let south = Arc::new(South::start(&site, inlet, Arc::clone(&counters)));
    let commands = open_commands(&config, &site, &south, &counters)?;
    let (stop, stopped) = watch::channel(false);
    let rest = config.rest.clone().map(|rest| Client::new(rest).map(Arc::new));
    if let Some(Err(error)) = &rest {
        tracing::error!(%error, "the cloud's rest interface can not be used");
    }
    let cloud = config.cloud.clone().map(|c| {
        let oneself = oneself::start(&config, &c, rest.clone(), &counters, &stopped);
        start_cloud(c, &site, &outbox, &commands, &counters, oneself, stopped.clone())
    });
    let forward = start_destinations(&config, &site, &outbox, &counters, &stopped);
    let running = Arc::new(Running {
        begun: Instant::now(),
        site: Arc::clone(&site),
        south,
        commands,
        audit_dir: config.state_dir.join("audit"),
        outbox: Arc::new(outbox),
        endpoint: config.cloud.as_ref().map(endpoint),
        cloud: cloud.as_ref().map(|c| c.status.clone()),
        keeper: cloud.as_ref().map(|c| Arc::clone(&c.oneself.keeper)),
        certificate: cloud.as_ref().and_then(|c| c.oneself.certificate.clone()),
        destinations: forward.iter().map(|one| Arc::clone(&one.status)).collect(),
        counters,
    });
    let gateway: Arc<dyn Gateway> = Arc::clone(&running) as Arc<dyn Gateway>;
    let door = tokio::spawn(door.serve(gateway));
    announce_ready(&site);

    let signal = stop_signal.await;
    tracing::info!(signal, "stopping");
    // Best effort: without systemd nobody listens.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    door.abort();
    for late in running.south.stop(shutdown::PART).await {
        tracing::warn!(connection = %late, "a request was still under way and was cut off");
    }
    // Whoever watched the sender has gone only if the cloud task has ended already.
    let _ = stop.send(true);
    if let Some(cloud) = cloud {
        shutdown::part("cloud", async { drop(cloud.task.await) }).await;
        if let Some(task) = cloud.oneself.task {
            shutdown::part("certificate", async { drop(task.await) }).await;
        }
    }
    for one in forward {
        shutdown::part("destination", async { drop(one.task.await) }).await;
    }
    let outbox = Arc::clone(&running.outbox);
    let closed = tokio::task::spawn_blocking(move || outbox.close(shutdown::PART)).await;
    closed.context("close the outbox")?.context("store what waits")?;
    tracing::info!(waiting = running.counters.outbox_readings.get(), "stopped; what waits is on disk");
    Ok(())
}

/// The checked package as the daemon runs it. Faults keep the gateway from starting.
fn load(config: &Config) -> anyhow::Result<Arc<Site>> {
    let path =
        config.package.as_deref().context("no package is configured; name one in edge.yaml or with --package")?;
    let secrets = config.state_dir.join("secrets");
    match package::load(path, &Protocols::new(&config.state_dir).list(), Some(&secrets)) {
        Ok(site) => Ok(Arc::new(site)),
        Err(faults) => {
            anyhow::bail!("package {} can not be used:\n{}", path.display(), diagnostic::joined(&faults))
        }
    }
}

/// Readable by the daemon alone: it holds readings and keys.
fn make_state_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make state folder {}", path.display()))
}

/// Those the outbox keeps a cursor for.
fn destinations(config: &Config) -> Vec<DestinationSettings> {
    let plain = config.destinations.iter().map(|one| one.name.as_str());
    // With nobody configured the readings still wait for a cloud: configuring it later delivers them.
    let cloud = (config.cloud.is_some() || config.destinations.is_empty()).then_some(ENOS);
    cloud.into_iter().chain(plain).map(DestinationSettings::from).collect()
}

struct ForwardTask {
    task: tokio::task::JoinHandle<()>,
    status: Arc<forward::Status>,
}

fn start_destinations(
    config: &Config,
    site: &Arc<Site>,
    outbox: &Outbox,
    counters: &Arc<Counters>,
    stopped: &watch::Receiver<bool>,
) -> Vec<ForwardTask> {
    let place = forward::Place {
        gateway: config.cloud.as_ref().map(|cloud| cloud.device_key.clone()).unwrap_or_default(),
        site: site.package.name.clone(),
    };
    let feed = Arc::new(feed(site));
    let start = |one: &DestinationConfig| {
        let scheme = if one.tls.is_some() { "ssl" } else { "tcp" };
        let endpoint = format!("{scheme}://{}:{}", one.host, one.port);
        let status = Arc::new(forward::Status::new(&one.name, endpoint));
        let ports = ForwardPorts {
            outlet: outbox.outlet(&one.name),
            inlet: outbox.inlet(),
            feed: Arc::clone(&feed),
            counters: Arc::clone(counters),
            status: Arc::clone(&status),
        };
        let task = tokio::spawn(forward::run(one.clone(), place.clone(), ports, stopped.clone()));
        ForwardTask { task, status }
    };
    config.destinations.iter().map(start).collect()
}

/// The points that brokers may feed.
fn feed(site: &Site) -> Feed {
    let mut models = vec![None; site.names.devices.len()];
    for device in site.connections.iter().flat_map(|connection| &connection.devices) {
        if let Some(model) = models.get_mut(device.device as usize) {
            *model = Some(Arc::clone(&device.template.model));
        }
    }
    Feed::new(Arc::clone(&site.names), models)
}

/// The carrier of commands, on the connections of the site.
fn open_commands(
    config: &Config,
    site: &Site,
    south: &Arc<South>,
    counters: &Arc<Counters>,
) -> anyhow::Result<Arc<dyn Commands>> {
    let edge = config.cloud.as_ref().map(|cloud| (cloud.product_key.clone(), cloud.device_key.clone()));
    let field = Arc::new(field::Wired(Arc::clone(south)));
    let carrier = Carrier::open(&config.state_dir, &config.commands, edge, site, field, Arc::clone(counters))?;
    Ok(Arc::new(carrier))
}

struct CloudTask {
    task: tokio::task::JoinHandle<()>,
    status: Arc<cloud::Status>,
    oneself: Oneself,
}

fn start_cloud(
    config: CloudConfig,
    site: &Arc<Site>,
    outbox: &Outbox,
    commands: &Arc<dyn Commands>,
    counters: &Arc<Counters>,
    oneself: Oneself,
    stopped: watch::Receiver<bool>,
) -> CloudTask {
    let status = Arc::new(cloud::Status::default());
    let ports = CloudPorts {
        outlet: outbox.outlet(ENOS),
        commands: Arc::clone(commands),
        identity: Arc::clone(&oneself.keeper) as _,
        counters: Arc::clone(counters),
        status: Arc::clone(&status),
        extras: cloud::CloudExtras { notices: Arc::clone(&oneself.notices), ..cloud::CloudExtras::default() },
    };
    let names = CloudSite { names: Arc::clone(&site.names), credentials: site.credentials.clone() };
    let running = cloud::run(config, names, ports, stopped);
    let task = tokio::spawn(async move {
        if let Err(error) = running.await {
            tracing::error!("cloud link ended: {error:#}; readings wait in the outbox");
        }
    });
    CloudTask { task, status, oneself }
}

fn announce_ready(site: &Site) {
    tracing::info!(
        package = %site.package.name,
        version = %site.package.version,
        devices = site.names.devices.len(),
        connections = site.connections.len(),
        "running"
    );
    // Best effort: without systemd nobody listens.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

fn endpoint(cloud: &CloudConfig) -> String {
    let scheme = if cloud.tls.is_some() { "ssl" } else { "tcp" };
    format!("{scheme}://{}:{}", cloud.host, cloud.port)
}

/// The newest losses and refusals; null when the disk does not tell.
fn listings(outbox: &Outbox) -> (Json, Json) {
    fn newest<T: serde::Serialize>(rows: Result<Vec<T>, outbox::OutboxError>) -> Json {
        rows.map_or(Json::Null, |rows| json!(rows[rows.len().saturating_sub(LISTED)..]))
    }
    (newest(outbox.gaps()), newest(outbox.set_aside_rows()))
}

fn no_certificate() -> Refusal {
    let problem = "this gateway keeps no certificate itself; configure `certificate:` and `rest:`";
    Refusal::new("not_configured", problem)
}

/// All parts, as operations see them.
struct Running {
    begun: Instant,
    site: Arc<Site>,
    south: Arc<South>,
    commands: Arc<dyn Commands>,
    audit_dir: PathBuf,
    outbox: Arc<Outbox>,
    /// Where the cloud is, for people.
    endpoint: Option<String>,
    cloud: Option<Arc<cloud::Status>>,
    keeper: Option<Arc<Keeper>>,
    certificate: Option<oneself::Certificate>,
    destinations: Vec<Arc<forward::Status>>,
    counters: Arc<Counters>,
}

impl Gateway for Running {
    fn status(&self, with_listings: bool) -> Answer<'_, Json> {
        Box::pin(async move {
            let mut outbox = json!(self.outbox.status());
            if with_listings {
                let asked = Arc::clone(&self.outbox);
                // They ask the disk, and the disk may be stuck.
                let listed = tokio::task::spawn_blocking(move || listings(&asked)).await;
                (outbox["gaps"], outbox["set_aside_rows"]) = listed.unwrap_or_default();
            }
            json!({
                "version": env!("CARGO_PKG_VERSION"),
                "uptime_s": self.begun.elapsed().as_secs(),
                "package": {
                    "name": self.site.package.name,
                    "version": self.site.package.version,
                    "epoch": self.site.names.epoch,
                },
                "south": self.south.status(),
                "cloud": self.cloud.as_ref().map(|cloud| {
                    let mut cloud = json!(cloud.snapshot());
                    cloud["endpoint"] = json!(self.endpoint);
                    cloud["identity"] = json!(self.keeper.as_ref().map(|keeper| keeper.status()));
                    cloud
                }),
                "destinations": self.destinations.iter().map(|one| one.snapshot()).collect::<Vec<_>>(),
                "outbox": outbox,
                "counters": self.counters.all().collect::<std::collections::BTreeMap<_, _>>(),
            })
        })
    }

    fn command(&self, command: Command) -> Answer<'static, Outcome> {
        self.commands.perform(command)
    }

    fn certificate(&self) -> Result<Json, Refusal> {
        self.certificate.as_ref().map(oneself::Certificate::status).ok_or_else(no_certificate)
    }

    fn renew_certificate(&self) -> Answer<'_, Result<Json, Refusal>> {
        Box::pin(async move {
            let certificate = self.certificate.as_ref().ok_or_else(no_certificate)?;
            let asked = certificate.handle().renew().await.map_err(|why| Refusal::new("no_certificate", why))?;
            Ok(json!(asked.facts))
        })
    }

    fn audit(&self) -> PathBuf {
        self.audit_dir.clone()
    }

    fn values(&self, filter: &str) -> Json {
        let text = (!filter.is_empty()).then(|| filter.to_owned());
        json!(self.south.values(&Filter { text, ..Filter::default() }))
    }

    fn read<'a>(&'a self, device: &'a str, point: Option<&'a str>) -> Answer<'a, Result<Json, Refusal>> {
        Box::pin(async move {
            let connection = self.south.connection_of(device).ok_or_else(|| {
                let known = diagnostic::did_you_mean(device, self.south.devices());
                Refusal::new("unknown_device", format!("device \"{device}\" is not in the package; {known}"))
            })?;
            let read = self.south.read_now(connection, device, READ_PATIENCE).await;
            let mut values = read.map_err(|e| Refusal::new(operate::NO_ANSWER, format!("device \"{device}\": {e}")))?;
            if let Some(point) = point {
                let all: Vec<String> = values.iter().map(|v| v.id.clone()).collect();
                values.retain(|v| v.id == point || v.point == point || v.name == point);
                if values.is_empty() {
                    let known = diagnostic::did_you_mean(point, all.iter().map(String::as_str));
                    let problem = format!("point \"{point}\" is not one of device \"{device}\"; {known}");
                    return Err(Refusal::new("unknown_point", problem));
                }
            }
            Ok(json!(values))
        })
    }
}
