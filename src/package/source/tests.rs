//! Opening packages, kind ones.

use super::*;
use crate::package::{build, manifest, seal};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

const MANIFEST: &str = "# ours\nformat: 1\nname: quickstart\nversion: 1.0.0\n";

/// A folder with a small package, and room for archives beside it.
fn package() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("plant");
    for (name, text) in [
        ("package.yaml", MANIFEST),
        ("assets.yaml", "sites: []\n"),
        ("models/meter.yaml", "models: []\n"),
        ("templates/电表/point.csv", "name,number,value type,point type\nU,1,float,ai\n"),
        (".git/config", "not ours"),
        ("models/.meter.yaml.swp", "not ours"),
    ] {
        fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        fs::write(folder.join(name), text).unwrap();
    }
    (home, folder)
}

fn names(source: &Source) -> Vec<&str> {
    source.files().collect()
}

const NAMES: [&str; 4] = ["assets.yaml", "models/meter.yaml", "package.yaml", "templates/电表/point.csv"];

fn open(path: &Path) -> Source {
    Source::open(path, &Limits::default()).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn refusal(path: &Path) -> String {
    let faults = Source::open(path, &Limits::default()).err().expect("refused");
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_built_opens_sealed_in_all_three_formats() {
    let (home, folder) = package();
    for ending in ["tar.gz", "tar.zst", "zip"] {
        let archive = home.path().join(format!("p.{ending}"));
        build::build(&folder, &archive, &Limits::default()).unwrap_or_else(|faults| panic!("{faults:?}"));
        let source = open(&archive);
        assert!(source.is_archive());
        assert_eq!(names(&source), NAMES);
        let (manifest, faults) = manifest::read(&source);
        assert_eq!(faults, [], "{ending}");
        assert_eq!(manifest.expect("no faults").files.expect("sealed").len(), 3);
        assert_eq!(source.text("assets.yaml").unwrap(), "sites: []\n");
    }
    assert_eq!(fs::read_to_string(folder.join("package.yaml")).unwrap(), MANIFEST, "the folder stays as it is");
}

#[test]
fn equal_folders_give_equal_bytes() {
    let (home, folder) = package();
    let (other_home, other) = package();
    fs::File::open(other.join("assets.yaml")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    for ending in ["tar.gz", "tar.zst", "zip"] {
        let (a, b) = (home.path().join(format!("a.{ending}")), other_home.path().join(format!("b.{ending}")));
        build::build(&folder, &a, &Limits::default()).unwrap();
        build::build(&other, &b, &Limits::default()).unwrap();
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap(), "{ending}");
    }
}

#[test]
fn an_archive_is_not_built_into_its_own_package() {
    let (_home, folder) = package();
    let faults = build::build(&folder, &folder.join("models/p.zip"), &Limits::default()).expect_err("refused");
    assert!(faults[0].problem.contains("inside the package"));
    let faults = build::build(&folder, Path::new("p.rar"), &Limits::default()).expect_err("refused");
    assert!(faults[0].help.as_ref().is_some_and(|help| help.contains(".tar.zst")));
}

#[test]
fn a_sealed_folder_tells_every_change() {
    let (_home, folder) = package();
    assert_eq!(manifest::read(&open(&folder)).1[0].severity, crate::diagnostic::Severity::Warning, "not sealed");
    assert_eq!(seal::seal(&folder, &Limits::default()), Ok(3));
    assert_eq!(manifest::read(&open(&folder)).1, []);
    fs::write(folder.join("assets.yaml"), "sites: [x]\n").unwrap();
    fs::remove_file(folder.join("models/meter.yaml")).unwrap();
    fs::write(folder.join("extra.yaml"), "").unwrap();
    let (manifest, faults) = manifest::read(&open(&folder));
    assert_eq!(manifest, None);
    let shown: Vec<_> = faults.iter().map(|f| format!("{}: {}", f.place, f.problem)).collect();
    assert_eq!(
        shown,
        [
            "package.yaml:6:16: file \"assets.yaml\" was changed since the package was sealed",
            "package.yaml:7:3: file \"models/meter.yaml\" is in the list but not in the package",
            "package.yaml:5:1: file \"extra.yaml\" is in the package but not in its list",
        ]
    );
    let helps = |f: &crate::diagnostic::Diagnostic| {
        f.help.as_ref().is_some_and(|help| help.ends_with("run `enos-edge package seal DIR`"))
    };
    assert!(faults.iter().all(helps), "{faults:?}");
}

#[test]
fn every_fault_of_a_manifest_is_reported_at_once() {
    let (_home, folder) = package();
    let text = "format: 2\nnmae: p\nversion: 1.0\nengine: 999.0.0\nfiles:\n  assets.yaml: abc\n";
    fs::write(folder.join("package.yaml"), text).unwrap();
    let (manifest, faults) = manifest::read(&open(&folder));
    assert_eq!(manifest, None);
    let shown: Vec<_> = faults.iter().map(ToString::to_string).collect();
    for expected in [
        "package.yaml:2:1: key \"nmae\" is not known\n  help: did you mean name?",
        "package.yaml:1:9: format \"2\" is not known",
        "package.yaml: name is missing",
        "package.yaml:3:10: version \"1.0\" is no semantic version",
        "package.yaml:4:9: the package needs engine 999.0.0 or newer",
        "package.yaml:6:16: a SHA-256 has 64 hex digits",
        "package.yaml:5:1: file \"models/meter.yaml\" is in the package but not in its list",
    ] {
        assert!(shown.iter().any(|s| s.starts_with(expected)), "{expected}\n{shown:#?}");
    }
}

#[test]
fn broken_or_hostile_yaml_is_refused_at_its_line() {
    let (_home, folder) = package();
    let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nname: p\n";
    let deep = format!("format: 1\nname: {}\n", "[".repeat(100_000));
    for (text, line) in [
        ("format: 1\n\tname: p\n", 1),
        ("format: 1\nname: [a]\n", 2),
        (bomb, 1),
        (&deep, 2),
        ("format: 1\nformat: 1\n", 2),
    ] {
        fs::write(folder.join("package.yaml"), text).unwrap();
        let (manifest, faults) = manifest::read(&open(&folder));
        assert_eq!((manifest, faults.len()), (None, 1));
        assert_eq!(faults[0].place.line, line, "{}", faults[0]);
        assert!(faults[0].problem.len() < 300, "{}", faults[0]);
    }
}

#[test]
fn links_and_pipes_in_a_folder_are_refused_and_ignored_ones_are_not_looked_at() {
    let (_home, folder) = package();
    std::os::unix::fs::symlink("/etc/passwd", folder.join(".git/link")).unwrap();
    assert_eq!(names(&open(&folder)), NAMES);
    std::os::unix::fs::symlink("/etc/passwd", folder.join("models/link.yaml")).unwrap();
    std::os::unix::fs::symlink("/etc", folder.join("triggers")).unwrap();
    let pipe = std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
    fs::write(folder.join("Assets.yaml"), "").unwrap();
    let refusal = refusal(&folder);
    drop(pipe);
    assert!(refusal.contains("models/link.yaml: it is a symbolic link"), "{refusal}");
    assert!(refusal.contains("triggers: it is a symbolic link"), "{refusal}");
    assert!(refusal.contains("socket: it is no plain file"), "{refusal}");
    assert!(refusal.contains("differ in letter case only"), "{refusal}");
}

#[test]
fn a_file_swapped_for_a_link_after_it_was_listed_is_not_followed() {
    let (home, folder) = package();
    let source = open(&folder);
    fs::write(home.path().join("secret"), "secret").unwrap();
    fs::remove_file(folder.join("assets.yaml")).unwrap();
    std::os::unix::fs::symlink(home.path().join("secret"), folder.join("assets.yaml")).unwrap();
    assert!(source.text("assets.yaml").is_err());
    fs::rename(folder.join("models"), home.path().join("models")).unwrap();
    std::os::unix::fs::symlink(home.path().join("models"), folder.join("models")).unwrap();
    assert!(source.text("models/meter.yaml").is_err());
    assert!(source.reader("../secret").is_err());
    assert!(source.reader("/etc/passwd").is_err());
}

#[test]
fn a_folder_beyond_its_caps_is_refused() {
    let (_home, folder) = package();
    let few = Limits { files: 3, ..Limits::default() };
    assert!(Source::open(&folder, &few).err().expect("refused")[0].problem.contains("more than 3 files"));
    let small = Limits { file_bytes: 20, ..Limits::default() };
    assert!(Source::open(&folder, &small).err().expect("refused").iter().any(|f| f.problem.contains("larger than 20")));
    let deep = Limits { depth: 2, ..Limits::default() };
    assert!(Source::open(&folder, &deep).err().expect("refused")[0].problem.contains("3 folders deep"));
}

#[test]
fn what_is_no_package_is_refused_with_the_remedy() {
    let home = tempfile::tempdir().unwrap();
    for (bytes, what) in [
        (&b""[..], "an empty file"),
        (b"BZh91AY", "bzip2"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
        (b"hello", "no archive that is known"),
        (b"PK\x05\x06", "cut off"),
        (b"\x1f\x8b\x08\x00", "cut off"),
        (b"\x28\xb5\x2f\xfd", "cut off"),
    ] {
        let path = home.path().join("p");
        fs::write(&path, bytes).unwrap();
        let refusal = refusal(&path);
        assert!(refusal.contains(what), "{what}: {refusal}");
    }
    assert!(refusal(&home.path().join("missing")).contains("open the package"));
}

fn testcases(kind: &str) -> Vec<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("testcases/package-archives").join(kind);
    let mut files: Vec<_> = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending != "md"));
    files.sort();
    files
}

#[test]
fn archives_of_other_programs_open() {
    let archives = testcases("opens");
    assert!(archives.len() >= 14);
    for archive in archives {
        let source = Source::open(&archive, &Limits::default())
            .unwrap_or_else(|faults| panic!("{}: {}", archive.display(), faults[0]));
        let ours: Vec<_> = source.files().filter(|name| !name.starts_with("META-INF/")).collect();
        assert_eq!(ours, NAMES, "{}", archive.display());
        assert_eq!(source.text("models/meter.yaml").unwrap(), "models: []\n");
    }
}

#[test]
fn hostile_archives_of_other_programs_are_refused() {
    let expected = [
        ("bzip2.tar.bz2", "it is a bzip2 archive"),
        ("gnu-tar-hard-link.tar.gz", "hard link"),
        ("info-zip-encrypted.zip", "is encrypted"),
        ("not-compressed.tar", "a tar that is not compressed"),
        ("python-climbing.tar.gz", "climbs out"),
        ("python-climbing.zip", "climbs out"),
        ("python-lzma.zip", "method 14"),
        ("python-symlink.tar.gz", "symbolic link"),
        ("python-zip64.zip", "zip64"),
    ];
    let archives = testcases("refused");
    assert_eq!(archives.len(), expected.len());
    for (archive, (name, reason)) in archives.iter().zip(expected) {
        assert!(archive.ends_with(name), "{}", archive.display());
        assert!(refusal(archive).contains(reason), "{}", refusal(archive));
    }
}
