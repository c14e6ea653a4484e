//! Whole updates with a target that plays along or does not: crashes at every step, offers in any order, files over HTTP.

mod lives;

use super::build::{Wanted, build};
use super::file::limits;
use super::runner::{self, Around, Ports, Updates};
use super::shelf::Shelf;
use super::{Activation, Failure, Kind, Stage, Staged, Standing, Target, Tell};
use crate::config::UpdateConfig;
use crate::model::update::{Ear, Method, Offer, Offers, Said, Saying};
use crate::package::trust::{self, SigningKey};
use crate::store::{Disk, RealDisk};
use driver::Answer;
use serde_json::Value as Json;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};

/// What the target has, across restarts of the gateway.
#[derive(Default)]
struct Board {
    running: String,
    /// Written beside what runs.
    installed: Option<(String, Vec<u8>)>,
    /// Started, not confirmed.
    trying: Option<String>,
    before: String,
    calls: Vec<String>,
    /// The next steps that fail, by name.
    faults: VecDeque<(&'static str, Stage)>,
    restart: bool,
    /// The engine is not another one yet.
    holds: bool,
}

struct FakeTarget(Arc<Mutex<Board>>);

impl FakeTarget {
    fn step<T>(&self, name: &'static str, act: impl FnOnce(&mut Board) -> T) -> Result<T, Failure> {
        let mut board = self.0.lock().unwrap();
        board.calls.push(name.to_owned());
        if board.faults.front().is_some_and(|(step, _)| *step == name) {
            let (_, stage) = board.faults.pop_front().unwrap();
            return Err(Failure::new(stage, format!("{name} fails")));
        }
        Ok(act(&mut board))
    }
}

impl Target for FakeTarget {
    fn running(&self) -> Answer<'_, Option<String>> {
        Box::pin(async { Some(self.0.lock().unwrap().running.clone()) })
    }

    fn prepare<'a>(&'a self, _: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        tell.tell(50, "looking for room");
        Box::pin(async { self.step("prepare", |_| ()) })
    }

    fn install<'a>(&'a self, update: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async move {
            let bytes = std::fs::read(&update.payload).map_err(|e| Failure::new(Stage::Writing, e.to_string()))?;
            assert!(update.proof.join("update.sig").exists());
            for percent in (0..=100).step_by(10) {
                tell.tell(percent, "writing");
                tokio::task::yield_now().await;
            }
            self.step("install", |board| board.installed = Some((update.manifest.version.to_string(), bytes)))
        })
    }

    fn activate<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Activation, Failure>> {
        Box::pin(async move {
            self.step("activate", |board| {
                let version = update.manifest.version.to_string();
                assert_eq!(board.installed.as_ref().map(|(version, _)| version), Some(&version), "installed before");
                if board.trying.is_none() {
                    board.before = std::mem::replace(&mut board.running, version.clone());
                    board.trying = Some(version);
                }
                if board.restart { Activation::RestartEngine } else { Activation::Now }
            })
        })
    }

    fn standing<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Standing, Failure>> {
        Box::pin(async move {
            self.step("standing", |board| {
                let version = update.manifest.version.to_string();
                if board.holds {
                    Standing::OnTrial("a restart".into())
                } else if board.running == version {
                    Standing::Proven
                } else {
                    Standing::RolledBack("it crashed".into())
                }
            })
        })
    }

    fn confirm<'a>(&'a self, _: &'a Staged) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async { self.step("confirm", |board| board.trying = None) })
    }

    fn roll_back<'a>(&'a self, _: &'a Staged, _: &'a str) -> Answer<'a, Result<Activation, Failure>> {
        Box::pin(async {
            self.step("roll_back", |board| {
                if !board.before.is_empty() {
                    board.running = std::mem::take(&mut board.before);
                }
                board.trying = None;
                Activation::Now
            })
        })
    }
}

struct Here {
    board: Arc<Mutex<Board>>,
    restart: Arc<Notify>,
}

impl Around for Here {
    fn target(&self, kind: &Kind) -> Result<Arc<dyn Target>, Failure> {
        match kind.target() {
            "rauc" | "engine" => Ok(Arc::new(FakeTarget(Arc::clone(&self.board)))),
            other => Err(Failure::new(Stage::Refused, format!("no target {other}"))),
        }
    }

    fn device(&self, _: &str, device_key: &str) -> Option<String> {
        Some(format!("Device {device_key}"))
    }

    fn restart(&self) {
        self.restart.notify_one();
    }
}

/// A cloud that acknowledges everything at once, and remembers it.
#[derive(Default)]
struct Cloud {
    said: Mutex<Vec<Saying>>,
    unheard: Mutex<Vec<Saying>>,
    news: Notify,
    name: Mutex<Option<String>>,
}

impl Ear for Cloud {
    fn say(&self, saying: Saying) {
        self.said.lock().unwrap().push(saying.clone());
        self.unheard.lock().unwrap().push(saying);
        self.news.notify_one();
    }

    fn call_oneself(&self, version: Option<String>) {
        *self.name.lock().unwrap() = version;
    }

    fn heard(&self) -> Answer<'_, Vec<Saying>> {
        Box::pin(async {
            loop {
                let unheard = std::mem::take(&mut *self.unheard.lock().unwrap());
                if !unheard.is_empty() {
                    return unheard;
                }
                self.news.notified().await;
            }
        })
    }
}

impl Cloud {
    /// Progress by job, without repetitions.
    fn steps(&self) -> Vec<i32> {
        let said = self.said.lock().unwrap();
        let steps = said.iter().filter_map(|saying| match &saying.what {
            Said::Progress { step, .. } => Some(*step),
            Said::Version(_) => None,
        });
        let mut steps: Vec<i32> = steps.collect();
        steps.dedup();
        steps
    }

    fn versions(&self) -> Vec<String> {
        let said = self.said.lock().unwrap();
        said.iter()
            .filter_map(|saying| match &saying.what {
                Said::Version(version) => Some(version.clone()),
                Said::Progress { .. } => None,
            })
            .collect()
    }
}

/// Dies with its gateway after so many steps.
struct Dying {
    left: AtomicUsize,
    dead: Notify,
}

impl Dying {
    fn step(&self) -> io::Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| {
            self.dead.notify_one();
            io::Error::other("killed")
        })
    }
}

macro_rules! dying {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $back:ty;)*) => {
        impl Disk for Dying {
            $(fn $name(&self, $($argument: $kind),*) -> io::Result<$back> { self.step()?; RealDisk.$name($($argument),*) })*
            fn read(&self, path: &Path) -> io::Result<Vec<u8>> { RealDisk.read(path) }
            fn digest(&self, path: &Path) -> io::Result<String> { RealDisk.digest(path) }
            fn names(&self, path: &Path) -> io::Result<Vec<String>> { RealDisk.names(path) }
        }
    };
}

dying! {
    make_folder(path: &Path) -> ();
    write(path: &Path, bytes: &[u8]) -> ();
    sync(path: &Path) -> ();
    rename(from: &Path, to: &Path) -> ();
    remove(path: &Path) -> ();
    append(path: &Path, bytes: &[u8]) -> ();
    copy(from: &Path, to: &Path) -> ();
    sync_folder(path: &Path) -> ();
    make_executable(path: &Path) -> ();
}

struct Bench {
    home: tempfile::TempDir,
    key: SigningKey,
    board: Arc<Mutex<Board>>,
    cloud: Arc<Cloud>,
    restart: Arc<Notify>,
    config: UpdateConfig,
}

struct Gateway {
    updates: Updates,
    task: tokio::task::JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    fn new() -> Bench {
        // Hundreds of fsyncs a story; whether they are made is tested with a disk whose power is cut.
        let memory = Path::new("/dev/shm");
        let home = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        trust::generate(&home.path().join("k")).unwrap();
        let key = SigningKey::read(&home.path().join("k")).unwrap();
        let board = Board { running: "1.0.0".into(), ..Board::default() };
        let config = UpdateConfig {
            conditions: home.path().join("conditions.d"),
            cleartext: true,
            hosts: vec!["127.0.0.1".into()],
            reserve_bytes: 0,
            ..UpdateConfig::default()
        };
        let (board, cloud, restart) = (Arc::new(Mutex::new(board)), Arc::default(), Arc::default());
        Bench { home, key, board, cloud, restart, config }
    }

    fn start_on(&self, disk: Arc<dyn Disk>) -> Gateway {
        let ports = Ports {
            config: self.config.clone(),
            shelf: Shelf::new(disk, &self.home.path().join("state")),
            keys: Ok(vec![self.key.public()]),
            ear: Arc::clone(&self.cloud) as _,
            around: Arc::new(Here { board: Arc::clone(&self.board), restart: Arc::clone(&self.restart) }),
            gateway: Some(("p".into(), "gw".into())),
            identity: None,
            ask: None,
        };
        let (stop, stopped) = watch::channel(false);
        let (updates, task) = runner::start(ports, stopped);
        Gateway { updates, task, _stop: stop }
    }

    fn start(&self) -> Gateway {
        self.start_on(Arc::new(RealDisk))
    }

    fn file(&self, version: &str) -> PathBuf {
        let path = self.home.path().join(format!("{version}.tar.gz"));
        if !path.exists() {
            let payload = self.home.path().join(format!("{version}.bin"));
            std::fs::write(&payload, payload_of(version)).unwrap();
            let kind = Kind::Firmware { target: "rauc".into(), device: None };
            let version = version.parse().unwrap();
            let wanted = Wanted { kind, name: "panel", version, replaces_from: None, payload: &payload };
            build(&wanted, &self.key, &path, &limits(1 << 20, None)).unwrap();
        }
        path
    }

    fn offer(&self, version: &str, device: &str, url: &str) -> Offer {
        let bytes = std::fs::read(self.file(version)).unwrap();
        Offer {
            product_key: "p".into(),
            device_key: device.into(),
            version: version.into(),
            method: Method::Sha256,
            sign: crate::store::sha256(&bytes),
            url: url.into(),
            size: bytes.len() as u64,
        }
    }
}

fn payload_of(version: &str) -> Vec<u8> {
    format!("firmware {version} ").repeat(2000).into_bytes()
}

async fn until(gateway: &Gateway, fits: impl Fn(&Json) -> bool) -> Json {
    let found = async {
        loop {
            let status = gateway.updates.status();
            if fits(&status["job"]) {
                return status["job"].clone();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), found).await;
    found.unwrap_or_else(|_| panic!("{}", gateway.updates.status()))
}

async fn end(gateway: &Gateway) -> Json {
    until(gateway, |job| job["end"] == true).await
}

/// Serves files by HTTP with ranges; each answer breaks off after `cut` bytes of its body.
async fn server(folder: PathBuf, cut: Option<usize>) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (folder, sent) = (folder.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    request.push(byte);
                }
                let request = String::from_utf8_lossy(&request).to_lowercase();
                let name = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
                let Ok(bytes) = std::fs::read(folder.join(name)) else {
                    let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
                    return;
                };
                let from = request.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
                let from: usize = from.unwrap_or(0);
                if from >= bytes.len() {
                    let head = format!(
                        "HTTP/1.1 416 X\r\ncontent-length: 0\r\ncontent-range: bytes */{}\r\n\r\n",
                        bytes.len()
                    );
                    let _ = stream.write_all(head.as_bytes()).await;
                    return;
                }
                let body = &bytes[from..];
                let head = match from {
                    0 => format!("HTTP/1.1 200 OK\r\netag: \"e\"\r\ncontent-length: {}\r\n\r\n", body.len()),
                    _ => format!(
                        "HTTP/1.1 206 Partial Content\r\netag: \"e\"\r\ncontent-length: {}\r\ncontent-range: bytes {from}-{}/{}\r\n\r\n",
                        body.len(),
                        bytes.len() - 1,
                        bytes.len()
                    ),
                };
                let body = &body[..body.len().min(cut.unwrap_or(usize::MAX))];
                sent.fetch_add(body.len(), Ordering::SeqCst);
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(body).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (base, sent)
}

#[tokio::test]
async fn a_file_of_this_machine_is_installed_to_its_end() {
    let bench = Bench::new();
    let gateway = bench.start();
    gateway.updates.install(bench.file("2.0.0"), false).await.unwrap();
    let job = end(&gateway).await;
    assert_eq!((&job["state"], &job["version"], &job["replaces"]), (&"done".into(), &"2.0.0".into(), &"1.0.0".into()));
    let board = bench.board.lock().unwrap();
    assert_eq!((board.running.as_str(), board.trying.as_ref()), ("2.0.0", None));
    assert_eq!(board.installed.as_ref().unwrap().1, payload_of("2.0.0"));
    assert_eq!(board.calls, ["prepare", "install", "activate", "standing", "confirm"]);
    assert!(bench.cloud.said.lock().unwrap().is_empty(), "nobody asked there");
    assert_eq!(std::fs::read_dir(bench.home.path().join("state/update/work")).unwrap().count(), 0);
    assert_eq!(gateway.updates.history()[0]["result"], "done");
}

#[tokio::test]
async fn an_offer_of_the_cloud_is_fetched_over_cuts_and_told_in_order() {
    let mut bench = Bench::new();
    let size = std::fs::metadata(bench.file("2.0.0")).unwrap().len() as usize;
    let (base, sent) = server(bench.home.path().to_owned(), Some(size / 2 + 1)).await;
    bench.config.wait = Duration::from_secs(60);
    let gateway = bench.start();
    let offer = bench.offer("2.0.0", "gw", &format!("{base}/2.0.0.tar.gz"));
    assert_eq!(gateway.updates.offered(offer.clone(), true).await.code, 200);
    assert_eq!(gateway.updates.offered(offer.clone(), true).await.code, 200, "the same again");
    let other = bench.offer("3.0.0", "gw", &format!("{base}/3.0.0.tar.gz"));
    let busy = gateway.updates.offered(other, true).await;
    assert_eq!((busy.code, busy.message.contains("another update is under way")), (2012, true));
    let job = until(&gateway, |job| job["told"] == true).await;
    assert_eq!(job["state"], "done");
    assert_eq!(sent.load(Ordering::SeqCst), size, "not a byte twice");
    let steps = bench.cloud.steps();
    assert!(steps.is_sorted() && steps.first() == Some(&1) && steps.last() == Some(&100), "{steps:?}");
    assert_eq!(bench.cloud.versions(), ["2.0.0"]);
    assert_eq!(bench.board.lock().unwrap().calls.iter().filter(|call| *call == "install").count(), 1, "one job");
}

#[tokio::test]
async fn every_failure_has_its_code_and_leaves_what_ran() {
    let bench = Bench::new();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    let good = bench.offer("2.0.0", "gw", &format!("{base}/2.0.0.tar.gz"));
    std::fs::write(bench.home.path().join("bad.tar.gz"), b"\x7fELF and so on").unwrap();
    let bad = Offer {
        url: format!("{base}/bad.tar.gz"),
        size: 14,
        sign: crate::store::sha256(b"\x7fELF and so on"),
        ..good.clone()
    };
    let stranger = Bench::new();
    std::fs::copy(stranger.file("2.0.0"), bench.home.path().join("theirs.tar.gz")).unwrap();
    let theirs = Offer { url: format!("{base}/theirs.tar.gz"), ..stranger.offer("2.0.0", "gw", "") };
    let older = bench.offer("0.9.0", "gw", &format!("{base}/0.9.0.tar.gz"));
    for (offer, faults, code, words) in [
        (Offer { sign: "00".repeat(32), ..good.clone() }, vec![], -3, "the cloud says 00"),
        (Offer { size: good.size + 1, ..good.clone() }, vec![], -3, "bytes, the cloud says"),
        (bad, vec![], -5, "no update file but a bare program"),
        (theirs, vec![], -3, "not trusted here"),
        (Offer { version: "2.0.1".into(), ..good.clone() }, vec![], -3, "offers version 2.0.1"),
        (older, vec![], -5, "older than 1.0.0"),
        (good.clone(), vec![("prepare", Stage::Refused)], -5, "prepare fails"),
        (good.clone(), vec![("install", Stage::Writing)], -4, "install fails"),
        (good.clone(), vec![("activate", Stage::Other)], -1, "activate fails"),
        (good.clone(), vec![("standing", Stage::Other)], -1, "standing fails"),
        (good.clone(), vec![("confirm", Stage::Other)], -1, "confirm fails"),
    ] {
        let gateway = bench.start();
        bench.board.lock().unwrap().faults = faults.into();
        bench.cloud.said.lock().unwrap().clear();
        let taken = gateway.updates.offered(offer, true).await;
        assert_eq!(taken.code, 200, "{words}: {}", taken.message);
        let job = end(&gateway).await;
        assert_eq!(job["step"], code, "{words}: {job}");
        assert!(job["why"].as_str().unwrap().contains(words), "{words}: {job}");
        assert_eq!(bench.cloud.steps().last(), Some(&code), "{words}");
        assert_eq!(bench.board.lock().unwrap().running, "1.0.0", "{words}");
    }
}

#[tokio::test]
async fn what_is_known_to_be_wrong_is_refused_at_the_offer() {
    let bench = Bench::new();
    let gateway = bench.start();
    let good = bench.offer("2.0.0", "gw", "https://127.0.0.1:1/x");
    for (offer, words) in [
        (Offer { url: "https://evil.com/f".into(), ..good.clone() }, "host evil.com"),
        (Offer { url: "/relative".into(), ..good.clone() }, "base_url"),
        (Offer { url: "enos-connect://f.zip".into(), ..good.clone() }, "http_broker"),
    ] {
        let refused = gateway.updates.offered(offer, true).await;
        assert!(refused.code == 2018 && refused.message.contains(words), "{refused:?}");
    }
    let running = Offer { version: crate::version::current().to_owned(), ..good.clone() };
    assert_eq!(gateway.updates.offered(running, true).await.code, 200);
    assert_eq!((bench.cloud.steps(), bench.cloud.versions()), (vec![100], vec![crate::version::current().to_owned()]));
    assert_eq!(gateway.updates.status()["job"], Json::Null);
    let large = Offer { size: 1 << 40, ..good };
    assert_eq!(gateway.updates.offered(large, true).await.code, 200);
    assert!(end(&gateway).await["why"].as_str().unwrap().contains("max_mb"));
}

#[tokio::test]
async fn a_condition_holds_it_back_and_a_person_may_cancel_or_hurry() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    std::fs::create_dir(&bench.config.conditions).unwrap();
    let battery = bench.config.conditions.join("battery");
    std::fs::write(&battery, "#!/bin/sh\necho 'battery at 20 %'\nexit 75\n").unwrap();
    std::fs::set_permissions(&battery, std::fs::Permissions::from_mode(0o755)).unwrap();
    let gateway = bench.start();
    gateway.updates.install(bench.file("2.0.0"), false).await.unwrap();
    until(&gateway, |job| job["why"] == "condition battery: battery at 20 %").await;
    assert_eq!(gateway.updates.install(bench.file("3.0.0"), true).await.unwrap_err().code, "busy");
    drop(gateway);
    let gateway = bench.start();
    until(&gateway, |job| job["state"] == "waiting").await;
    gateway.updates.cancel().await.unwrap();
    assert_eq!(end(&gateway).await["why"], "cancelled by a person");
    assert!(gateway.updates.cancel().await.is_err());
    assert!(bench.board.lock().unwrap().calls.is_empty());
    gateway.updates.install(bench.file("2.0.0"), true).await.unwrap();
    assert_eq!(until(&gateway, |job| job["end"] == true && job["state"] != "refused").await["state"], "done");
    gateway.updates.roll_back().await.unwrap();
    assert_eq!(until(&gateway, |job| job["end"] == true && job["state"] != "done").await["state"], "rolled back");
    assert_eq!(bench.board.lock().unwrap().running, "1.0.0");
}

#[tokio::test]
async fn firmware_of_a_sub_device_goes_to_that_device_only() {
    let bench = Bench::new();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    let payload = bench.home.path().join("x.bin");
    std::fs::write(&payload, b"meter").unwrap();
    for (device, right) in [("Device m1", true), ("m1", true), ("Device m2", false)] {
        let gateway = bench.start();
        let kind = Kind::Firmware { target: "rauc".into(), device: Some(device.into()) };
        let wanted =
            Wanted { kind, name: "m", version: "5.0.0".parse().unwrap(), replaces_from: None, payload: &payload };
        build(&wanted, &bench.key, &bench.home.path().join("5.0.0.tar.gz"), &limits(1 << 20, None)).unwrap();
        let offer = bench.offer("5.0.0", "m1", &format!("{base}/5.0.0.tar.gz"));
        bench.board.lock().unwrap().running = "1.0.0".into();
        std::fs::remove_file(bench.home.path().join("state/update/versions.json")).ok();
        drop(gateway);
        let gateway = bench.start();
        assert_eq!(gateway.updates.offered(offer, false).await.code, 200);
        let job = end(&gateway).await;
        assert_eq!(job["state"] == "done", right, "{device}: {job}");
        drop(gateway);
        bench.cloud.said.lock().unwrap().clear();
        let _gateway = bench.start();
        let told = bench.cloud.said.lock().unwrap().clone();
        assert_eq!(told.iter().any(|one| one.device_key == "m1" && one.what == Said::Version("5.0.0".into())), right);
    }
}

/// As much of a program as is looked at.
fn program() -> Vec<u8> {
    let mut start = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    start.truncate(4096);
    start
}

async fn bench_with_an_engine(version: &str) -> (Bench, String) {
    let bench = Bench::new();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    std::fs::write(bench.home.path().join("program"), program()).unwrap();
    let wanted = Wanted {
        kind: Kind::Engine { architecture: super::manifest::architecture().into() },
        name: "enos-edge",
        version: version.parse().unwrap(),
        replaces_from: None,
        payload: &bench.home.path().join("program"),
    };
    build(&wanted, &bench.key, &bench.home.path().join(format!("{version}.tar.gz")), &limits(1 << 20, None)).unwrap();
    (bench, base)
}

#[tokio::test]
async fn the_cloud_is_told_of_an_engine_that_a_person_brought() {
    let (bench, _) = bench_with_an_engine("2.0.0").await;
    let gateway = bench.start();
    gateway.updates.install(bench.file("2.0.0"), false).await.unwrap();
    assert_eq!(end(&gateway).await["state"], "done");
    assert_eq!((bench.cloud.versions(), bench.cloud.steps()), (vec!["2.0.0".to_owned()], vec![]));
}

#[tokio::test]
async fn what_was_done_is_taken_back_without_a_step_after_its_last() {
    let bench = Bench::new();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    let gateway = bench.start();
    let offer = bench.offer("2.0.0", "sub", &format!("{base}/2.0.0.tar.gz"));
    assert_eq!(gateway.updates.offered(offer, false).await.code, 200);
    assert_eq!(until(&gateway, |job| job["told"] == true).await["state"], "done");
    gateway.updates.roll_back().await.unwrap();
    assert_eq!(until(&gateway, |job| job["told"] == true).await["state"], "rolled back");
    assert_eq!(bench.cloud.steps().last(), Some(&100));
    assert_eq!(bench.cloud.versions(), ["2.0.0", "1.0.0"]);
}

/// The engine that is taken back is the one that says so, and runs on for a moment.
#[tokio::test]
async fn an_engine_that_is_taken_back_calls_itself_as_the_one_before() {
    let own = crate::version::current();
    let (bench, _) = bench_with_an_engine(own).await;
    {
        let mut board = bench.board.lock().unwrap();
        (board.running, board.holds) = ("0.0.1".to_owned(), true);
    }
    let gateway = bench.start();
    gateway.updates.install(bench.file(own), false).await.unwrap();
    until(&gateway, |job| job["state"] == "on trial").await;
    gateway.updates.roll_back().await.unwrap();
    assert_eq!(end(&gateway).await["state"], "rolled back");
    assert_eq!(bench.cloud.name.lock().unwrap().as_deref(), Some("0.0.1"), "what is told after a connect");
    drop(gateway);
    *bench.cloud.name.lock().unwrap() = None;
    let _again = bench.start();
    assert_eq!(*bench.cloud.name.lock().unwrap(), None, "after the restart it is the engine's own");
}

#[tokio::test]
async fn an_engine_is_called_by_its_new_version_once_it_has_shown_that_it_works() {
    let (bench, base) = bench_with_an_engine("2.0.0").await;
    {
        let mut board = bench.board.lock().unwrap();
        (board.restart, board.holds) = (true, true);
    }
    let gateway = bench.start();
    let offer = bench.offer("2.0.0", "gw", &format!("{base}/2.0.0.tar.gz"));
    assert_eq!(gateway.updates.offered(offer, true).await.code, 200);
    bench.restart.notified().await;
    drop(gateway);
    let on_disk = std::fs::read_to_string(bench.home.path().join("state/update/job.json")).unwrap();
    assert!(on_disk.contains("on_trial"), "written down before the restart: {on_disk}");
    let gateway = bench.start();
    assert_eq!(bench.cloud.name.lock().unwrap().as_deref(), Some("1.0.0"), "what is told after a connect");
    assert!(bench.cloud.versions().is_empty());
    bench.board.lock().unwrap().holds = false;
    assert_eq!(until(&gateway, |job| job["told"] == true).await["state"], "done");
    assert_eq!((bench.cloud.versions(), bench.cloud.name.lock().unwrap().clone()), (vec!["2.0.0".to_owned()], None));
}

/// Kills the gateway at every step that it takes on its disk, in every order of what had been done.
#[tokio::test]
async fn a_gateway_that_is_killed_at_any_step_goes_on_and_ends_whole() {
    let (mut kills, mut ended) = (0, false);
    for steps in 0..400 {
        let bench = Bench::new();
        let dying = Arc::new(Dying { left: AtomicUsize::new(steps), dead: Notify::new() });
        let gateway = bench.start_on(Arc::clone(&dying) as _);
        let taken = gateway.updates.install(bench.file("2.0.0"), true).await;
        if taken.is_ok() {
            tokio::select! {
                () = dying.dead.notified() => kills += 1,
                _ = end(&gateway) => ended = dying.left.load(Ordering::SeqCst) > 20,
            }
        }
        drop(gateway);
        tokio::task::yield_now().await;
        let gateway = bench.start();
        let job = gateway.updates.status()["job"].clone();
        if job.is_null() {
            assert_eq!(bench.board.lock().unwrap().running, "1.0.0");
            assert!(taken.is_err(), "step {steps}: what was taken on is not lost");
            continue;
        }
        let job = end(&gateway).await;
        assert_eq!(job["state"], "done", "step {steps}: {job}");
        let board = bench.board.lock().unwrap();
        assert_eq!((board.running.as_str(), board.trying.as_ref()), ("2.0.0", None), "step {steps}");
        assert_eq!(board.installed.as_ref().unwrap().1, payload_of("2.0.0"));
        let history = gateway.updates.history();
        assert_eq!(history.as_array().map(Vec::len), Some(1), "step {steps}: {history}");
        if ended {
            break;
        }
    }
    assert!(ended && kills > 50, "{kills} kills");
}
