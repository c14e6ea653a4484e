//! Firmware through a real RAUC and a real SWUpdate: good files are installed, bad ones refused, and a power cut in the
//! middle leaves what runs as it is. `tests/firmware/run` makes keys, bundles and the services' folder, and runs this:
//! `cargo test --test firmware_rauc -- --ignored`

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use enos_edge::update::firmware::Firmware;
use enos_edge::update::{Activation, Kind, Manifest, Stage, Staged, Standing, Target, Tell};
use semver::Version;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What `tests/firmware/run` has made.
fn bench() -> PathBuf {
    PathBuf::from(std::env::var_os("FIRMWARE_BENCH").expect("tests/firmware/run sets it"))
}

#[derive(Default)]
struct Told(Mutex<Vec<(u8, String)>>);

impl Tell for Told {
    fn tell(&self, percent: u8, words: &str) {
        self.0.lock().unwrap().push((percent, words.to_owned()));
    }
}

/// A service that is killed with the power.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// RAUC's service as if the machine had booted this slot.
fn rauc(booted: &str) -> Service {
    let child = Command::new("rauc")
        .args(["service", "--conf"])
        .arg(bench().join("system.conf"))
        .arg(format!("--override-boot-slot={booted}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let service = Service(child);
    until("the service answers", || {
        Command::new("rauc").arg("status").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    });
    service
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: not in time");
        std::thread::yield_now();
    }
}

struct World {
    home: tempfile::TempDir,
    firmware: Firmware,
}

fn world(target: &str) -> World {
    let home = tempfile::tempdir().unwrap();
    let firmware = Firmware::open(&bench().join("firmware.d"), target, home.path()).unwrap();
    let boot = bench().join("boot");
    let _ = std::fs::remove_dir_all(&boot);
    std::fs::create_dir_all(&boot).unwrap();
    std::fs::write(boot.join("primary"), "A\n").unwrap();
    for (slot, byte) in [("a", 0xaa), ("b", 0xbb)] {
        std::fs::write(bench().join(format!("slots/{slot}.img")), vec![byte; 8 << 20]).unwrap();
    }
    World { home, firmware }
}

impl World {
    fn staged(&self, file: &str) -> Staged {
        let manifest = Manifest {
            kind: Kind::Firmware { target: "rauc".into(), device: None },
            version: Version::new(2, 0, 0),
            payload: "payload".into(),
            payload_bytes: 0,
            payload_sha256: String::new(),
            replaces_from: None,
        };
        Staged { id: "job-7".into(), manifest, payload: bench().join(file), proof: self.home.path().to_owned() }
    }

    /// As if the machine had restarted since: the boot that is remembered is another one.
    fn another_boot(&self, target: &str) {
        let path = self.home.path().join("firmware").join(target).join("before");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut words: Vec<&str> = text.split_whitespace().collect();
        *words.last_mut().unwrap() = "another-boot";
        std::fs::write(&path, words.join(" ") + "\n").unwrap();
    }
}

fn primary() -> String {
    std::fs::read_to_string(bench().join("boot/primary")).unwrap().trim().to_owned()
}

/// How much of the image stands at the beginning of a slot.
fn holds(slot: &str, image: &str) -> bool {
    let (slot, image) = (std::fs::read(bench().join(slot)).unwrap(), std::fs::read(bench().join(image)).unwrap());
    slot[..image.len()] == image
}

fn untouched(slot: &str, byte: u8) -> bool {
    std::fs::read(bench().join(slot)).unwrap().iter().all(|found| *found == byte)
}

#[tokio::test]
#[ignore = "tests/firmware/run makes what it needs"]
async fn rauc_installs_a_good_bundle_and_it_is_confirmed_after_the_restart() {
    let (world, told) = (world("rauc"), Told::default());
    let service = rauc("A");
    let (firmware, staged) = (&world.firmware, world.staged("good.raucb"));
    assert_eq!(firmware.running().await, None, "a fresh machine says no version");
    firmware.prepare(&staged, &told).await.unwrap();
    firmware.install(&staged, &told).await.unwrap();
    let percents: Vec<u8> = told.0.lock().unwrap().iter().map(|(percent, _)| *percent).collect();
    assert!(percents.len() > 5 && percents.is_sorted() && percents.last() == Some(&100), "{percents:?}");
    assert!(holds("slots/b.img", "in/rootfs.img") && untouched("slots/a.img", 0xaa));
    assert_eq!(primary(), "A", "what starts next has not changed yet");
    assert_eq!(firmware.activate(&staged).await, Ok(Activation::RestartMachine));
    assert_eq!(primary(), "B");
    assert!(matches!(firmware.standing(&staged).await, Ok(Standing::OnTrial(words)) if words.contains("restart")));
    // The power goes after the switch: the same step once more comes out the same.
    assert_eq!(firmware.activate(&staged).await, Ok(Activation::RestartMachine));
    assert_eq!(primary(), "B");
    drop(service);
    world.another_boot("rauc");
    let _service = rauc("B");
    assert_eq!(firmware.activate(&staged).await, Ok(Activation::Now), "it runs already, and A is not made the next");
    assert_eq!(primary(), "B");
    assert_eq!(firmware.standing(&staged).await, Ok(Standing::Proven));
    firmware.confirm(&staged).await.unwrap();
    assert_eq!(std::fs::read_to_string(bench().join("boot/state.B")).unwrap().trim(), "good");
    assert_eq!(firmware.running().await.as_deref(), Some("2.0.0"));
}

#[tokio::test]
#[ignore = "tests/firmware/run makes what it needs"]
async fn rauc_goes_back_before_and_after_the_restart() {
    let world = world("rauc");
    let service = rauc("A");
    let (firmware, staged) = (&world.firmware, world.staged("good.raucb"));
    assert_eq!(firmware.roll_back(&staged, "harmless").await, Ok(Activation::Now));
    firmware.install(&staged, &Told::default()).await.unwrap();
    firmware.activate(&staged).await.unwrap();
    assert_eq!(firmware.roll_back(&staged, "a person").await, Ok(Activation::Now));
    assert_eq!(primary(), "A");
    firmware.install(&staged, &Told::default()).await.unwrap();
    firmware.activate(&staged).await.unwrap();
    drop(service);
    world.another_boot("rauc");
    let service = rauc("B");
    assert_eq!(firmware.roll_back(&staged, "the cloud does not acknowledge").await, Ok(Activation::RestartMachine));
    assert_eq!(primary(), "A");
    assert_eq!(std::fs::read_to_string(bench().join("boot/state.B")).unwrap().trim(), "bad");
    drop(service);
    // The boot loader gave the new slot up by itself.
    let service = rauc("A");
    firmware.install(&staged, &Told::default()).await.unwrap();
    firmware.activate(&staged).await.unwrap();
    drop(service);
    world.another_boot("rauc");
    let _service = rauc("A");
    assert!(
        matches!(firmware.standing(&staged).await, Ok(Standing::RolledBack(words)) if words.contains("slot A runs again"))
    );
}

#[tokio::test]
#[ignore = "tests/firmware/run makes what it needs"]
async fn rauc_refuses_strangers_and_what_is_torn_and_nothing_is_written() {
    let world = world("rauc");
    let service = rauc("A");
    for (file, words) in
        [("bad.raucb", "signature verification failed"), ("torn.raucb", ""), ("other.raucb", "ompatible")]
    {
        let failed = world.firmware.install(&world.staged(file), &Told::default()).await.unwrap_err();
        assert_eq!(failed.stage, Stage::Writing, "{failed}");
        assert!(failed.words.contains(words) && failed.words.len() > 40, "{file}: {failed}");
        assert!(untouched("slots/a.img", 0xaa) && untouched("slots/b.img", 0xbb), "{file}");
        assert_eq!(primary(), "A");
    }
    drop(service);
    let failed = world.firmware.prepare(&world.staged("good.raucb"), &Told::default()).await.unwrap_err();
    assert!(failed.words.contains("service does not answer"), "{failed}");
}

/// Cuts the power of program and service when so much was told.
struct Cut {
    at: u8,
    reached: tokio::sync::Notify,
}

impl Tell for Cut {
    fn tell(&self, percent: u8, _words: &str) {
        if percent >= self.at {
            self.reached.notify_one();
        }
    }
}

#[tokio::test]
#[ignore = "tests/firmware/run makes what it needs"]
async fn a_power_cut_while_rauc_writes_leaves_what_runs_and_the_next_attempt_is_whole() {
    let world = world("rauc");
    let (firmware, staged) = (&world.firmware, world.staged("good.raucb"));
    for at in [0, 20, 40, 60, 80, 90, 99] {
        let service = rauc("A");
        let cut = Cut { at, reached: tokio::sync::Notify::new() };
        tokio::select! {
            done = firmware.install(&staged, &cut) => done.unwrap(),
            () = cut.reached.notified() => {}
        }
        drop(service);
        assert!(untouched("slots/a.img", 0xaa), "cut at {at} %");
        assert_eq!(primary(), "A", "cut at {at} %");
    }
    let _service = rauc("A");
    firmware.install(&staged, &Told::default()).await.unwrap();
    assert!(holds("slots/b.img", "in/rootfs.img") && untouched("slots/a.img", 0xaa));
    assert_eq!(firmware.activate(&staged).await, Ok(Activation::RestartMachine));
    assert_eq!(primary(), "B");
}

fn swupdate() -> Service {
    let child = Command::new("swupdate")
        .args(["-H", "gateway:1.0", "-k"])
        .arg(bench().join("good.pem"))
        .env("TMPDIR", bench().join("swupdate"))
        // Its helpers end with it.
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let service = Service(child);
    until("the socket is there", || bench().join("swupdate/sockinstctrl").exists());
    service
}

#[tokio::test]
#[ignore = "tests/firmware/run makes what it needs"]
async fn swupdate_installs_a_good_image_and_refuses_strangers_and_what_is_torn() {
    let world = world("swupdate");
    let (firmware, told) = (&world.firmware, Told::default());
    let _service = swupdate();
    for file in ["bad.swu", "in/rootfs.img"] {
        let failed = firmware.prepare(&world.staged(file), &told).await.unwrap_err();
        assert_eq!(failed.stage, Stage::Refused, "{failed}");
        assert!(failed.words.contains("SWUpdate refuses the image"), "{failed}");
        assert!(untouched("slots/b.img", 0xbb), "{file}");
    }
    let failed = firmware.install(&world.staged("torn.swu"), &told).await.unwrap_err();
    assert_eq!(failed.stage, Stage::Writing, "{failed}");
    let staged = world.staged("good.swu");
    firmware.prepare(&staged, &told).await.unwrap();
    firmware.install(&staged, &told).await.unwrap();
    assert!(holds("slots/b.img", "in/rootfs.img") && untouched("slots/a.img", 0xaa));
    assert_eq!(firmware.activate(&staged).await, Ok(Activation::RestartMachine));
    assert!(matches!(firmware.standing(&staged).await, Ok(Standing::OnTrial(words)) if words.contains("restart")));
    world.another_boot("swupdate");
    assert!(
        matches!(firmware.standing(&staged).await, Ok(Standing::RolledBack(words)) if words.contains("runs again"))
    );
    firmware.confirm(&staged).await.unwrap();
    assert_eq!(firmware.running().await.as_deref(), Some("2.0.0"));
}

#[tokio::test]
#[ignore = "tests/firmware/run makes what it needs"]
async fn the_example_keeps_its_promise_at_every_step() {
    let world = world("example");
    let (firmware, staged) = (&world.firmware, world.staged("in/rootfs.img"));
    let root = bench().join("example");
    let _ = std::fs::remove_dir_all(&root);
    let current =
        || std::fs::read_link(root.join("current")).map_or_else(|_| "a".into(), |path| path.display().to_string());
    for _ in 0..2 {
        firmware.prepare(&staged, &Told::default()).await.unwrap();
        firmware.install(&staged, &Told::default()).await.unwrap();
    }
    assert_eq!(current(), "a");
    for _ in 0..2 {
        assert_eq!(firmware.activate(&staged).await, Ok(Activation::Now));
        assert_eq!(current(), "b");
    }
    assert_eq!(firmware.standing(&staged).await, Ok(Standing::Proven));
    assert_eq!(firmware.running().await.as_deref(), Some("2.0.0"));
    for _ in 0..2 {
        firmware.roll_back(&staged, "test").await.unwrap();
        assert_eq!(current(), "a");
    }
    assert!(matches!(firmware.standing(&staged).await, Ok(Standing::RolledBack(_))));
    firmware.activate(&staged).await.unwrap();
    firmware.confirm(&staged).await.unwrap();
    assert_eq!(current(), "b");
    assert!(Path::new(&root).join("b/image").exists());
}
