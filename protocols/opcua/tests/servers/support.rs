//! What the tests of this folder share: plans without a package, reads and pushes with a dead-line.

use crate::testbed::values;
use driver::testkit::parameters;
use driver::{
    ConnectionText, Datum, DeviceText, Offsets, Place, Plan, PointKind, PointTableBuilder, Protocol, Sample, Session,
    SessionError, Silent, Value, ValueType,
};
use enos_edge_opcua::OpcUa;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longer than anything here takes, RSA keys in a debug build included; a test that meets it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The machine's variables as a point table.
pub fn variables(count: usize) -> Vec<(String, ValueType, PointKind)> {
    let kind = |n| match n % 4 {
        0 => ValueType::Double,
        1 => ValueType::Int,
        2 => ValueType::Bool,
        _ => ValueType::String,
    };
    (0..count).map(|n| (values::node(n), kind(n), PointKind::Ai)).collect()
}

pub fn plan(state: &Path, rows: &[(String, ValueType, PointKind)], pairs: &[(&str, &str)]) -> Arc<dyn Plan> {
    let file: Arc<str> = "point.csv".into();
    let mut builder = PointTableBuilder::new(&file, [1, 2, 3, 4, 5, 6, 7], Vec::new());
    for (at, (number, value_type, kind)) in rows.iter().enumerate() {
        let line = u32::try_from(at).expect("few rows") + 2;
        builder.push(line, "n", number, *value_type, *kind, 1.0, 0.0, "", &[]);
    }
    let place = Place::new(&"c.yaml".into(), 1, 1);
    let devices = [DeviceText {
        name: "machine",
        place: place.clone(),
        address: None,
        table: Arc::new(builder.finish()),
        offsets: Offsets::default(),
        first_point: 0,
        transfer: None,
    }];
    let mut all = vec![("scan_period_ms", "100"), ("timeout_ms", "2000")];
    all.retain(|(key, _)| !pairs.iter().any(|(k, _)| k == key));
    all.extend_from_slice(pairs);
    let parameters = parameters(&all);
    let connection = ConnectionText { name: "machine", place, parameters: &parameters, devices: &devices };
    match OpcUa::new(state.to_owned()).plan(&connection) {
        Ok(plan) => plan,
        Err(faults) => panic!("{faults:?}"),
    }
}

pub async fn connect(plan: &dyn Plan) -> Result<Box<dyn Session>, SessionError> {
    tokio::time::timeout(PATIENCE, plan.connect(Arc::new(Silent))).await.expect("connect ends by itself")
}

pub async fn read(session: &mut dyn Session) -> Result<Vec<Sample>, SessionError> {
    let mut samples = Vec::new();
    tokio::time::timeout(PATIENCE, session.read(0, &mut samples)).await.expect("read ends by itself")?;
    samples.sort_by_key(|s| s.point);
    Ok(samples)
}

/// Takes what is pushed until `enough` says so.
pub async fn pushed_until(
    session: &mut dyn Session,
    mut enough: impl FnMut(&[Sample]) -> bool,
) -> Result<Vec<Sample>, SessionError> {
    let mut samples = Vec::new();
    let all = async {
        while !enough(&samples) {
            session.pushed(&mut samples).await?;
        }
        Ok::<(), SessionError>(())
    };
    match tokio::time::timeout(PATIENCE, all).await {
        Ok(ended) => ended.map(|()| samples),
        Err(_) => panic!("{} samples came, and still not enough", samples.len()),
    }
}

/// True when the sample's value is the one its source time stands for.
pub fn proves_itself(sample: &Sample, tick: Duration) -> bool {
    let period = i64::try_from(tick.as_millis()).expect("short");
    let ticks = u64::try_from(sample.time.0 / period).expect("after 1970");
    let Datum::Good(value) = &sample.datum else { return false };
    let expected = match values::value(sample.point as usize, ticks) {
        opcua::types::Variant::Double(x) => Value::Double(x),
        opcua::types::Variant::Int32(n) => Value::Int(n.into()),
        opcua::types::Variant::Boolean(b) => Value::Bool(b),
        opcua::types::Variant::String(s) => Value::Text(s.as_ref().into()),
        other => panic!("the machine has no {other:?}"),
    };
    sample.time.0 % period == 0 && *value == expected
}
