//! A whole site around the gateway of a story, and the rounds it lives through.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints its figures")]

use crate::gateway::{Home, Make, Supervisor};
use enos_edge::engine::slots::Terms;
use enos_edge::engine::trial::Baseline;
use enos_edge::engine::{How, Place};
use enos_edge::update::Staged;
use rustix::process::Signal;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testbed::cloud::Options;
use testbed::crash::loss;
use testbed::crash::verdict::{Allowance, Kill};
use testbed::meter::Meters;
use testbed::parts::{Parts, Plan};
use testbed::quickstart::write_files_with_state;
use testbed::site::Shape;

/// Strict durability: what the outbox took is stored before it is sent. A scan and a commit may be under way.
const IN_FLIGHT_MS: i64 = 700;
/// Largest disk of the stories that fill it.
const SMALL: &str = "size=400m,mode=0700";

/// How a round has to end.
#[derive(Clone, Copy, Debug)]
pub enum Round {
    Proven,
    /// With these words in the reason.
    Back(&'static str),
}

pub struct Site {
    parts: Parts,
    home: Home,
    supervisor: Option<Supervisor>,
    kills: Vec<Kill>,
    rounds: usize,
    took: Vec<(String, Duration)>,
    small: Option<Mount>,
    _folder: tempfile::TempDir,
}

/// A small disk of memory, where this user may mount one.
struct Mount(PathBuf);

impl Mount {
    fn new(path: &Path) -> Option<Mount> {
        std::fs::create_dir_all(path).unwrap();
        let mounted =
            std::process::Command::new("mount").args(["-t", "tmpfs", "-o", SMALL, "tmpfs"]).arg(path).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Mount(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl Site {
    /// `watchdog`: as a unit with WatchdogSec; then also on a small disk, if that can be had.
    pub async fn start(watchdog: Option<Duration>) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape { units: 3, registers: 60, displayed: 0, period: Duration::from_millis(500) };
        let plan = Plan { name: "engines".into(), meters: 1, shape, machine: None, cloud: Options::default() };
        let parts = Parts::start(plan).await.unwrap();
        parts.meters.iter().for_each(Meters::keep_journal);
        parts.cloud.knobs(|knobs| knobs.connect_limit = false);
        let state = folder.path().join("state");
        let small = watchdog.and_then(|_| Mount::new(&state));
        let home = Home::new(folder.path(), &state);
        let more = format!("outbox: {{ durability: strict, disk_reserve_mb: 4 }}\n{}", home.yaml());
        let config = write_files_with_state(&parts, folder.path(), &state, &more).unwrap();
        let supervisor = Supervisor::start(&home, &config, watchdog);
        let site = Site {
            parts,
            home,
            supervisor: Some(supervisor),
            kills: Vec::new(),
            rounds: 0,
            took: Vec::new(),
            small,
            _folder: folder,
        };
        site.is_well();
        site
    }

    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    pub fn log(&self) -> String {
        testbed::quickstart::last_lines(&self.home.folder.join("gateway.log"))
    }

    /// The launcher dies, and whatever it watches over with it.
    pub fn kill(&mut self) {
        let from = now_ms();
        self.supervisor().signal(Signal::KILL);
        self.kills.push(Kill { from, to: now_ms() });
    }

    pub fn is_small(&self) -> bool {
        self.small.is_some()
    }

    pub fn home(&self) -> &Home {
        &self.home
    }

    pub fn supervisor(&self) -> &Supervisor {
        self.supervisor.as_ref().unwrap()
    }

    /// Every device answers and something new is delivered.
    pub fn is_well(&self) {
        let before = self.delivered();
        self.supervisor().until("every device answers and the cloud takes readings", |status| {
            let connections = status["south"]["connections"].as_array().unwrap();
            let devices = connections.iter().flat_map(|one| one["devices"].as_array().unwrap());
            let answering = devices.filter(|device| device["state"] == "online").count();
            answering == 3 && self.delivered() > before
        });
    }

    fn delivered(&self) -> u64 {
        self.parts.cloud.ledger(|ledger| ledger.totals().delivered)
    }

    pub fn running(&self) -> (Place, String) {
        let status = self.supervisor().until("it answers", |_| true);
        let place = Place::parse(status["engine"]["place"].as_str().unwrap()).unwrap();
        (place, status["version"].as_str().unwrap().to_owned())
    }

    /// As the engine that switches would write it.
    fn baseline(&self) -> Baseline {
        let status = self.supervisor().until("it answers", |_| true);
        let connections = status["south"]["connections"].as_array().unwrap();
        let devices = connections.iter().flat_map(|one| one["devices"].as_array().unwrap());
        let points = |device: &Json| (device["points"].as_u64().unwrap(), device["points"].as_u64().unwrap());
        Baseline {
            generation: status["package"]["generation"].as_u64().unwrap(),
            devices: devices.map(|device| (device["name"].as_str().unwrap().to_owned(), points(device))).collect(),
            acknowledged: true,
        }
    }

    pub fn activate(&mut self, make: &Make, terms: Terms) -> Staged {
        self.rounds += 1;
        self.home.activate(make, terms, &self.baseline())
    }

    /// In order, as a job of an update or a person does it.
    pub fn restart(&self) {
        let starts = self.supervisor().starts.load(Ordering::SeqCst);
        self.supervisor().signal(Signal::TERM);
        self.supervisor().until("it starts again", |_| self.supervisor().starts.load(Ordering::SeqCst) > starts);
    }

    /// One engine comes, is started as a restart of the engine would, and ends as it must.
    pub fn round(&mut self, make: &Make, terms: Terms, end: Round) {
        let (before, began) = (self.running(), Instant::now());
        let update = self.activate(make, terms);
        self.restart();
        self.wait_for(&update, end);
        let (place, version) = self.running();
        match end {
            Round::Proven => assert_eq!(
                (Some(place), version.as_str()),
                (self.home.record().current.slot().map(Place::from), make.version)
            ),
            Round::Back(_) => assert_eq!((place, version), before, "what ran before runs again"),
        }
        self.is_well();
        self.took.push((format!("{} {}", make.behave, word(end)), began.elapsed()));
    }

    pub fn wait_for(&self, update: &Staged, end: Round) {
        let over = |status: &Json| {
            status["engine"]["last"]["job"] == update.id.as_str() && status["engine"]["trial"].is_null()
        };
        let status = self.supervisor().until(&format!("{} {}", update.manifest.version, word(end)), over);
        let last = &status["engine"]["last"];
        match end {
            Round::Proven => assert_eq!(last["how"], "proven", "{last}"),
            Round::Back(words) => {
                assert_eq!(last["how"], "rolled_back", "{last}");
                assert!(last["why"].as_str().unwrap().contains(words), "{last}");
            }
        }
    }

    /// A person takes the newest engine back.
    pub fn round_back_by_a_person(&mut self) {
        let previous = self.home.record().previous;
        self.home.slots(Place::Packaged).choose(previous, crate::gateway::PACKAGED).unwrap();
        self.restart();
        self.supervisor().until("the one before runs", |status| status["engine"]["place"] == previous.word());
        self.is_well();
        self.rounds += 1;
    }

    /// The launcher is killed so many milliseconds after the switch; whatever comes of the trial, a whole engine runs.
    pub fn killed_round(&mut self, make: &Make, terms: Terms, after_ms: u64) {
        let (before, began) = (self.running(), Instant::now());
        let update = self.activate(make, terms);
        self.supervisor().signal(Signal::TERM);
        std::thread::sleep(Duration::from_millis(after_ms));
        self.kill();
        let id = update.id.clone();
        self.supervisor().until("the trial is over", |status| {
            status["engine"]["last"]["job"] == id.as_str() && status["engine"]["trial"].is_null()
        });
        let how = self.home.record().last.unwrap().how;
        let now = self.running();
        assert!(how == How::Proven && now.1 == make.version || now == before, "{how:?}: {now:?} and before {before:?}");
        self.is_well();
        self.took.push((format!("{} killed after {after_ms} ms: {how:?}", make.behave), began.elapsed()));
    }

    /// Devices fall silent, what waits is delivered, and the ledger is asked.
    pub async fn end(mut self, name: &str) {
        self.parts.silence().await;
        // What was read last may still be on its way into the outbox.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.supervisor().until("everything is delivered", |status| status["counters"]["outbox_readings"] == 0);
        let supervisor = self.supervisor.take().unwrap();
        self.kills.extend(supervisor.deaths().into_iter().map(|at| Kill { from: at, to: at + 20 }));
        self.kills.sort_by_key(|kill| kill.from);
        let starts = supervisor.starts.load(Ordering::SeqCst);
        supervisor.stop();
        let totals = self.parts.cloud.ledger(|ledger| ledger.report());
        let allowance = Allowance { bound_ms: 0, in_flight_ms: IN_FLIGHT_MS };
        let lost = loss::find(&self.parts, &self.kills, &[], allowance).lost;
        for (what, took) in &self.took {
            println!("  {what}: {:.1} s", took.as_secs_f64());
        }
        println!(
            "{name}: {} rounds, {starts} starts of the launcher, {} kills and deaths; {} readings delivered, {} came twice, \
             {} lost, {} of them under way when an engine was killed (oldest {} ms)",
            self.rounds,
            self.kills.len(),
            totals.delivered,
            totals.duplicated,
            totals.lost,
            lost.within_bound,
            lost.oldest_ms,
        );
        assert_eq!(lost.beyond_bound, 0, "kills {:?}, lost runs {:?}", self.kills, totals.lost_runs);
        if self.kills.is_empty() {
            assert_eq!(totals.lost, 0, "{:?}", totals.lost_runs);
        }
        assert!(totals.delivered > 1000, "the story is too short to show anything");
        assert_eq!(totals.repeated, 0);
    }
}

fn word(end: Round) -> &'static str {
    match end {
        Round::Proven => "is proven",
        Round::Back(_) => "is taken back",
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
