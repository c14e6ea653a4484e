//! Stories of packages that change while the gateway runs: many swaps under load, a bad one, a broken one, a restart.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints its figures")]

mod foretold;
mod gateway;
mod ledger;
mod site;

use enos_edge::config::OutboxConfig;
use enos_edge::model::Site;
use enos_edge::outbox;
use enos_edge::south::South;
use enos_edge::south::protocols::Protocols;
use enos_edge::telemetry::Counters;
use ledger::Ledger;
use site::{KEPT, Make, POINTS};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const SWAPS: usize = 120;
const CLOUD: &str = "cloud";

fn load(home: &Path, version: &str, make: Make) -> Arc<Site> {
    let folder = site::write(home, version, make);
    let loaded = enos_edge::package::load(&folder, &Protocols::new(home).list(), None);
    Arc::new(loaded.unwrap_or_else(|faults| panic!("{faults:?}")))
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn many_swaps_under_load_lose_nothing_of_unchanged_devices_and_leak_nothing() {
    let home = tempfile::tempdir().unwrap();
    // Each has other devices before the kept ones, so that every swap numbers those anew.
    let sites: Vec<Arc<Site>> = (0..3)
        .map(|at| {
            let make = Make { before: at * 2, period_ms: 20 + at as u32, ..Make::default() };
            load(home.path(), &format!("1.{at}.0"), make)
        })
        .collect();
    let counters = Arc::new(Counters::default());
    let names = Arc::clone(&sites[0].names);
    let folder = home.path().join("outbox");
    let config = OutboxConfig { disk_reserve_bytes: 0, ..OutboxConfig::default() };
    let outbox = outbox::open(&folder, &config, &[CLOUD.into()], names, Arc::clone(&counters)).unwrap();
    let south = South::start(&sites[0], outbox.inlet(), Arc::clone(&counters));
    let ledger = Arc::new(Ledger::default());
    let reader = tokio::spawn(Arc::clone(&ledger).drain(outbox.outlet(CLOUD)));
    let metrics = tokio::runtime::Handle::current().metrics();
    let (mut took, mut early) = (Vec::with_capacity(SWAPS), None);
    for swap in 1..=SWAPS {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let next = &sites[swap % 3];
        let began = std::time::Instant::now();
        outbox.use_names(Arc::clone(&next.names));
        let applied = south.apply(next, Duration::from_secs(5)).await;
        took.push(began.elapsed());
        assert_eq!((applied.kept.as_slice(), applied.cut_off.len()), (&["kept".to_owned()][..], 0), "swap {swap}");
        if swap % 3 == 0 && swap == SWAPS / 4 {
            early = Some((metrics.num_alive_tasks(), open_files(), resident_kib()));
        }
    }
    let late = (metrics.num_alive_tasks(), open_files(), resident_kib());
    let status = south.status();
    let kept = status.connections.iter().find(|line| line.name == "kept").unwrap();
    assert_eq!(kept.sessions, 1, "the session went on over {SWAPS} swaps");
    assert!(south.stop(Duration::from_secs(5)).await.is_empty());
    while outbox.status().destinations[0].readings.waiting > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    reader.abort();
    let sums = ledger.sums();
    took.sort();
    let (early, rate) = (early.unwrap(), sums.readings as f64 / sums.seconds);
    println!(
        "{SWAPS} swaps at {rate:.0} values/s: p50 {:?}, p99 {:?}; tasks {} -> {}, files {} -> {}, rss {} -> {} KiB",
        took[SWAPS / 2],
        took[SWAPS * 99 / 100],
        early.0,
        late.0,
        early.1,
        late.1,
        early.2,
        late.2
    );
    assert_eq!(sums.broken, Vec::<String>::new(), "counters of kept devices have no gap and no repetition");
    assert_eq!(sums.streams, KEPT * POINTS);
    assert_eq!(counters.dropped.get(), 0);
    assert_eq!(early.0, late.0, "tasks");
    assert!(late.1 <= early.1 + 2, "open files {} -> {}", early.1, late.1);
    assert!(late.2 < early.2 + 32 * 1024, "memory {} -> {} KiB", early.2, late.2);
}

#[test]
fn a_package_that_halves_the_good_values_is_taken_back_and_an_unsound_one_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let good = Make { before: 2, period_ms: 50, ..Make::default() };
    let seed = site::write(home.path(), "1.0.0", good);
    let gateway = gateway::Running::start(home.path(), &seed);
    assert_eq!(gateway.package()["generation"], 1);

    let better = site::write(home.path(), "1.1.0", Make { period_ms: 60, ..good });
    let answer = gateway.package_command(&["install", better.to_str().unwrap()]).unwrap();
    assert_eq!(answer["applied"]["kept"], 1, "{answer}");
    assert_eq!(answer["applied"]["started"], serde_json::json!(["other"]));
    gateway.until("the second generation is kept", |package| package["watch"]["state"] == "kept");

    std::fs::write(home.path().join("broken.zip"), "no archive").unwrap();
    let refused = gateway.package_command(&["install", home.path().join("broken.zip").to_str().unwrap()]);
    assert!(refused.unwrap_err().contains("broken.zip"));
    let retyped = site::write(home.path(), "1.2.0", Make { retyped: true, ..good });
    let refused = gateway.package_command(&["install", retyped.to_str().unwrap()]).unwrap_err();
    assert!(refused.contains("measurement point \"p7\" was int when it was sent, and is double now"), "{refused}");
    assert!(refused.contains("models/m.yaml:10:") && refused.contains("give the point another id"), "{refused}");
    assert_eq!(gateway.package()["version"], "1.1.0");
    assert!(gateway.package()["last_refusal"]["why"].as_str().unwrap().contains("p7"));

    let bad = site::write(home.path(), "1.3.0", Make { broken: POINTS / 2, ..good });
    gateway.package_command(&["install", bad.to_str().unwrap()]).unwrap();
    assert_eq!(gateway.package()["version"], "1.3.0");
    let mistyped = gateway.package_command(&["rollback", "99"]).unwrap_err();
    assert!(mistyped.contains("generation 99"), "and the watch goes on: {mistyped}");
    gateway.until("the bad one is taken back", |package| package["version"] == "1.1.0");
    assert_eq!(gateway.package()["watch"]["state"], "rolled_back");
    let why = gateway.package()["watch"]["why"].as_str().unwrap().to_owned();
    assert!(why.starts_with("good values of changed devices fell from 100 %"), "{why}");
    let again = gateway.package_command(&["install", bad.to_str().unwrap()]).unwrap_err();
    assert!(again.contains("was taken back before"), "{again}");
    let worse = site::write(home.path(), "1.4.0", Make { broken: POINTS, ..good });
    gateway.package_command(&["install", worse.to_str().unwrap()]).unwrap();
    gateway.until("and the next bad one too, to what was good", |package| {
        package["version"] == "1.1.0" && package["watch"]["state"] == "rolled_back"
    });

    // Without the folder it was seeded from, and after a kill: the same package runs.
    let gateway = gateway.killed_and_started_without_seed(home.path());
    assert_eq!(gateway.package()["version"], "1.1.0");
    let events: Vec<String> = gateway
        .package_command(&["history"])
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|event| format!("{} {}", event["event"].as_str().unwrap(), event["version"].as_str().unwrap()))
        .collect();
    let expected = [
        "installed 1.0.0",
        "installed 1.1.0",
        "kept 1.1.0",
        "refused 1.2.0",
        "installed 1.3.0",
        "rolled_back 1.1.0",
        "refused 1.3.0",
        "installed 1.4.0",
        "rolled_back 1.1.0",
    ];
    assert_eq!(events, expected);
    gateway.package_command(&["rollback"]).unwrap();
    assert_eq!(gateway.package()["version"], "1.0.0");
}

#[test]
fn a_kill_in_the_middle_of_a_watch_does_not_save_a_bad_package_and_a_good_one_is_kept_after_it() {
    let home = tempfile::tempdir().unwrap();
    let good = Make { before: 2, period_ms: 50, ..Make::default() };
    let seed = site::write(home.path(), "1.0.0", good);
    let gateway = gateway::Running::start(home.path(), &seed);
    gateway.until("its values are good", |package| package["version"] == "1.0.0");
    let value = |gateway: &gateway::Running| gateway.package()["watch"]["state"].clone();
    let good_values = std::time::Instant::now();
    while good_values.elapsed() < Duration::from_millis(500) {
        std::thread::sleep(Duration::from_millis(50));
    }

    let bad = site::write(home.path(), "1.1.0", Make { broken: POINTS / 2, ..good });
    gateway.package_command(&["install", bad.to_str().unwrap()]).unwrap();
    assert_eq!(value(&gateway), "watching");
    let gateway = gateway.killed_and_started(home.path(), &seed);
    assert_eq!(gateway.package()["version"], "1.1.0");
    gateway.until("the bad one is taken back", |package| package["version"] == "1.0.0");
    let why = gateway.package()["watch"]["why"].as_str().unwrap().to_owned();
    assert!(why.starts_with("good values of changed devices fell from 100 %"), "{why}");

    let better = site::write(home.path(), "1.2.0", Make { period_ms: 60, ..good });
    gateway.package_command(&["install", better.to_str().unwrap()]).unwrap();
    let gateway = gateway.killed_and_started(home.path(), &seed);
    assert_eq!((gateway.package()["version"].clone(), value(&gateway)), ("1.2.0".into(), "watching".into()));
    gateway.until("the good one is kept", |package| package["watch"]["state"] == "kept");
    let gateway = gateway.killed_and_started(home.path(), &seed);
    assert_eq!(gateway.package()["watch"], "none", "the watch was over");
}

#[test]
fn what_is_installed_over_a_bad_package_under_watch_is_held_against_the_one_that_proved_itself() {
    let home = tempfile::tempdir().unwrap();
    let good = Make { before: 2, period_ms: 50, ..Make::default() };
    let bad = Make { broken: POINTS / 2, ..good };
    let seed = site::write(home.path(), "1.0.0", good);
    let gateway = gateway::Running::start(home.path(), &seed);
    let install = |gateway: &gateway::Running, version: &str, make: Make| {
        let folder = site::write(home.path(), version, make);
        let answer = gateway.package_command(&["install", folder.to_str().unwrap()]).unwrap();
        assert_eq!(gateway.package()["watch"]["state"], "watching", "{answer}");
    };
    gateway.until("its values are good", |package| package["watch"] == "none" || package["watch"]["state"] == "kept");
    std::thread::sleep(Duration::from_millis(500));

    install(&gateway, "1.1.0", bad);
    // No worse than the one before it, and yet no good; after a kill too, which leaves only the note on disk.
    install(&gateway, "1.2.0", Make { period_ms: 60, ..bad });
    let gateway = gateway.killed_and_started(home.path(), &seed);
    gateway.until("it is taken back", |package| package["watch"]["state"] == "rolled_back");
    assert_eq!(gateway.package()["version"], "1.0.0", "to the one that proved itself");
    let why = gateway.package()["watch"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("devices fell from 100 % to"), "{why}");

    install(&gateway, "1.3.0", Make { period_ms: 70, ..bad });
    install(&gateway, "1.4.0", Make { period_ms: 80, ..good });
    gateway.until("what mends it is kept", |package| package["watch"]["state"] == "kept");
    let events = gateway.package_command(&["history"]).unwrap();
    let last = events.as_array().unwrap().last().unwrap();
    assert_eq!((last["event"].as_str(), last["version"].as_str()), (Some("kept"), Some("1.4.0")), "{events}");
    gateway.package_command(&["rollback"]).unwrap();
    assert_eq!(gateway.package()["version"], "1.0.0", "nor does a person go back to one that proved nothing");
}
