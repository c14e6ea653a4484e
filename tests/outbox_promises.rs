//! What the outbox promises, on a real file: stored within the bound, delivered once, in order, accounted for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod outbox_support;

use enos_edge::config::OutboxConfig;
use enos_edge::model::{Lane, SetAside, Timestamp};
use enos_edge::outbox::{self, OutboxError};
use enos_edge::telemetry::Counters;
use outbox_support::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_healthy_link_costs_the_disk_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let long = OutboxConfig { bound: Duration::from_secs(60), ..config() };
    let (outbox, counters) = open(folder.path(), &long);
    let (inlet, outlet) = (outbox.inlet(), outbox.outlet(CLOUD));
    outlet.link(true);
    for number in 0..500 {
        inlet.append(batch(number, 20));
        let parcels = outlet.live(64 << 10).await;
        assert_eq!((parcels.len(), parcels[0].lane, number_of(&parcels[0])), (1, Lane::Live, number));
        outlet.acknowledge(&[parcels[0].seq]);
    }
    assert_eq!((counters.outbox_commits.get(), counters.outbox_stored.get()), (0, 0));
    assert_eq!((counters.acknowledged.get(), counters.outbox_readings.get()), (10_000, 0));
    balanced(&outbox);
    outbox.close(PATIENCE).unwrap();
}

#[tokio::test]
async fn what_is_older_than_the_bound_survives_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, counters) = open(folder.path(), &config());
    let (inlet, began) = (outbox.inlet(), Instant::now());
    for number in 0..300 {
        inlet.append(batch(number, 30));
    }
    all_stored(&outbox);
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!((counters.outbox_stored.get(), counters.outbox_readings.get()), (9000, 9000));
    outbox.abandon();

    let (outbox, counters) = open(folder.path(), &config());
    assert_eq!(counters.outbox_readings.get(), 9000);
    let outlet = outbox.outlet(CLOUD);
    outlet.link(true);
    let first = outlet.backlog(1).await;
    assert_eq!(
        (first.len(), number_of(&first[0]), first[0].lane, first[0].names.clone()),
        (1, 0, Lane::Backlog, names())
    );
    outlet.acknowledge(&[first[0].seq]);
    let seen = drain(&*outlet, &outbox).await;
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), (1..300).collect::<Vec<_>>());
    assert!(seen.values().all(|(_, times)| *times == 1));
    assert!(seen.values().map(|(seq, _)| *seq).is_sorted());
    balanced(&outbox);
    outbox.close(PATIENCE).unwrap();
    let (outbox, _) = open(folder.path(), &config());
    assert_eq!(outbox.status().readings_on_disk, 0);
}

#[tokio::test]
async fn closing_stores_even_what_is_younger_than_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let long = OutboxConfig { bound: Duration::from_secs(3600), ..config() };
    let (outbox, _) = open(folder.path(), &long);
    let (inlet, outlet) = (outbox.inlet(), outbox.outlet(CLOUD));
    outlet.link(true);
    (0..50).for_each(|number| inlet.append(batch(number, 5)));
    let handed_out = outlet.live(usize::MAX).await;
    assert_eq!(handed_out.len(), 50);
    outbox.close(PATIENCE).unwrap();
    inlet.append(batch(99, 5));

    let (outbox, _) = open(folder.path(), &long);
    let outlet = outbox.outlet(CLOUD);
    outlet.link(true);
    assert_eq!(drain(&*outlet, &outbox).await.len(), 50);
}

#[tokio::test]
async fn strict_never_hands_out_what_is_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, counters) = open(folder.path(), &strict());
    let (inlet, outlet) = (outbox.inlet(), outbox.outlet(CLOUD));
    outlet.link(true);
    for number in 0..200 {
        inlet.append(batch(number, 3));
        let parcels = outlet.live(usize::MAX).await;
        let handed_out: u64 = number * 3 + parcels.iter().map(|p| u64::from(p.batch.count)).sum::<u64>();
        assert!(counters.outbox_stored.get() >= handed_out);
        outlet.acknowledge(&[parcels[0].seq]);
    }
    balanced(&outbox);
}

#[tokio::test]
async fn what_was_on_its_way_when_the_link_fell_comes_again_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = open(folder.path(), &config());
    let (inlet, outlet) = (outbox.inlet(), outbox.outlet(CLOUD));
    outlet.link(true);
    (0..40).for_each(|number| inlet.append(batch(number, 5)));
    let mut parcels = outlet.live(usize::MAX).await;
    assert_eq!(parcels.len(), 40);
    // Out of order, every other one.
    parcels.reverse();
    let acknowledged: Vec<u64> = parcels.iter().step_by(2).map(|p| p.seq).collect();
    outlet.acknowledge(&acknowledged);
    all_stored(&outbox);
    outlet.link(false);
    (40..60).for_each(|number| inlet.append(batch(number, 5)));
    all_stored(&outbox);
    outlet.link(true);
    let seen = drain(&*outlet, &outbox).await;
    let expected: Vec<u64> = (0..40).filter(|n| n % 2 == 0).chain(40..60).collect();
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), expected);
    balanced(&outbox);
}

#[tokio::test]
async fn a_thousand_reconnects_neither_lose_nor_remake_the_store() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    let (outbox, counters) = open(folder.path(), &config());
    let inode = || std::fs::metadata(folder.path().join("outbox.db")).unwrap().ino();
    let (inlet, outlet, before) = (outbox.inlet(), outbox.outlet(CLOUD), inode());
    for number in 0..1000 {
        inlet.append(batch(number, 3));
        outlet.link(number % 2 == 0);
    }
    outlet.link(true);
    assert_eq!(drain(&*outlet, &outbox).await.len(), 1000);
    assert_eq!((counters.acknowledged.get(), counters.dropped.get(), inode()), (3000, 0, before));
    balanced(&outbox);
}

#[tokio::test]
async fn live_parcels_do_not_wait_for_a_long_backlog() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = open(folder.path(), &config());
    let (inlet, outlet) = (outbox.inlet(), outbox.outlet(CLOUD));
    (0..2000).for_each(|number| inlet.append(batch(number, 50)));
    all_stored(&outbox);
    outlet.link(true);
    inlet.append(batch(5000, 5));
    let live = outlet.live(usize::MAX).await;
    assert_eq!((live.len(), number_of(&live[0])), (1, 5000));
    outlet.acknowledge(&[live[0].seq]);
    assert_eq!(drain(&*outlet, &outbox).await.len(), 2000);
    balanced(&outbox);
}

#[tokio::test]
async fn numbers_rise_even_after_the_store_was_empty_or_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..6 {
        let (outbox, _) = open(folder.path(), &config());
        let (inlet, outlet) = (outbox.inlet(), outbox.outlet(CLOUD));
        outlet.link(true);
        inlet.append(batch(round, 5));
        let parcels = outlet.live(usize::MAX).await;
        assert!(parcels[0].seq > last);
        last = parcels[0].seq;
        outlet.acknowledge(&[last]);
        if round % 2 == 0 {
            outbox.abandon()
        } else {
            outbox.close(PATIENCE).unwrap()
        }
        if round == 4 {
            std::fs::remove_file(folder.path().join("outbox.db")).unwrap();
        }
    }
}

#[tokio::test]
async fn a_drained_store_gives_its_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = open(folder.path(), &config());
    let (inlet, outlet) = (outbox.inlet(), outbox.outlet(CLOUD));
    for number in 0..300 {
        inlet.append(batch(number, 1000));
        all_stored_below(&outbox, 20_000);
    }
    all_stored(&outbox);
    let full = outbox.status().bytes_on_disk;
    assert!(full > 1 << 20, "{full}");
    outlet.link(true);
    drain(&*outlet, &outbox).await;
    outbox.close(PATIENCE).unwrap();
    let (outbox, _) = open(folder.path(), &config());
    let empty = outbox.status().bytes_on_disk;
    assert!(empty < 256 << 10, "{empty} bytes are left of {full}");
}

fn all_stored_below(outbox: &outbox::Outbox, readings: u64) {
    until("the disk catches up", || outbox.status().readings_in_memory < readings);
}

#[tokio::test]
async fn refused_values_are_kept_with_their_names_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, counters) = open(folder.path(), &config());
    let (inlet, outlet) = (outbox.inlet(), outbox.outlet(CLOUD));
    outlet.link(true);
    inlet.append(batch(7, 10));
    let refuse = |parcel: &enos_edge::model::Parcel| SetAside {
        seq: parcel.seq,
        names: parcel.names.clone(),
        batch: parcel.batch.filter(|_, _, entry| entry.point < 3).unwrap().unwrap(),
        code: 1204,
        reason: "value out of range".into(),
        at: Timestamp(1_790_000_000_999),
    };
    let parcels = outlet.live(usize::MAX).await;
    outlet.set_aside(refuse(&parcels[0]));
    // The link falls before the acknowledgement: the parcel comes again and is refused again.
    all_stored(&outbox);
    outlet.link(false);
    outlet.link(true);
    let parcels = outlet.backlog(usize::MAX).await;
    outlet.set_aside(refuse(&parcels[0]));
    outlet.acknowledge(&[parcels[0].seq]);
    assert_eq!((counters.acknowledged.get(), counters.set_aside.get()), (7, 3));
    balanced(&outbox);
    outbox.close(PATIENCE).unwrap();

    let (outbox, _) = open(folder.path(), &config());
    let rows = outbox.set_aside_rows(10_000).unwrap();
    assert_eq!(rows.len(), 3);
    let row = &rows[2];
    assert_eq!((row.device_key.as_str(), row.point.as_str(), row.code), ("meter-0", "p2", 1204));
    assert_eq!((row.time, row.at), (1_790_000_000_007, 1_790_000_000_999));
    assert_eq!(outbox.status().readings_on_disk, 0);
}

#[tokio::test]
async fn each_destination_has_its_own_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let with = |names_of: &[&str]| {
        let counters = Arc::new(Counters::default());
        (
            outbox::open(
                folder.path(),
                &config(),
                &names_of.iter().map(|n| (*n).into()).collect::<Vec<_>>(),
                names(),
                counters.clone(),
            )
            .unwrap(),
            counters,
        )
    };
    let (outbox, counters) = with(&["a", "b"]);
    let (inlet, a) = (outbox.inlet(), outbox.outlet("a"));
    a.link(true);
    (0..20).for_each(|number| inlet.append(batch(number, 5)));
    assert_eq!(drain(&*a, &outbox).await.len(), 20);
    assert_eq!((counters.acknowledged.get(), counters.outbox_readings.get()), (0, 100));
    all_stored(&outbox);
    outbox.abandon();
    // `a` may not have told the disk; `b` must have everything; `c` starts now.
    let (outbox, _) = with(&["b", "c"]);
    let status = outbox.status();
    assert_eq!(status.destinations[0].readings.waiting, 100);
    assert_eq!(status.destinations[1].readings.waiting, 0);
    let b = outbox.outlet("b");
    b.link(true);
    assert_eq!(drain(&*b, &outbox).await.len(), 20);
    outbox.close(PATIENCE).unwrap();
    let (outbox, _) = with(&["c"]);
    assert_eq!(outbox.status().readings_on_disk, 0);
}

#[test]
fn a_second_process_is_told_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let (_outbox, _) = open(folder.path(), &config());
    let second = outbox::open(folder.path(), &config(), &[CLOUD.into()], names(), Arc::default());
    assert!(matches!(second, Err(OutboxError::InUse { .. })));
}

#[test]
fn the_folder_and_its_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("state/outbox");
    let (outbox, _) = open(&inner, &config());
    outbox.inlet().append(batch(1, 5));
    all_stored(&outbox);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for entry in std::fs::read_dir(&inner).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
}
