//! Packages that are not what they claim.

use super::*;
use crate::package::source::Limits;
use crate::package::{build, seal};
use std::fs;
use tempfile::TempDir;

struct World {
    home: TempDir,
    folder: PathBuf,
    key: SigningKey,
}

fn world() -> World {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("plant");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("package.yaml"), "format: 1\nname: plant\nversion: 1.2.0\n").unwrap();
    fs::write(folder.join("assets.yaml"), "sites: []\n").unwrap();
    fs::write(folder.join("models.yaml"), "models: []\n").unwrap();
    generate(&home.path().join("key")).unwrap();
    let key = SigningKey::read(&home.path().join("key")).unwrap();
    World { home, folder, key }
}

fn open(path: &Path) -> Result<Source, Vec<Diagnostic>> {
    Source::open(path, &Limits::default())
}

impl World {
    fn sign(&self) {
        sign(&self.folder, &self.key, &Limits::default()).unwrap();
    }

    fn archive(&self, ending: &str) -> PathBuf {
        let path = self.home.path().join(format!("plant.{ending}"));
        build::build(&self.folder, &path, &Limits::default()).unwrap_or_else(|faults| panic!("{faults:?}"));
        path
    }

    fn trust(&self) -> Trust {
        Trust::only(vec![self.key.public()])
    }

    fn refusal(&self) -> String {
        let faults = verify(&open(&self.folder).unwrap(), &self.trust()).expect_err("refused");
        crate::diagnostic::joined(&faults)
    }

    fn change(&self, file: &str, from: &str, to: &str) {
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
}

#[test]
fn what_was_signed_is_trusted_as_folder_and_in_every_format() {
    let world = world();
    let signed = Ok(Verified { key: Some(world.key.public().id()) });
    for ending in ["tar.gz", "tar.zst", "zip"] {
        let path = world.archive(ending);
        sign(&path, &world.key, &Limits::default()).unwrap();
        assert_eq!(verify(&open(&path).unwrap(), &world.trust()), signed, "{ending}");
        let once = fs::read(&path).unwrap();
        sign(&path, &world.key, &Limits::default()).unwrap();
        assert_eq!(once, fs::read(&path).unwrap(), "signing again gives the same bytes");
    }
    world.sign();
    assert_eq!(verify(&open(&world.folder).unwrap(), &world.trust()), signed);
    assert_eq!(verify(&open(&world.archive("tar.gz")).unwrap(), &world.trust()), signed, "the signature is packed");
}

#[test]
fn a_folder_that_changed_since_it_was_signed_is_not_built() {
    let world = world();
    world.sign();
    world.change("assets.yaml", "sites", "devices");
    let faults = build::build(&world.folder, &world.home.path().join("p.zip"), &Limits::default()).unwrap_err();
    assert!(faults[0].problem.contains("changed since the folder was signed"), "{faults:?}");
}

#[test]
fn a_changed_file_is_named() {
    let world = world();
    world.sign();
    world.change("assets.yaml", "[]", "[ ]");
    let told = world.refusal();
    assert!(told.contains("not those that were signed") && told.contains("\"assets.yaml\" was changed"), "{told}");
}

#[test]
fn a_file_more_or_less_is_named() {
    let world = world();
    world.sign();
    fs::write(world.folder.join("triggers.yaml"), "").unwrap();
    assert!(world.refusal().contains("\"triggers.yaml\" is in the package but not in its list"));
    fs::remove_file(world.folder.join("triggers.yaml")).unwrap();
    fs::remove_file(world.folder.join("models.yaml")).unwrap();
    assert!(world.refusal().contains("\"models.yaml\" is in the list but not in the package"));
}

#[test]
fn a_list_that_was_made_again_does_not_help() {
    let world = world();
    world.sign();
    world.change("assets.yaml", "[]", "[ ]");
    seal::seal(&world.folder, &Limits::default()).unwrap();
    assert!(world.refusal().starts_with("package.sig: the files are not those that were signed"));
}

#[test]
fn the_signature_s_own_claims_are_signed_too() {
    let signed = |from: &str, to: &str| {
        let world = world();
        world.sign();
        world.change("package.sig", from, to);
        world.refusal()
    };
    assert!(signed("\"plant\"", "\"plant2\"").contains("is for \"plant2\" 1.2.0, and this is \"plant\" 1.2.0"));
    assert!(signed("\"1.2.0\"", "\"1.3.0\"").contains("is for \"plant\" 1.3.0"));
    assert!(signed("\"ed25519\"", "\"none\"").contains("algorithm \"none\" is not accepted"));
    assert!(signed("\"key_id\": \"", "\"key_id\": \"00").contains("not trusted here"));
    assert!(signed("\"signature\": \"", "\"signature\": \"00").contains("65 bytes"));
}

#[test]
fn a_signature_of_another_package_does_not_fit() {
    let (one, other) = (world(), world());
    one.sign();
    other.change("package.yaml", "plant", "other");
    sign(&other.folder, &one.key, &Limits::default()).unwrap();
    fs::copy(other.folder.join("package.sig"), one.folder.join("package.sig")).unwrap();
    assert!(one.refusal().contains("not those that were signed"));
}

#[test]
fn a_key_that_only_claims_to_be_trusted_is_not() {
    let (world, thief) = (world(), self::world());
    let mut signature = sign(&world.folder, &thief.key, &Limits::default()).unwrap();
    assert!(world.refusal().contains("not trusted here"));
    signature.key_id = world.key.public().id();
    fs::write(world.folder.join("package.sig"), signature.text()).unwrap();
    assert!(world.refusal().contains("altered, or made with another key"));
}

#[test]
fn a_signature_that_fills_the_memory_is_not_read() {
    let world = world();
    world.sign();
    fs::write(world.folder.join("package.sig"), " ".repeat(65 << 10)).unwrap();
    assert!(world.refusal().contains("larger than 65536 bytes"));
}

#[test]
fn a_signature_is_required_once_a_key_is_installed() {
    let world = world();
    let (state, config) = (world.home.path().join("state"), PackageTrustConfig::default());
    let source = open(&world.folder).unwrap();
    let trust = |config: &PackageTrustConfig| Trust::load(config, &state).unwrap();
    assert_eq!(verify(&source, &trust(&config)), Ok(Verified { key: None }));
    fs::create_dir_all(state.join("trust")).unwrap();
    fs::copy(world.home.path().join("key.pub"), state.join("trust/plant.pub")).unwrap();
    assert!(verify(&source, &trust(&config)).unwrap_err()[0].problem.contains("not signed"));
    let never = PackageTrustConfig { require: RequireSignature::Never, ..config };
    assert_eq!(verify(&source, &trust(&never)), Ok(Verified { key: None }));
    fs::write(state.join("trust/broken.pub"), "-----BEGIN").unwrap();
    assert!(Trust::load(&never, &state).is_err(), "a key that can not be read is not a key less");
}

#[test]
fn a_bad_signature_of_a_known_key_is_refused_even_where_none_is_needed() {
    let world = world();
    world.sign();
    world.change("assets.yaml", "[]", "[ ]");
    let trust = Trust { require: RequireSignature::Never, ..world.trust() };
    assert!(verify(&open(&world.folder).unwrap(), &trust).is_err());
}

/// Bytes that carry nothing (a gzip's system, a tar's padding) may change unseen; what comes out may not.
#[test]
fn no_flipped_byte_of_an_archive_lets_other_files_in() {
    let world = world();
    world.sign();
    let flipped = world.home.path().join("flipped");
    for ending in ["tar.gz", "tar.zst", "zip"] {
        let bytes = fs::read(world.archive(ending)).unwrap();
        let read = |path: &Path| -> Option<Vec<(String, String)>> {
            let source = open(path).ok()?;
            verify(&source, &world.trust()).ok()?;
            Some(source.files().map(|name| (name.to_owned(), source.sha256(name).unwrap())).collect())
        };
        let honest = read(&world.archive(ending)).expect("the honest archive is trusted");
        let mut refused = 0;
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&flipped, &bytes).unwrap();
            match read(&flipped) {
                None => refused += 1,
                Some(files) => {
                    let same = files.iter().zip(&honest).all(|(a, b)| a == b || a.0 == SIGNATURE);
                    assert!(same && files.len() == honest.len(), "{ending}: byte {at}");
                }
            }
        }
        assert!(refused * 5 > bytes.len() * 4, "{ending}: only {refused} of {} refused", bytes.len());
    }
}
