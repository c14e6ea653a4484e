//! What `status` and `monitor` show of the sub-devices.

use super::live::{DeviceInfo, Live, Now, PointState};
use crate::mapping::{Scaled, convert};
use crate::model::{Datum, Reason, Timestamp, Value};
use driver::Plan;
use serde::{Serialize, Serializer};

/// A value as people and scripts see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown(pub Value);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Bool(b) => serializer.serialize_bool(*b),
            Value::Int(i) => serializer.serialize_i64(*i),
            // The shortest number that is this float, so that 0.1 is shown as 0.1: JSON's own are doubles.
            Value::Float(x) => serializer.serialize_f64(x.to_string().parse().unwrap_or_else(|_| f64::from(*x))),
            Value::Double(x) => serializer.serialize_f64(*x),
            Value::Text(s) => serializer.serialize_str(s),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    Starting,
    Connecting,
    Connected,
    /// Between two attempts, or with nobody to talk to before the next probe.
    Waiting,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    Starting,
    Online,
    /// It does not answer and is probed now and then.
    Silent,
    NotConnected,
}

#[derive(Clone, Debug, Serialize)]
pub struct SouthStatus {
    pub connections: Vec<ConnectionStatus>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ConnectionStatus {
    pub name: String,
    pub protocol: String,
    pub endpoint: String,
    pub state: ConnectionState,
    /// Milliseconds since 1970, as all times here.
    pub since: i64,
    pub last_error: Option<String>,
    pub sessions: u64,
    pub failed_connects: u64,
    /// What the driver learned of the devices, a line each.
    pub learned: Vec<String>,
    pub devices: Vec<DeviceStatus>,
}

#[derive(Clone, Debug, Serialize)]
pub struct DeviceStatus {
    pub name: String,
    pub state: DeviceState,
    pub since: i64,
    pub last_error: Option<String>,
    pub points: u32,
    pub reads: u64,
    pub timeouts: u64,
    /// Values the device refused to give.
    pub exceptions: u64,
    /// Scan periods that were missed.
    pub skipped: u64,
    pub last_scan_ms: f64,
}

/// One measurement point, or one point that fills none.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointNow {
    pub connection: String,
    pub device: String,
    /// The measurement point, or the point itself (`ai.3000`) when it fills none.
    #[serde(rename = "point")]
    pub id: String,
    /// The point it is read from; empty for a formula.
    #[serde(rename = "source")]
    pub point: String,
    pub name: String,
    pub unit: Option<String>,
    pub raw: Option<Shown>,
    pub value: Option<Shown>,
    pub quality: String,
    /// Milliseconds since 1970.
    pub time: i64,
}

/// Which points to show. Empty means all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub connection: Option<String>,
    pub device: Option<String>,
    /// Part of the id, the point, the name or the device.
    pub text: Option<String>,
}

impl Filter {
    pub(super) fn has_connection(&self, name: &str) -> bool {
        self.connection.as_deref().is_none_or(|wanted| wanted == name)
    }

    pub(super) fn has_device(&self, name: &str) -> bool {
        self.device.as_deref().is_none_or(|wanted| wanted == name)
    }

    fn has_point(&self, point: &PointNow) -> bool {
        let texts = [&point.id, &point.point, &point.name, &point.device];
        self.text.as_deref().is_none_or(|wanted| texts.iter().any(|text| text.contains(wanted)))
    }
}

pub(super) fn connection_status(live: &Live, plan: &dyn Plan) -> ConnectionStatus {
    let learned = plan.learned();
    let now = live.lock();
    let device = |(info, state): (&DeviceInfo, &super::live::DeviceNow)| DeviceStatus {
        name: info.name.clone(),
        state: state.state,
        since: state.since.0,
        last_error: state.last_error.clone(),
        points: info.points().len() as u32,
        reads: state.reads,
        timeouts: state.timeouts,
        exceptions: state.exceptions,
        skipped: state.skipped,
        last_scan_ms: state.last_scan.as_secs_f64() * 1000.0,
    };
    ConnectionStatus {
        name: live.name.clone(),
        protocol: live.protocol.clone(),
        endpoint: live.endpoint.clone(),
        state: now.state,
        since: now.since.0,
        last_error: now.last_error.clone(),
        sessions: now.sessions,
        failed_connects: now.failed_connects,
        learned,
        devices: live.devices.iter().zip(now.devices.iter()).map(device).collect(),
    }
}

/// Adds the points of a connection that pass the filter. The lock is held for one device at a time.
pub(super) fn points(live: &Live, filter: &Filter, out: &mut Vec<PointNow>) {
    for info in live.devices.iter().filter(|info| filter.has_device(&info.name)) {
        of_device(live, info, None, &mut |point| {
            if filter.has_point(&point) {
                out.push(point);
            }
        });
    }
}

/// The points of one device, or those of them that fill some measurement points.
pub(super) fn of_device(live: &Live, info: &DeviceInfo, wanted: Option<&[u32]>, show: &mut impl FnMut(PointNow)) {
    let now = live.lock();
    let fills = |measurepoint: u32| wanted.is_none_or(|wanted| wanted.contains(&measurepoint));
    let rows = (0u32..).zip(&now.points[info.first_point as usize..info.points().end as usize]);
    for (row, state) in rows {
        // Most of a device's points are none of those: nothing is made of them.
        if wanted.is_none() || info.mapping.direct(row).any(|(measurepoint, _)| fills(measurepoint)) {
            show_row(live, info, row, state, show);
        }
    }
    formulas(live, info, &now, fills).for_each(show);
}

fn show_row(live: &Live, info: &DeviceInfo, row: u32, state: &PointState, show: &mut impl FnMut(PointNow)) {
    let text = info.template.table.row(row as usize);
    let point = format!("{}.{}", text.row().kind.word(), text.number());
    let (raw, doubt) = match &state.datum {
        Datum::Good(value) => (Some(value), None),
        Datum::Uncertain(value, reason) => (Some(value), Some(reason)),
        Datum::Bad(_) => (None, None),
    };
    let scaled = raw.map(|value| info.mapping.scale(row).ok_or(Reason::TypeMismatch).and_then(|s| s.apply(value)));
    let quality = |value: &Option<Result<Value, Reason>>| match (&state.datum, value) {
        (Datum::Bad(reason), _) | (_, Some(Err(reason))) => format!("bad: {reason}"),
        _ => doubt.map_or_else(|| "good".to_owned(), |reason| format!("uncertain: {reason}")),
    };
    let base = PointNow {
        connection: live.name.clone(),
        device: info.name.clone(),
        id: point.clone(),
        point,
        name: text.name().to_owned(),
        unit: None,
        raw: raw.cloned().map(Shown),
        value: None,
        quality: String::new(),
        time: state.time.0,
    };
    let mut mapped = false;
    for (measurepoint, data_type) in info.mapping.direct(row) {
        let model = &info.template.model.measurepoints[measurepoint as usize];
        let mut scratch = String::new();
        let value = scaled.map(|s| s.and_then(|s| convert(s, data_type, &mut scratch).map(|v| v.to_value())));
        let quality = quality(&value);
        let value = value.and_then(Result::ok).map(Shown);
        show(PointNow { id: model.id.clone(), unit: model.unit.clone(), quality, value, ..base.clone() });
        mapped = true;
    }
    if !mapped {
        let value = scaled.map(|s| s.map(Scaled::to_value));
        let quality = quality(&value);
        show(PointNow { quality, value: value.and_then(Result::ok).map(Shown), ..base });
    }
}

fn formulas<'a>(
    live: &'a Live,
    info: &'a DeviceInfo,
    now: &'a Now,
    wanted: impl Fn(u32) -> bool + 'a,
) -> impl Iterator<Item = PointNow> + 'a {
    let all = info.mapping.formulas().zip(&now.computed[info.first_computed..]);
    all.filter(move |(measurepoint, _)| wanted(*measurepoint)).map(|(measurepoint, state)| {
        let model = &info.template.model.measurepoints[measurepoint as usize];
        let mut scratch = String::new();
        let (value, doubt) = match &state.datum {
            Datum::Good(value) => (Ok(value), None),
            Datum::Uncertain(value, _) => (Ok(value), Some("uncertain")),
            Datum::Bad(reason) => (Err(*reason), None),
        };
        let value =
            value.and_then(|value| convert(Scaled::Exact(value), model.data_type, &mut scratch).map(|v| v.to_value()));
        PointNow {
            connection: live.name.clone(),
            device: info.name.clone(),
            id: model.id.clone(),
            point: String::new(),
            name: model.name.clone(),
            unit: model.unit.clone(),
            raw: None,
            quality: match &value {
                Err(reason) => format!("bad: {reason}"),
                Ok(_) => doubt.unwrap_or("good").to_owned(),
            },
            value: value.ok().map(Shown),
            time: if state.time == Timestamp(i64::MIN) { 0 } else { state.time.0 },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_float_is_shown_with_the_digits_it_has() {
        let shown = [0.1, 239.97, 1.0e20].map(|x| serde_json::json!(Shown(Value::Float(x))).to_string());
        assert_eq!(shown, ["0.1", "239.97", "1e+20"]);
        assert_eq!(serde_json::json!(Shown(Value::Float(f32::NAN))), serde_json::Value::Null);
    }
}
