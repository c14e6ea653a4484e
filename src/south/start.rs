//! From a loaded package to one running task a connection.

use super::connection::{Line, State};
use super::lines::{Handle, Numbers, Task};
use super::live::{DeviceInfo, Live};
use super::outbound::Outbound;
use super::request::WAITING;
use super::schedule::Schedule;
use super::tap::Tap;
use super::{Inlet, Lines};
use crate::mapping::{DeviceMapper, Mapping};
use crate::model::{Connection, OnDuty, Pulse, Site, Template};
use crate::telemetry::Counters;
use driver::ScanGroup;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// A polled value may feed formulas for three periods, but at least this long: a busy line is no dead one.
const FRESH: Duration = Duration::from_secs(30);

/// Lines of a site: those that `kept` still has, renumbered, and the others, started.
pub(super) fn lines(
    site: &Site,
    inlet: &Arc<dyn Inlet>,
    counters: &Arc<Counters>,
    kept: impl Fn(&Connection) -> Option<Arc<Handle>>,
) -> Lines {
    let mut mappings: HashMap<*const Template, Arc<Mapping>> = HashMap::new();
    let mut lines = Vec::with_capacity(site.connections.len());
    let epoch = site.names.epoch;
    for connection in &site.connections {
        lines.push(Arc::new(match kept(connection) {
            Some(old) => go_on(&old, connection, epoch),
            None => begin(connection, live(site, connection, &mut mappings), epoch, inlet, counters),
        }));
    }
    Lines { epoch, lines }
}

/// The same task under another package.
fn go_on(old: &Handle, connection: &Connection, epoch: u64) -> Handle {
    let live = Arc::new(old.live.renumbered(connection.devices.iter().map(|device| device.device)));
    old.task.numbers.send_replace(Numbers { epoch, live: Arc::clone(&live) });
    Handle {
        live,
        // It knows what was learned of the devices.
        plan: Arc::clone(&old.plan),
        tap: Arc::clone(&old.tap),
        requests: old.requests.clone(),
        transfers: old.transfers.clone(),
        inputs: old.inputs.clone(),
        task: Arc::clone(&old.task),
    }
}

fn begin(connection: &Connection, live: Live, epoch: u64, inlet: &Arc<dyn Inlet>, counters: &Arc<Counters>) -> Handle {
    let live = Arc::new(live);
    let tap = Arc::new(Tap::default());
    // Requests of people and clouds; a full queue refuses the next one as busy.
    let (requests, asked) = mpsc::channel(WAITING);
    // One file goes to one device at a time; a second step is refused as busy.
    let (transfers, sent) = mpsc::channel(1);
    let (stop, told) = watch::channel(None);
    let (numbers, renumbered) = watch::channel(Numbers { epoch, live: Arc::clone(&live) });
    let (saw, seen) = watch::channel(epoch);
    let outbound = Outbound::new(epoch, Arc::clone(inlet), Arc::clone(counters));
    let pulse = Arc::new(Pulse::default());
    let duty = OnDuty::new(&pulse);
    let ends = Ends { requests: asked, transfers: sent, stop: told, numbers: renumbered, seen: saw, duty };
    let line = line(connection, Arc::clone(&live), outbound, Arc::clone(counters), Arc::clone(&tap), ends);
    let join = Mutex::new(Some(tokio::spawn(line.run())));
    let task = Arc::new(Task { stop, numbers, seen, pulse, join });
    Handle {
        live,
        plan: Arc::clone(&connection.plan),
        tap,
        requests,
        transfers,
        inputs: connection.inputs.clone(),
        task,
    }
}

/// The task's ends of its channels.
struct Ends {
    requests: mpsc::Receiver<super::Request>,
    transfers: mpsc::Receiver<super::Request>,
    stop: watch::Receiver<Option<Instant>>,
    numbers: watch::Receiver<Numbers>,
    seen: watch::Sender<u64>,
    duty: OnDuty,
}

fn line(
    connection: &Connection,
    live: Arc<Live>,
    outbound: Outbound,
    counters: Arc<Counters>,
    tap: Arc<Tap>,
    ends: Ends,
) -> Line {
    let groups = connection.plan.scan_groups();
    let seed = fastrand::u64(..);
    let points = live.devices.last().map_or(0, |device| device.points().end as usize);
    Line {
        schedule: Schedule::new(groups, connection.devices.len(), seed),
        mappers: mappers(&live, groups),
        state: State {
            has_pushed: groups.iter().any(|group| group.pushed),
            marks: vec![0; points],
            ..State::default()
        },
        live,
        plan: Arc::clone(&connection.plan),
        counters,
        outbound,
        tap,
        requests: ends.requests,
        transfers: ends.transfers,
        stop: ends.stop,
        numbers: ends.numbers,
        seen: ends.seen,
        began: Instant::now(),
        duty: ends.duty,
        rng: fastrand::Rng::with_seed(seed),
    }
}

fn live(site: &Site, connection: &Connection, mappings: &mut HashMap<*const Template, Arc<Mapping>>) -> Live {
    let mut first_computed = 0;
    let mut devices = Vec::with_capacity(connection.devices.len());
    for device in &connection.devices {
        let compiled = || Arc::new(Mapping::compile(&device.template));
        let mapping = Arc::clone(mappings.entry(Arc::as_ptr(&device.template)).or_insert_with(compiled));
        let name = site.names.devices.get(device.device as usize).map_or_else(String::new, |names| names.name.clone());
        let formulas = mapping.formulas().count();
        let template = Arc::clone(&device.template);
        let first_point = device.first_point;
        devices.push(DeviceInfo { device: device.device, name, first_point, first_computed, template, mapping });
        first_computed += formulas;
    }
    Live::new(&connection.name, &connection.protocol, connection.plan.endpoint(), devices)
}

fn mappers(live: &Live, groups: &[ScanGroup]) -> Vec<DeviceMapper> {
    let points = live.devices.last().map_or(0, |device| device.points().end as usize);
    let mut limits = vec![None; points];
    for group in groups.iter().filter(|group| !group.pushed) {
        for point in &group.points {
            if let Some(limit) = limits.get_mut(*point as usize) {
                *limit = Some((group.period * 3).max(FRESH));
            }
        }
    }
    let mapper = |info: &DeviceInfo| {
        let limit = |row| limits.get((info.first_point + row) as usize).copied().flatten();
        DeviceMapper::new(Arc::clone(&info.mapping), info.device, info.first_point, limit)
    };
    live.devices.iter().map(mapper).collect()
}
