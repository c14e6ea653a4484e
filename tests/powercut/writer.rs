//! Fills an outbox and says what is safe, until it is killed; afterwards counts what is missing.
//!
//! `outbox-writer write FOLDER ROUND bounded|strict` prints `accepted N` once batch N is promised to be on disk, and
//! `delivered N SEQ` when a destination has it, before it is acknowledged.
//! `outbox-writer verify FOLDER LEDGER` prints `lost N`, `corrupt N`, `duplicates N`.

#[path = "../outbox_support/mod.rs"]
mod outbox_support;

use enos_edge::config::{Durability, OutboxConfig};
use enos_edge::model::{Glob, Outlet, Parcel, Selection};
use enos_edge::outbox::{self, DestinationSettings, Outbox};
use enos_edge::telemetry::Counters;
use outbox_support::{CLOUD, PATIENCE, balanced, batch, config, names, number_of, until};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Readings of a batch.
const READINGS: u32 = 20;
/// Batches of one phase: half of the phases run with the link down.
const PHASE: u64 = 150;

/// The one that is delivered to, one that is dead and has little room, and one that wants a part and is dead too.
fn open(folder: &Path, config: &OutboxConfig) -> (Outbox, Arc<Counters>) {
    let part = Selection { points: vec![Glob::new("p1*")], ..Selection::default() };
    let destinations = [
        CLOUD.into(),
        DestinationSettings { quota_bytes: Some(256 << 10), ..DestinationSettings::new("dead") },
        DestinationSettings { selection: part, quota_bytes: Some(512 << 10), ..DestinationSettings::new("part") },
    ];
    let counters = Arc::new(Counters::default());
    let outbox = outbox::open(folder, config, &destinations, names(), counters.clone()).expect("an outbox");
    balanced(&outbox);
    (outbox, counters)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    match arguments[..] {
        ["write", folder, round, mode] => {
            runtime.block_on(write(Path::new(folder), round.parse().expect("a round"), mode))
        }
        ["verify", folder, ledger] => {
            let found =
                runtime.block_on(verify(Path::new(folder), &std::fs::read_to_string(ledger).expect("a ledger")));
            println!("lost {}\ncorrupt {}\nduplicates {}", found.lost, found.corrupt, found.duplicates);
        }
        _ => panic!("usage: outbox-writer write FOLDER ROUND bounded|strict | verify FOLDER LEDGER"),
    }
}

/// Never returns.
pub async fn write(folder: &Path, round: u64, mode: &str) {
    let durability = if mode == "strict" { Durability::Strict } else { Durability::Bounded };
    let bound = Duration::from_millis(60);
    let (outbox, counters) = open(folder, &OutboxConfig { bound, durability, ..config() });
    let (inlet, outlet) = (outbox.inlet(), outbox.outlet(CLOUD));
    let base = round * 1_000_000_000;
    let mut next = base;
    loop {
        // Link down: everything is stored, and only then said to be.
        outlet.link(false);
        let stored = counters.outbox_stored.get() + outbox.status().readings_in_memory;
        (next..next + PHASE).for_each(|number| inlet.append(batch(number, READINGS)));
        until("the phase is stored", || {
            counters.outbox_stored.get() >= stored + PHASE * u64::from(READINGS)
                || outbox.status().readings_in_memory == 0
        });
        (next..next + PHASE).for_each(|number| say(&format!("accepted {number}")));
        next += PHASE;
        // Link up: half of what waits is delivered, with live data between.
        outlet.link(true);
        for _ in 0..PHASE / 10 {
            inlet.append(batch(next, READINGS));
            next += 1;
            take(&*outlet).await;
        }
    }
}

async fn take(outlet: &dyn Outlet) {
    let soon = Duration::from_millis(100);
    let (live, backlog) = tokio::join!(
        tokio::time::timeout(soon, outlet.live(1 << 10)),
        tokio::time::timeout(soon, outlet.backlog(2 << 10)),
    );
    let parcels: Vec<Parcel> = live.into_iter().chain(backlog).flatten().collect();
    for parcel in &parcels {
        say(&format!("delivered {} {}", number_of(parcel), parcel.seq));
    }
    outlet.acknowledge(&parcels.iter().map(|p| p.seq).collect::<Vec<_>>());
}

/// One write, so that a kill tears at most the last line.
fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).expect("somebody listens");
}

#[derive(Debug, Default)]
pub struct Found {
    pub lost: usize,
    pub corrupt: usize,
    pub duplicates: usize,
}

/// Compares what was said with what is on disk. Takes nothing out.
pub async fn verify(folder: &Path, ledger: &str) -> Found {
    let (mut accepted, mut delivered) = (BTreeSet::new(), BTreeMap::new());
    for line in ledger.lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["accepted", number] => {
                accepted.insert(number.parse::<u64>().expect("a number"));
            }
            ["delivered", number, seq] => {
                delivered.insert(number.parse::<u64>().expect("a number"), seq.parse::<u64>().expect("a seq"));
            }
            _ => {}
        }
    }
    let mut found = Found::default();
    let stored = stored(folder, &mut found).await;
    found.lost = accepted.iter().filter(|n| !delivered.contains_key(n) && !stored.contains_key(n)).count();
    found.duplicates = stored.keys().filter(|n| delivered.contains_key(n)).count();
    // One number, one batch, whatever happened.
    let mut owners = BTreeMap::new();
    for (number, seq) in delivered.iter().chain(&stored) {
        found.corrupt += usize::from(*owners.entry(*seq).or_insert(*number) != *number);
    }
    found
}

async fn stored(folder: &Path, found: &mut Found) -> BTreeMap<u64, u64> {
    let (outbox, _) = open(folder, &config());
    found.corrupt += usize::from(outbox.status().quarantine.is_some());
    let outlet = outbox.outlet(CLOUD);
    outlet.link(true);
    let (mut stored, mut missing) = (BTreeMap::new(), outbox.status().destinations[0].readings.waiting);
    while missing > 0 {
        let Ok(parcels) = tokio::time::timeout(PATIENCE, outlet.backlog(1 << 20)).await else {
            found.corrupt += 1;
            break;
        };
        for parcel in parcels {
            missing -= u64::from(parcel.batch.count);
            found.corrupt += usize::from(stored.insert(number_of(&parcel), parcel.seq).is_some());
        }
    }
    outbox.abandon();
    stored
}
