//! Whole updates with a target that plays along or does not: crashes at every step, offers in any order, files over HTTP.

mod barren;
mod bench;
mod cloud;
mod engines;
mod full_disk;
mod lives;
mod memory;
mod server;
mod target;

use super::build::{Wanted, build};
use super::conditions::Warned;
use super::file::limits;
use super::runner::{self, Around, Ports, Updates};
use super::shelf::Shelf;
use super::{Activation, Failure, Kind, Stage, Staged, Standing, Target, Tell};
use crate::config::UpdateConfig;
use crate::model::update::{Ear, Method, Offer, Offers, Said, Saying};
use crate::package::trust::{self, SigningKey};
use crate::store::{Disk, RealDisk};
use bench::{Bench, Dying, end, payload_of, until};
use cloud::Cloud;
use driver::Answer;
use serde_json::Value as Json;
use server::server;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use target::{Board, Here};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, watch};

#[tokio::test]
async fn a_file_of_this_machine_is_installed_to_its_end() {
    let bench = Bench::new();
    let gateway = bench.start();
    gateway.updates.install(bench.file("2.0.0"), false, None).await.unwrap();
    let job = end(&gateway).await;
    assert_eq!((&job["state"], &job["version"], &job["replaces"]), (&"done".into(), &"2.0.0".into(), &"1.0.0".into()));
    let board = bench.board.lock().unwrap();
    assert_eq!((board.running.as_str(), board.trying.as_ref()), ("2.0.0", None));
    assert_eq!(board.installed.as_ref().unwrap().1, payload_of("2.0.0"));
    assert_eq!(board.calls, ["prepare", "install", "activate", "standing", "confirm"]);
    assert!(bench.cloud.said.lock().unwrap().is_empty(), "nobody asked there");
    assert_eq!(std::fs::read_dir(bench.home.path().join("state/update/work")).unwrap().count(), 0);
    assert_eq!(gateway.updates.history()[0]["result"], "done");
}

#[tokio::test]
async fn an_offer_of_the_cloud_is_fetched_over_cuts_and_told_in_order() {
    let mut bench = Bench::new();
    let size = std::fs::metadata(bench.file("2.0.0")).unwrap().len() as usize;
    let (base, sent) = server(bench.home.path().to_owned(), Some(size / 2 + 1)).await;
    bench.config.wait = Duration::from_secs(60);
    let gateway = bench.start();
    let offer = bench.offer("2.0.0", "gw", &format!("{base}/2.0.0.tar.gz"));
    assert_eq!(gateway.updates.offered(offer.clone(), true).await.code, 200);
    assert_eq!(gateway.updates.offered(offer.clone(), true).await.code, 200, "the same again");
    let other = bench.offer("3.0.0", "gw", &format!("{base}/3.0.0.tar.gz"));
    let busy = gateway.updates.offered(other, true).await;
    assert_eq!((busy.code, busy.message.contains("another update is under way")), (2012, true));
    let job = until(&gateway, |job| job["told"] == true).await;
    assert_eq!(job["state"], "done");
    assert_eq!(sent.load(Ordering::SeqCst), size, "not a byte twice");
    let steps = bench.cloud.steps();
    assert!(steps.is_sorted() && steps.first() == Some(&1) && steps.last() == Some(&100), "{steps:?}");
    assert_eq!(bench.cloud.versions(), ["2.0.0"]);
    assert_eq!(bench.board.lock().unwrap().calls.iter().filter(|call| *call == "install").count(), 1, "one job");
}

#[tokio::test]
async fn one_offer_fifty_times_at_once_is_one_update_and_another_one_is_busy() {
    let bench = Bench::new();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    let gateway = bench.start();
    let offer = bench.offer("2.0.0", "gw", &format!("{base}/2.0.0.tar.gz"));
    let other = bench.offer("3.0.0", "gw", &format!("{base}/3.0.0.tar.gz"));
    let mut asked: Vec<_> = (0..50).map(|_| tokio::spawn(gateway.updates.offered(offer.clone(), true))).collect();
    asked.push(tokio::spawn(gateway.updates.offered(other, true)));
    let mut codes = Vec::new();
    for one in asked {
        codes.push(one.await.unwrap().code);
    }
    assert_eq!((codes[..50].iter().all(|code| *code == 200), codes[50]), (true, 2012), "{codes:?}");
    assert_eq!(end(&gateway).await["state"], "done");
    assert_eq!(gateway.updates.history().as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn every_failure_has_its_code_and_leaves_what_ran() {
    let bench = Bench::new();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    let good = bench.offer("2.0.0", "gw", &format!("{base}/2.0.0.tar.gz"));
    std::fs::write(bench.home.path().join("bad.tar.gz"), b"\x7fELF and so on").unwrap();
    let bad = Offer {
        url: format!("{base}/bad.tar.gz"),
        size: 14,
        sign: crate::store::sha256(b"\x7fELF and so on"),
        ..good.clone()
    };
    let stranger = Bench::new();
    std::fs::copy(stranger.file("2.0.0"), bench.home.path().join("theirs.tar.gz")).unwrap();
    let theirs = Offer { url: format!("{base}/theirs.tar.gz"), ..stranger.offer("2.0.0", "gw", "") };
    let older = bench.offer("0.9.0", "gw", &format!("{base}/0.9.0.tar.gz"));
    for (offer, faults, code, words) in [
        (Offer { sign: "00".repeat(32), ..good.clone() }, vec![], -3, "the cloud says 00"),
        (Offer { size: good.size + 1, ..good.clone() }, vec![], -3, "bytes, the cloud says"),
        (bad, vec![], -5, "no update file but a bare program"),
        (theirs, vec![], -3, "not trusted here"),
        (Offer { version: "2.0.1".into(), ..good.clone() }, vec![], -3, "offers version 2.0.1"),
        (older, vec![], -5, "older than 1.0.0"),
        (good.clone(), vec![("prepare", Stage::Refused)], -5, "prepare fails"),
        (good.clone(), vec![("install", Stage::Writing)], -4, "install fails"),
        (good.clone(), vec![("activate", Stage::Other)], -1, "activate fails"),
        (good.clone(), vec![("standing", Stage::Other)], -1, "standing fails"),
        (good.clone(), vec![("confirm", Stage::Other)], -1, "confirm fails"),
    ] {
        let gateway = bench.start();
        bench.board.lock().unwrap().faults = faults.into();
        bench.cloud.said.lock().unwrap().clear();
        let taken = gateway.updates.offered(offer, true).await;
        assert_eq!(taken.code, 200, "{words}: {}", taken.message);
        let job = end(&gateway).await;
        assert_eq!(job["step"], code, "{words}: {job}");
        assert!(job["why"].as_str().unwrap().contains(words), "{words}: {job}");
        assert_eq!(bench.cloud.steps().last(), Some(&code), "{words}");
        assert_eq!(bench.board.lock().unwrap().running, "1.0.0", "{words}");
    }
}

/// Where the gateway keeps it meanwhile is nothing that anybody could look for.
#[tokio::test]
async fn a_file_that_is_broken_is_called_as_whoever_brought_it_calls_it() {
    let bench = Bench::new();
    let torn = bench.home.path().join("torn.tar.gz");
    let whole = std::fs::read(bench.file("2.0.0")).unwrap();
    std::fs::write(&torn, &whole[..whole.len() / 2]).unwrap();
    let bytes = std::fs::read(&torn).unwrap();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    let gateway = bench.start();
    gateway.updates.install(torn.clone(), false, None).await.unwrap();
    let job = end(&gateway).await;
    let why = job["why"].as_str().unwrap();
    assert!(why.starts_with(&format!("{}: ", torn.display())) && !why.contains(".part"), "{why}");
    let offer = bench.offer("2.0.0", "gw", &format!("{base}/torn.tar.gz"));
    let offer = Offer { size: bytes.len() as u64, sign: crate::store::sha256(&bytes), ..offer };
    assert_eq!(gateway.updates.offered(offer, true).await.code, 200);
    let job = until(&gateway, |job| job["end"] == true && job["from"] == "cloud").await;
    let why = job["why"].as_str().unwrap();
    assert!(why.starts_with(&format!("{base}/torn.tar.gz: ")) && !why.contains(".part"), "{why}");
}

#[tokio::test]
async fn what_is_known_to_be_wrong_is_refused_at_the_offer() {
    let bench = Bench::new();
    let gateway = bench.start();
    let good = bench.offer("2.0.0", "gw", "https://127.0.0.1:1/x");
    for (offer, words) in [
        (Offer { url: "https://evil.com/f".into(), ..good.clone() }, "host evil.com"),
        (Offer { url: "/relative".into(), ..good.clone() }, "base_url"),
        (Offer { url: "enos-connect://f.zip".into(), ..good.clone() }, "http_broker"),
        (Offer { url: "https://169.254.169.254/f".into(), ..good.clone() }, "host 169.254.169.254"),
    ] {
        for _ in 0..3 {
            let refused = gateway.updates.offered(offer.clone(), true).await;
            assert!(refused.code == 2018 && refused.message.contains(words), "{refused:?}");
        }
    }
    let history = gateway.updates.history();
    let ends: Vec<_> = history.as_array().unwrap().iter().map(|past| (&past["result"], &past["why"])).collect();
    assert_eq!(ends.len(), 4, "each once: {ends:?}");
    assert!(ends.iter().all(|(result, why)| *result == "refused" && why.as_str().unwrap().starts_with("address: ")));
    let running = Offer { version: crate::version::current().to_owned(), ..good.clone() };
    assert_eq!(gateway.updates.offered(running, true).await.code, 200);
    assert_eq!((bench.cloud.steps(), bench.cloud.versions()), (vec![100], vec![crate::version::current().to_owned()]));
    assert_eq!(gateway.updates.status()["job"], Json::Null);
    let large = Offer { size: 1 << 40, ..good };
    assert_eq!(gateway.updates.offered(large, true).await.code, 200);
    assert!(end(&gateway).await["why"].as_str().unwrap().contains("max_mb"));
}

/// The host may be asked, and points to one that may not, or is this machine by another name.
#[tokio::test]
async fn an_address_that_turns_out_to_be_forbidden_is_asked_once() {
    let mut bench = Bench::new();
    let size = std::fs::metadata(bench.file("2.0.0")).unwrap().len() as usize;
    let (base, sent) = server(bench.home.path().to_owned(), None).await;
    let port = base.rsplit(':').next().unwrap();
    bench.config.hosts = vec!["*".into()];
    let offer = bench.offer("2.0.0", "gw", &format!("http://localhost:{port}/2.0.0.tar.gz"));
    let gateway = bench.start();
    assert_eq!(gateway.updates.offered(offer.clone(), true).await.code, 200);
    let job = until(&gateway, |job| job["told"] == true).await;
    assert_eq!((&job["state"], &job["step"]), (&"refused".into(), &(-5).into()), "{job}");
    assert!(job["why"].as_str().unwrap().contains("address of this machine"), "{job}");
    assert_eq!((sent.load(Ordering::SeqCst), bench.cloud.steps().last()), (0, Some(&-5)));
    drop(gateway);
    bench.config.hosts.push("localhost".into());
    let gateway = bench.start();
    assert_eq!(gateway.updates.offered(offer, true).await.code, 200);
    assert_eq!(until(&gateway, |job| job["state"] != "refused" && job["end"] == true).await["state"], "done");
    assert_eq!(sent.load(Ordering::SeqCst), size);
}

/// Nobody knows then whether an update is half done: none is taken until a person has looked, and all else goes on.
#[tokio::test]
async fn a_job_that_can_not_be_read_keeps_updates_away_until_it_can() {
    let bench = Bench::new();
    let job = bench.home.path().join("state/update/job.json");
    std::fs::create_dir_all(&job).unwrap();
    std::fs::write(job.with_file_name("history.jsonl"), vec![b'x'; 300 << 10]).unwrap();
    let gateway = bench.start();
    let told = gateway.updates.install(bench.file("2.0.0"), false, None).await.unwrap_err();
    assert!(told.code == "refused" && told.words.contains("is a folder"), "{told:?}");
    assert!(told.words.ends_with(&format!("mv {0} {0}.aside", job.display())), "{told:?}");
    let offer = bench.offer("2.0.0", "gw", "http://127.0.0.1:1/x");
    let offered = gateway.updates.offered(offer, true).await;
    assert!(offered.code == 2018 && offered.message.contains("is a folder"), "{offered:?}");
    for asked in [gateway.updates.cancel().await, gateway.updates.roll_back().await] {
        assert!(asked.unwrap_err().words.contains("is a folder"));
    }
    let status = gateway.updates.status();
    assert!(status["job"].is_null() && status["unread"].as_str().unwrap().contains("is a folder"), "{status}");
    assert_eq!(gateway.updates.history(), serde_json::json!([]), "laid aside");
    std::fs::remove_dir(&job).unwrap();
    gateway.updates.install(bench.file("2.0.0"), false, None).await.unwrap();
    assert_eq!(end(&gateway).await["state"], "done");
    assert_eq!(gateway.updates.status()["unread"], Json::Null);
    assert_eq!(gateway.updates.history().as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_condition_holds_it_back_and_a_person_may_cancel_or_hurry() {
    use std::os::unix::fs::PermissionsExt;
    let bench = Bench::new();
    std::fs::create_dir(&bench.config.conditions).unwrap();
    let battery = bench.config.conditions.join("battery");
    std::fs::write(&battery, "#!/bin/sh\necho 'battery at 20 %'\nexit 75\n").unwrap();
    std::fs::set_permissions(&battery, std::fs::Permissions::from_mode(0o755)).unwrap();
    let gateway = bench.start();
    gateway.updates.install(bench.file("2.0.0"), false, None).await.unwrap();
    until(&gateway, |job| job["why"] == "condition battery: battery at 20 %").await;
    assert_eq!(gateway.updates.install(bench.file("3.0.0"), true, None).await.unwrap_err().code, "busy");
    drop(gateway);
    let gateway = bench.start();
    until(&gateway, |job| job["state"] == "waiting").await;
    gateway.updates.cancel().await.unwrap();
    assert_eq!(end(&gateway).await["why"], "cancelled by a person");
    assert!(gateway.updates.cancel().await.is_err());
    assert!(bench.board.lock().unwrap().calls.is_empty());
    gateway.updates.install(bench.file("2.0.0"), true, None).await.unwrap();
    assert_eq!(until(&gateway, |job| job["end"] == true && job["state"] != "refused").await["state"], "done");
    gateway.updates.roll_back().await.unwrap();
    assert_eq!(until(&gateway, |job| job["end"] == true && job["state"] != "done").await["state"], "rolled back");
    assert_eq!(bench.board.lock().unwrap().running, "1.0.0");
}

/// A job may wait for days; what is installed then is what was verified, by who is trusted then.
#[tokio::test]
async fn what_waits_is_proven_once_more_before_it_is_installed() {
    use std::os::unix::fs::PermissionsExt;
    for (revoked, words) in [(true, "is not trusted here"), (false, "are not those that were signed")] {
        let mut bench = Bench::new();
        std::fs::create_dir(&bench.config.conditions).unwrap();
        let battery = bench.config.conditions.join("battery");
        std::fs::write(&battery, "#!/bin/sh\nexit 75\n").unwrap();
        std::fs::set_permissions(&battery, std::fs::Permissions::from_mode(0o755)).unwrap();
        let gateway = bench.start();
        gateway.updates.install(bench.file("2.0.0"), false, None).await.unwrap();
        let id = until(&gateway, |job| job["state"] == "waiting").await["id"].as_str().unwrap().to_owned();
        drop(gateway);
        if revoked {
            trust::generate(&bench.home.path().join("next")).unwrap();
            bench.key = SigningKey::read(&bench.home.path().join("next")).unwrap();
        } else {
            let payload = bench.home.path().join("state/update/work").join(format!("{id}.payload"));
            assert!(payload.exists());
            std::fs::write(payload, payload_of("6.6.6")).unwrap();
        }
        std::fs::remove_file(&battery).unwrap();
        let gateway = bench.start();
        let job = end(&gateway).await;
        assert_eq!((&job["state"], &job["step"]), (&"failed".into(), &(-3).into()), "{job}");
        let why = job["why"].as_str().unwrap();
        assert!(why.contains("not trusted any more") && why.contains(words), "{why}");
        assert!(bench.board.lock().unwrap().calls.is_empty(), "nothing was begun");
    }
}

/// A person cancels while a thread copies or unpacks: the job's files are tidied up at once, and the thread is not done yet.
/// Where the step was only begun anew, they stay.
#[tokio::test]
async fn what_a_thread_still_writes_for_a_job_that_was_given_up_does_not_stay() {
    use super::job::{Event, Job, Origin, State};
    let bench = Bench::new();
    let ports = Arc::new(bench.ports(Arc::new(RealDisk)));
    let work = ports.shelf.work();
    let file = Origin::File(bench.file("2.0.0").display().to_string());
    for (state, whole, left) in [(State::Downloading, 1, 0), (State::Downloaded, 3, 1)] {
        let job = Job { state, ..Job::new("1-a".into(), file.clone(), true, 1) };
        let cancelled = job.after(Event::Cancelled("x".into()), 2).unwrap();
        for (on_disk, waits, files) in [(&job, true, whole), (&job, false, whole), (&cancelled, false, left)] {
            let _ = std::fs::remove_dir_all(&work);
            std::fs::create_dir_all(&work).unwrap();
            if job.state == State::Downloaded {
                std::fs::copy(bench.file("2.0.0"), work.join("1-a.part")).unwrap();
            }
            ports.shelf.save(on_disk).unwrap();
            let (told, news) = watch::channel((0, String::new()));
            let waiting = waits.then_some(news);
            super::carry::perform(Arc::clone(&ports), job.clone(), told).await;
            let found = std::fs::read_dir(&work).unwrap().count();
            assert_eq!(found, files, "{} of a job that is {}", job.state.word(), on_disk.state.word());
            drop(waiting);
        }
    }
}

#[tokio::test]
async fn firmware_of_a_sub_device_goes_to_that_device_only() {
    let bench = Bench::new();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    let payload = bench.home.path().join("x.bin");
    std::fs::write(&payload, b"meter").unwrap();
    for (device, right) in [("Device m1", true), ("m1", true), ("Device m2", false)] {
        let gateway = bench.start();
        let kind = Kind::Firmware { target: "rauc".into(), device: Some(device.into()) };
        let wanted =
            Wanted { kind, name: "m", version: "5.0.0".parse().unwrap(), replaces_from: None, payload: &payload };
        build(&wanted, &bench.key, &bench.home.path().join("5.0.0.tar.gz"), &limits(1 << 20, None)).unwrap();
        let offer = bench.offer("5.0.0", "m1", &format!("{base}/5.0.0.tar.gz"));
        bench.board.lock().unwrap().running = "1.0.0".into();
        std::fs::remove_file(bench.home.path().join("state/update/versions.json")).ok();
        drop(gateway);
        let gateway = bench.start();
        assert_eq!(gateway.updates.offered(offer, false).await.code, 200);
        let job = end(&gateway).await;
        assert_eq!(job["state"] == "done", right, "{device}: {job}");
        drop(gateway);
        bench.cloud.said.lock().unwrap().clear();
        let _gateway = bench.start();
        let told = bench.cloud.said.lock().unwrap().clone();
        assert_eq!(told.iter().any(|one| one.device_key == "m1" && one.what == Said::Version("5.0.0".into())), right);
    }
}
/// Kills the gateway at every step that it takes on its disk, in every order of what had been done.
#[tokio::test]
async fn a_gateway_that_is_killed_at_any_step_goes_on_and_ends_whole() {
    let (mut kills, mut ended) = (0, false);
    for steps in 0..400 {
        let bench = Bench::new();
        let dying = Arc::new(Dying { left: AtomicUsize::new(steps), dead: Notify::new() });
        let gateway = bench.start_on(Arc::clone(&dying) as _);
        let taken = gateway.updates.install(bench.file("2.0.0"), true, None).await;
        if taken.is_ok() {
            tokio::select! {
                () = dying.dead.notified() => kills += 1,
                _ = end(&gateway) => ended = dying.left.load(Ordering::SeqCst) > 20,
            }
        }
        drop(gateway);
        tokio::task::yield_now().await;
        let gateway = bench.start();
        let job = gateway.updates.status()["job"].clone();
        if job.is_null() {
            assert_eq!(bench.board.lock().unwrap().running, "1.0.0");
            assert!(taken.is_err(), "step {steps}: what was taken on is not lost");
            continue;
        }
        let job = end(&gateway).await;
        assert_eq!(job["state"], "done", "step {steps}: {job}");
        let board = bench.board.lock().unwrap();
        assert_eq!((board.running.as_str(), board.trying.as_ref()), ("2.0.0", None), "step {steps}");
        assert_eq!(board.installed.as_ref().unwrap().1, payload_of("2.0.0"));
        let history = gateway.updates.history();
        assert_eq!(history.as_array().map(Vec::len), Some(1), "step {steps}: {history}");
        if ended {
            break;
        }
    }
    assert!(ended && kills > 50, "{kills} kills");
}
