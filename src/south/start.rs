//! From a loaded package to one running task a connection.

use super::connection::{Line, State};
use super::live::{DeviceInfo, Live};
use super::outbound::Outbound;
use super::request::WAITING;
use super::schedule::Schedule;
use super::tap::Tap;
use super::{Handle, Inlet};
use crate::mapping::{DeviceMapper, Mapping};
use crate::model::{Connection, Site, Template};
use crate::telemetry::Counters;
use driver::ScanGroup;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// A polled value may feed formulas for three periods, but at least this long: a busy line is no dead one.
const FRESH: Duration = Duration::from_secs(30);

type Told = watch::Receiver<Option<Instant>>;

pub(super) fn lines(site: &Site, inlet: &Arc<dyn Inlet>, counters: &Arc<Counters>, told: &Told) -> Vec<Handle> {
    let mut mappings: HashMap<*const Template, Arc<Mapping>> = HashMap::new();
    let mut lines = Vec::with_capacity(site.connections.len());
    let began = Instant::now();
    for connection in &site.connections {
        let live = Arc::new(live(site, connection, &mut mappings));
        let tap = Arc::new(Tap::default());
        // Requests of people and clouds; a full queue refuses the next one as busy.
        let (requests, asked) = mpsc::channel(WAITING);
        let outbound = Outbound::new(site.names.epoch, Arc::clone(inlet), Arc::clone(counters));
        let line =
            line(connection, Arc::clone(&live), outbound, Arc::clone(counters), Arc::clone(&tap), asked, told, began);
        let plan = Arc::clone(&connection.plan);
        lines.push(Handle { live, plan, tap, requests, task: Mutex::new(Some(tokio::spawn(line.run()))) });
    }
    lines
}

#[expect(clippy::too_many_arguments, reason = "every part of one line, named once")]
fn line(
    connection: &Connection,
    live: Arc<Live>,
    outbound: Outbound,
    counters: Arc<Counters>,
    tap: Arc<Tap>,
    requests: mpsc::Receiver<super::Request>,
    told: &Told,
    began: Instant,
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
        requests,
        stop: told.clone(),
        began,
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
