//! Stories of engines that come over the air: good ones stay, bad ones go, and nothing is lost on the way. Real processes,
//! a real launcher, devices and a cloud with a ledger; what systemd does is done by a loop that starts the launcher again.
//!
//! `cargo test -p testbed --test engine_update` tells the short ones; with `-- --ignored --nocapture` the long one comes too.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints its figures")]

mod gateway;
mod over_the_air;
mod site;

use enos_edge::engine::slots::Terms;
use enos_edge::engine::{How, Place};
use gateway::{Damage, Home, Make, PACKAGED};
use over_the_air::{Files, named};
use site::{Round, Site};
use std::sync::atomic::Ordering;
use std::time::Duration;

const S: u64 = 1000;

/// A window that is over before anybody falls asleep.
fn terms(window_s: u64) -> Terms {
    Terms { window_ms: window_s * S, ready_ms: 3 * S, floor_bytes: 0 }
}

fn make(version: &'static str, behave: &'static str, after_ms: u64) -> Make {
    Make { version, behave, after_ms, damage: Damage::None }
}

fn damaged(damage: Damage) -> Make {
    Make { damage, ..make("0.9.0", "good", 0) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_engine_stays_and_bad_ones_go_and_nothing_is_lost() {
    let mut site = Site::start(None).await;
    site.round(&make("0.2.0", "good", 0), terms(16), Round::Proven);
    assert_eq!(site.running(), (Place::A, "0.2.0".to_owned()));
    site.round(
        &make("0.3.0", "crash", 0),
        terms(20),
        Round::Back("ended by itself 2 times, the last time with signal 6"),
    );
    site.round(&make("0.3.1", "lie", 0), terms(20), Round::Back("it says it is 0.1.1, and its manifest says 0.3.1"));
    site.round(&make("0.3.2", "hang", 0), terms(20), Round::Back("was not ready within 3 s"));
    site.round(&damaged(Damage::Byte), terms(20), Round::Back("not those that were signed"));
    site.round(&damaged(Damage::Unsigned), terms(20), Round::Back("update.sig is missing"));
    assert_eq!(site.running(), (Place::A, "0.2.0".to_owned()));
    site.end("short").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes four minutes, and root for a small disk"]
async fn every_kind_of_engine_and_kills_at_every_moment() {
    let mut site = Site::start(Some(Duration::from_secs(6))).await;
    site.round(&make("0.2.0", "good", 0), terms(24), Round::Proven);
    site.round(&make("0.3.0", "crash-later", 5 * S), terms(60), Round::Back("ended by itself 2 times"));
    site.round(&make("0.3.1", "mute", 0), terms(8), Round::Back("not proven itself within"));
    site.round(&make("0.3.2", "deaf", 0), terms(60), Round::Back("hangs: no sign of life"));
    site.round(&damaged(Damage::Stranger), terms(20), Round::Back("which is not trusted here"));
    site.round(&damaged(Damage::Link), terms(20), Round::Back("perhaps a link"));
    // The schema goes up with this engine; it is taken back, and the one before delivers what it wrote.
    site.round(&make("0.3.3", "next-schema", 0), terms(24), Round::Proven);
    site.round_back_by_a_person();
    assert_eq!(site.running(), (Place::A, "0.2.0".to_owned()), "the older schema goes on with the newer file");
    if site.is_small() {
        let floor = Terms { floor_bytes: 60 << 20, ..terms(60) };
        site.round(&make("0.4.0", "fill", S), floor, Round::Back("bytes on the disk, fewer than"));
        // And one that nobody stops before the disk is really full.
        site.round(&make("0.4.1", "fill", S), terms(12), Round::Back("not proven itself within"));
    } else {
        println!("no small disk: the rounds that fill it are left out");
    }
    for step in 0..12 {
        site.killed_round(&make("0.5.0", "good", 0), terms(40), step * 300);
    }
    for step in 0..6 {
        site.killed_round(&make("0.6.0", "crash-later", 700), terms(40), step * 350);
    }
    site.end("long").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_order_is_no_try_and_what_a_person_chooses_holds() {
    let mut site = Site::start(None).await;
    let update = site.activate(&make("0.2.0", "good", 0), terms(16));
    for _ in 0..4 {
        site.restart();
        site.supervisor().until("it is on trial", |status| !status["engine"]["trial"].is_null());
    }
    // More stops than tries: the trial goes on.
    site.wait_for(&update, Round::Proven);
    let home: &Home = site.home();
    home.slots(Place::Packaged).choose(Place::Packaged, PACKAGED).unwrap();
    site.restart();
    site.supervisor().until("the packaged one runs", |status| status["version"] == PACKAGED);
    assert_eq!(site.home().record().last.unwrap().how, How::Chosen);
    site.home().slots(Place::Packaged).choose(Place::A, PACKAGED).unwrap();
    site.restart();
    site.supervisor().until("slot a runs again", |status| status["version"] == "0.2.0");
    // As if apt had brought another engine since.
    let mut record = site.home().record();
    record.packaged = "0.0.9".to_owned();
    // The engine may be noting down at the same moment that the cloud was told; apt would not be in its way.
    while record.write(&enos_edge::store::RealDisk, &site.home().engines()).is_err() {}
    site.restart();
    site.supervisor().until("the packaged one runs", |status| status["version"] == PACKAGED);
    assert_eq!(site.home().record().last.unwrap().how, How::Upgraded);
    site.end("stops and choices").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_of_the_cloud_go_the_whole_way() {
    let site = Site::start(None).await;
    let files = Files::serve(&site.home().folder.join("files"));
    site.told_version(PACKAGED).await;
    site.home().engine_file(&make("0.2.0", "good", 0), &files.path(&named("0.2.0")));
    // While the good one is on trial.
    let (home, made) = (site.home(), &files);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            home.engine_file(&make("0.3.0", "crash", 0), &made.path(&named("0.3.0")));
            home.engine_file(&make("0.0.9", "good", 0), &made.path(&named("0.0.9")));
            home.firmware_file("0.4.0", false, &made.path("stranger.tar.gz"));
            home.firmware_file("2.0.0", true, &made.path("board.tar.gz"));
        });
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(site.takes(files.offer(&named("0.2.0"), "0.2.0")));
        });
    });
    site.told_version("0.2.0").await;
    assert_eq!(site.running(), (Place::A, "0.2.0".to_owned()));
    site.is_well();
    let again = files.offer(&named("0.2.0"), "0.2.0");
    site.takes(again.clone()).await;
    site.refuses(files.offer(&named("0.3.0"), "0.3.0"), -1, "engine 0.3.0 ended by itself 2 times").await;
    site.refuses(files.offer(&named("0.0.9"), "0.0.9"), -5, "older").await;
    site.refuses(files.offer("stranger.tar.gz", "0.4.0"), -3, "not trusted here").await;
    let mut wrong = files.offer("board.tar.gz", "2.0.0");
    wrong["sign"] = "0".repeat(64).into();
    site.refuses(wrong, -3, "digest").await;
    site.refuses(files.offer("board.tar.gz", "2.0.0"), -5, "firmware target example").await;
    site.home().firmware_target();
    if rustix::process::geteuid().is_root() {
        site.takes(files.offer("board.tar.gz", "2.0.0")).await;
        let board = site.home().folder.join("board");
        assert_eq!(std::fs::read_to_string(board.join("current/image")).unwrap(), "firmware 2.0.0");
    } else {
        println!("only root's programs take firmware: left out");
    }
    assert_eq!(site.running(), (Place::A, "0.2.0".to_owned()));
    site.end("offers").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_a_person_survives_kills_in_the_middle_of_its_trial() {
    let mut site = Site::start(None).await;
    let file = site.home().folder.join(named("0.2.0"));
    site.home().engine_file(&make("0.2.0", "good", 0), &file);
    let mut install = site.home().command(&["update", "install", file.to_str().unwrap()]);
    let typed = std::thread::spawn(move || install.output().unwrap());
    let trial = |status: &serde_json::Value| !status["engine"]["trial"]["claims"].is_null();
    for _ in 0..2 {
        site.supervisor().until("it is on trial", trial);
        let starts = site.supervisor().starts.load(Ordering::SeqCst);
        site.kill();
        site.supervisor().until("it starts again", |_| site.supervisor().starts.load(Ordering::SeqCst) > starts);
    }
    let installed = typed.join().unwrap();
    let said = String::from_utf8_lossy(&installed.stdout).into_owned();
    assert!(installed.status.success() && said.contains("0.2.0: done"), "{installed:?}");
    assert_eq!(site.running(), (Place::A, "0.2.0".to_owned()));
    site.told_version("0.2.0").await;
    site.is_well();
    let back = site.home().command(&["update", "roll-back"]).output().unwrap();
    assert!(back.status.success(), "{back:?}");
    site.told_version(PACKAGED).await;
    site.supervisor().until("the packaged one runs", |status| status["version"] == PACKAGED);
    site.is_well();
    site.end("a person's file").await;
}
