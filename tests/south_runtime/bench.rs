//! A running connection of a scripted protocol, with everything a test wants to see.

use driver::testkit::{self, Script, ScriptedPlan};
use driver::{PointKind, ValueType};
use enos_edge::model::{
    Argument, Batch, ConnectedDevice, Connection, Control, Credential, DataType, DeviceNames, Formula, Function, Inlet,
    Measurepoint, Names, PackageName, PointName, PointNames, Rule, Signal, Site, Template, ThingModel, Upload, Value,
};
use enos_edge::south::{Filter, Shown, South};
use enos_edge::telemetry::Counters;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

pub const S: Duration = Duration::from_secs(1);
pub const MS: Duration = Duration::from_millis(1);

/// Rows a device, the control row included.
pub const ROWS: u32 = 3;

#[derive(Default)]
pub struct Kept(Mutex<Vec<(Instant, Batch)>>);

impl Inlet for Kept {
    fn append(&self, batch: Batch) {
        self.0.lock().unwrap().push((Instant::now(), batch));
    }
}

impl Kept {
    /// (when it arrived, device, point, value)
    pub fn readings(&self) -> Vec<(Instant, u32, u32, Value)> {
        let mut readings = Vec::new();
        for (at, batch) in &*self.0.lock().unwrap() {
            for block in batch.blocks() {
                let block = block.unwrap();
                readings.extend(block.entries().map(|entry| {
                    let entry = entry.unwrap();
                    (*at, block.device, entry.point, entry.value.to_value())
                }));
            }
        }
        readings
    }

    /// Readings of each batch.
    pub fn counts(&self) -> Vec<u32> {
        self.0.lock().unwrap().iter().map(|(_, batch)| batch.count).collect()
    }

    /// The times of the readings of point 0 of a device, in the order of their arrival.
    pub fn times(&self, device: u32) -> Vec<i64> {
        let mut times = Vec::new();
        for (_, batch) in &*self.0.lock().unwrap() {
            for block in batch.blocks().map(Result::unwrap).filter(|block| block.device == device) {
                let found = block.entries().filter(|entry| entry.as_ref().unwrap().point == 0);
                times.extend(found.map(|_| block.time.0));
            }
        }
        times
    }

    /// When each of those arrived.
    pub fn of(&self, device: u32) -> Vec<Instant> {
        self.readings().into_iter().filter(|r| r.1 == device && r.2 == 0).map(|r| r.0).collect()
    }
}

/// A running connection with everything a test wants to see.
pub struct Bench {
    pub south: South,
    pub kept: Arc<Kept>,
    pub counters: Arc<Counters>,
    pub script: Arc<Script>,
    pub began: Instant,
}

impl Bench {
    pub fn quality(&self, device: &str, id: &str) -> (Option<Shown>, String) {
        let filter = Filter { device: Some(device.into()), ..Filter::default() };
        let point = self.south.values(&filter).into_iter().find(|point| point.id == id).unwrap();
        (point.value, point.quality)
    }

    pub fn device(&self, at: usize) -> enos_edge::south::DeviceStatus {
        self.south.status().connections[0].devices[at].clone()
    }
}

/// All devices share one template: rows ai.0.. and a last row ao; a measurement point for each ai row, the last
/// measurement point written by the ao row.
fn template(rows: u32, upload: Upload) -> Template {
    let numbers: Vec<String> = (0..rows).map(|row| row.to_string()).collect();
    let mut table: Vec<(&str, &str, ValueType, PointKind, &[&str])> = Vec::new();
    for number in &numbers {
        let last = table.len() as u32 == rows - 1;
        let kind = if last { PointKind::Ao } else { PointKind::Ai };
        table.push(("a point", number, ValueType::Short, kind, &[]));
    }
    let measurepoint = |row: u32| Measurepoint {
        id: format!("m{row}"),
        name: format!("M{row}"),
        data_type: DataType::Int,
        signal: Signal::Ai,
        unit: Some("V".into()),
        has_quality: false,
        mandatory: false,
        upload,
        late: None,
    };
    let rule = |row: u32| Rule {
        measurepoint: row,
        formula: Formula { function: Function::Equal, arguments: vec![Argument::Point(row)] },
        upload,
    };
    Template {
        name: "t".into(),
        model: Arc::new(ThingModel {
            id: "M".into(),
            name: "M".into(),
            parent: None,
            measurepoints: (0..rows).map(measurepoint).collect(),
        }),
        table: Arc::new(testkit::table(&[], &table)),
        rules: (0..rows - 1).map(rule).collect(),
        controls: vec![Control { measurepoint: rows - 1, row: rows - 1 }],
        commands: enos_edge::model::CommandRules::default(),
    }
}

pub fn site(plan: ScriptedPlan, rows: u32, upload: Upload) -> Site {
    let devices = plan.groups.iter().map(|group| group.device + 1).max().unwrap();
    let template = Arc::new(template(rows, upload));
    let points = template.model.measurepoints.iter().map(|p| PointName { id: p.id.clone(), has_quality: false });
    let points = Arc::new(PointNames { model: "M".into(), points: points.collect() });
    let names = (0..devices).map(|device| DeviceNames {
        name: format!("d{device}"),
        product_key: "pk".into(),
        device_key: format!("d{device}"),
        asset_id: None,
        points: Arc::clone(&points),
    });
    Site {
        package: PackageName { name: "test".into(), version: "1.0.0".into() },
        names: Arc::new(Names::new(names.collect())),
        credentials: vec![Credential::Logic; devices as usize],
        details: Vec::new(),
        connections: vec![Connection {
            name: "line".into(),
            protocol: "scripted".into(),
            inputs: "same".into(),
            devices: (0..devices)
                .map(|device| ConnectedDevice { device, first_point: device * rows, template: Arc::clone(&template) })
                .collect(),
            plan: Arc::new(plan),
        }],
        events: Arc::default(),
    }
}

pub fn bench_with(plan: ScriptedPlan, upload: Upload, prepare: impl FnOnce(&Script)) -> Bench {
    let (script, kept, counters) = (plan.script(), Arc::new(Kept::default()), Arc::new(Counters::default()));
    prepare(&script);
    let inlet: Arc<dyn Inlet> = Arc::clone(&kept) as Arc<dyn Inlet>;
    let began = Instant::now();
    let south = South::start(&site(plan, ROWS, upload), inlet, Arc::clone(&counters));
    Bench { south, kept, counters, script, began }
}

pub fn bench(devices: u32, prepare: impl FnOnce(&Script)) -> Bench {
    bench_with(ScriptedPlan::polled(devices, ROWS, S), Upload::Realtime, prepare)
}

pub fn worst_gap(times: &[Instant]) -> Duration {
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
}
