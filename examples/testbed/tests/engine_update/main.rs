//! Stories of engines that come over the air: good ones stay, bad ones go, and nothing is lost on the way. Real processes,
//! a real launcher, devices and a cloud with a ledger; what systemd does is done by a loop that starts the launcher again.
//!
//! `cargo test -p testbed --test engine_update` tells the short ones; with `-- --ignored --nocapture` the long one comes too.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints its figures")]

mod gateway;
mod site;

use enos_edge::engine::slots::Terms;
use enos_edge::engine::{How, Place};
use gateway::{Damage, Home, Make, PACKAGED};
use site::{Round, Site};
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
    record.write(&enos_edge::store::RealDisk, &site.home().engines()).unwrap();
    site.restart();
    site.supervisor().until("the packaged one runs", |status| status["version"] == PACKAGED);
    assert_eq!(site.home().record().last.unwrap().how, How::Upgraded);
    site.end("stops and choices").await;
}
