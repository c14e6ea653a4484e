//! The only place that joins the parts: makes channels, spawns tasks, stops them in order.

mod boot;
mod clock;
mod cloud_link;
mod destinations;
mod devices;
mod doors;
mod engine;
mod events;
mod extras;
mod fetch;
mod field;
mod gateway;
mod jobs;
mod judging;
mod notice_store;
mod offline;
mod oneself;
mod packages;
mod publishes;
mod publishing;
mod update;
mod watched;

pub use offline::{install_offline, package_history_offline, packages_offline, ready_package, roll_back_offline};

use crate::config::Config;
use crate::doors::local::LocalDoor;
use crate::forward::FeedDesk;
use crate::model::{Commands, Inlet, Site};
use crate::operate::Gateway;
use crate::operate::command::Carrier;
use crate::outbox::Outbox;
use crate::south::South;
use crate::telemetry::Counters;
use crate::watchdog::Watchdog;
use crate::{outbox, shutdown};
use anyhow::Context;
use gateway::Running;
use packages::{Packages, Parts};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Threads for what blocks: names of hosts, cryptography of a connect, questions to the outbox. More wait.
const BLOCKING: usize = 16;
/// None of that needs more stack.
const STACK: usize = 512 << 10;
/// An idle one ends after so long. They take turns, so a longer time keeps all that were ever needed at once.
const KEEP: Duration = Duration::from_secs(1);

/// Runs the gateway until a signal says stop.
///
/// # Errors
/// When it can not start: package, state folder, outbox or door. Never because a peer is out of reach.
pub fn run_blocking(config: Config) -> anyhow::Result<()> {
    let watchdog = Watchdog::start().context("start the watchdog")?;
    // One thread: what the package reader gives back is used again by what runs, and nobody is woken to take over.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(STACK)
        .thread_keep_alive(KEEP)
        .thread_name("enos-edge")
        .enable_all()
        .build()
        .context("start the runtime")?;
    let done = runtime.block_on(run(config, &watchdog));
    // A library's stuck thread does not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    done
}

/// What every task that is started stands on.
struct Ground<'a> {
    config: &'a Config,
    site: &'a Arc<Site>,
    site_name: &'a Arc<OnceLock<String>>,
    outbox: &'a Outbox,
    /// Where readings go in.
    inlet: &'a Arc<dyn Inlet>,
    commands: &'a Arc<dyn Commands>,
    counters: &'a Arc<Counters>,
    stopped: &'a watch::Receiver<bool>,
}

async fn run(config: Config, watchdog: &Watchdog) -> anyhow::Result<()> {
    let mut signals = shutdown::Signals::watch().context("watch for signals")?;
    make_state_dir(&config.state_dir)?;
    let counters = Arc::new(Counters::default());
    watchdog.starting("loading the package");
    let boot::First { generations, site, waits } = boot::first(&config, engine::is_confirmed(&config))?;
    let destinations = destinations::settings(&config);
    destinations::warn_of_idle_filters(&destinations, &site);
    watchdog.starting("opening the outbox");
    let outbox = outbox::open(
        &config.state_dir.join("outbox"),
        &config.outbox,
        &destinations,
        Arc::clone(&site.names),
        Arc::clone(&counters),
    )
    .context("open the outbox")?;
    let door = LocalDoor::open(&config.control_socket)?;

    let events = Arc::new(events::Events::new(&site, outbox.inlet(), &counters));
    let clocked = Arc::new(clock::Clocked::new(Arc::clone(&events) as _, &counters, config.clock_wait));
    let inlet: Arc<dyn Inlet> = Arc::clone(&clocked) as _;
    let south = Arc::new(South::start(&site, Arc::clone(&inlet), Arc::clone(&counters)));
    let carrier = open_commands(&config, &site, &south, &counters)?;
    let commands: Arc<dyn Commands> = Arc::new(carrier.clone());
    let feed = Arc::new(FeedDesk::new(destinations::feed(&site)));
    let site_name = Arc::new(site.named().map_or_else(OnceLock::new, OnceLock::from));
    let (stop, stopped) = watch::channel(false);
    let ground = Ground {
        config: &config,
        site: &site,
        site_name: &site_name,
        outbox: &outbox,
        inlet: &inlet,
        commands: &commands,
        counters: &counters,
        stopped: &stopped,
    };
    let cloud = cloud_link::start(&ground, &south);
    if let Some(cloud) = &cloud {
        events.tell_to(Arc::clone(&cloud.oneself.notices));
    }
    let watching = events.start();
    let forward = destinations::start(&ground, &feed);
    let integration = destinations::start_integration(&ground);
    let outbox = Arc::new(outbox);
    let parts = Parts {
        config: config.clone(),
        south: Arc::clone(&south),
        outbox: Arc::clone(&outbox),
        events: Arc::clone(&events),
        carrier: carrier.clone(),
        feed,
        site_name,
        rosters: cloud.as_ref().map(|c| Arc::clone(&c.rosters)),
        notices: cloud.as_ref().map(|c| Arc::clone(&c.oneself.notices)),
        counters: Arc::clone(&counters),
    };
    let packages = Arc::new(Packages::new(parts, generations, Arc::clone(&site), waits.as_deref()));
    packages.watch_on().await;
    let fetch = fetch::start(&config, &cloud, &packages, &carrier, &stopped).await;
    let links = watched::Links::of(cloud.as_ref(), &forward, integration.as_ref());
    let watched = watched::Parts::new(
        Arc::clone(&packages),
        Arc::clone(&south),
        Arc::clone(&outbox),
        links,
        Arc::clone(&counters),
    );
    let restart = shutdown::Restart::default();
    let notices = cloud.as_ref().map(|cloud| Arc::clone(&cloud.oneself.notices) as Arc<dyn crate::model::Notices>);
    let engine = engine::start(&config, &packages, &south, &outbox, notices, &restart);
    let updates = update::start(&config, &cloud, &packages, &carrier, &engine, &restart, &stopped);
    let doors = doors::statuses(&config);
    let running = Arc::new(Running {
        begun: Instant::now(),
        packages,
        engine,
        south,
        commands,
        audit_dir: config.state_dir.join("audit"),
        outbox,
        endpoint: cloud.as_ref().map(|c| c.endpoint.clone()),
        cloud: cloud.as_ref().map(|c| Arc::clone(&c.status)),
        keeper: cloud.as_ref().map(|c| Arc::clone(&c.oneself.keeper)),
        certificate: cloud.as_ref().and_then(|c| c.oneself.certificate.clone()),
        desk: cloud.as_ref().map(|c| Arc::clone(&c.desk)),
        integration: integration.as_ref().map(|one| Arc::clone(&one.status)),
        destinations: forward.iter().map(|one| Arc::clone(&one.status)).collect(),
        fetch: fetch.shown.clone(),
        jobs: jobs::Jobs::default(),
        updates: updates.handle,
        doors: doors.clone(),
        clocked: Arc::clone(&clocked),
        events,
        counters,
    });
    let gateway: Arc<dyn Gateway> = Arc::clone(&running) as Arc<dyn Gateway>;
    let doors = doors::start(&config, &gateway, doors, &stopped);
    let door = tokio::spawn(door.serve(gateway));
    running.packages.ready(running.packages.current().await).await;
    running.packages.resume().await;
    watchdog.starting("reaching the sub-devices for the first time");
    let told_to_stop = tokio::select! {
        signal = signals.stop() => Some(signal),
        () = watched::begun(&running.south) => None,
    };
    watchdog.running(Arc::new(watched));
    announce(&site, waits.as_deref());

    let signal = match told_to_stop {
        Some(signal) => signal,
        None => tokio::select! {
            signal = signals.stop() => signal,
            () = restart.asked() => "another engine is to start",
        },
    };
    tracing::info!(signal, "stopping");
    watchdog.stopping();
    door.abort();
    watching.abort();
    running.packages.stop();
    shutdown::part("the package's flag", running.packages.ready(None)).await;
    for late in running.south.stop(shutdown::PART).await {
        tracing::warn!(connection = %late, "a request was still under way and was cut off");
    }
    clocked.stop();
    // Whoever watched the sender has gone only if the cloud task has ended already.
    let _ = stop.send(true);
    let mut tasks: Vec<(&'static str, JoinHandle<()>)> = fetch.tasks.into_iter().map(|task| ("fetch", task)).collect();
    tasks.push(("updates", updates.task));
    tasks.extend(doors.into_iter().map(|task| ("door", task)));
    if let Some(cloud) = cloud {
        tasks.push(("cloud", cloud.task));
        tasks.extend(cloud.oneself.task.map(|task| ("certificate", task)));
    }
    tasks.extend(integration.map(|one| ("integration", one.task)));
    tasks.extend(forward.into_iter().map(|one| ("destination", one.task)));
    shutdown::parts(tasks).await;
    shutdown::part("notices", running.packages.flush()).await;
    let outbox = Arc::clone(&running.outbox);
    let closed = tokio::task::spawn_blocking(move || outbox.close(shutdown::LAST)).await;
    closed.context("close the outbox")?.context("store what waits")?;
    tracing::info!(waiting = running.counters.outbox_readings.get(), "stopped; what waits is on disk");
    Ok(())
}

/// Readable by the daemon alone: it holds readings and keys.
fn make_state_dir(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make state folder {}", path.display()))
}

/// The carrier of commands, on the connections of the site.
fn open_commands(
    config: &Config,
    site: &Site,
    south: &Arc<South>,
    counters: &Arc<Counters>,
) -> anyhow::Result<Carrier> {
    let edge = config.cloud.as_ref().map(|cloud| (cloud.product_key.clone(), cloud.device_key.clone()));
    let field = Arc::new(field::Wired(south.now()));
    Carrier::open(&config.state_dir, &config.commands, edge, site, field, Arc::clone(counters))
}

fn announce(site: &Site, waits: Option<&str>) {
    if let Some(why) = waits.filter(|_| site.is_empty()) {
        tracing::error!(
            "waiting for a good package; mend it and restart the gateway, or install another with `enos-edge package \
             install`: {why}"
        );
        return;
    }
    if site.is_empty() {
        tracing::warn!(
            "no package yet; install one with `enos-edge package install`, push it, or name it in edge.yaml"
        );
        return;
    }
    tracing::info!(
        package = %site.package.name,
        version = %site.package.version,
        devices = site.names.devices.len(),
        connections = site.connections.len(),
        "running"
    );
}
