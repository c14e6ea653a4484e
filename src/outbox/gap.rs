//! PURE. What was lost, and what was refused: counted, dated and never silent.

use crate::model::{Names, SetAside, Timestamp};
use serde::Serialize;

/// Why readings were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The byte quota was reached.
    Quota,
    /// They were older than the largest age.
    Age,
    /// The disk had no room, or only its reserve.
    DiskFull,
    /// The file was damaged.
    Damaged,
    /// The disk was stuck and the memory full.
    Memory,
    /// They came after the outbox was closed, or with names nobody announced.
    Refused,
}

const REASONS: &[(Reason, &str)] = &[
    (Reason::Quota, "quota"),
    (Reason::Age, "age"),
    (Reason::DiskFull, "disk_full"),
    (Reason::Damaged, "damaged"),
    (Reason::Memory, "memory"),
    (Reason::Refused, "refused"),
];

impl Reason {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        REASONS.iter().find(|(reason, _)| *reason == self).map_or("damaged", |(_, text)| text)
    }

    #[must_use]
    pub fn from_text(text: &str) -> Reason {
        REASONS.iter().find(|(_, name)| *name == text).map_or(Reason::Damaged, |(reason, _)| *reason)
    }
}

/// Readings one destination will never get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    pub destination: String,
    pub reason: Reason,
    pub first: u64,
    pub last: u64,
    pub from: i64,
    pub to: i64,
    pub readings: u64,
}

impl Gap {
    /// Grows by `next` when it continues this one.
    pub fn merge(&mut self, next: &Gap) -> bool {
        let continues = self.destination == next.destination
            && self.reason == next.reason
            && next.first <= self.last.saturating_add(1);
        if continues {
            self.first = self.first.min(next.first);
            self.last = self.last.max(next.last);
            self.from = self.from.min(next.from);
            self.to = self.to.max(next.to);
            self.readings += next.readings;
        }
        continues
    }
}

/// One value a destination refused for good. Names, not numbers: it outlives its package.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetAsideRow {
    pub destination: String,
    pub seq: u64,
    pub device: String,
    pub product_key: String,
    pub device_key: String,
    pub point: String,
    pub time: i64,
    pub value: String,
    pub quality: u8,
    pub code: i64,
    pub reason: String,
    pub at: i64,
}

/// The rows of a refusal. What can not be read any more is left out.
#[must_use]
pub fn rows(destination: &str, refused: &SetAside) -> Vec<SetAsideRow> {
    let mut rows = Vec::with_capacity(refused.batch.count as usize);
    for block in refused.batch.blocks().map_while(Result::ok) {
        for entry in block.entries().map_while(Result::ok) {
            rows.push(row(destination, refused, block.device, block.time, &entry));
        }
    }
    rows
}

fn row(to: &str, refused: &SetAside, device: u32, time: Timestamp, entry: &crate::model::Entry<'_>) -> SetAsideRow {
    let names: &Names = &refused.names;
    let named = names.devices.get(device as usize);
    SetAsideRow {
        destination: to.to_owned(),
        seq: refused.seq,
        device: named.map_or_else(|| format!("#{device}"), |d| d.name.clone()),
        product_key: named.map_or_else(String::new, |d| d.product_key.clone()),
        device_key: named.map_or_else(String::new, |d| d.device_key.clone()),
        point: names.point(device, entry.point).map_or_else(|| format!("#{}", entry.point), |p| p.id.clone()),
        time: time.0,
        value: text_of(entry.value),
        quality: entry.quality,
        code: refused.code,
        reason: refused.reason.clone(),
        at: refused.at.0,
    }
}

fn text_of(value: crate::model::ValueRef<'_>) -> String {
    use crate::model::ValueRef::{Bool, Double, Float, Int, Text};
    match value {
        Bool(b) => b.to_string(),
        Int(i) => i.to_string(),
        Float(f) => f.to_string(),
        Double(d) => d.to_string(),
        Text(s) => s.to_owned(),
    }
}
