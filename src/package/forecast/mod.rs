//! PURE. What a package will cost: values collected, messages and bytes to the cloud, how busy each line is, how long
//! the outbox lasts offline. The formulas are in docs/reference/package.md.

mod lines;
pub mod report;

pub use lines::{Line, Missed};

use crate::config::Config;
use crate::model::{Argument, Rule};
use crate::model::{Connection, Credential, DataType, Measurepoint, Site, Template, Upload};
use std::collections::HashMap;
use std::time::Duration;

/// What is assumed of the gateway's configuration: its edge.yaml, or the defaults of one.
#[derive(Clone, Debug)]
pub struct Basis {
    pub linger: Duration,
    pub max_message_bytes: f64,
    pub quota_bytes: f64,
    pub max_age: Duration,
}

impl Default for Basis {
    fn default() -> Basis {
        Basis {
            linger: Duration::from_millis(20),
            max_message_bytes: 512.0 * 1024.0,
            quota_bytes: (1u64 << 30) as f64,
            max_age: Duration::from_secs(720 * 3600),
        }
    }
}

impl Basis {
    #[must_use]
    pub fn of(config: &Config) -> Basis {
        let (cloud, outbox) = (config.cloud.as_ref(), &config.outbox);
        let otherwise = Basis::default();
        Basis {
            linger: cloud.map_or(otherwise.linger, |cloud| cloud.linger),
            max_message_bytes: cloud.map_or(otherwise.max_message_bytes, |cloud| cloud.max_message_bytes as f64),
            quota_bytes: outbox.quota_bytes as f64,
            max_age: outbox.max_age,
        }
    }
}

/// From a plant where nothing changes to one where everything does, at each scan.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    pub least: f64,
    pub most: f64,
}

impl Range {
    fn add(&mut self, other: Range) {
        self.least += other.least;
        self.most += other.most;
    }

    fn map(self, f: impl Fn(f64) -> f64) -> Range {
        Range { least: f(self.least), most: f(self.most) }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Points read, each second. Points that a server pushes count as if they changed each period.
    pub values_per_s: f64,
    /// Readings for the cloud and other destinations, each second.
    pub readings_per_s: Range,
    /// Over MQTT; logic assets do not travel there.
    pub messages_per_day: Range,
    pub bytes_per_day: Range,
    /// `least` is the shortest time: when everything changes.
    pub outbox_hours: Range,
    /// The busiest first.
    pub lines: Vec<Line>,
}

/// Envelope of a message: id, version, method, topic, MQTT's own header.
const MESSAGE_BYTES: f64 = 180.0;
/// `{"productKey":"","deviceKey":"","measurepoints":{},"time":1700000000000},` without the keys.
const ITEM_BYTES: f64 = 78.0;

/// Characters of a value in JSON, typical; a quality takes 23 more.
fn value_bytes(point: &Measurepoint) -> f64 {
    let value = match point.data_type {
        DataType::Bool => 5.0,
        DataType::Int | DataType::Enum => 5.0,
        DataType::Float => 9.0,
        DataType::Double => 12.0,
        DataType::Timestamp => 13.0,
        DataType::String | DataType::Date | DataType::Struct | DataType::Array | DataType::File => 24.0,
    };
    // `"id":` and a comma.
    point.id.len() as f64 + 4.0 + value + if point.has_quality { 23.0 } else { 0.0 }
}

/// Bytes on disk, as measured (SPECIFICATION, outbox): the worst of each kind.
fn disk_bytes(point: &Measurepoint) -> f64 {
    match point.data_type {
        DataType::Bool | DataType::Int | DataType::Enum | DataType::Timestamp => 1.8,
        DataType::Float | DataType::Double => 3.5,
        DataType::String | DataType::Date | DataType::Struct | DataType::Array | DataType::File => 24.0,
    }
}

/// Sums over all devices, each second.
#[derive(Default)]
struct Sums {
    values: f64,
    readings: Range,
    disk: Range,
    /// Scans that have something for the cloud, and their bytes without envelopes.
    scans: Range,
    bytes: Range,
}

/// The forecast of a site.
#[must_use]
pub fn of(site: &Site, basis: &Basis) -> Forecast {
    let mut sums = Sums::default();
    let mut lines: Vec<Line> = Vec::with_capacity(site.connections.len());
    for connection in &site.connections {
        add_connection(site, connection, &mut sums);
        lines.push(lines::line(connection));
    }
    lines.sort_by(|a, b| b.load().total_cmp(&a.load()).then_with(|| a.connection.cmp(&b.connection)));
    let messages = Range {
        least: messages_per_s(sums.scans.least, sums.bytes.least, basis),
        most: messages_per_s(sums.scans.most, sums.bytes.most, basis),
    };
    let day = |per_s: f64| per_s * 86_400.0;
    let bytes = Range {
        least: day(sums.bytes.least + messages.least * MESSAGE_BYTES),
        most: day(sums.bytes.most + messages.most * MESSAGE_BYTES),
    };
    let hours = |per_s: f64| {
        let age = basis.max_age.as_secs_f64() / 3600.0;
        if per_s > 0.0 { (basis.quota_bytes / per_s / 3600.0).min(age) } else { age }
    };
    Forecast {
        values_per_s: sums.values,
        readings_per_s: sums.readings,
        messages_per_day: messages.map(day),
        bytes_per_day: bytes,
        outbox_hours: Range { least: hours(sums.disk.most), most: hours(sums.disk.least) },
        lines,
    }
}

/// Scans that come within the linger time share a message: R of them a second make R/(1 + R·L); none is larger than allowed.
fn messages_per_s(scans: f64, bytes: f64, basis: &Basis) -> f64 {
    (scans / (1.0 + scans * basis.linger.as_secs_f64())).max(bytes / basis.max_message_bytes)
}

fn add_connection(site: &Site, connection: &Connection, sums: &mut Sums) {
    let groups = connection.plan.scan_groups();
    let mut by_device: HashMap<u32, Vec<usize>> = HashMap::with_capacity(connection.devices.len());
    for (index, group) in groups.iter().enumerate() {
        by_device.entry(group.device).or_default().push(index);
    }
    let mut rates: Vec<f64> = Vec::new();
    for (index, device) in (0u32..).zip(&connection.devices) {
        rates.clear();
        rates.resize(device.template.table.len(), 0.0);
        for group in by_device.get(&index).into_iter().flatten().map(|group| &groups[*group]) {
            let rate = 1.0 / group.period.as_secs_f64().max(0.001);
            sums.values += rate * group.points.len() as f64;
            for point in &group.points {
                if let Some(slot) = rates.get_mut(point.wrapping_sub(device.first_point) as usize) {
                    *slot = rate;
                }
            }
        }
        let names = &site.names.devices[device.device as usize];
        let keys = (names.product_key.len() + names.device_key.len()) as f64;
        let logic = matches!(site.credentials[device.device as usize], Credential::Logic);
        add_device(&device.template, &rates, if logic { None } else { Some(keys) }, sums);
    }
}

/// `keys`: characters of product key and device key, of a device that travels over MQTT.
fn add_device(template: &Template, rates: &[f64], keys: Option<f64>, sums: &mut Sums) {
    // Scans of one period go together: rate -> how often one of its points has something to send.
    let mut scans: Vec<(f64, Range)> = Vec::new();
    for rule in &template.rules {
        let point = &template.model.measurepoints[rule.measurepoint as usize];
        let rate = rate_of(rule, rates);
        let sent = sent(rule.upload, rate);
        sums.readings.add(sent);
        sums.disk.add(sent.map(|per_s| per_s * disk_bytes(point)));
        if keys.is_none() {
            continue;
        }
        sums.bytes.add(sent.map(|per_s| per_s * value_bytes(point)));
        match scans.iter_mut().find(|(known, _)| *known == rate) {
            Some((_, most)) => {
                most.least = most.least.max(sent.least);
                most.most = most.most.max(sent.most);
            }
            None => scans.push((rate, sent)),
        }
    }
    for (_, scan) in scans {
        sums.scans.add(scan);
        sums.bytes.add(scan.map(|per_s| per_s * (ITEM_BYTES + keys.unwrap_or_default())));
    }
}

/// A formula yields a value whenever one of its points does.
fn rate_of(rule: &Rule, rates: &[f64]) -> f64 {
    let of = |argument: &Argument| match argument {
        Argument::Point(row) => rates.get(*row as usize).copied().unwrap_or_default(),
        Argument::Constant(_) => 0.0,
    };
    rule.formula.arguments.iter().map(of).fold(0.0, f64::max)
}

fn sent(upload: Upload, rate: f64) -> Range {
    let timed = |interval: Duration| rate.min(1.0 / interval.as_secs_f64().max(0.001));
    match upload {
        Upload::Realtime => Range { least: rate, most: rate },
        Upload::Timer(interval) => Range { least: timed(interval), most: timed(interval) },
        Upload::Change { .. } => Range { least: 0.0, most: rate },
        Upload::ChangeTimer { interval, .. } => Range { least: timed(interval), most: rate },
        Upload::Never => Range::default(),
    }
}

#[cfg(test)]
mod tests;
