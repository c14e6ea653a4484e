//! The gateway under something that starts it again as systemd would, and the engines it is given.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use enos_edge::doors::local::Visitor;
use enos_edge::engine::slots::Terms;
use enos_edge::engine::trial::Baseline;
use enos_edge::engine::{Folder, Place, Record, Slots, Started};
use enos_edge::package::trust::{SigningKey, generate};
use enos_edge::store::RealDisk;
use enos_edge::update::{Kind, Manifest, Staged, file, manifest};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// For what must happen some time.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// systemd waits a little before it starts a service again.
const RESTART: Duration = Duration::from_millis(200);
/// Version of the program when nothing is appended to it.
pub const PACKAGED: &str = "0.1.0";

/// One engine, as it is made of the one program.
#[derive(Clone, Debug, Default)]
pub struct Make {
    pub version: &'static str,
    pub behave: &'static str,
    pub after_ms: u64,
    pub damage: Damage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Damage {
    #[default]
    None,
    /// A byte of the program, after it was installed.
    Byte,
    /// No signature.
    Unsigned,
    /// Signed with a key that is not trusted here.
    Stranger,
    /// A link to a sound engine elsewhere.
    Link,
}

/// Programs, keys and the state folder of one gateway.
pub struct Home {
    pub folder: PathBuf,
    pub state: PathBuf,
    program: PathBuf,
    key: SigningKey,
    stranger: SigningKey,
    jobs: AtomicU32,
}

impl Home {
    pub fn new(folder: &Path, state: &Path) -> Home {
        let keys = folder.join("keys");
        std::fs::create_dir_all(&keys).unwrap();
        let key = |name: &str| {
            generate(&keys.join(name)).unwrap();
            SigningKey::read(&keys.join(name)).unwrap()
        };
        let (key, stranger) = (key("own"), key("stranger"));
        std::fs::remove_file(keys.join("stranger.pub")).unwrap();
        let program = folder.join("enos-edge");
        let built = env!("CARGO_BIN_EXE_trial-engine");
        // Without its symbols it is a fifth as long; where there is no strip, stories take longer.
        let stripped = Command::new("strip").args(["-o", program.to_str().unwrap(), built]).status();
        if !stripped.is_ok_and(|status| status.success()) {
            std::fs::copy(built, &program).unwrap();
        }
        Home { folder: folder.to_owned(), state: state.to_owned(), program, key, stranger, jobs: AtomicU32::new(0) }
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Lines of edge.yaml that say whose updates are taken, and how they come.
    pub fn yaml(&self) -> String {
        format!(
            "update:\n  keys: [{}]\n  firmware_dir: {}\n  trial_min: 1\n  hosts: [127.0.0.1]\n  cleartext: true\n  pull: off\n",
            self.folder.join("keys/own.pub").display(),
            self.folder.join("firmware.d").display()
        )
    }

    /// A copy of the program that is this engine.
    pub fn engine(&self, make: &Make, path: &Path) {
        std::fs::copy(&self.program, path).unwrap();
        let line = format!("\nENGINE version={} behave={} after_ms={}\n", make.version, make.behave, make.after_ms);
        use std::io::Write;
        std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(line.as_bytes()).unwrap();
    }

    pub fn engines(&self) -> Folder {
        Folder::of(&self.state)
    }

    pub fn slots(&self, place: Place) -> Slots {
        let started = Started { packaged: Some(PACKAGED.to_owned()), place };
        Slots::new(Arc::new(RealDisk), self.engines(), started)
    }

    pub fn record(&self) -> Record {
        Record::read(&RealDisk, &self.engines()).unwrap().unwrap_or_default()
    }

    /// An update as the job hands it to its target: payload, manifest, signature.
    pub fn staged(&self, make: &Make) -> Staged {
        let job = format!("job-{}", self.jobs.fetch_add(1, Ordering::SeqCst));
        let proof = self.folder.join("jobs").join(&job);
        std::fs::create_dir_all(&proof).unwrap();
        let payload = proof.join("payload");
        self.engine(make, &payload);
        let manifest = Manifest {
            kind: Kind::Engine { architecture: manifest::architecture().to_owned() },
            version: make.version.parse().unwrap(),
            payload: "payload".to_owned(),
            payload_bytes: payload.metadata().unwrap().len(),
            payload_sha256: enos_edge::store::Disk::digest(&RealDisk, &payload).unwrap(),
            replaces_from: None,
        };
        let text = manifest.text("enos-edge");
        let key = if make.damage == Damage::Stranger { &self.stranger } else { &self.key };
        std::fs::write(proof.join(manifest::FILE), &text).unwrap();
        std::fs::write(proof.join(manifest::SIGNATURE), file::sign("enos-edge", &manifest, &text, key)).unwrap();
        Staged { id: job, manifest, payload, proof }
    }

    /// Installs and activates from where the gateway runs now, without starting it.
    pub fn activate(&self, make: &Make, terms: Terms, baseline: &Baseline) -> Staged {
        let running = self.record().current;
        let update = self.staged(make);
        let slots = self.slots(running);
        slots.install(&update).unwrap();
        let slot = slots.target(&slots.record().unwrap());
        slots.activate(&update, terms, Some(baseline)).unwrap();
        let current = self.record().current.slot().unwrap();
        assert_eq!(current, slot);
        self.damage(make.damage, &self.engines().slot(current));
        std::fs::remove_file(&update.payload).unwrap();
        update
    }

    fn damage(&self, damage: Damage, slot: &Path) {
        let program = slot.join("enos-edge");
        match damage {
            Damage::None | Damage::Stranger => {}
            Damage::Byte => {
                let mut bytes = std::fs::read(&program).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                std::fs::write(&program, bytes).unwrap();
            }
            Damage::Unsigned => std::fs::remove_file(slot.join(manifest::SIGNATURE)).unwrap(),
            Damage::Link => {
                std::fs::copy(&program, self.folder.join("elsewhere")).unwrap();
                std::fs::remove_file(&program).unwrap();
                std::os::unix::fs::symlink(self.folder.join("elsewhere"), &program).unwrap();
            }
        }
    }
}

/// Starts the launcher again whenever it ends, until it is dropped.
pub struct Supervisor {
    current: Arc<Mutex<Option<u32>>>,
    over: Arc<AtomicBool>,
    pub starts: Arc<AtomicU32>,
    thread: Option<std::thread::JoinHandle<()>>,
    state: PathBuf,
    deaths: PathBuf,
}

impl Supervisor {
    pub fn start(home: &Home, config: &Path, watchdog: Option<Duration>) -> Supervisor {
        let (current, over, starts) = (Arc::default(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let deaths = home.folder.join("deaths");
        let log = home.folder.join("gateway.log");
        let mut command = Command::new(&home.program);
        command.arg("launch").arg("--config").arg(config).stdin(Stdio::null()).env("ENGINE_TEST_DEATHS", &deaths);
        if let Some(watchdog) = watchdog {
            command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        }
        let (held, ended, counted) = (Arc::clone(&current), Arc::clone(&over), Arc::clone(&starts));
        let identity = home.state.join("identity");
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::SeqCst) {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
                let command = command.stdout(file.try_clone().unwrap()).stderr(file);
                let mut child = run(command, &held);
                counted.fetch_add(1, Ordering::SeqCst);
                child.wait().unwrap();
                *held.lock().unwrap() = None;
                forget_connects(&identity);
                std::thread::sleep(RESTART);
            }
        });
        Supervisor { current, over, starts, thread: Some(thread), state: home.state.clone(), deaths }
    }

    /// The process that systemd would know.
    pub fn pid(&self) -> Option<u32> {
        *self.current.lock().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // It may have ended this very moment.
            let _ = kill_process(pid, signal);
        }
    }

    /// What the gateway says of itself; `None` while it does not answer.
    pub fn status(&self) -> Option<Json> {
        Visitor::connect(&self.state.join("control.sock")).ok()?.ask("status", &json!({})).ok()
    }

    pub fn until(&self, what: &str, happened: impl Fn(&Json) -> bool) -> Json {
        let end = Instant::now() + PATIENCE;
        let mut last = Json::Null;
        while Instant::now() < end {
            if let Some(status) = self.status() {
                if happened(&status) {
                    return status;
                }
                last = status["engine"].clone();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = testbed::quickstart::last_lines(&self.deaths.with_file_name("gateway.log"));
        panic!("{what} never happened; the gateway said {last:#}\n{log}")
    }

    /// When engines died without a word, milliseconds since 1970.
    pub fn deaths(&self) -> Vec<i64> {
        let text = std::fs::read_to_string(&self.deaths).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        self.end(Signal::TERM);
    }

    fn end(&mut self, signal: Signal) {
        self.over.store(true, Ordering::SeqCst);
        self.signal(signal);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn run(command: &mut Command, held: &Mutex<Option<u32>>) -> Child {
    let mut held = held.lock().unwrap();
    let child = command.spawn().unwrap();
    *held = Some(child.id());
    child
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.end(Signal::KILL);
    }
}

/// Restarts are ours: they must not run into the rule against too many connects.
fn forget_connects(identity: &Path) {
    for entry in std::fs::read_dir(identity).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("connects-") {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
