//! The power is cut at every step of storing a secret; the next start always has one that works.

use super::*;
use crate::store::power_cut::{AFTERMATHS, CutDisk};

const FOLDER: &str = "/state/identity";

fn keys() -> Keys {
    Keys::new("产品", "网关-1")
}

fn activation(secret: &str) -> Activation {
    Activation { secret: Secret::new(secret.to_owned()), asset_id: Some("asset-1".to_owned()) }
}

fn load(disk: &CutDisk) -> Known {
    Known::load(disk, Path::new(FOLDER), &keys()).0
}

fn store(disk: &CutDisk, secret: &str) -> Result<bool, String> {
    load(disk).store(disk, Path::new(FOLDER), &keys(), &activation(secret))
}

fn current(disk: &CutDisk) -> Option<String> {
    load(disk).current.map(|record| record.secret.reveal().to_owned())
}

#[test]
fn a_secret_is_found_again_with_its_asset() {
    let disk = CutDisk::default();
    assert!(store(&disk, "one").unwrap());
    let record = load(&disk).current.unwrap();
    assert_eq!((record.secret.reveal(), record.asset_id.as_deref()), ("one", Some("asset-1")));
    let steps = disk.steps();
    assert!(!store(&disk, "one").unwrap(), "the same once more is no news");
    assert_eq!(disk.steps(), steps, "and costs the flash nothing");
}

#[test]
fn a_secret_of_other_keys_is_never_used() {
    let disk = CutDisk::default();
    store(&disk, "one").unwrap();
    let other = Keys::new("产品", "网关-2");
    assert!(Known::load(&disk, Path::new(FOLDER), &other).0.current.is_none());
    // Somebody copied the file.
    let bytes = disk.read(&Path::new(FOLDER).join(keys().name(CURRENT))).unwrap();
    disk.write(&Path::new(FOLDER).join(other.name(CURRENT)), &bytes).unwrap();
    let (known, troubles) = Known::load(&disk, Path::new(FOLDER), &other);
    assert!(known.current.is_none() && troubles[0].contains("belongs to device 网关-1"), "{troubles:?}");
    assert!(current(&disk).is_some(), "the first device finds it again");
}

#[test]
fn worn_flash_does_not_take_the_secret() {
    for what in [CURRENT, COPY] {
        let disk = CutDisk::default();
        store(&disk, "one").unwrap();
        disk.damage(&Path::new(FOLDER).join(keys().name(what)));
        let (known, troubles) = Known::load(&disk, Path::new(FOLDER), &keys());
        assert_eq!((known.current.unwrap().secret.reveal(), troubles.len()), ("one", 1), "{what}");
        assert!(!troubles[0].contains("one"), "{troubles:?}");
    }
}

/// Stores `secret` with the power cut at step `n`; false when it was finished before.
fn cut(disk: &CutDisk, n: usize, secret: &str) -> bool {
    disk.cut_at(n);
    let stored = store(disk, secret);
    if stored.is_ok() {
        for aftermath in AFTERMATHS {
            assert_eq!(current(&disk.after(aftermath)).as_deref(), Some(secret), "{n} {aftermath:?} {:?}", disk.log());
        }
    }
    disk.steps() >= n
}

#[test]
fn a_first_activation_cut_at_any_step_leaves_nothing_or_the_secret_and_goes_well_the_next_time() {
    let mut rounds = 0;
    for n in 0.. {
        let disk = CutDisk::default();
        let more = cut(&disk, n, "one");
        for aftermath in AFTERMATHS {
            let next = disk.after(aftermath);
            let found = current(&next);
            assert!(found.is_none() || found.as_deref() == Some("one"), "{n} {aftermath:?}");
            store(&next, "one").unwrap();
            assert_eq!(current(&next).as_deref(), Some("one"), "{n} {aftermath:?}");
            rounds += 1;
        }
        if !more {
            break;
        }
    }
    assert!(rounds >= 10 * AFTERMATHS.len(), "{rounds}");
}

#[test]
fn a_second_activation_cut_at_any_step_never_loses_the_first_secret() {
    for n in 0.. {
        let disk = CutDisk::default();
        store(&disk, "one").unwrap();
        let more = cut(&disk, n, "two");
        for aftermath in AFTERMATHS {
            let next = disk.after(aftermath);
            let known = load(&next);
            let all: Vec<_> = [&known.current, &known.previous]
                .into_iter()
                .flatten()
                .map(|record| record.secret.reveal().to_owned())
                .collect();
            assert!(all.contains(&"one".to_owned()), "{n} {aftermath:?}: {all:?}");
            assert!(["one", "two"].contains(&known.current.unwrap().secret.reveal()), "{n} {aftermath:?}");
        }
        if !more {
            break;
        }
    }
}

#[test]
fn forgetting_cut_at_any_step_can_be_done_again_and_lays_the_secret_aside() {
    for n in 0.. {
        let disk = CutDisk::default();
        store(&disk, "one").unwrap();
        disk.cut_at(n);
        let done = Known::forget(&disk, Path::new(FOLDER), &keys()).is_ok();
        for aftermath in AFTERMATHS {
            let next = disk.after(aftermath);
            Known::forget(&next, Path::new(FOLDER), &keys()).unwrap();
            assert!(current(&next).is_none());
            let aside = load_one(&next, Path::new(FOLDER), &keys(), FORGOTTEN).unwrap().unwrap();
            assert_eq!(aside.secret.reveal(), "one", "{n} {aftermath:?}");
        }
        if done {
            break;
        }
    }
}
