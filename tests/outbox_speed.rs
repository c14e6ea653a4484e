//! Figures, not promises of a machine: time of an append, rate of a drain, bytes on disk and written for a reading.
//! `cargo test --release --test outbox_speed -- --ignored --nocapture`

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod outbox_support;

use enos_edge::config::OutboxConfig;
use enos_edge::model::{Batch, BatchBuilder, Timestamp, Value};
use outbox_support::*;
use std::time::{Duration, Instant};

/// What the readings look like: 32-bit floats, ten devices of a hundred points, all read once a second.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Nothing to compress in the last 16 bits.
    Noise,
    /// A value that swings by 2 % in ten minutes, with a measuring noise of 0.05 %, all digits sent.
    Swinging,
    /// The same from a meter that shows tenths.
    Tenths,
}

fn floats(kind: Kind, number: i64, readings: u32, noise: &mut fastrand::Rng) -> Batch {
    let mut builder = BatchBuilder::default();
    for i in 0..readings {
        builder.begin(i / 100 % 10, Timestamp(1_790_000_000_000 + number * 1000));
        let (base, phase) = (200.0 + (i % 100) as f32, i as f32 + number as f32 * std::f32::consts::TAU / 600.0);
        // Twelve even numbers make a bell.
        let mut bell = || (0..12).map(|_| noise.f32()).sum::<f32>() - 6.0;
        let value = match kind {
            Kind::Noise => base + noise.f32(),
            Kind::Swinging => base * (1.0 + 0.02 * phase.sin() + 0.0005 * bell()),
            Kind::Tenths => (base * (1.0 + 0.02 * phase.sin() + 0.0005 * bell()) * 10.0).round() / 10.0,
        };
        builder.push(i % 100, 0, &Value::Float(value));
    }
    builder.finish(names().epoch).expect("there is a reading")
}

fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("proc is mounted");
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("the kernel counts writes");
    line.parse().expect("a number")
}

#[tokio::test]
#[ignore = "figures, meaningful in release only"]
async fn figures() {
    for kind in [Kind::Noise, Kind::Swinging, Kind::Tenths] {
        println!("{kind:?}:");
        figures_of(kind).await;
    }
}

async fn figures_of(kind: Kind) {
    // Not a tmpfs: what is written to the disk is counted.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (outbox, counters) = open(folder.path(), &OutboxConfig { bound: Duration::from_secs(1), ..config() });
    let (inlet, mut noise) = (outbox.inlet(), fastrand::Rng::with_seed(1));
    let batches: Vec<Batch> = (0..2000).map(|n| floats(kind, n, 1000, &mut noise)).collect();
    let (before, mut slowest, began) = (written(), Duration::ZERO, Instant::now());
    let mut spent = Duration::ZERO;
    for batch in batches {
        let start = Instant::now();
        inlet.append(batch);
        let took = start.elapsed();
        (slowest, spent) = (slowest.max(took), spent + took);
        until("the disk keeps up", || outbox.status().readings_in_memory < 500_000);
    }
    all_stored(&outbox);
    let readings = 2_000_000.0;
    println!("append: {:?} a batch of 1000 on average, {slowest:?} at most", spent / 2000);
    println!(
        "stored: {:.0} readings/s in {} commits",
        readings / began.elapsed().as_secs_f64(),
        counters.outbox_commits.get()
    );
    println!("disk: {:.2} bytes a reading", outbox.status().bytes_on_disk as f64 / readings);
    println!("written: {:.2} bytes a reading", (written() - before) as f64 / readings);
    assert_eq!(counters.dropped.get(), 0);

    let (outlet, began) = (outbox.outlet(CLOUD), Instant::now());
    outlet.link(true);
    let mut got = 0u64;
    while got < 2_000_000 {
        let parcels = outlet.backlog(64 << 10).await;
        got += parcels.iter().map(|p| u64::from(p.batch.count)).sum::<u64>();
        outlet.acknowledge(&parcels.iter().map(|p| p.seq).collect::<Vec<_>>());
    }
    println!("drained: {:.0} readings/s", readings / began.elapsed().as_secs_f64());
    balanced(&outbox);
}

/// Slow and long: a minute at 1,000 and at 10,000 readings/s with the link down.
#[tokio::test]
#[ignore = "figures, a real minute each"]
async fn flash_wear() {
    for rate in [1000, 10_000] {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (outbox, counters) = open(folder.path(), &OutboxConfig { bound: Duration::from_secs(1), ..config() });
        let (mut noise, before) = (fastrand::Rng::with_seed(1), written());
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        for number in 0..600 {
            tick.tick().await;
            outbox.inlet().append(floats(Kind::Swinging, number / 10, rate / 10, &mut noise));
        }
        outbox.close(PATIENCE).unwrap();
        let each = (written() - before) as f64 / (f64::from(rate) * 60.0);
        println!("{rate}/s: {each:.1} bytes written a reading, {} commits in 60 s", counters.outbox_commits.get());
    }
}
