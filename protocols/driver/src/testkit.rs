//! Conformance tests every protocol must pass, builders for their input, and a scripted protocol for tests of the runtime.
//!
//! A protocol's crate plays the peer itself (a loopback listener, a pty) and calls the checks with it. A check panics
//! with a sentence that names the broken promise.

mod conformance;
mod scripted;

pub use conformance::{
    ended_session_stays_ended, plan_is_sound, plan_reports_all_faults, pollers_push_nothing, pushed_is_cancel_safe,
    read_answers_every_point, refused_connect_ends_in_time, silent_peer_ends_the_session,
};
pub use scripted::{Behaviour, Script, ScriptedPlan};

use crate::{ConnectionText, DeviceText};
use crate::{Offsets, Parameters, Place, PointKind, PointTable, PointTableBuilder, Text, ValueType};
use std::sync::Arc;

/// Parameters from pairs, all at line 1 of `protocol.sys`.
#[must_use]
pub fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    let file: Arc<str> = "protocol.sys".into();
    let text = |text: &str| Text { text: text.to_owned(), place: Place::new(&file, 1, 1) };
    Parameters { entries: pairs.iter().map(|(k, v)| (text(k), text(v))).collect() }
}

/// A point table from (name, number, value type, kind) and the texts of extra columns, from line 2 of `point.csv`.
///
/// ```
/// use enos_edge_driver::{PointKind, ValueType, testkit};
/// let table = testkit::table(&["byte_order"], &[("U", "3000", ValueType::Float, PointKind::Ai, &["CDAB"])]);
/// assert_eq!(table.row(0).cell("byte_order"), Some("CDAB"));
/// ```
#[must_use]
pub fn table(columns: &[&str], rows: &[(&str, &str, ValueType, PointKind, &[&str])]) -> PointTable {
    let file: Arc<str> = "point.csv".into();
    let columns = (8..).zip(columns).map(|(cell, name)| ((*name).to_owned(), cell)).collect();
    let mut builder = PointTableBuilder::new(&file, [1, 2, 3, 4, 5, 6, 7], columns);
    for (line, (name, number, value_type, kind, extra)) in (2..).zip(rows) {
        builder.push(line, name, number, *value_type, *kind, 1.0, 0.0, "", extra);
    }
    builder.finish()
}

/// One device of a connection to be planned.
pub struct Device {
    pub address: Option<&'static str>,
    pub table: Arc<PointTable>,
}

/// Calls `with` with the text of a connection that has these parameters and devices.
pub fn with_connection<T>(
    pairs: &[(&str, &str)],
    devices: &[Device],
    with: impl FnOnce(&ConnectionText<'_>) -> T,
) -> T {
    let parameters = parameters(pairs);
    let file: Arc<str> = "assets.yaml".into();
    let place = |line| Place::new(&file, line, 1);
    let text = |address: &str| Text { text: address.to_owned(), place: place(1) };
    let addresses: Vec<Option<Text>> = devices.iter().map(|device| device.address.map(text)).collect();
    let mut first_point = 0;
    let mut texts = Vec::new();
    for (at, (device, address)) in devices.iter().zip(&addresses).enumerate() {
        let table = Arc::clone(&device.table);
        let len = u32::try_from(table.len()).expect("tables of tests are small");
        let line = u32::try_from(at + 1).expect("few devices");
        texts.push(DeviceText {
            name: "device",
            place: place(line),
            address: address.as_ref(),
            table,
            offsets: Offsets::default(),
            first_point,
            transfer: None,
        });
        first_point += len;
    }
    with(&ConnectionText { name: "line", place: place(1), parameters: &parameters, devices: &texts })
}
