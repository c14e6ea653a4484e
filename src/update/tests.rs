//! Update files as they should be, and every way in which they should not.

use super::build::{Wanted, build};
use super::file::{Opened, limits};
use super::manifest::architecture;
use super::{Kind, Manifest, Stage};
use crate::package::build::{Content, Format, write_files};
use crate::package::trust::{self, PublicKey, SigningKey};
use semver::Version;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

struct Bench {
    folder: tempfile::TempDir,
    key: SigningKey,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        trust::generate(&folder.path().join("k")).unwrap();
        let key = SigningKey::read(&folder.path().join("k")).unwrap();
        Bench { folder, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn firmware(&self, output: &str, payload: &[u8]) -> PathBuf {
        std::fs::write(self.path("fw.bin"), payload).unwrap();
        let kind = Kind::Firmware { target: "rauc".into(), device: None };
        let wanted = Wanted {
            kind,
            name: "panel",
            version: Version::new(2, 0, 0),
            replaces_from: None,
            payload: &self.path("fw.bin"),
        };
        build(&wanted, &self.key, &self.path(output), &limits(64 << 20, None)).unwrap();
        self.path(output)
    }

    fn keys(&self) -> [PublicKey; 1] {
        [self.key.public()]
    }
}

fn refusal(path: &Path, keys: &[PublicKey]) -> (Stage, String) {
    let failure = Opened::open(path, &limits(64 << 20, None)).and_then(|opened| opened.verify(keys).map(drop));
    let failure = failure.expect_err("refused");
    (failure.stage, failure.words)
}

/// Packs these files as they are, whatever they say.
fn pack(files: &[(&str, &[u8])], output: &Path) {
    let files: BTreeMap<&str, Content<'_>> = files.iter().map(|(name, bytes)| (*name, Content::Bytes(bytes))).collect();
    write_files(&files, Format::of(output).unwrap(), output, |_| Ok(())).unwrap();
}

fn unpack(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let source = crate::package::source::Source::open(path, &limits(64 << 20, None)).unwrap();
    let read = |name: &str| {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut source.reader(name).unwrap(), &mut bytes).unwrap();
        (name.to_owned(), bytes)
    };
    source.files().map(read).collect()
}

#[test]
fn an_update_file_of_each_format_is_built_alike_every_time_and_gives_its_payload_back() {
    let bench = Bench::new();
    let payload: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for ending in ["tar.gz", "tar.zst", "zip"] {
        let one = bench.firmware(&format!("a.{ending}"), &payload);
        let two = bench.firmware(&format!("b.{ending}"), &payload);
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(two).unwrap(), "{ending}");
        let verified = Opened::open(&one, &limits(64 << 20, None)).unwrap().verify(&bench.keys()).unwrap();
        assert_eq!((verified.name.as_str(), verified.manifest.version.to_string()), ("panel", "2.0.0".to_owned()));
        assert_eq!(verified.key_id, bench.key.public().id());
        verified.extract(&bench.path("out"), |_| ()).unwrap();
        assert_eq!(std::fs::read(bench.path("out")).unwrap(), payload);
    }
}

#[test]
fn an_engine_is_held_to_the_architecture_it_is_built_for() {
    let bench = Bench::new();
    let program = std::env::current_exe().unwrap();
    let wanted = |architecture: &str| Wanted {
        kind: Kind::Engine { architecture: architecture.into() },
        name: "enos-edge",
        version: Version::new(1, 0, 0),
        replaces_from: None,
        payload: &program,
    };
    let other = if architecture() == "arm64" { "amd64" } else { "arm64" };
    let limits = limits(512 << 20, None);
    let faults = build(&wanted(other), &bench.key, &bench.path("e.zip"), &limits).unwrap_err();
    assert!(crate::diagnostic::joined(&faults).contains(&format!("says {other}, and the engine is built for")));
    assert!(!bench.path("e.zip").exists());
    std::fs::write(bench.path("text"), "#!/bin/sh\n").unwrap();
    let script = Wanted { payload: &bench.path("text"), ..wanted(architecture()) };
    let faults = build(&script, &bench.key, &bench.path("e.zip"), &limits).unwrap_err();
    assert!(crate::diagnostic::joined(&faults).contains("no program"));
}

#[test]
fn what_is_not_signed_by_a_trusted_key_is_refused_with_its_own_reason() {
    let bench = Bench::new();
    let good = bench.firmware("good.zip", b"firmware");
    assert_eq!(refusal(&good, &[]).0, Stage::Refused);
    assert!(refusal(&good, &[]).1.contains("update.keys"));
    let stranger = Bench::new().key.public();
    let (stage, words) = refusal(&good, &[stranger]);
    assert!(stage == Stage::Verification && words.contains("not trusted here"), "{words}");
    let files = unpack(&good);
    let (manifest, signature) = (&files["update.yaml"], &files["update.sig"]);
    let bad = bench.path("bad.zip");
    let with = |parts: &[(&str, &[u8])]| {
        let _ = std::fs::remove_file(&bad);
        pack(parts, &bad);
        refusal(&bad, &bench.keys()).1
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert!(with(&[("update.yaml", manifest), ("payload", b"firmware")]).contains("not signed"));
    assert!(
        with(&[("update.yaml", manifest), ("update.sig", signature), ("payload", b"firmwarE")])
            .contains("not those that were signed")
    );
    let more: &[(&str, &[u8])] =
        &[("update.yaml", manifest), ("update.sig", signature), ("payload", b"firmware"), ("x", b"")];
    assert!(with(more).contains("not those that were signed"));
    let none = text(signature).replace("ed25519", "none");
    assert!(
        with(&[("update.yaml", manifest), ("update.sig", none.as_bytes()), ("payload", b"firmware")])
            .contains("not accepted")
    );
    let newer = text(signature).replace("2.0.0", "3.0.0");
    assert!(
        with(&[("update.yaml", manifest), ("update.sig", newer.as_bytes()), ("payload", b"firmware")])
            .contains("does not fit")
    );
    let huge = vec![b' '; 70_000];
    assert!(
        with(&[("update.yaml", manifest), ("update.sig", &huge), ("payload", b"firmware")])
            .contains("larger than 65536")
    );
}

#[test]
fn a_signature_of_a_package_is_none_of_an_update() {
    let bench = Bench::new();
    let files = unpack(&bench.firmware("good.zip", b"firmware"));
    let (_, manifest) = Manifest::parse(std::str::from_utf8(&files["update.yaml"]).unwrap()).unwrap();
    use trust::signature::{self, Listed, Signature};
    let listed = |path: &'static str| Listed {
        path,
        length: files[path].len() as u64,
        sha256: crate::package::source::sha256(&files[path]),
    };
    let list = signature::list(&[listed("payload"), listed("update.yaml")]);
    let message = signature::message(signature::PACKAGE, "panel", &manifest.version.to_string(), &list);
    let (mut forged, _) = Signature::parse(&files["update.sig"]).unwrap();
    forged.signature = signature::hex(&bench.key.sign(&message));
    let bad = bench.path("bad.tar.gz");
    let text = forged.text();
    pack(&[("update.yaml", &files["update.yaml"]), ("update.sig", text.as_bytes()), ("payload", b"firmware")], &bad);
    assert!(refusal(&bad, &bench.keys()).1.contains("for something else than an update"));
}

#[test]
fn of_a_thousand_flipped_bits_none_changes_what_is_installed() {
    let bench = Bench::new();
    let good = std::fs::read(bench.firmware("good.tar.gz", &[7; 3000])).unwrap();
    let bad = bench.path("bad.tar.gz");
    let mut seed = fastrand::Rng::with_seed(18);
    let mut refused = 0;
    for round in 0..1000 {
        let mut bytes = good.clone();
        let at = seed.usize(0..bytes.len());
        bytes[at] ^= 1 << seed.u32(0..8);
        std::fs::write(&bad, &bytes).unwrap();
        match Opened::open(&bad, &limits(1 << 20, None)).and_then(|opened| opened.verify(&bench.keys())) {
            Err(_) => refused += 1,
            // Some bits of gzip's own header say nothing (RFC 1952, 2.3).
            Ok(verified) => {
                verified.extract(&bench.path("out"), |_| ()).unwrap();
                assert_eq!(std::fs::read(bench.path("out")).unwrap(), [7; 3000], "round {round}: byte {at}");
            }
        }
    }
    assert!(refused > 950, "{refused}");
}

#[test]
fn what_is_no_update_file_is_called_by_its_name() {
    let bench = Bench::new();
    let raw = bench.path("raw");
    std::fs::write(&raw, std::fs::read(std::env::current_exe().unwrap()).unwrap()).unwrap();
    let (stage, words) = refusal(&raw, &bench.keys());
    assert!(
        stage == Stage::Refused && words.contains("a bare program for") && words.contains("update build"),
        "{words}"
    );
    let package = bench.path("p.zip");
    pack(&[("package.yaml", b"format: 1\n")], &package);
    assert!(refusal(&package, &bench.keys()).1.contains("a resource package: install it with"));
    std::fs::write(&raw, flate2_of(b"just text")).unwrap();
    assert!(refusal(&raw, &bench.keys()).1.contains("archive"));
    assert_eq!(refusal(&bench.path("nothing"), &bench.keys()).0, Stage::Other);
}

#[test]
fn a_payload_larger_than_allowed_stops_at_the_cap() {
    let bench = Bench::new();
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(3 << 20).collect();
    let good = bench.firmware("good.tar.gz", &noise);
    let failure = Opened::open(&good, &limits(2 << 20, None)).err().unwrap();
    assert!(failure.words.contains("larger than"), "{}", failure.words);
}

fn flate2_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}
