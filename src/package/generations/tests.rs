//! Power cuts at every step, guards, and what a start finds.

use super::*;
use crate::model::{Names, PackageName};
use crate::store::RealDisk;
use crate::store::power_cut::{AFTERMATHS, CutDisk};

fn folder(home: &Path, version: &str) -> PathBuf {
    let folder = home.join(format!("site-{version}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("package.yaml"), format!("format: 1\nname: s\nversion: {version}\n")).unwrap();
    folder
}

fn archive(home: &Path, version: &str) -> PathBuf {
    let output = home.join(format!("{version}.tar.zst"));
    build::build(&folder(home, version), &output, &Limits::default()).unwrap();
    output
}

fn site(version: &str) -> Site {
    Site {
        package: PackageName { name: "s".to_owned(), version: version.to_owned() },
        names: Arc::new(Names::new(Vec::new())),
        credentials: Vec::new(),
        details: Vec::new(),
        connections: Vec::new(),
        events: Arc::default(),
    }
}

fn watch() -> Watch {
    Watch { until: 7, ..Watch::default() }
}

fn install(all: &mut Generations, from: &Path, version: &str) -> io::Result<Facts> {
    let staged = all.stage(from, "test", 1).map_err(|faults| io::Error::other(joined(&faults)))?;
    all.publish(staged, &site(version), Some(watch()))
}

#[test]
fn power_cut_at_each_step_of_a_switch_always_leaves_a_whole_package() {
    let home = tempfile::tempdir().unwrap();
    let packages = [archive(home.path(), "1.0.0"), archive(home.path(), "2.0.0")];
    let bytes = packages.clone().map(|path| std::fs::read(path).unwrap());
    let state = Path::new("/state");
    let prepared = || {
        let disk = Arc::new(CutDisk::default());
        let mut all = Generations::open(Arc::clone(&disk) as _, state).unwrap();
        install(&mut all, &packages[0], "1.0.0").unwrap();
        (disk, all)
    };
    let (disk, mut all) = prepared();
    disk.cut_at(usize::MAX);
    install(&mut all, &packages[1], "2.0.0").unwrap();
    let steps = disk.steps();
    assert!(steps > 8, "{:?}", disk.log());
    let mut seen = [0, 0];
    for cut in 0..=steps {
        for aftermath in AFTERMATHS {
            let (disk, mut all) = prepared();
            disk.cut_at(cut);
            let done = install(&mut all, &packages[1], "2.0.0");
            let after = Arc::new(disk.after(aftermath));
            let found = Generations::open(Arc::clone(&after) as _, state).unwrap();
            let usable = found.usable();
            let first = usable.first().unwrap_or_else(|| panic!("nothing boots: cut {cut}, {aftermath:?}"));
            assert_eq!(first.generation, found.record().current, "cut {cut}, {aftermath:?}: the pointer's own boots");
            let which = usize::from(first.version == "2.0.0");
            assert_eq!(after.read(&found.path(first.generation)).unwrap(), bytes[which], "cut {cut}, {aftermath:?}");
            seen[which] += 1;
            let watched = (which == 1).then(|| watch().noted(&site("2.0.0")));
            assert_eq!(
                found.record().watch,
                watched,
                "cut {cut}, {aftermath:?}: the watch comes with its package, and goes with it"
            );
            if done.is_ok() && cut >= steps {
                assert_eq!(which, 1, "what was reported done is done");
            }
            assert!(found.history().iter().any(|event| event.version == "1.0.0"), "the history keeps what was synced");
            // And it goes on from there.
            let mut found = found;
            install(&mut found, &packages[1], "2.0.0").unwrap();
            assert_eq!(found.current().unwrap().version, "2.0.0");
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn power_cut_at_each_step_of_going_back_leaves_one_of_the_two() {
    let home = tempfile::tempdir().unwrap();
    let packages = [archive(home.path(), "1.0.0"), archive(home.path(), "2.0.0")];
    let state = Path::new("/state");
    for cut in 0..16 {
        for aftermath in AFTERMATHS {
            let disk = Arc::new(CutDisk::default());
            let mut all = Generations::open(Arc::clone(&disk) as _, state).unwrap();
            install(&mut all, &packages[0], "1.0.0").unwrap();
            install(&mut all, &packages[1], "2.0.0").unwrap();
            disk.cut_at(cut);
            let to = all.before(None).unwrap();
            let done = all.go_back(&to, &site("1.0.0"), true, "bad").is_ok();
            let found = Generations::open(Arc::new(disk.after(aftermath)), state).unwrap();
            let first = found.usable().first().cloned().expect("something boots");
            let back = first.version == "1.0.0";
            assert!(!done || back, "cut {cut}, {aftermath:?}");
            assert_eq!(found.record().rejected.len(), usize::from(back), "pointer and list are one");
            assert_eq!(found.record().watch.is_some(), !back, "and the watch with them");
        }
    }
}

#[test]
fn power_cut_at_the_end_of_a_watch_ends_it_or_watches_again() {
    let home = tempfile::tempdir().unwrap();
    let packages = [archive(home.path(), "1.0.0"), archive(home.path(), "2.0.0")];
    let state = Path::new("/state");
    let mut seen = [0, 0];
    for cut in 0..16 {
        for aftermath in AFTERMATHS {
            let disk = Arc::new(CutDisk::default());
            let mut all = Generations::open(Arc::clone(&disk) as _, state).unwrap();
            install(&mut all, &packages[0], "1.0.0").unwrap();
            assert!(all.record().watch.is_none(), "there is nothing to go back to");
            let facts = install(&mut all, &packages[1], "2.0.0").unwrap();
            disk.cut_at(cut);
            let done = all.keep(&facts, String::new()).is_ok();
            let found = Generations::open(Arc::new(disk.after(aftermath)), state).unwrap();
            assert_eq!(found.usable()[0].version, "2.0.0");
            let watched = found.record().watch.is_some();
            assert!(!done || !watched, "cut {cut}, {aftermath:?}: what was reported done is done");
            seen[usize::from(watched)] += 1;
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn a_folder_and_its_archive_become_generations_and_two_old_ones_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let mut all = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        if let Some(proven) = all.current().cloned() {
            all.keep(&proven, String::new()).unwrap();
        }
        install(&mut all, &folder(home.path(), version), version).unwrap();
    }
    let kept: Vec<u64> = all.record().generations.iter().map(|facts| facts.generation).collect();
    assert_eq!((kept, all.record().current), (vec![2, 3, 4], 4));
    let mut files = RealDisk.names(&home.path().join("packages/generations")).unwrap();
    files.sort();
    assert_eq!(files, ["2.package", "3.package", "4.package"]);
    assert_eq!(all.history().len(), 7);
    std::fs::write(all.path(4), "worn").unwrap();
    let again = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    assert_eq!(again.usable()[0].version, "1.2.0", "a damaged file is not run");
    std::fs::write(home.path().join("packages/current"), "{").unwrap();
    let again = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    assert_eq!(again.record().current, 3, "a torn pointer is refused in favour of the one before");
}

#[test]
fn a_package_taken_back_does_not_come_again_and_an_older_one_only_by_force() {
    let home = tempfile::tempdir().unwrap();
    let mut all = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    install(&mut all, &archive(home.path(), "1.0.0"), "1.0.0").unwrap();
    install(&mut all, &archive(home.path(), "2.0.0"), "2.0.0").unwrap();
    let to = all.before(None).unwrap();
    all.go_back(&to, &site("1.0.0"), true, "half of the readings are bad").unwrap();
    let staged = all.stage(&home.path().join("2.0.0.tar.zst"), "test", 1).unwrap();
    let refused = all.admit(&staged, &site("2.0.0"), None, Admission::default()).unwrap_err();
    assert!(refused[0].problem.contains("was taken back before"), "{refused:?}");
    all.discard(&staged, &refused);
    assert_eq!(all.history().last().unwrap().event, "refused");
    let forced = Admission { force: true, ..Admission::default() };
    let staged = all.stage(&home.path().join("2.0.0.tar.zst"), "test", 1).unwrap();
    all.admit(&staged, &site("2.0.0"), None, forced).unwrap();
    all.publish(staged, &site("2.0.0"), None).unwrap();
    assert!(all.record().rejected.is_empty(), "who insists has the last word");
    let staged = all.stage(&archive(home.path(), "0.9.0"), "test", 1).unwrap();
    let refused = all.admit(&staged, &site("0.9.0"), None, Admission::default()).unwrap_err();
    assert!(refused[0].problem.contains("version 0.9.0 is older than 2.0.0"), "{refused:?}");
    assert!(all.admit(&staged, &site("0.9.0"), None, Admission { explicit: true, force: false }).is_ok());
}

#[test]
fn what_ran_before_is_gone_back_to_and_never_what_was_taken_back() {
    let home = tempfile::tempdir().unwrap();
    let mut all = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    install(&mut all, &archive(home.path(), "1.0.0"), "1.0.0").unwrap();
    // One bad package after the other: however many come, the one that was good stays, and is the one to go back to.
    for version in ["1.1.0", "1.2.0", "1.3.0", "1.4.0"] {
        install(&mut all, &archive(home.path(), version), version).unwrap();
        let to = all.before(None).unwrap();
        assert_eq!(to.version, "1.0.0", "from {version}");
        all.go_back(&to, &site("1.0.0"), true, "bad").unwrap();
        all = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
        assert_eq!(all.usable()[0].version, "1.0.0");
        assert!(all.before(None).is_err(), "nothing ran before it");
    }
    assert_eq!(all.record().generations.len(), KEPT + 1);
}

#[test]
fn the_same_package_again_and_again_leaves_what_to_go_back_to_and_its_watch() {
    let home = tempfile::tempdir().unwrap();
    let mut all = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    for version in ["1.0.0", "1.1.0", "1.1.0", "1.1.0", "1.1.0"] {
        install(&mut all, &archive(home.path(), version), version).unwrap();
    }
    assert_eq!(all.before(None).unwrap().version, "1.0.0");
    assert_eq!(
        all.record().watch,
        Some(watch().noted(&site("1.1.0"))),
        "it is judged by what ran before it, not by itself"
    );
    let facts = all.current().unwrap().clone();
    all.keep(&facts, String::new()).unwrap();
    install(&mut all, &archive(home.path(), "1.1.0"), "1.1.0").unwrap();
    assert!(all.record().watch.is_none(), "what was kept is not judged again");
}

#[test]
fn what_was_replaced_under_watch_is_never_gone_back_to_and_what_proved_itself_stays() {
    let home = tempfile::tempdir().unwrap();
    let mut all = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    install(&mut all, &archive(home.path(), "1.0.0"), "1.0.0").unwrap();
    // One unproven package upon the other, more than are kept beside the one that runs.
    for version in ["1.1.0", "1.2.0", "1.3.0", "1.4.0", "1.5.0"] {
        install(&mut all, &archive(home.path(), version), version).unwrap();
        all = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
        assert_eq!(all.before(None).unwrap().version, "1.0.0", "from {version}");
        assert!(all.record().generations.len() <= KEPT + 1);
    }
    let facts = all.current().unwrap().clone();
    all.keep(&facts, String::new()).unwrap();
    install(&mut all, &archive(home.path(), "1.6.0"), "1.6.0").unwrap();
    assert_eq!(all.before(None).unwrap().version, "1.5.0", "that one proved itself");
    // Somebody who goes back to one by its number vouches for it.
    let unproven = all.record().unproven[0];
    let to = all.before(Some(unproven)).unwrap();
    all.go_back(&to, &site("1.4.0"), false, "asked for").unwrap();
    assert!(!all.record().unproven.contains(&unproven));
}

#[test]
fn a_type_that_was_forced_and_taken_back_needs_no_force_again() {
    let home = tempfile::tempdir().unwrap();
    let typed = |version: &str, data_type: &str| {
        let folder = home.path().join(format!("typed-{version}"));
        let wanted = crate::package::scaffold::Wanted { name: "s", protocol: "modbus-tcp", model: None };
        crate::package::scaffold::create(&folder, &wanted).unwrap();
        for (file, from, to) in [
            ("package.yaml", "version: 0.1.0", format!("version: {version}")),
            ("models/model.yaml", "AI, data_type: double", format!("AI, data_type: {data_type}")),
        ] {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(folder.join(file), text.replace(from, &to)).unwrap();
        }
        let site = crate::package::load(&folder, &modbus::protocols(), None).unwrap();
        (folder, site)
    };
    let mut all = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    let put = |all: &mut Generations, (folder, site): &(PathBuf, Site), force: bool| {
        let staged = all.stage(folder, "test", 1).unwrap();
        all.admit(&staged, site, None, Admission { force, explicit: false }).map(|()| {
            all.publish(staged, site, Some(watch())).unwrap();
        })
    };
    let good = typed("1.0.0", "double");
    put(&mut all, &good, false).unwrap();
    let retyped = typed("1.1.0", "float");
    let refused = put(&mut all, &retyped, false).unwrap_err();
    assert!(refused[0].problem.contains("was double when it was sent, and is float now"), "{refused:?}");
    let place = &refused[0].place;
    let text = std::fs::read_to_string(retyped.0.join("models/model.yaml")).unwrap();
    let line = text.lines().nth(place.line as usize - 1).unwrap();
    assert_eq!(&*place.file, "models/model.yaml");
    assert!(
        line[place.column as usize - 1..].starts_with("temperature") && line.contains("data_type: float"),
        "{place}: {line}"
    );
    assert!(refused[0].help.as_ref().unwrap().contains("another id"), "and what to do about it");
    put(&mut all, &retyped, true).unwrap();
    let to = all.before(None).unwrap();
    all.go_back(&to, &good.1, true, "its readings are bad").unwrap();
    put(&mut all, &typed("1.2.0", "double"), false).unwrap();
    let refused = put(&mut all, &typed("1.3.0", "float"), false).unwrap_err();
    assert!(refused[0].problem.contains("was double"), "{refused:?}");
}

#[test]
fn an_ou_is_remembered_by_a_package_that_names_none() {
    let home = tempfile::tempdir().unwrap();
    let mut all = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    let of = |version: &str, org: &str| {
        let folder = folder(home.path(), version);
        std::fs::write(folder.join("package.yaml"), format!("format: 1\nname: s\nversion: {version}\n{org}")).unwrap();
        folder
    };
    install(&mut all, &of("1.0.0", "org: o1\n"), "1.0.0").unwrap();
    install(&mut all, &of("1.1.0", ""), "1.1.0").unwrap();
    let staged = all.stage(&of("1.2.0", "org: o2\n"), "test", 1).unwrap();
    let refused = all.admit_by_name(&staged, Admission::default()).unwrap_err();
    assert!(refused[0].problem.contains("\"o2\" is not the OU of this gateway's package, \"o1\""), "{refused:?}");
}

#[test]
fn a_folder_among_the_generations_keeps_nobody_from_booting() {
    let home = tempfile::tempdir().unwrap();
    let mut all = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    install(&mut all, &archive(home.path(), "1.0.0"), "1.0.0").unwrap();
    std::fs::create_dir_all(home.path().join("packages/generations/copy of 1/x")).unwrap();
    let again = Generations::open(Arc::new(RealDisk), home.path()).unwrap();
    assert_eq!(again.usable()[0].version, "1.0.0");
}
