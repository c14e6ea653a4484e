//! The launcher: its way back, and what counts as a start.

use super::*;
use crate::engine::Facts;
use crate::store::power_cut::{AFTERMATHS, CutDisk};

/// A launcher of version 1.0.0 whose engines are all sound, and that can not start a trial.
fn launch(disk: &CutDisk) -> io::Result<Go> {
    launch_where(disk, false)
}

/// `quiet`: no other engine is alive.
fn launch_where(disk: &CutDisk, quiet: bool) -> io::Result<Go> {
    let (folder, sound, nobody) = (Folder::of(Path::new("/state")), |_| Ok(()), || quiet);
    let launcher = Launcher {
        disk,
        folder,
        packaged: "1.0.0",
        own: PathBuf::new(),
        arguments: Vec::new(),
        prove: &sound,
        quiet: &nobody,
    };
    launcher.go()
}

fn failed_trial() -> CutDisk {
    let (disk, folder) = (CutDisk::default(), Folder::of(Path::new("/state")));
    let trial = Trial { failed: Some("it lies".to_owned()), version: "2.0.0".to_owned(), ..Trial::default() };
    let before = Record { current: Place::A, packaged: "1.0.0".to_owned(), ..Record::default() };
    before.write_back(&disk, &folder).unwrap();
    Record { current: Place::B, previous: Place::A, trial: Some(trial), ..before }.write(&disk, &folder).unwrap();
    disk
}

#[test]
fn power_cut_at_each_step_of_the_launchers_way_back_ends_with_what_ran_before() {
    let mut cuts = 0;
    for cut in 0..9 {
        for aftermath in AFTERMATHS {
            let disk = failed_trial();
            disk.cut_at(cut);
            // Even when the disk takes nothing any more, the engine before is started.
            assert!(matches!(launch(&disk), Ok(Go::Slot(Slot::A))), "cut {cut}");
            let after = disk.after(aftermath);
            assert!(matches!(launch(&after), Ok(Go::Slot(Slot::A))), "cut {cut}, {aftermath:?}");
            let record = Record::read(&after, &Folder::of(Path::new("/state"))).unwrap().unwrap();
            assert_eq!((record.current, record.trial), (Place::A, None), "cut {cut}, {aftermath:?}");
            cuts += 1;
        }
    }
    println!("{cuts} power cuts on the way back, each ends with the engine before");
}

#[test]
fn a_damaged_pointer_is_laid_aside_and_power_may_go_at_each_step_of_it() {
    let (folder, pointer) = (Folder::of(Path::new("/state")), Path::new("/state/engines/pointer"));
    for (back, expected) in [(false, None), (true, Some(Place::A))] {
        for cut in 0..8 {
            for aftermath in AFTERMATHS {
                let disk = failed_trial();
                if !back {
                    disk.remove(Path::new("/state/engines/back")).unwrap();
                }
                disk.write(pointer, b"rubbish").unwrap();
                disk.sync(pointer).unwrap();
                disk.sync_folder(folder.path()).unwrap();
                disk.cut_at(cut);
                let _ = launch(&disk);
                let after = disk.after(aftermath);
                let go = launch(&after).unwrap();
                assert_eq!(matches!(go, Go::Slot(Slot::A)), back, "cut {cut}, {aftermath:?}: {go:?}");
                // It can be read again: engines can be chosen and updated.
                let record = Record::read(&after, &folder).unwrap();
                assert_eq!(record.map(|record| record.current), expected, "cut {cut}, {aftermath:?}");
            }
        }
    }
}

#[test]
fn another_engine_that_is_alive_is_no_start_of_the_trial() {
    let disk = failed_trial();
    let folder = Folder::of(Path::new("/state"));
    let mut record = Record::read(&disk, &folder).unwrap().unwrap();
    record.trial = Some(Trial { window_ms: 60_000, ..Trial::default() });
    record.write(&disk, &folder).unwrap();
    assert!(launch(&disk).unwrap_err().to_string().contains("another engine is alive"));
    let tried = Tried::read(&disk, &folder, &record.trial.unwrap()).unwrap();
    assert_eq!(tried.starts, 0);
}

#[test]
fn files_that_are_open_give_their_room_back_and_links_are_not_followed() {
    use std::io::Write;
    let home = tempfile::tempdir().unwrap();
    let (scratch, outside) = (home.path().join("tmp"), home.path().join("outbox.db"));
    std::fs::create_dir_all(scratch.join("deep")).unwrap();
    std::fs::write(&outside, "kept").unwrap();
    std::os::unix::fs::symlink(&outside, scratch.join("link")).unwrap();
    let mut open = std::fs::File::create(scratch.join("deep/rubbish")).unwrap();
    open.write_all(&[7; 100_000]).unwrap();
    cut_files(&scratch);
    assert_eq!(open.metadata().unwrap().len(), 0);
    assert_eq!(std::fs::read(&outside).unwrap(), b"kept");
    clean(&scratch);
    assert!(!scratch.exists() && outside.exists());
    cut_files(&scratch);
}

#[test]
fn a_confirmed_engine_that_ends_again_and_again_gives_way_to_the_one_before_and_that_to_the_packaged_one() {
    let (disk, folder) = (CutDisk::default(), Folder::of(Path::new("/state")));
    let facts = |version: &str| Facts { version: version.to_owned(), sha256: version.to_owned(), ..Facts::default() };
    let slots = [(Slot::A, facts("1.1.0")), (Slot::B, facts("1.2.0"))].into_iter().collect();
    let packaged = "1.0.0".to_owned();
    let record = Record { current: Place::B, previous: Place::A, packaged, slots, ..Record::default() };
    record.write(&disk, &folder).unwrap();
    for _ in 0..2 * starts::CRASHES {
        assert!(matches!(launch(&disk), Ok(Go::Slot(Slot::B))), "what only meets another engine does not count");
    }
    for _ in 0..starts::CRASHES {
        assert!(matches!(launch_where(&disk, true), Ok(Go::Slot(Slot::B))));
    }
    for _ in 0..starts::CRASHES {
        assert!(matches!(launch_where(&disk, true), Ok(Go::Slot(Slot::A))));
        let last = Record::read(&disk, &folder).unwrap().unwrap().last.unwrap();
        assert_eq!((last.how, last.told, last.version.as_str()), (How::RolledBack, false, "1.2.0"));
        assert_eq!(last.why, "slot b: engine 1.2.0 ended by itself 10 times within 60 min");
    }
    assert!(matches!(launch_where(&disk, true), Ok(Go::Packaged)));
    let record = Record::read(&disk, &folder).unwrap().unwrap();
    assert_eq!((record.current, record.previous), (Place::Packaged, Place::Packaged));
    Record { current: Place::A, ..record }.write(&disk, &folder).unwrap();
    assert!(matches!(launch_where(&disk, true), Ok(Go::Slot(Slot::A))), "a person chose it again");
}

#[test]
fn a_folder_or_a_pipe_in_place_of_the_pointer_is_damage_that_is_mended() {
    type Attack = fn(&Path);
    let attacks: [Attack; 3] = [
        |pointer| std::fs::create_dir(pointer).unwrap(),
        |pointer| std::fs::create_dir_all(pointer.join("x")).unwrap(),
        |pointer| {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mkfifoat(rustix::fs::CWD, pointer, mode).unwrap();
        },
    ];
    for attack in attacks {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::of(home.path());
        let before = Record { current: Place::A, packaged: "1.0.0".to_owned(), ..Record::default() };
        before.write_back(&crate::store::RealDisk, &folder).unwrap();
        attack(&folder.path().join("pointer"));
        let (sound, nobody) = (|_| Ok(()), || true);
        let launcher = Launcher {
            disk: &crate::store::RealDisk,
            folder: folder.clone(),
            packaged: "1.0.0",
            own: PathBuf::new(),
            arguments: Vec::new(),
            prove: &sound,
            quiet: &nobody,
        };
        assert!(matches!(launcher.go().unwrap(), Go::Slot(Slot::A)));
        let mended = Record::read(&crate::store::RealDisk, &folder).unwrap().unwrap();
        assert_eq!(mended.current, Place::A, "it can be read and written again");
        mended.write(&crate::store::RealDisk, &folder).unwrap();
    }
}
