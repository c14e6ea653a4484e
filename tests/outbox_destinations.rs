//! Several destinations behind one outbox, on a real file: a dead one costs the others nothing, a filter is kept to, and
//! the sums are exact whatever happens in between.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod outbox_support;

use enos_edge::config::OutboxConfig;
use enos_edge::model::{Glob, Selection};
use enos_edge::outbox::{self, DestinationSettings, Outbox, Reason, Tally};
use enos_edge::telemetry::Counters;
use outbox_support::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const READINGS: u32 = 20;

fn points(globs: &[&str]) -> Selection {
    Selection { points: globs.iter().map(|glob| Glob::new(glob)).collect(), ..Selection::default() }
}

fn with(name: &str, selection: Selection, quota_bytes: Option<u64>) -> DestinationSettings {
    DestinationSettings { quota_bytes, selection, ..name.into() }
}

fn open_with(folder: &Path, config: &OutboxConfig, destinations: &[DestinationSettings]) -> (Outbox, Arc<Counters>) {
    let counters = Arc::new(Counters::default());
    (outbox::open(folder, config, destinations, names(), counters.clone()).unwrap(), counters)
}

fn tally(outbox: &Outbox, at: usize) -> Tally {
    outbox.status().destinations[at].readings
}

/// Everything that waits for one, acknowledged as it comes. Number -> readings in its parcel.
async fn drained(outbox: &Outbox, name: &str, at: usize) -> BTreeMap<u64, u32> {
    let outlet = outbox.outlet(name);
    outlet.link(true);
    let mut seen = BTreeMap::new();
    while tally(outbox, at).waiting > 0 {
        let next = async {
            tokio::select! { live = outlet.live(64 << 10) => live, old = outlet.backlog(64 << 10) => old }
        };
        let parcels = tokio::time::timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("{:?}", outbox.status()));
        for parcel in &parcels {
            assert!(seen.insert(parcel.seq, parcel.batch.count).is_none(), "{} comes twice", parcel.seq);
        }
        outlet.acknowledge(&parcels.iter().map(|p| p.seq).collect::<Vec<_>>());
    }
    seen
}

#[tokio::test]
async fn who_does_not_want_it_costs_the_disk_nothing_even_when_dead() {
    let folder = tempfile::tempdir().unwrap();
    let long = OutboxConfig { bound: Duration::from_secs(60), ..config() };
    let dead = with("dead", points(&["nothing"]), None);
    let (outbox, counters) = open_with(folder.path(), &long, &["a".into(), dead]);
    let a = outbox.outlet("a");
    a.link(true);
    for number in 0..500 {
        outbox.inlet().append(batch(number, READINGS));
        let parcels = a.live(64 << 10).await;
        a.acknowledge(&[parcels[0].seq]);
    }
    assert_eq!((counters.outbox_commits.get(), counters.outbox_readings.get()), (0, 0));
    assert_eq!((tally(&outbox, 0).acknowledged, tally(&outbox, 1).produced), (10_000, 0));
    balanced(&outbox);
}

#[tokio::test]
async fn a_parcel_partly_wanted_is_handed_out_in_part_and_keeps_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let both = ["a".into(), with("b", points(&["p0", "p1*"]), None), with("c", points(&["p7"]), None)];
    let (outbox, counters) = open_with(folder.path(), &config(), &both);
    for name in ["a", "b", "c"] {
        outbox.outlet(name).link(true);
    }
    outbox.inlet().append(batch(7, READINGS));
    let mut seqs = Vec::new();
    for (name, count) in [("a", 20), ("b", 12), ("c", 1)] {
        let parcels = outbox.outlet(name).live(usize::MAX).await;
        assert_eq!((parcels.len(), parcels[0].batch.count), (1, count), "{name}");
        seqs.push(parcels[0].seq);
        outbox.outlet(name).acknowledge(&[parcels[0].seq]);
    }
    assert!(seqs.iter().all(|seq| *seq == seqs[0]));
    assert_eq!((counters.acknowledged.get(), counters.outbox_readings.get()), (20, 0));
    balanced(&outbox);
}

/// The dead one wants two readings of each batch and has no quota: what is kept for it is kept whole, so it fills the
/// outbox's own quota. Then the oldest goes, and that is always its own: a living one's backlog is younger.
#[tokio::test]
async fn a_dead_destination_without_a_quota_fills_the_disk_and_takes_nothing_from_the_living() {
    let folder = tempfile::tempdir().unwrap();
    let small = OutboxConfig { quota_bytes: 4 << 20, ..config() };
    let all = ["alive".into(), with("dead", points(&["p0"]), None)];
    let (outbox, _) = open_with(folder.path(), &small, &all);
    let alive = outbox.outlet("alive");
    alive.link(true);
    for number in 0..4000 {
        outbox.inlet().append(batch(number, 200));
        let parcels = alive.live(1 << 20).await;
        alive.acknowledge(&parcels.iter().map(|p| p.seq).collect::<Vec<_>>());
        if number % 50 == 0 {
            until("the disk keeps up", || outbox.status().readings_in_memory < 20_000);
        }
    }
    all_stored(&outbox);
    until("the outbox's quota holds", || tally(&outbox, 1).dropped > 0);
    // Now the living one is away too, for less than the quota holds.
    alive.link(false);
    for number in 4000..4200 {
        outbox.inlet().append(batch(number, 200));
        if number % 50 == 0 {
            until("the disk keeps up", || outbox.status().readings_in_memory < 20_000);
        }
    }
    all_stored(&outbox);
    assert_eq!(tally(&outbox, 0).waiting, 200 * 200);
    drained(&outbox, "alive", 0).await;
    assert_eq!((tally(&outbox, 0).acknowledged, tally(&outbox, 0).dropped), (4200 * 200, 0));
    let dead = tally(&outbox, 1);
    assert_eq!((dead.produced, dead.dropped + dead.waiting), (2 * 4200, 2 * 4200), "p0 of both devices");
    assert!(outbox.status().bytes_on_disk <= small.quota_bytes, "{} bytes", outbox.status().bytes_on_disk);
    assert!(outbox.gaps(100).unwrap().iter().all(|gap| gap.destination == "dead" && gap.reason == Reason::Quota));
    balanced(&outbox);
    println!("of {} readings {} wait in {} bytes", dead.produced, dead.waiting, outbox.status().bytes_on_disk);
}

#[tokio::test]
async fn a_dead_destination_keeps_to_its_quota_and_only_it_loses() {
    let folder = tempfile::tempdir().unwrap();
    let quota = 1 << 20;
    let large = OutboxConfig { quota_bytes: 256 << 20, ..config() };
    let all = ["alive".into(), with("dead", Selection::default(), Some(quota))];
    let (outbox, _) = open_with(folder.path(), &large, &all);
    let alive = outbox.outlet("alive");
    alive.link(true);
    for number in 0..3000 {
        outbox.inlet().append(batch(number, 200));
        let parcels = alive.live(1 << 20).await;
        alive.acknowledge(&parcels.iter().map(|p| p.seq).collect::<Vec<_>>());
        if number % 50 == 0 {
            // The disk keeps up: nothing is dropped for want of memory.
            until("the disk keeps up", || outbox.status().readings_in_memory < 20_000);
        }
    }
    all_stored(&outbox);
    until("the quota holds", || tally(&outbox, 1).dropped > 0);
    assert_eq!((tally(&outbox, 0).acknowledged, tally(&outbox, 0).dropped), (600_000, 0));
    // The log may take 4 MiB, and free pages are given back by and by.
    assert!(outbox.status().bytes_on_disk < quota + (6 << 20), "{} bytes", outbox.status().bytes_on_disk);
    balanced(&outbox);
    let before = tally(&outbox, 1);
    outbox.close(PATIENCE).unwrap();

    let (outbox, _) = open_with(folder.path(), &large, &all);
    let gaps = outbox.gaps(100).unwrap();
    assert!(gaps.iter().all(|gap| gap.destination == "dead" && gap.reason == Reason::Quota), "{gaps:?}");
    assert_eq!(gaps.iter().map(|gap| gap.readings).sum::<u64>(), before.dropped);
    assert_eq!(gaps.len(), 1, "neighbours are one gap: {gaps:?}");
    assert_eq!(tally(&outbox, 1).waiting_at_open, before.waiting);
    let rest: u32 = drained(&outbox, "dead", 1).await.values().sum();
    assert_eq!(u64::from(rest) + before.dropped, 600_000);
    balanced(&outbox);
    assert_eq!(outbox.status().readings_on_disk, 0);
}

/// What one life does, and how it ends.
#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Stored,
    Link(usize, bool),
    /// Takes what there is and acknowledges every other parcel, or all.
    Take(usize, bool),
    Crash(usize),
    Close(usize),
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn selections(which: usize) -> Vec<DestinationSettings> {
    let sets = match which {
        0 => [Selection::default(), points(&["p0", "p1*"]), points(&["nothing"])],
        1 => [points(&["p0"]), points(&["p1*"]), Selection::default()],
        _ => [Selection::default(), Selection::default(), points(&["p1*2", "p2"])],
    };
    NAMES.iter().zip(sets).map(|(name, set)| with(name, set, None)).collect()
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u64..20).prop_map(Step::Append),
        2 => Just(Step::Stored),
        3 => (0usize..3, any::<bool>()).prop_map(|(of, up)| Step::Link(of, up)),
        4 => (0usize..3, any::<bool>()).prop_map(|(of, all)| Step::Take(of, all)),
        1 => (0usize..3).prop_map(Step::Crash),
        1 => (0usize..3).prop_map(Step::Close),
    ];
    prop::collection::vec(step, 1..40)
}

async fn take(outbox: &Outbox, of: usize, all: bool) {
    let outlet = outbox.outlet(NAMES[of]);
    let soon = Duration::from_millis(1);
    let live = tokio::time::timeout(soon, outlet.live(4 << 10)).await.unwrap_or_default();
    let old = tokio::time::timeout(soon, outlet.backlog(4 << 10)).await.unwrap_or_default();
    let seqs: Vec<u64> = live.iter().chain(&old).map(|parcel| parcel.seq).step_by(if all { 1 } else { 2 }).collect();
    outlet.acknowledge(&seqs);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn sums_are_exact_over_crashes_and_changed_filters_and_nothing_is_stuck(steps in steps(), first in 0usize..3) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut which = first;
        let (mut outbox, mut counters) = open_with(folder.path(), &config(), &selections(which));
        let mut number = 0;
        for step in steps {
            match step {
                Step::Append(batches) => {
                    (0..batches).for_each(|i| outbox.inlet().append(batch(number + i, READINGS)));
                    number += batches;
                }
                Step::Stored => all_stored(&outbox),
                Step::Link(of, up) => outbox.outlet(NAMES[of]).link(up),
                Step::Take(of, all) => runtime.block_on(take(&outbox, of, all)),
                Step::Crash(next) | Step::Close(next) => {
                    let before: Vec<u64> = (0..3).map(|i| tally(&outbox, i).waiting).collect();
                    let closed = matches!(step, Step::Close(_));
                    if closed { outbox.close(PATIENCE).unwrap() } else { all_stored(&outbox); outbox.abandon() }
                    let same = next == which;
                    which = next;
                    (outbox, counters) = open_with(folder.path(), &config(), &selections(which));
                    for (i, before) in before.iter().enumerate().filter(|_| same) {
                        let now = tally(&outbox, i).waiting_at_open;
                        // A crash may bring back what was acknowledged within the window, and takes nothing.
                        prop_assert!(now == *before || !closed && now > *before, "{now} of {before} wait");
                    }
                }
            }
            balanced(&outbox);
        }
        for (i, name) in NAMES.iter().enumerate() {
            outbox.outlet(name).link(false);
            runtime.block_on(drained(&outbox, name, i));
        }
        balanced(&outbox);
        prop_assert_eq!(counters.outbox_readings.get(), 0);
        outbox.close(PATIENCE).unwrap();
        let (outbox, _) = open_with(folder.path(), &config(), &selections(which));
        prop_assert_eq!(outbox.status().readings_on_disk, 0);
    }
}
