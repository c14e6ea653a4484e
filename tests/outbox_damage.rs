//! A damaged file, a full quota, a disk without room, a newer engine: the outbox starts, keeps the newest, and tells.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod outbox_support;

use enos_edge::config::OutboxConfig;
use enos_edge::outbox::{self, OutboxError, Reason};
use outbox_support::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batches in the file that is damaged, and readings of each.
const BATCHES: u64 = 120;
const READINGS: u32 = 200;

/// An outbox with many segments in the file and more in its log, as a power cut leaves it.
fn image() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = open(folder.path(), &config());
    fill(&outbox, 0..BATCHES / 2);
    outbox.close(PATIENCE).unwrap();
    let (outbox, _) = open(folder.path(), &config());
    fill(&outbox, BATCHES / 2..BATCHES);
    // Closing would write the log back.
    copy_of(folder.path())
}

fn fill(outbox: &outbox::Outbox, numbers: std::ops::Range<u64>) {
    for number in numbers {
        outbox.inlet().append(batch(number, READINGS));
        if number % 4 == 3 {
            all_stored(outbox);
        }
    }
}

fn copy_of(from: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// Breaks something. Returns what, for the message.
fn damage(folder: &Path, random: &mut fastrand::Rng) -> String {
    let database = folder.join("outbox.db");
    let log = folder.join("outbox.db-wal");
    let mut bytes = std::fs::read(&database).unwrap();
    let pages = bytes.len() / 4096;
    let (kind, at) = (random.usize(..7), random.usize(..bytes.len()));
    let page = random.usize(..pages) * 4096;
    match kind {
        0 => bytes[at] ^= 1 << random.u8(..8),
        1 => bytes[page..page + 4096].fill(0),
        2 => bytes.truncate(at),
        3 => bytes[page..page + 4096].iter_mut().for_each(|b| *b = random.u8(..)),
        4 => std::fs::write(folder.join("outbox.db-shm"), [0x5a; 32768]).unwrap(),
        5 => {
            let mut frames = std::fs::read(&log).unwrap();
            let at = random.usize(..frames.len());
            frames[at] ^= 1 << random.u8(..8);
            std::fs::write(&log, frames).unwrap();
        }
        _ => {
            let cut = random.usize(..std::fs::metadata(&log).unwrap().len() as usize);
            std::fs::File::options().write(true).open(&log).unwrap().set_len(cut as u64).unwrap();
        }
    }
    std::fs::write(database, bytes).unwrap();
    format!("damage {kind} at byte {at}, page {}", page / 4096 + 1)
}

#[tokio::test]
async fn a_damaged_file_never_keeps_the_daemon_from_starting() {
    let original = image();
    let mut random = fastrand::Rng::with_seed(20_261_122);
    let (mut saved, mut quarantined, mut lost, rounds) = (0, 0, 0, 60);
    for _ in 0..rounds {
        let folder = copy_of(original.path());
        let what = damage(folder.path(), &mut random);
        let began = Instant::now();
        let counters = Arc::default();
        let outbox = outbox::open(folder.path(), &config(), &[CLOUD.into()], names(), counters);
        let outbox = outbox.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: started after {:?}", began.elapsed());
        quarantined += u64::from(outbox.status().quarantine.is_some());
        let known_lost = outbox.status().quarantine.map_or(0, |q| q.readings_lost);
        assert_eq!(outbox.status().dropped, known_lost, "{what}: what salvage lost is counted");
        lost += known_lost;

        let outlet = outbox.outlet(CLOUD);
        outlet.link(true);
        outbox.inlet().append(batch(9999, 1));
        let seen = drain(&*outlet, &outbox).await;
        assert!(seen.contains_key(&9999), "{what}: nothing new is taken");
        assert!(seen.values().all(|(_, times)| *times == 1), "{what}");
        assert!(seen.iter().filter(|(n, _)| **n != 9999).map(|(_, (seq, _))| *seq).is_sorted(), "{what}");
        if let Some(quarantine) = outbox.status().quarantine {
            assert!(quarantine.file.exists(), "{what}");
        }
        balanced(&outbox);
        saved += seen.len() as u64 - 1;
        outbox.close(PATIENCE).unwrap_or_else(|e| panic!("{what}: {e}"));
    }
    let share = saved as f64 / (rounds * BATCHES) as f64;
    println!(
        "{rounds} damaged files: all started, {quarantined} set aside, {:.1} % of the batches delivered",
        share * 100.0
    );
    assert!(quarantined > 10 && lost > 0, "the damage was not felt");
    assert!(share > 0.6, "only {share} of the batches were delivered");
}

#[tokio::test]
async fn one_bad_page_of_a_segment_costs_that_segment_and_leaves_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = open(folder.path(), &config());
    // One large segment each: their bodies fill whole pages.
    for number in 0..40 {
        outbox.inlet().append(batch(number, 3000));
        all_stored(&outbox);
    }
    outbox.close(PATIENCE).unwrap();
    // In the middle of the file: noise that belongs to a body.
    let database = folder.path().join("outbox.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096 + 2048;
    bytes[middle] ^= 0x10;
    std::fs::write(&database, bytes).unwrap();

    let (outbox, counters) = open(folder.path(), &config());
    let outlet = outbox.outlet(CLOUD);
    outlet.link(true);
    let seen = drain(&*outlet, &outbox).await;
    assert_eq!((seen.len(), counters.dropped.get()), (39, 3000));
    all_stored(&outbox);
    until("the gap is recorded", || !outbox.gaps(10_000).unwrap().is_empty());
    let gaps = outbox.gaps(10_000).unwrap();
    assert_eq!((gaps.len(), gaps[0].reason, gaps[0].readings), (1, Reason::Damaged, 3000));
    balanced(&outbox);
}

#[tokio::test]
async fn damage_while_running_is_set_aside_and_the_daemon_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = open(folder.path(), &config());
    for number in 0..60 {
        outbox.inlet().append(batch(number, 3000));
        all_stored(&outbox);
    }
    outbox.close(PATIENCE).unwrap();
    let (outbox, counters) = open(folder.path(), &config());
    let database = folder.path().join("outbox.db");
    let mut bytes = std::fs::read(&database).unwrap();
    // All but the schema and the first tables: interior pages, leaves and bodies.
    let (from, to) = (bytes.len() / 4, bytes.len() / 2);
    bytes[from..to].fill(0xee);
    {
        use std::io::{Seek, Write};
        // In place: the store thread has this file open.
        let mut file = std::fs::File::options().write(true).open(&database).unwrap();
        file.seek(std::io::SeekFrom::Start(from as u64)).unwrap();
        file.write_all(&bytes[from..to]).unwrap();
    }
    let outlet = outbox.outlet(CLOUD);
    outlet.link(true);
    let seen = drain(&*outlet, &outbox).await;
    assert!(seen.len() >= 20, "only {} of 60 batches came", seen.len());
    assert!(counters.dropped.get() > 0);
    balanced(&outbox);
    outlet.link(false);
    outbox.inlet().append(batch(100, 5));
    all_stored(&outbox);
    outlet.link(true);
    assert!(drain(&*outlet, &outbox).await.contains_key(&100));
    until("the gap is recorded", || {
        outbox.gaps(10_000).is_ok_and(|gaps| gaps.iter().any(|g| g.reason == Reason::Damaged))
    });
}

#[tokio::test]
async fn the_quota_drops_the_oldest_and_accounts_for_each() {
    let folder = tempfile::tempdir().unwrap();
    let quota = 2 << 20;
    let (outbox, counters) = open(folder.path(), &OutboxConfig { quota_bytes: quota, ..config() });
    let inlet = outbox.inlet();
    let total = 900;
    for number in 0..total {
        inlet.append(batch(number, 500));
        until("the disk catches up", || outbox.status().readings_in_memory < 20_000);
        let used = on_disk(folder.path());
        assert!(used <= quota + quota / 100, "{used} bytes on disk");
    }
    all_stored(&outbox);
    let dropped = counters.dropped.get();
    assert!(dropped > 0 && dropped < total * 500);
    until("gaps are recorded", || outbox.gaps(10_000).unwrap().iter().map(|g| g.readings).sum::<u64>() == dropped);
    let gaps = outbox.gaps(10_000).unwrap();
    assert!(gaps.iter().all(|g| g.reason == Reason::Quota && g.from <= g.to));
    balanced(&outbox);
    outbox.abandon();

    let (outbox, _) = open(folder.path(), &OutboxConfig { quota_bytes: quota, ..config() });
    assert_eq!(outbox.status().readings_on_disk, total * 500 - dropped);
    let outlet = outbox.outlet(CLOUD);
    outlet.link(true);
    let seen = drain(&*outlet, &outbox).await;
    // The newest, without a hole.
    let expected: Vec<u64> = (dropped / 500..total).collect();
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), expected);
}

fn on_disk(folder: &Path) -> u64 {
    let size = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |m| m.len());
    size("outbox.db") + size("outbox.db-wal") + size("outbox.db-shm")
}

#[tokio::test]
async fn readings_grow_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = open(folder.path(), &config());
    (0..10).for_each(|number| outbox.inlet().append(batch(number, 7)));
    outbox.close(PATIENCE).unwrap();
    // The batches are from September 2026.
    let short = OutboxConfig { max_age: Duration::from_secs(1), ..config() };
    let (outbox, counters) = open(folder.path(), &short);
    // Housekeeping would do it as well, some seconds later.
    outbox.inlet().append(batch(11, 7));
    until("old readings are dropped", || counters.dropped.get() >= 70);
    until("the gap is recorded", || outbox.gaps(10_000).unwrap().iter().any(|g| g.reason == Reason::Age));
    balanced(&outbox);
}

/// A file system of 4 MiB that somebody else fills. Needs root; says so when it can not run.
#[tokio::test]
async fn a_full_disk_costs_the_oldest_and_mends_by_itself() {
    let Some(mount) = Tmpfs::mount("size=4m") else {
        println!("skipped: no tmpfs can be mounted here");
        return;
    };
    let folder = mount.0.join("outbox");
    let small = OutboxConfig { memory_bytes: 1 << 20, ..config() };
    let (outbox, counters) = open(&folder, &small);
    (0..20).for_each(|number| outbox.inlet().append(batch(number, 500)));
    all_stored(&outbox);
    let hog = mount.0.join("hog");
    let filling = std::fs::write(&hog, vec![1u8; 8 << 20]);
    assert!(filling.is_err(), "the disk is not full");

    let total = 600;
    for number in 20..total {
        let began = Instant::now();
        outbox.inlet().append(batch(number, 500));
        assert!(began.elapsed() < Duration::from_millis(250), "append waited for the disk");
    }
    until("the disk is felt to be full", || outbox.status().trouble.is_some() || counters.dropped.get() > 0);
    balanced(&outbox);
    std::fs::remove_file(&hog).unwrap();
    until("it writes again", || outbox.status().trouble.is_none() && outbox.status().readings_in_memory == 0);
    balanced(&outbox);
    let outlet = outbox.outlet(CLOUD);
    outlet.link(true);
    let seen = drain(&*outlet, &outbox).await;
    let delivered: u64 = seen.len() as u64 * 500;
    assert_eq!(delivered + counters.dropped.get(), total * 500);
    assert!(seen.contains_key(&(total - 1)), "the newest is refused");
    until("gaps are recorded", || {
        outbox.gaps(10_000).unwrap().iter().map(|g| g.readings).sum::<u64>() == counters.dropped.get()
    });
    drop(outbox);
}

/// A mount of our own below a temporary folder.
struct Tmpfs(PathBuf, #[allow(dead_code, reason = "keeps the folder")] tempfile::TempDir);

impl Tmpfs {
    fn mount(options: &str) -> Option<Tmpfs> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).output();
        mounted.is_ok_and(|done| done.status.success()).then_some(Tmpfs(path, folder))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (outbox, _) = open(folder.path(), &config());
    outbox.inlet().append(batch(1, 5));
    outbox.close(PATIENCE).unwrap();
    let database = folder.path().join("outbox.db");
    let newer = rusqlite::Connection::open(&database).unwrap();
    newer.execute("UPDATE meta SET value = 99 WHERE key = 'oldest_reader'", []).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    newer.close().unwrap();
    let bytes = std::fs::read(&database).unwrap();
    let refused = outbox::open(folder.path(), &config(), &[CLOUD.into()], names(), Arc::default());
    let Err(OutboxError::Open { problem, .. }) = refused else { panic!("a newer format was taken") };
    assert!(problem.contains("newer engine (format 99"), "{problem}");
    assert_eq!(std::fs::read(&database).unwrap(), bytes);
}

#[test]
fn a_file_that_is_no_outbox_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("outbox.db"), vec![7u8; 100_000]).unwrap();
    let (outbox, _) = open(folder.path(), &config());
    let quarantine = outbox.status().quarantine.unwrap();
    assert_eq!(std::fs::read(quarantine.file).unwrap(), vec![7u8; 100_000]);
}
