//! Power cuts at every step of a switch, of its end and of the way back: the pointer always names a whole engine.

use super::*;
use crate::engine::choice::{Choice, choose};
use crate::store::RealDisk;
use crate::store::power_cut::{AFTERMATHS, CutDisk};
use crate::update::Kind;
use std::path::{Path, PathBuf};

const STATE: &str = "/state";
const PROOF: &str = "/state/update/proof";
const TERMS: Terms = Terms { window_ms: 60_000, ready_ms: 1000, floor_bytes: 0 };

fn slots(disk: &Arc<CutDisk>, place: Place) -> Slots {
    let started = Started { packaged: Some("1.0.0".to_owned()), place };
    Slots::new(Arc::clone(disk) as _, Folder::of(Path::new(STATE)), started)
}

fn update(home: &Path, version: &str) -> Staged {
    let payload = home.join(format!("engine-{version}"));
    std::fs::write(&payload, format!("engine {version}").repeat(100)).unwrap();
    let manifest = Manifest {
        kind: Kind::Engine { architecture: crate::update::manifest::architecture().to_owned() },
        version: version.parse().unwrap(),
        payload: "payload".to_owned(),
        payload_bytes: std::fs::metadata(&payload).unwrap().len(),
        payload_sha256: RealDisk.digest(&payload).unwrap(),
        replaces_from: None,
    };
    Staged { id: format!("job-{version}"), manifest, payload, proof: PathBuf::from(PROOF) }
}

/// A disk with the proof of an update on it, synced.
fn disk() -> Arc<CutDisk> {
    let disk = Arc::new(CutDisk::default());
    for name in [FILE, SIGNATURE] {
        store::replace(&*disk, Path::new(PROOF), name, name.as_bytes()).unwrap();
    }
    disk
}

fn switched(disk: &Arc<CutDisk>, place: Place, update: &Staged) -> io::Result<()> {
    let slots = slots(disk, place);
    slots.install(update)?;
    slots.activate(update, TERMS, Some(&Baseline::default()))
}

/// What the launcher would start, and whether that lies whole on the disk.
fn boots(disk: &CutDisk, engines: &[&Staged]) -> Option<(Place, Option<String>)> {
    let folder = Folder::of(Path::new(STATE));
    let record = Record::read(disk, &folder).ok()?.unwrap_or(Record { packaged: "1.0.0".into(), ..Record::default() });
    let slot = match choose(&record, "1.0.0") {
        Choice::Try(slot) => Some(slot),
        Choice::Start(slots) => slots.first().copied(),
        Choice::Back(_) | Choice::Upgraded => panic!("nobody asked for that: {record:?}"),
    };
    let Some(slot) = slot else { return Some((Place::Packaged, None)) };
    let digest = disk.digest(&folder.program(slot)).ok()?;
    let whole = engines.iter().find(|update| update.manifest.payload_sha256 == digest)?;
    for name in [FILE, SIGNATURE] {
        assert_eq!(disk.read(&folder.slot(slot).join(name)).ok()?, name.as_bytes());
    }
    Some((slot.into(), Some(whole.manifest.version.to_string())))
}

#[test]
fn power_cut_at_each_step_of_a_switch_leaves_an_engine_that_boots_and_the_job_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let (one, two) = (update(home.path(), "1.1.0"), update(home.path(), "1.2.0"));
    // From the packaged engine, and from a slot with the other one taken by what was before.
    let mut cuts = 0;
    for from_slot in [false, true] {
        let prepared = || {
            let disk = disk();
            if from_slot {
                switched(&disk, Place::Packaged, &one).unwrap();
                slots(&disk, Place::A).confirm("well").unwrap();
            }
            disk
        };
        let place = if from_slot { Place::A } else { Place::Packaged };
        let whole = prepared();
        whole.cut_at(usize::MAX);
        switched(&whole, place, &two).unwrap();
        let steps = whole.steps();
        assert!(steps > 15, "{:?}", whole.log());
        let mut seen = [0, 0];
        for cut in 0..=steps {
            for aftermath in AFTERMATHS {
                let disk = prepared();
                disk.cut_at(cut);
                let done = switched(&disk, place, &two).is_ok();
                let after = Arc::new(disk.after(aftermath));
                let told = || format!("cut {cut} of {steps}, {aftermath:?}: {:?}", disk.log());
                let (now, version) =
                    boots(&after, &[&one, &two]).unwrap_or_else(|| panic!("nothing boots: {}", told()));
                let new = version.as_deref() == Some("1.2.0");
                assert!(new || now == place, "the old one or the new one: {}", told());
                assert!(!done || new, "what was reported done is done: {}", told());
                seen[usize::from(new)] += 1;
                cuts += 1;
                // The job does it again, whatever was done.
                let running = if new { place } else { now };
                switched(&after, running, &two).unwrap();
                let (again, version) = boots(&after, &[&one, &two]).expect("it boots");
                assert_eq!((version.as_deref(), again != place), (Some("1.2.0"), true), "{}", told());
                // And the way back leads to what ran.
                Record::go_back(&*after, &Folder::of(Path::new(STATE))).unwrap();
                assert_eq!(boots(&after, &[&one, &two]).expect("it boots").0, place, "{}", told());
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    }
    println!("{cuts} power cuts while switching, none left a gateway without an engine");
}

#[test]
fn power_cut_at_each_step_of_confirming_or_going_back_leaves_one_of_the_two() {
    let home = tempfile::tempdir().unwrap();
    let one = update(home.path(), "1.1.0");
    type End = fn(&Slots, &CutDisk, &Staged) -> io::Result<()>;
    let ends: [(&str, End); 4] = [
        ("confirm", |slots, _, _| slots.confirm("well")),
        ("fail", |slots, _, _| slots.fail("bad")),
        ("launcher's way back", |_, disk, _| Record::go_back(disk, &Folder::of(Path::new(STATE)))),
        ("choose", |slots, _, _| slots.choose(Place::Packaged, "1.0.0").map(drop)),
    ];
    for (name, end) in ends {
        for cut in 0..8 {
            for aftermath in AFTERMATHS {
                let disk = disk();
                switched(&disk, Place::Packaged, &one).unwrap();
                disk.cut_at(cut);
                let done = end(&slots(&disk, Place::A), &disk, &one).is_ok();
                let after = disk.after(aftermath);
                let record = Record::read(&after, &Folder::of(Path::new(STATE))).unwrap().expect("a pointer");
                let on_trial = record.trial.as_ref().is_some_and(|trial| trial.failed.is_none());
                assert!(!(done && on_trial), "{name}, cut {cut}, {aftermath:?}: reported done and is not");
                if on_trial || record.trial.is_some() {
                    assert!(Record::read_back(&after, &Folder::of(Path::new(STATE))).unwrap().is_some(), "a way back");
                }
            }
        }
    }
}

#[test]
fn a_job_that_comes_again_is_told_how_it_ended_and_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (disk, one) = (disk(), update(home.path(), "1.1.0"));
    assert_eq!(slots(&disk, Place::Packaged).state(&one).unwrap(), State::Unknown);
    switched(&disk, Place::Packaged, &one).unwrap();
    let before = Record::read(&*disk, &Folder::of(Path::new(STATE))).unwrap();
    switched(&disk, Place::A, &one).unwrap();
    assert_eq!(Record::read(&*disk, &Folder::of(Path::new(STATE))).unwrap(), before);
    let own = slots(&disk, Place::A);
    assert_eq!(own.state(&one).unwrap(), State::OnTrial);
    own.confirm("well").unwrap();
    assert_eq!(own.state(&one).unwrap(), State::Proven);
    switched(&disk, Place::A, &one).unwrap();
    assert_eq!(own.state(&one).unwrap(), State::Proven, "not on trial again");
    assert!(own.take_back(&one, "a person said so").unwrap(), "it has to start again");
    assert_eq!(own.state(&one).unwrap(), State::Back("a person said so".to_owned()));
    assert_eq!(boots(&disk, &[&one]).unwrap().0, Place::Packaged);
}

#[test]
fn a_baseline_goes_through_the_pointer() {
    let home = tempfile::tempdir().unwrap();
    let (disk, one) = (disk(), update(home.path(), "1.1.0"));
    let devices = [("meter".to_owned(), (3, 4))].into();
    let left = Baseline { generation: 7, devices, acknowledged: true };
    let own = slots(&disk, Place::Packaged);
    own.install(&one).unwrap();
    own.activate(&one, TERMS, Some(&left)).unwrap();
    assert_eq!(baseline(&own.record().unwrap().trial.unwrap()), Some(left));
}

/// A link from one slot into the other led the next engine over the one that runs, which then ran without a trial.
#[test]
fn whatever_stands_in_a_slots_place_the_engine_that_runs_stays_and_the_next_one_is_whole() {
    type Attack = fn(&Folder);
    let attacks: [(&str, Attack); 6] = [
        ("a link to the other slot", |f| std::os::unix::fs::symlink(f.slot(Slot::A), f.slot(Slot::B)).unwrap()),
        ("a link that dangles", |f| std::os::unix::fs::symlink("/nowhere/x", f.slot(Slot::B)).unwrap()),
        ("a file", |f| std::fs::write(f.slot(Slot::B), "rubbish").unwrap()),
        ("folders in place of files", |f| {
            std::fs::create_dir_all(f.slot(Slot::B).join("enos-edge.tmp/x")).unwrap();
            std::fs::remove_file(f.path().join("back")).unwrap();
            std::fs::create_dir_all(f.path().join("back/x")).unwrap();
            std::fs::create_dir_all(f.path().join("tried")).unwrap();
            std::fs::create_dir_all(f.path().join("notify")).unwrap();
            std::fs::create_dir_all(f.path().join("pointer.tmp")).unwrap();
        }),
        ("a file in place of its passing things", |f| {
            std::fs::create_dir(f.slot(Slot::B)).unwrap();
            std::fs::write(f.scratch(Slot::B), "x").unwrap();
        }),
        ("a folder in place of the pointer", |f| {
            std::fs::remove_file(f.path().join("pointer")).unwrap();
            std::fs::create_dir_all(f.path().join("pointer/x")).unwrap();
        }),
    ];
    for (what, attack) in attacks {
        let home = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let folder = Folder::of(home.path());
        let of = |place| {
            let started = Started { packaged: Some("1.0.0".to_owned()), place };
            Slots::new(Arc::clone(&disk), folder.clone(), started)
        };
        let staged = |version| {
            let update = Staged { proof: home.path().join("proof"), ..update(home.path(), version) };
            for name in [FILE, SIGNATURE] {
                store::replace(&*disk, &update.proof, name, name.as_bytes()).unwrap();
            }
            update
        };
        let (first, second) = (staged("2.0.0"), staged("3.0.0"));
        of(Place::Packaged).install(&first).unwrap();
        of(Place::Packaged).activate(&first, TERMS, None).unwrap();
        of(Place::A).confirm("well").unwrap();
        attack(&folder);
        let next = of(Place::A);
        next.install(&second).unwrap_or_else(|error| panic!("{what}: {error}"));
        next.activate(&second, TERMS, None).unwrap_or_else(|error| panic!("{what}: {error}"));
        let digest = |slot| disk.digest(&folder.program(slot)).unwrap();
        assert_eq!(digest(Slot::A), first.manifest.payload_sha256, "{what}: what runs stays");
        assert_eq!(digest(Slot::B), second.manifest.payload_sha256, "{what}");
        assert!(std::fs::symlink_metadata(folder.slot(Slot::B)).unwrap().is_dir(), "{what}");
        assert_eq!(next.record().unwrap().current, Place::B, "{what}");
        disk.make_folder(&folder.scratch(Slot::B)).unwrap();
        assert!(!folder.path().join("notify").exists(), "{what}: who is on trial says there that it is ready");
    }
}
