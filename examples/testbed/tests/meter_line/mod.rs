//! A planned connection to one stand-in meter, for the tests.
#![allow(dead_code, reason = "each test file uses its part")]

use driver::{
    ConnectionText, DeviceText, Offsets, Place, Plan, PointKind, PointTable, PointTableBuilder, Text, ValueType,
    testkit,
};
use std::sync::Arc;

pub const UNIT: u8 = 5;

/// Blocks of one length, each a scan group: the worst case, for no length tells their answers apart.
pub const BLOCKS: u16 = 8;

pub fn table(block: u16) -> Arc<PointTable> {
    let columns = vec![("scan_period_ms".to_owned(), 8)];
    let mut builder = PointTableBuilder::new(&Arc::from("point.csv"), [1, 2, 3, 4, 5, 6, 7], columns);
    for nth in 0..BLOCKS * block {
        let address = nth / block * 500 + nth % block;
        let number = address.to_string();
        // A period of its own makes each block a scan group of its own.
        let period = (1000 + nth / block).to_string();
        let line = u32::from(nth) + 2;
        let (ushort, ai) = (ValueType::UShort, PointKind::Ai);
        builder.push(line, &number, &number, ushort, ai, 1.0, 0.0, "", &[&period]);
    }
    Arc::new(builder.finish())
}

pub fn plan(protocol: &str, parameters: &[(&str, &str)], table: &Arc<PointTable>) -> Arc<dyn Plan> {
    let place = Place::new(&"line.yaml".into(), 1, 1);
    let unit = Text { text: UNIT.to_string(), place: place.clone() };
    let device = DeviceText {
        name: "meter",
        place: place.clone(),
        address: Some(&unit),
        table: Arc::clone(table),
        offsets: Offsets::default(),
        transfer: None,
        first_point: 0,
    };
    let parameters = testkit::parameters(parameters);
    let text = ConnectionText { name: "line", place, parameters: &parameters, devices: &[device] };
    let protocols = modbus::protocols();
    let protocol = protocols.iter().find(|p| p.name() == protocol).expect("a protocol");
    protocol.plan(&text).unwrap_or_else(|faults| panic!("{faults:#?}"))
}
