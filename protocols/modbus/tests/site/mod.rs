//! Builds connections for the tests, as the package reader would.
#![allow(dead_code, reason = "each test file uses its part")]

use driver::*;
use std::sync::Arc;

/// Extra columns of every table here.
const EXTRA: [&str; 6] = ["area", "address", "byte_order", "bit", "length", "scan_period_ms"];

/// One row: number, value type, kind and the cells of extra columns.
pub type Row<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)]);

pub fn table(rows: &[Row<'_>]) -> Arc<PointTable> {
    let columns = EXTRA.iter().zip(8..).map(|(name, cell)| ((*name).to_owned(), cell)).collect();
    let mut builder = PointTableBuilder::new(&Arc::from("point.csv"), [1, 2, 3, 4, 5, 6, 7], columns);
    for (index, (number, value_type, kind, cells)) in rows.iter().enumerate() {
        let extra: Vec<&str> =
            EXTRA.iter().map(|name| cells.iter().find(|(n, _)| n == name).map_or("", |(_, text)| *text)).collect();
        let value_type = ValueType::parse(value_type).expect("a value type");
        let kind = PointKind::parse(kind).expect("a point kind");
        let line = u32::try_from(index).expect("few rows") + 2;
        builder.push(line, &format!("P{index}"), number, value_type, kind, 1.0, 0.0, "", &extra);
    }
    Arc::new(builder.finish())
}

/// `count` ushort points at `first` and up.
pub fn registers(first: u16, count: u16) -> Arc<PointTable> {
    let numbers: Vec<String> = (first..first + count).map(|n| n.to_string()).collect();
    let rows: Vec<Row<'_>> = numbers.iter().map(|n| (n.as_str(), "ushort", "ai", &[][..])).collect();
    table(&rows)
}

/// Plans a connection whose devices have these units and tables.
pub fn plan(
    protocol: &str,
    parameters: &[(&str, &str)],
    devices: &[(&str, Arc<PointTable>)],
) -> Result<Arc<dyn Plan>, Vec<Diagnostic>> {
    plan_with(protocol, parameters, devices, None)
}

/// The same, of devices that take a file so.
pub fn plan_with(
    protocol: &str,
    parameters: &[(&str, &str)],
    devices: &[(&str, Arc<PointTable>)],
    transfer: Option<&[(&str, &str)]>,
) -> Result<Arc<dyn Plan>, Vec<Diagnostic>> {
    let transfer = transfer.map(testkit::parameters);
    let file: Arc<str> = "line.yaml".into();
    let place = Place::new(&file, 1, 1);
    let units: Vec<Text> =
        devices.iter().map(|(unit, _)| Text { text: (*unit).to_owned(), place: place.clone() }).collect();
    let mut first_point = 0;
    let mut texts = Vec::new();
    for ((unit, table), text) in devices.iter().zip(&units) {
        texts.push(DeviceText {
            name: unit,
            place: place.clone(),
            address: Some(text),
            table: Arc::clone(table),
            offsets: Offsets::default(),
            first_point,
            transfer: transfer.as_ref(),
        });
        first_point += u32::try_from(table.len()).expect("few rows");
    }
    let parameters = testkit::parameters(parameters);
    let text = ConnectionText { name: "line", place, parameters: &parameters, devices: &texts };
    let protocols = enos_edge_modbus::protocols();
    protocols.iter().find(|p| p.name() == protocol).expect("a protocol").plan(&text)
}

/// The same on a TCP port of this machine.
pub fn tcp_plan(
    protocol: &str,
    port: u16,
    more: &[(&str, &str)],
    devices: &[(&str, Arc<PointTable>)],
) -> Arc<dyn Plan> {
    let port = port.to_string();
    let mut parameters = vec![("host", "127.0.0.1"), ("port", port.as_str())];
    parameters.extend_from_slice(more);
    plan(protocol, &parameters, devices).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// Data by point; `None` where no sample came.
pub fn by_point(samples: &[Sample], points: usize) -> Vec<Option<Datum>> {
    let mut data = vec![None; points];
    for sample in samples {
        let slot = &mut data[sample.point as usize];
        assert!(slot.is_none(), "point {} came twice", sample.point);
        *slot = Some(sample.datum.clone());
    }
    data
}

pub fn good(value: Value) -> Option<Datum> {
    Some(Datum::Good(value))
}

/// One scan of group 0 on a session of its own.
pub async fn scan(plan: &dyn Plan) -> (Vec<Sample>, Result<(), SessionError>) {
    let mut samples = Vec::new();
    let mut session = match plan.connect(Arc::new(Silent)).await {
        Ok(session) => session,
        Err(error) => return (samples, Err(error)),
    };
    let result = session.read(0, &mut samples).await;
    session.close().await;
    (samples, result)
}
