//! Packages from people with bad intentions, bad tools or bad luck: refused in words that help, nothing left behind,
//! what runs goes on.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints its figures")]

mod archives;
mod cases;
mod gateway;
mod sandbox;

use archives::{Files, Tar, Zipped, site, stored, with, zip};
use enos_edge::app::install_offline;
use enos_edge::package::source::Limits;
use enos_edge::package::{build, trust};
use sandbox::Sandbox;
use std::path::Path;

/// What is said, or the generation it became.
fn install(sandbox: &Sandbox, path: &Path) -> Result<u64, String> {
    let answer = install_offline(&sandbox.config, path, false);
    answer.map(|answer| answer["package"]["generation"].as_u64().unwrap()).map_err(|error| format!("{error:#}"))
}

/// What is wrong with the answer, and with what is left behind.
fn judge(sandbox: &Sandbox, path: &Path, refused: Option<&str>) -> Option<String> {
    let name = path.file_name().unwrap().to_string_lossy();
    let before = sandbox.listing();
    let answer = install(sandbox, path);
    let after = sandbox.listing();
    match (answer, refused) {
        (Err(said), Some(reason)) if said.contains(reason) => (before != after).then(|| {
            let new: Vec<_> = after.iter().filter(|(path, what)| before.get(*path) != Some(what)).collect();
            format!("{name}: left behind: {new:?}")
        }),
        (Ok(2), None) => {
            let outside = |listing: &sandbox::Listing| -> sandbox::Listing {
                listing.clone().into_iter().filter(|(path, _)| !path.starts_with("state")).collect()
            };
            (outside(&before) != outside(&after)).then(|| format!("{name}: changed something outside the state folder"))
        }
        (answer, _) => Some(format!("{name}: {answer:?}, and not {refused:?}")),
    }
}

#[test]
fn every_hostile_package_is_refused_in_words_and_leaves_nothing_behind() {
    let mut wrong = Vec::new();
    let cases = cases::all();
    for case in &cases {
        let sandbox = Sandbox::new();
        let path = sandbox.put(case.name, &case.bytes);
        wrong.extend(judge(&sandbox, &path, case.refused));
    }
    assert!(cases.len() > 100, "{} cases", cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} cases", cases.len());
}

/// A signed archive of the files.
fn signed(home: &Path, files: &Files, key: &trust::SigningKey) -> Vec<u8> {
    let (folder, archive) = (tempfile::tempdir_in(home).unwrap(), home.join("signed.tar.gz"));
    sandbox::folder(folder.path(), files);
    build::build(folder.path(), &archive, &Limits::default()).unwrap();
    trust::sign(&archive, key, &Limits::default()).unwrap();
    std::fs::read(&archive).unwrap()
}

/// The files of an archive of ours.
fn opened(archive: &[u8]) -> Files {
    use std::io::Read;
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(archive).read_to_end(&mut tar).unwrap();
    let mut files = Files::new();
    let mut rest = &tar[..];
    while rest[0] != 0 {
        let name = String::from_utf8(rest[..100].iter().copied().take_while(|byte| *byte != 0).collect()).unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[124..135]).unwrap(), 8).unwrap();
        files.push((name, rest[512..512 + size].to_vec()));
        rest = &rest[512 + size.next_multiple_of(512)..];
    }
    files
}

fn changed(files: &Files, name: &str, change: impl Fn(&str) -> String) -> Files {
    let change = |(known, body): &(String, Vec<u8>)| {
        let body = if known == name { change(std::str::from_utf8(body).unwrap()).into_bytes() } else { body.clone() };
        (known.clone(), body)
    };
    files.iter().map(change).collect()
}

#[test]
fn what_the_trusted_key_did_not_sign_as_it_is_does_not_run() {
    let home = tempfile::tempdir().unwrap();
    let keys = home.path();
    let key = |name: &str| {
        trust::generate(&keys.join(name)).unwrap();
        trust::SigningKey::read(&keys.join(name)).unwrap()
    };
    let (own, stranger) = (key("own"), key("stranger"));
    let good = opened(&signed(keys, &site("1.1.0"), &own));
    let signature = |files: &Files| files.iter().find(|(name, _)| name == "package.sig").unwrap().1.clone();
    let instead = |files: &Files, sig: Vec<u8>| -> Files {
        let others = files.iter().filter(|(name, _)| name != "package.sig").cloned();
        others.chain([("package.sig".to_owned(), sig)]).collect()
    };
    let other = opened(&signed(keys, &with("package.yaml", "format: 1\nname: other\nversion: 1.1.0\n"), &own));
    let older = opened(&signed(keys, &site("0.9.0"), &own));
    let evil = changed(&site("1.1.0"), "assets.yaml", |text| text.replace("device_key: d", "device_key: e"));
    let again = opened(&signed(keys, &evil, &stranger));
    let without = |name: &str| -> Files { good.iter().filter(|(known, _)| known != name).cloned().collect() };
    let flipped = changed(&good, "package.sig", |text| {
        let at = text.find("\"signature\"").unwrap() + 15;
        let digit = if &text[at..=at] == "0" { "1" } else { "0" };
        format!("{}{digit}{}", &text[..at], &text[at + 1..])
    });
    let own_id = own.public().id();
    let claims = changed(&opened(&signed(keys, &site("1.1.0"), &stranger)), "package.sig", |text| {
        text.replace(&stranger.public().id(), &own_id)
    });
    let resealed = changed(&good, "package.yaml", |text| text.replace("version: 1.1.0", "version: 1.2.0"));
    let cases: Vec<(&str, Files, Option<&str>)> = vec![
        ("good", good.clone(), None),
        ("unsigned", without("package.sig"), Some("the package is not signed")),
        ("stranger", opened(&signed(keys, &site("1.1.0"), &stranger)), Some("which is not trusted here")),
        ("claims-to-be-ours", claims, Some("altered, or made with another key")),
        ("bad-signature", flipped, Some("altered, or made with another key")),
        ("signature-of-another", instead(&good, signature(&other)), Some("not those that were signed")),
        ("manifest-changed", resealed, Some("not those that were signed")),
        (
            "file-changed",
            changed(&good, "assets.yaml", |text| text.replace("device_key: d", "device_key: e")),
            Some("was changed since the package was sealed"),
        ),
        (
            "file-more",
            [good.clone(), vec![("models/n.yaml".to_owned(), b"id: N\n".to_vec())]].concat(),
            Some("but not in its list"),
        ),
        ("file-less", without("models/m.yaml"), Some("but not in the package")),
        ("list-made-again", instead(&again, signature(&good)), Some("not those that were signed")),
        ("empty-signature", instead(&good, Vec::new()), Some("is no signature")),
        ("huge-signature", instead(&good, vec![b' '; 1 << 20]), Some("the signature is larger than")),
        ("older", older, Some("is older than 1.0.0")),
    ];
    let mut wrong = Vec::new();
    for (name, files, refused) in &cases {
        for (ending, bytes) in
            [("tar.gz", Tar::of(files).gz()), ("tar.zst", Tar::of(files).zst()), ("zip", zip(&stored(files)))]
        {
            let sandbox = Sandbox::new();
            std::fs::create_dir_all(sandbox.path("state/trust")).unwrap();
            std::fs::copy(keys.join("own.pub"), sandbox.path("state/trust/own.pub")).unwrap();
            let path = sandbox.put(&format!("{name}.{ending}"), &bytes);
            wrong.extend(judge(&sandbox, &path, *refused));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Bytes of memory no package may drive the gateway over. It has some 40 MB by itself, in a debug build.
const MEMORY: u64 = 1 << 30;
/// Bytes one package may have written: what it may unpack to, taken over and unpacked again, and what is logged.
const WRITTEN: u64 = 1700 << 20;

#[test]
fn a_running_gateway_refuses_them_all_and_goes_on_with_what_it_has() {
    let sandbox = Sandbox::new();
    let seed = sandbox.path("first");
    let running = gateway::Running::start(&sandbox.path(""), &seed);
    let package = |what: &str| running.status().unwrap()["package"][what].clone();
    let (generation, files) = (package("generation"), running.open_files());
    let generations = || std::fs::read_dir(sandbox.path("state/packages/generations")).unwrap().count();
    let (kept, mut wrong, mut most) = (generations(), Vec::new(), 0);
    let refused: Vec<cases::Case> = cases::all().into_iter().filter(|case| case.refused.is_some()).collect();
    for case in &refused {
        let (path, before) = (sandbox.put(case.name, &case.bytes), running.written());
        match running.install(&path) {
            Err(said) if said.contains(case.refused.unwrap()) => {}
            answer => wrong.push(format!("{}: {answer:?}, and not {:?}", case.name, case.refused)),
        }
        most = most.max(running.written() - before);
        std::fs::remove_file(&path).unwrap();
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), refused.len(), wrong.join("\n"));
    let pushed = [
        "slip.tar.gz",
        "symlink.zip",
        "bomb.tar.gz",
        "twice.zip",
        "cut.tar.gz",
        "csv-nul.zip",
        "wrong-digest.zip",
        "text",
    ];
    for case in refused.iter().filter(|case| pushed.contains(&case.name)) {
        let (status, said) = running.put(&case.bytes, gateway::TOKEN);
        assert!(matches!(status, 415 | 422), "{}: {status} {said}", case.name);
        assert!(status == 415 || said.replace("\\\"", "\"").contains(case.refused.unwrap()), "{}: {said}", case.name);
    }
    assert_eq!(running.put(b"PK", "another token").0, 401);
    assert_eq!(package("generation"), generation, "the same package runs");
    assert_eq!(generations(), kept, "nothing of them was kept");
    assert!(running.reads_on(), "and is read on");
    assert_eq!(
        std::fs::read_dir(sandbox.path("state/incoming"))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "part"))
            .count(),
        0
    );
    println!(
        "{} refused; memory {} MiB at most, {} MiB written for one",
        refused.len(),
        running.peak() >> 20,
        most >> 20
    );
    assert!(running.peak() < MEMORY && most < WRITTEN, "{} {most}", running.peak());
    assert!(running.open_files() <= files + 4, "open files {files} -> {}", running.open_files());
    // One that is right is taken, after all of them.
    let better =
        sandbox.put("better.zip", &zip(&[stored(&site("1.1.0")), vec![Zipped::stored("docs/a.md", b"x")]].concat()));
    assert_eq!(running.install(&better).unwrap()["package"]["version"], "1.1.0");
}
