//! Protocol `virtual`: computed points, for trials without a device.

mod source;

use driver::{
    Answer, ConnectionText, Datum, Diagnostic, FrameTap, Plan, Protocol, Reason, Resource, RowText, Sample, ScanGroup,
    Session, SessionError, Timestamp, Value, ValueType, did_you_mean,
};
use source::{Shape, Source, fit};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The protocol `virtual`.
pub struct Virtual;

impl Protocol for Virtual {
    fn name(&self) -> &'static str {
        "virtual"
    }

    fn plan(&self, connection: &ConnectionText<'_>) -> Result<Arc<dyn Plan>, Vec<Diagnostic>> {
        Ok(Arc::new(VirtualPlan { inner: Arc::new(Inner::read(connection)?) }))
    }
}

struct Point {
    source: Source,
    value_type: ValueType,
    /// What writes to this number change; shared by the control point and the collected one.
    cell: usize,
}

struct Inner {
    points: Vec<Point>,
    groups: Vec<ScanGroup>,
    /// Scans of each group; they survive the session, so that counters go on.
    scans: Vec<AtomicU64>,
    written: Mutex<HashMap<usize, Value>>,
}

impl Inner {
    fn read(connection: &ConnectionText<'_>) -> Result<Inner, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        connection.parameters.refuse_unknown(&["scan_period_ms"], &mut faults);
        let second = Duration::from_secs(1);
        let period = connection.parameters.millis_or("scan_period_ms", second, 1..=86_400_000, &mut faults);
        let mut points = Vec::new();
        let mut groups = BTreeMap::<u32, Vec<u32>>::new();
        let mut cells = HashMap::new();
        for (index, device) in (0..).zip(connection.devices) {
            for (row, number) in device.table.rows().zip(device.numbers()) {
                let fresh = cells.len();
                let cell = *cells.entry((index, number.to_string())).or_insert(fresh);
                let at = u32::try_from(row.index()).expect("the reader caps a table");
                if !row.row().kind.is_control() {
                    groups.entry(index).or_default().push(device.first_point + at);
                }
                points.push(Point {
                    source: source(row, &number, &mut faults),
                    value_type: row.row().value_type,
                    cell,
                });
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let group = |(device, points)| ScanGroup { device, period, pushed: false, points, patience: second };
        let groups: Vec<_> = groups.into_iter().map(group).collect();
        let scans = groups.iter().map(|_| AtomicU64::new(0)).collect();
        Ok(Inner { points, groups, scans, written: Mutex::default() })
    }
}

/// The source of a row: its number is a shape and maybe digits, `sine2`; columns refine it.
fn source(row: RowText<'_>, number: &str, faults: &mut Vec<Diagnostic>) -> Source {
    let word = number.trim().trim_end_matches(|c: char| c.is_ascii_digit());
    let shape = Shape::parse(word).unwrap_or_else(|| {
        faults.push(
            Diagnostic::error(row.number_place(), format!("\"{number}\" is no virtual source"))
                .help(format!("{}; digits may follow, as in sine2", did_you_mean(word, Shape::words()))),
        );
        Shape::Constant
    });
    let mut cell = |column: &str, default: f64| {
        let Some(text) = row.cell(column) else { return default };
        text.trim().parse::<f64>().ok().filter(|x| x.is_finite()).unwrap_or_else(|| {
            faults.push(
                Diagnostic::error(row.cell_place(column), format!("{column}: \"{text}\" does not fit"))
                    .help("write a number"),
            );
            default
        })
    };
    let (low, high, period_ms) = (cell("low", 0.0), cell("high", 100.0), cell("period_ms", 60_000.0));
    let seed = u64::try_from(row.index()).unwrap_or(0);
    Source { shape, low, high, period_ms: period_ms.max(1.0), seed }
}

struct VirtualPlan {
    inner: Arc<Inner>,
}

impl Plan for VirtualPlan {
    fn scan_groups(&self) -> &[ScanGroup] {
        &self.inner.groups
    }

    fn resources(&self) -> &[Resource] {
        &[]
    }

    fn endpoint(&self) -> String {
        "virtual:".to_owned()
    }

    fn connect(&self, _: Arc<dyn FrameTap>) -> Answer<'_, Result<Box<dyn Session>, SessionError>> {
        let session: Box<dyn Session> = Box::new(VirtualSession { inner: Arc::clone(&self.inner) });
        Box::pin(std::future::ready(Ok(session)))
    }
}

struct VirtualSession {
    inner: Arc<Inner>,
}

impl VirtualSession {
    fn sample(&self, point: u32, scan: u64, time: Timestamp, written: &HashMap<usize, Value>) -> Sample {
        let is = &self.inner.points[point as usize];
        let number = match written.get(&is.cell) {
            Some(Value::Text(text)) if is.value_type == ValueType::String => {
                return Sample { point, time, datum: Datum::Good(Value::Text(Arc::clone(text))) };
            }
            Some(value) => value.as_f64(),
            None => Some(is.source.value(time, scan)),
        };
        let value = number.ok_or(Reason::TypeMismatch).and_then(|x| fit(x, is.value_type).ok_or(Reason::OutOfRange));
        let datum = value.map_or_else(Datum::Bad, Datum::Good);
        Sample { point, time, datum }
    }
}

impl Session for VirtualSession {
    fn read<'a>(&'a mut self, group: usize, samples: &'a mut Vec<Sample>) -> Answer<'a, Result<(), SessionError>> {
        let time = Timestamp::now();
        let scan = self.inner.scans[group].fetch_add(1, Ordering::Relaxed);
        let written = self.inner.written.lock().unwrap_or_else(PoisonError::into_inner);
        let points = &self.inner.groups[group].points;
        samples.extend(points.iter().map(|point| self.sample(*point, scan, time, &written)));
        Box::pin(std::future::ready(Ok(())))
    }

    fn write<'a>(&'a mut self, point: u32, value: &'a Value) -> Answer<'a, Result<(), SessionError>> {
        let is = &self.inner.points[point as usize];
        let answer = if is.source.shape == Shape::Constant {
            self.inner.written.lock().unwrap_or_else(PoisonError::into_inner).insert(is.cell, value.clone());
            Ok(())
        } else {
            Err(SessionError::Rejected { point, reason: Reason::TypeMismatch })
        };
        Box::pin(std::future::ready(answer))
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::testkit::parameters;
    use driver::{DeviceText, Offsets, Place, PointKind, PointTableBuilder, Silent};

    fn plan(rows: &[(&str, ValueType, PointKind, &str)]) -> Result<Arc<dyn Plan>, Vec<Diagnostic>> {
        let file: Arc<str> = "point.csv".into();
        let mut builder = PointTableBuilder::new(&file, [1, 2, 3, 4, 5, 6, 7], vec![("high".into(), 8)]);
        for (line, (number, value_type, kind, high)) in (2..).zip(rows) {
            builder.push(line, "n", number, *value_type, *kind, 1.0, 0.0, "", &[high]);
        }
        let place = Place::new(&"c.yaml".into(), 1, 1);
        let devices = [DeviceText {
            name: "d",
            place: place.clone(),
            address: None,
            table: Arc::new(builder.finish()),
            offsets: Offsets::default(),
            first_point: 0,
            transfer: None,
        }];
        let parameters = parameters(&[]);
        Virtual.plan(&ConnectionText { name: "v", place, parameters: &parameters, devices: &devices })
    }

    async fn scan(session: &mut dyn Session) -> Vec<Datum> {
        let mut samples = Vec::new();
        session.read(0, &mut samples).await.expect("nothing can fail");
        samples.into_iter().map(|s| s.datum).collect()
    }

    #[tokio::test]
    async fn counters_go_on_over_sessions_and_wrap() {
        let plan = plan(&[("counter", ValueType::UInt, PointKind::Ai, "2")]).expect("sound");
        let mut seen = Vec::new();
        for _ in 0..2 {
            let mut session = plan.connect(Arc::new(Silent)).await.expect("nothing can fail");
            seen.extend(scan(&mut *session).await);
            seen.extend(scan(&mut *session).await);
            session.close().await;
        }
        assert_eq!(seen, [0, 1, 2, 0].map(|n| Datum::Good(Value::Int(n))));
    }

    #[tokio::test]
    async fn a_written_constant_comes_back_and_other_shapes_refuse() {
        let rows = [
            ("constant7", ValueType::Double, PointKind::Ai, ""),
            ("constant7", ValueType::Double, PointKind::Ao, ""),
            ("ramp", ValueType::Int, PointKind::Ao, ""),
        ];
        let plan = plan(&rows).expect("sound");
        assert_eq!(plan.scan_groups()[0].points, [0], "control points are not collected");
        let mut session = plan.connect(Arc::new(Silent)).await.expect("nothing can fail");
        assert_eq!(scan(&mut *session).await, [Datum::Good(Value::Double(100.0))]);
        session.write(1, &Value::Double(42.0)).await.expect("constants take writes");
        assert_eq!(scan(&mut *session).await, [Datum::Good(Value::Double(42.0))]);
        assert!(session.write(2, &Value::Int(1)).await.is_err_and(|e| !e.ends_session()));
    }

    #[test]
    fn unknown_shapes_and_limits_are_faults_at_their_cell() {
        let faults = plan(&[("sinus3", ValueType::Int, PointKind::Ai, "much")]).err().expect("two faults");
        let shown: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert!(
            shown[0].starts_with("point.csv:2:2: \"sinus3\" is no virtual source\n  help: did you mean sine?"),
            "{shown:?}"
        );
        assert!(shown[1].starts_with("point.csv:2:8: high: \"much\" does not fit"), "{shown:?}");
    }
}
