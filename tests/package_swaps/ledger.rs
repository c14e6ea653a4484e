//! Counts what arrives of the kept devices: each point is a counter, so a lost or doubled reading shows.

use enos_edge::model::{Outlet, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

#[derive(Default)]
pub struct Ledger(Mutex<Book>);

#[derive(Default)]
struct Book {
    /// Device and point -> the last value.
    last: HashMap<(String, String), i64>,
    readings: u64,
    broken: Vec<String>,
    began: Option<Instant>,
    ended: Option<Instant>,
}

/// The book at its end.
pub struct Sums {
    pub streams: usize,
    pub readings: u64,
    pub broken: Vec<String>,
    pub seconds: f64,
}

impl Ledger {
    /// Takes and acknowledges everything, for ever.
    pub async fn drain(self: Arc<Self>, outlet: Arc<dyn Outlet>) {
        outlet.link(true);
        loop {
            let parcels = tokio::select! {
                parcels = outlet.live(256 << 10) => parcels,
                parcels = outlet.backlog(256 << 10) => parcels,
            };
            for parcel in &parcels {
                for block in parcel.batch.blocks() {
                    let block = block.unwrap();
                    let device = &parcel.names.devices[block.device as usize];
                    for entry in block.entries() {
                        let entry = entry.unwrap();
                        let point = &device.points.points[entry.point as usize].id;
                        self.enter(&device.name, point, &entry.value.to_value());
                    }
                }
            }
            outlet.acknowledge(&parcels.iter().map(|parcel| parcel.seq).collect::<Vec<_>>());
        }
    }

    fn enter(&self, device: &str, point: &str, value: &Value) {
        let mut book = self.0.lock().unwrap();
        book.began.get_or_insert_with(Instant::now);
        book.ended = Some(Instant::now());
        book.readings += 1;
        let Value::Int(value) = value else { panic!("{device} {point}: {value:?}") };
        if !device.starts_with("kept-") {
            assert!(*value >= 1_000_000, "{device} {point} shows {value}, which is another device's");
            return;
        }
        let before = book.last.insert((device.to_owned(), point.to_owned()), *value);
        if before.is_some_and(|before| before + 1 != *value) || before.is_none() && *value > 1 {
            book.broken.push(format!("{device} {point}: {before:?} -> {value}"));
        }
    }

    pub fn sums(&self) -> Sums {
        let book = self.0.lock().unwrap();
        let seconds = book.began.zip(book.ended).map_or(1.0, |(from, to)| (to - from).as_secs_f64());
        Sums { streams: book.last.len(), readings: book.readings, broken: book.broken.clone(), seconds }
    }
}
