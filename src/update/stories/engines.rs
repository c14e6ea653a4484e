//! Updates of the engine, and of what was done and is taken back.

use super::*;

/// As much of a program as is looked at.
fn program() -> Vec<u8> {
    let mut start = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    start.truncate(4096);
    start
}

async fn bench_with_an_engine(version: &str) -> (Bench, String) {
    let bench = Bench::new();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    std::fs::write(bench.home.path().join("program"), program()).unwrap();
    let wanted = Wanted {
        kind: Kind::Engine { architecture: crate::update::manifest::architecture().into() },
        name: "enos-edge",
        version: version.parse().unwrap(),
        replaces_from: None,
        payload: &bench.home.path().join("program"),
    };
    build(&wanted, &bench.key, &bench.home.path().join(format!("{version}.tar.gz")), &limits(1 << 20, None)).unwrap();
    (bench, base)
}

#[tokio::test]
async fn the_cloud_is_told_of_an_engine_that_a_person_brought() {
    let (bench, _) = bench_with_an_engine("2.0.0").await;
    let gateway = bench.start();
    gateway.updates.install(bench.file("2.0.0"), false, None).await.unwrap();
    assert_eq!(end(&gateway).await["state"], "done");
    assert_eq!((bench.cloud.versions(), bench.cloud.steps()), (vec!["2.0.0".to_owned()], vec![]));
}

#[tokio::test]
async fn what_was_done_is_taken_back_without_a_step_after_its_last() {
    let bench = Bench::new();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    let gateway = bench.start();
    let offer = bench.offer("2.0.0", "sub", &format!("{base}/2.0.0.tar.gz"));
    assert_eq!(gateway.updates.offered(offer, false).await.code, 200);
    assert_eq!(until(&gateway, |job| job["told"] == true).await["state"], "done");
    gateway.updates.roll_back().await.unwrap();
    assert_eq!(until(&gateway, |job| job["told"] == true).await["state"], "rolled back");
    assert_eq!(bench.cloud.steps().last(), Some(&100));
    assert_eq!(bench.cloud.versions(), ["2.0.0", "1.0.0"]);
}

/// The engine that is taken back is the one that says so, and runs on for a moment.
#[tokio::test]
async fn an_engine_that_is_taken_back_calls_itself_as_the_one_before() {
    let own = crate::version::current();
    let (bench, _) = bench_with_an_engine(own).await;
    {
        let mut board = bench.board.lock().unwrap();
        (board.running, board.holds) = ("0.0.1".to_owned(), true);
    }
    let gateway = bench.start();
    gateway.updates.install(bench.file(own), false, None).await.unwrap();
    until(&gateway, |job| job["state"] == "on trial").await;
    gateway.updates.roll_back().await.unwrap();
    assert_eq!(end(&gateway).await["state"], "rolled back");
    assert_eq!(bench.cloud.name.lock().unwrap().as_deref(), Some("0.0.1"), "what is told after a connect");
    drop(gateway);
    *bench.cloud.name.lock().unwrap() = None;
    let _again = bench.start();
    assert_eq!(*bench.cloud.name.lock().unwrap(), None, "after the restart it is the engine's own");
}

#[tokio::test]
async fn an_engine_is_called_by_its_new_version_once_it_has_shown_that_it_works() {
    let (bench, base) = bench_with_an_engine("2.0.0").await;
    {
        let mut board = bench.board.lock().unwrap();
        (board.restart, board.holds) = (true, true);
    }
    let gateway = bench.start();
    let offer = bench.offer("2.0.0", "gw", &format!("{base}/2.0.0.tar.gz"));
    assert_eq!(gateway.updates.offered(offer, true).await.code, 200);
    bench.restart.notified().await;
    drop(gateway);
    let on_disk = std::fs::read_to_string(bench.home.path().join("state/update/job.json")).unwrap();
    assert!(on_disk.contains("on_trial"), "written down before the restart: {on_disk}");
    let gateway = bench.start();
    assert_eq!(bench.cloud.name.lock().unwrap().as_deref(), Some("1.0.0"), "what is told after a connect");
    assert!(bench.cloud.versions().is_empty());
    bench.board.lock().unwrap().holds = false;
    assert_eq!(until(&gateway, |job| job["told"] == true).await["state"], "done");
    assert_eq!((bench.cloud.versions(), bench.cloud.name.lock().unwrap().clone()), (vec!["2.0.0".to_owned()], None));
}
