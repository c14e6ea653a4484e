//! An outbox that a newer engine has opened goes on with the older one, and the other way round: nothing is lost, no
//! number comes twice, and what an engine may not open it leaves as it is.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints its figures")]

mod outbox_support;

use enos_edge::outbox::{self, Outbox, OutboxError};
use outbox_support::{CLOUD, PATIENCE, all_stored, balanced, batch, config, drain, names, number_of, open};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Which engine this process is holds for all of it.
async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    ALONE.lock().await
}

fn opened(folder: &Path, next: bool) -> Outbox {
    outbox::be_the_next(next);
    open(folder, &config()).0
}

fn schema_of(folder: &Path) -> u32 {
    let bytes = std::fs::read(folder.join("outbox.db")).unwrap();
    u32::from_be_bytes(bytes[60..64].try_into().unwrap())
}

/// Every third parcel, so that the cursor has holes that the other engine must read.
async fn take_some(outbox: &Outbox, most: usize) -> BTreeMap<u64, u64> {
    let outlet = outbox.outlet(CLOUD);
    outlet.link(true);
    let mut seen = BTreeMap::new();
    while seen.len() < most {
        let parcels = outlet.backlog(4 << 10).await;
        let some: Vec<_> = parcels.iter().filter(|parcel| parcel.seq % 3 == 0).collect();
        seen.extend(some.iter().map(|parcel| (number_of(parcel), parcel.seq)));
        outlet.acknowledge(&some.iter().map(|parcel| parcel.seq).collect::<Vec<_>>());
    }
    outlet.link(false);
    seen
}

#[tokio::test]
async fn readings_and_numbers_go_on_through_a_newer_engine_and_back_and_forth() {
    let _alone = alone().await;
    const EACH: u64 = 60;
    let folder = tempfile::tempdir().unwrap();
    let (mut number, mut seen, mut twice) = (0, BTreeMap::new(), 0);
    // The last one is the older engine: it delivers all of them.
    for (round, next) in [false, true, false, true, true, false].into_iter().enumerate() {
        let outbox = opened(folder.path(), next);
        for _ in 0..EACH {
            outbox.inlet().append(batch(number, 30));
            number += 1;
        }
        all_stored(&outbox);
        balanced(&outbox);
        for (number, seq) in take_some(&outbox, 5).await {
            // What was acknowledged just before a power cut may come again, under its number.
            if let Some(before) = seen.insert(number, seq) {
                assert_eq!(before, seq, "{number} came under two numbers");
                twice += 1;
            }
        }
        // One end in order, one as a power cut.
        if round % 2 == 0 {
            outbox.close(PATIENCE).unwrap();
            assert_eq!(schema_of(folder.path()), if round == 0 { 4 } else { 5 }, "round {round}");
        } else {
            outbox.abandon();
        }
    }
    let outbox = opened(folder.path(), false);
    let outlet = outbox.outlet(CLOUD);
    outlet.link(true);
    for (number, (seq, times)) in drain(&*outlet, &outbox).await {
        assert_eq!(times, 1);
        if let Some(before) = seen.insert(number, seq) {
            assert_eq!(before, seq, "{number} came under two numbers");
            twice += 1;
        }
    }
    balanced(&outbox);
    outbox.close(PATIENCE).unwrap();
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), (0..number).collect::<Vec<_>>(), "all of them, and no other");
    assert!(seen.values().is_sorted(), "numbers rise through all engines");
    println!("{number} batches through 7 openings of two schemas: 0 lost, {twice} came again after 3 power cuts");
}

#[tokio::test]
async fn a_schema_that_wants_newer_readers_is_refused_and_left_alone() {
    let _alone = alone().await;
    let folder = tempfile::tempdir().unwrap();
    let outbox = opened(folder.path(), true);
    outbox.inlet().append(batch(1, 5));
    outbox.close(PATIENCE).unwrap();
    let database = folder.path().join("outbox.db");
    outbox::need_the_next(&database);
    let before = std::fs::read(&database).unwrap();
    outbox::be_the_next(false);
    let refused = outbox::open(folder.path(), &config(), &[CLOUD.into()], names(), Arc::default());
    let Err(OutboxError::Open { problem, .. }) = refused else { panic!("a newer format was taken") };
    assert!(problem.contains("newer engine (format 5, this engine writes 4)"), "{problem}");
    assert!(std::fs::read(&database).unwrap() == before, "nothing was changed");
    let files = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name());
    assert!(!files.into_iter().any(|name| name.to_string_lossy().contains("damaged")), "nor set aside");
    // Whoever may read it finds everything.
    let outbox = opened(folder.path(), true);
    assert_eq!(outbox.status().readings_on_disk, 5);
    outbox.close(PATIENCE).unwrap();
}
