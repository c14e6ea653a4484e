//! Programs that do what they should, and those that do not.

use super::*;
use crate::update::Manifest;
use semver::Version;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::time::Instant;

#[derive(Default)]
struct Told(Mutex<Vec<(u8, String)>>);

impl Tell for Told {
    fn tell(&self, percent: u8, words: &str) {
        self.0.lock().unwrap().push((percent, words.to_owned()));
    }
}

struct World {
    home: tempfile::TempDir,
    firmware: Option<Firmware>,
}

/// Only root can put a program there that is run.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn world(script: &str) -> World {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("firmware.d");
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("board");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let opened = Firmware::open(&folder, "board", &home.path().join("state"));
    let firmware = match opened {
        Ok(firmware) => Some(firmware),
        Err(failure) => {
            assert!(!is_root() && failure.words.contains("does not belong to root"), "{failure}");
            // Whoever is not root tests the rest with his own programs.
            let notes = home.path().join("state/firmware/board");
            std::fs::create_dir_all(&notes).unwrap();
            Some(Firmware { name: "board".into(), program, notes, patience: None })
        }
    };
    World { home, firmware }
}

impl World {
    fn firmware(&self) -> Firmware {
        self.firmware.clone().unwrap()
    }

    fn staged(&self) -> Staged {
        let manifest = Manifest {
            kind: Kind::Firmware { target: "board".into(), device: Some("Meter 1".into()) },
            version: Version::new(1, 2, 3),
            payload: "payload".into(),
            payload_bytes: 1,
            payload_sha256: String::new(),
            replaces_from: None,
        };
        let payload = self.home.path().join("payload");
        std::fs::write(&payload, "new").unwrap();
        Staged { id: "job-1".into(), manifest, payload, proof: self.home.path().to_owned() }
    }
}

#[tokio::test]
async fn a_step_gets_what_it_needs_and_tells_how_far_it_is() {
    let world = world(
        "test \"$1\" = install || exit 1\nread -r word && exit 2\necho progress 5 reading\necho progress 250% done\n\
         echo \"$ENOS_FIRMWARE_TARGET $ENOS_FIRMWARE_VERSION $ENOS_FIRMWARE_ID $ENOS_FIRMWARE_DEVICE\" > $ENOS_FIRMWARE_NOTES/seen\n\
         cat $ENOS_FIRMWARE_PAYLOAD >> $ENOS_FIRMWARE_NOTES/seen\nenv > $ENOS_FIRMWARE_NOTES/env",
    );
    let told = Told::default();
    world.firmware().install(&world.staged(), &told).await.unwrap();
    assert_eq!(*told.0.lock().unwrap(), [(5, "reading".to_owned()), (100, "done".to_owned())]);
    let notes = world.home.path().join("state/firmware/board");
    assert_eq!(std::fs::read_to_string(notes.join("seen")).unwrap(), "board 1.2.3 job-1 Meter 1\nnew");
    let environment = std::fs::read_to_string(notes.join("env")).unwrap();
    assert!(!environment.contains("CARGO") && !environment.contains("HOME="), "{environment}");
}

#[tokio::test]
async fn exit_statuses_mean_what_the_page_says() {
    let world = world(
        "case $1 in\ninfo) echo hello; echo version 4.5.6;;\nprepare) echo battery is low >&2; exit 75;;\n\
         install) echo one >&2; echo flash is worn >&2; exit 3;;\nactivate) exit 10;;\nstanding) exit ${CODE:-75};;\n\
         confirm) kill -9 $$;;\nroll-back) echo \"$ENOS_FIRMWARE_WHY\" >&2; exit 9;;\nesac",
    );
    let (firmware, staged) = (world.firmware(), world.staged());
    assert_eq!(firmware.running().await.as_deref(), Some("4.5.6"));
    let failed = firmware.prepare(&staged, &Nobody).await.unwrap_err();
    assert_eq!(
        (failed.stage, failed.words.as_str()),
        (Stage::Refused, "firmware board: prepare can not be done now: battery is low")
    );
    let failed = firmware.install(&staged, &Nobody).await.unwrap_err();
    assert_eq!(
        (failed.stage, failed.words.as_str()),
        (Stage::Writing, "firmware board: install failed with exit status 3: flash is worn")
    );
    assert_eq!(firmware.activate(&staged).await, Ok(Activation::RestartMachine));
    assert_eq!(firmware.standing(&staged).await, Ok(Standing::OnTrial(String::new())));
    assert!(firmware.confirm(&staged).await.unwrap_err().words.ends_with("was ended by signal 9"));
    assert!(
        firmware.roll_back(&staged, "no acknowledgement").await.unwrap_err().words.ends_with("9: no acknowledgement")
    );
}

#[tokio::test]
async fn progress_out_of_range_is_progress_and_letters_that_nobody_sees_are_left_out() {
    let world = world(
        "for p in 10 300 -5 35.7 1e9 100% NaN; do echo progress $p at $p; done\n\
         printf 'the \\342\\200\\256flash\\033[2J is worn\\n' >&2\nexit 3",
    );
    let told = Told::default();
    let failed = world.firmware().install(&world.staged(), &told).await.unwrap_err();
    assert!(failed.words.ends_with("status 3: the flash[2J is worn"), "{failed}");
    let percents: Vec<u8> = told.0.lock().unwrap().iter().map(|(percent, _)| *percent).collect();
    assert_eq!(percents, [10, 100, 0, 35, 100, 100], "NaN is none");
}

#[tokio::test]
async fn a_program_that_the_kernel_does_not_start_is_told_with_its_remedy() {
    for (text, words) in [
        ("echo version 1", "begins with a line as #!/bin/sh"),
        ("", "begins with a line as #!/bin/sh"),
        ("#!/bin/sh\r\nexit 0", "carriage return"),
        ("#!/no/such/shell\n", "interpreter that its first line names is not there"),
    ] {
        let world = world("exit 0");
        std::fs::write(&world.firmware().program, text).unwrap();
        let failed = world.firmware().prepare(&world.staged(), &Nobody).await.unwrap_err();
        assert!(failed.stage == Stage::Refused && failed.words.contains(words), "{text:?}: {failed}");
    }
}

#[tokio::test]
async fn what_hangs_is_ended_with_all_its_helpers() {
    let world = world("echo $$ > $ENOS_FIRMWARE_NOTES/pid\nsleep 600 &\necho $! >> $ENOS_FIRMWARE_NOTES/pid\nwait");
    let firmware = Firmware { patience: Some(Duration::from_millis(700)), ..world.firmware() };
    let failed = firmware.install(&world.staged(), &Nobody).await.unwrap_err();
    assert!(failed.words.contains("took longer than 700ms and was ended"), "{failed}");
    let pids = std::fs::read_to_string(world.home.path().join("state/firmware/board/pid")).unwrap();
    assert_eq!(pids.lines().count(), 2);
    let begun = Instant::now();
    while pids.lines().any(is_alive) {
        assert!(begun.elapsed() < Duration::from_secs(10), "a helper lives on");
        tokio::task::yield_now().await;
    }
}

/// A zombie, whom nobody has buried yet, is dead.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn a_helper_that_is_left_behind_holds_nobody_up() {
    let world = world("sleep 600 &\necho version 1");
    let begun = Instant::now();
    assert_eq!(world.firmware().running().await.as_deref(), Some("1"));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_flood_of_words_is_bounded() {
    let world = world("head -c 20000000 /dev/zero | tr '\\0' x\necho\nyes line | head -100000\necho version 7\nexit 3");
    let said = world.firmware().run(INFO, None, "", &Nobody).await.unwrap();
    assert_eq!(said.status, Some(3));
    assert!(said.lines.len() <= 64 && said.lines.iter().all(|line| line.len() <= 512));
    assert_eq!(said.words, "version 7");
}

#[tokio::test]
async fn a_second_run_waits_for_the_first() {
    let world = world(
        "mkdir $ENOS_FIRMWARE_NOTES/busy || { echo two at once >&2; exit 1; }\nsleep 0.3\nrmdir $ENOS_FIRMWARE_NOTES/busy",
    );
    let (one, two, staged) = (world.firmware(), world.firmware(), world.staged());
    let (first, second) = tokio::join!(one.install(&staged, &Nobody), two.install(&staged, &Nobody));
    assert_eq!((first, second), (Ok(()), Ok(())));
}

#[test]
fn only_root_s_programs_are_run_and_names_stay_in_their_folder() {
    let world = world("exit 0");
    let (folder, state) = (world.home.path().join("firmware.d"), world.home.path().join("state"));
    let refused = |name: &str| Firmware::open(&folder, name, &state).unwrap_err().words;
    for name in ["../firmware.d/board", "", ".", "a/b", "a b"] {
        assert!(refused(name).contains("no name of a firmware target"), "{name}");
    }
    assert!(refused("other").contains("there is no firmware target other"));
    assert_eq!(Firmware::names(&folder), ["board"]);
    if !is_root() {
        return;
    }
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let program = folder.join("board");
    mode(&program, 0o775);
    assert!(refused("board").contains("can be written by others"));
    mode(&program, 0o644);
    assert!(refused("board").contains("is no program"));
    mode(&program, 0o755);
    mode(&folder, 0o777);
    assert!(refused("board").contains("can be written by others"));
    mode(&folder, 0o755);
    std::os::unix::fs::chown(&program, Some(54_321), None).unwrap();
    assert!(refused("board").contains("does not belong to root"));
}
