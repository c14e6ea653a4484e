//! What a file is after migration, a failed commit, and a connection that was let go.

use super::*;
use crate::model::{BatchBuilder, Selection, Timestamp, Value};
use crate::outbox::ranges::Ranges;
use crate::outbox::segment::Numbered;
use crate::outbox::start;
use crate::outbox::wishes::{Census, Judge};

const SPACE: Space = Space { quota: 64 << 20, reserve: 0 };

fn group(seqs: std::ops::Range<u64>, names: &Names) -> Group {
    let parcel = |seq: u64| {
        let mut builder = BatchBuilder::default();
        builder.begin(0, Timestamp(seq as i64));
        builder.push(0, 0, &Value::Int(seq as i64));
        Numbered { seq, batch: builder.finish(names.epoch).unwrap() }
    };
    let parcels: Vec<Numbered> = seqs.map(parcel).collect();
    let wanted = parcels.iter().map(|p| Census::whole(&p.batch, 1)).collect();
    Group { parcels, wanted, names: vec![Arc::new(names.clone())], ..Group::default() }
}

fn load(store: &mut Store) -> crate::outbox::tail::Loaded {
    start::load(store, &["cloud".into()], &mut Judge::new(vec![Selection::default()].into())).unwrap()
}

#[test]
fn a_file_of_the_first_version_is_migrated_with_everything_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    let names = Names::new(Vec::new());
    {
        let mut old = Connection::open(&path).unwrap();
        old.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;").unwrap();
        schema::migrate_to(&mut old, 1);
        let tx = old.transaction().unwrap();
        rows::put_names(&tx, &names).unwrap();
        for segment in segment::encode(&group(5..105, &names).parcels).unwrap() {
            rows::put_segment(&tx, &segment).unwrap();
        }
        tx.execute("INSERT INTO destination VALUES ('cloud', '0-9 50-59')", []).unwrap();
        rows::put_meta(&tx, "seq_limit", 1000).unwrap();
        tx.commit().unwrap();
    }
    let mut store = Store::open(&path, SPACE).unwrap();
    let loaded = load(&mut store);
    assert_eq!((loaded.next_seq, loaded.waiting), (1000, 85));
    assert_eq!(store.number("user_version").unwrap(), schema::version() as u64);
    assert!(store.set_aside(9).unwrap().is_empty());
    let segment = store.segment_at(50, 1000).unwrap().unwrap();
    assert_eq!(segment::decode(&segment).unwrap().len(), 100);
    assert_eq!(*store.names(names.epoch).unwrap(), names);
}

#[test]
fn what_a_failed_commit_left_behind_is_written_again_and_not_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let names = Names::new(Vec::new());
    let mut store = Store::open(&folder.path().join("outbox.db"), SPACE).unwrap();
    load(&mut store);
    store.commit(&group(1..50, &names)).unwrap();
    // Visible, but its fsync is said to have failed: the connection is opened again, the group grew meanwhile.
    store.commit(&group(50..60, &names)).unwrap();
    store.reopen().unwrap();
    store.commit(&group(50..80, &names)).unwrap();
    let mut judge = Judge::new(vec![Selection::default()].into());
    let (each, all) = start::waiting(&mut store, &mut judge, &[&Ranges::up_to(0)]).unwrap();
    assert_eq!((each, all), (vec![79], 79));
}

#[test]
fn an_unreadable_page_is_damage_and_a_failed_fsync_is_not() {
    use rusqlite::ffi;
    let error = |code| StoreError::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
    assert!(matches!(error(ffi::SQLITE_IOERR_CORRUPTFS), StoreError::Damaged(_)));
    assert!(matches!(error(ffi::SQLITE_IOERR_FSYNC), StoreError::Disk(_)));
    assert!(matches!(error(ffi::SQLITE_IOERR_WRITE), StoreError::Disk(_)));
}

#[test]
fn a_connection_that_was_let_go_answers_nothing_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let names = Names::new(Vec::new());
    let mut store = Store::open(&folder.path().join("outbox.db"), SPACE).unwrap();
    load(&mut store);
    store.commit(&group(1..50, &names)).unwrap();
    store.let_go().unwrap();
    assert!(!store.is_open() && store.commit(&group(50..60, &names)).is_err());
    store.reopen().unwrap();
    store.commit(&group(50..60, &names)).unwrap();
    assert_eq!(store.highest_stored().unwrap(), 59);
}
