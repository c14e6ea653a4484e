//! PURE. `mapping.yaml`: the same rows a mapping.csv has, as a map or as a list.

use super::fields::{Faults, Fields, key_place, place};
use super::mapping_table::Row;
use super::yaml::{Key, Kind, Node};
use crate::diagnostic::Diagnostic;
use driver::Text;
use std::sync::Arc;

const ROW: &[&str] = &[
    "point",
    "mapping",
    "control",
    "upload",
    "upload_interval_ms",
    "deadband",
    "description",
    "read_back",
    "read_back_within_ms",
];

pub fn read(file: &Arc<str>, root: &Node<'_>, faults: &mut Faults) -> Vec<Row> {
    let Some(top) = Fields::open(file, root, "mapping file", &["mapping"], faults) else { return Vec::new() };
    let Some(node) = top.node("mapping") else { return Vec::new() };
    match &node.kind {
        Kind::Map(entries) => entries.iter().filter_map(|(key, value)| short(file, key, value, faults)).collect(),
        Kind::List(items) => items.iter().filter_map(|item| long(file, item, None, faults)).collect(),
        Kind::Null | Kind::Text(_) => {
            let problem = "mapping: one value stands where rows should";
            let help = "write `mapping: { voltage: ai.3000 }` or a list of rows";
            faults.push(Diagnostic::error(place(file, node), problem).help(help));
            Vec::new()
        }
    }
}

/// `voltage: ai.3000`, or a row without its `point` below the key.
fn short(file: &Arc<str>, key: &Key<'_>, value: &Node<'_>, faults: &mut Faults) -> Option<Row> {
    let point = Text { text: key.text.trim().to_owned(), place: key_place(file, key) };
    if matches!(value.kind, Kind::Map(_)) {
        return long(file, value, Some(point), faults);
    }
    let mapping = match &value.kind {
        Kind::Null => None,
        _ => Some(formula(file, value, faults)?),
    };
    Some(Row {
        point,
        description: None,
        mapping,
        control: None,
        upload: None,
        upload_interval_ms: None,
        deadband: None,
        read_back: None,
        read_back_within_ms: None,
    })
}

fn long(file: &Arc<str>, node: &Node<'_>, point: Option<Text>, faults: &mut Faults) -> Option<Row> {
    let known = if point.is_some() { &ROW[1..] } else { ROW };
    let fields = Fields::open(file, node, "mapping row", known, faults)?;
    let point = match point {
        Some(point) => Some(point),
        None => fields.required("point", faults),
    };
    Some(Row {
        description: fields.text("description", faults),
        mapping: fields.node("mapping").and_then(|node| formula(file, node, faults)),
        control: fields.node("control").and_then(|node| formula(file, node, faults)),
        upload: fields.text("upload", faults),
        upload_interval_ms: fields.text("upload_interval_ms", faults),
        deadband: fields.text("deadband", faults),
        read_back: fields.text("read_back", faults),
        read_back_within_ms: fields.text("read_back_within_ms", faults),
        point: point?,
    })
}

/// The text of a formula, its place being its first character even within quotes, so that a fault's
/// offset leads to the right column.
fn formula(file: &Arc<str>, node: &Node<'_>, faults: &mut Faults) -> Option<Text> {
    let Kind::Text(text) = &node.kind else {
        let problem = "mapping: a list stands where a formula should";
        faults.push(Diagnostic::error(place(file, node), problem).help("write ai.3000 or \"sum(ai.1,ai.2)\""));
        return None;
    };
    let mut place = place(file, node);
    place.column += u32::from(node.quoted);
    Some(Text { text: text.to_string(), place })
}
