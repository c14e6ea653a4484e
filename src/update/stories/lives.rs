//! Any order of offers, kills, faults and wishes.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Happening {
    Offer(&'static str),
    File(&'static str),
    Kill,
    Fault(&'static str, Stage),
    Cancel,
    RollBack,
    Wait,
}

fn happening() -> impl Strategy<Value = Happening> {
    let step = proptest::sample::select(vec!["prepare", "install", "activate", "standing", "confirm", "roll_back"]);
    prop_oneof![
        3 => proptest::sample::select(vec!["2.0.0", "3.0.0", "0.9.0"]).prop_map(Happening::Offer),
        1 => proptest::sample::select(vec!["2.0.0", "3.0.0"]).prop_map(Happening::File),
        3 => Just(Happening::Kill),
        2 => step.prop_map(|step| Happening::Fault(step, Stage::Other)),
        1 => Just(Happening::Cancel),
        1 => Just(Happening::RollBack),
        2 => Just(Happening::Wait),
    ]
}

/// Whatever comes, it ends; what runs is whole, and was signed; progress of a job never goes back.
async fn live(bench: &Bench, happenings: Vec<Happening>, base: &str) {
    let mut gateway = bench.start();
    for happening in happenings {
        match happening {
            Happening::Offer(version) => {
                let offer = bench.offer(version, "gw", &format!("{base}/{version}.tar.gz"));
                let code = gateway.updates.offered(offer, true).await.code;
                assert!(code == 200 || code == 2012, "{code}");
            }
            Happening::File(version) => drop(gateway.updates.install(bench.file(version), true, None).await),
            Happening::Kill => {
                drop(gateway);
                tokio::task::yield_now().await;
                gateway = bench.start();
            }
            Happening::Fault(step, stage) => bench.board.lock().unwrap().faults.push_back((step, stage)),
            Happening::Cancel => drop(gateway.updates.cancel().await),
            Happening::RollBack => drop(gateway.updates.roll_back().await),
            Happening::Wait => tokio::time::sleep(Duration::from_millis(3)).await,
        }
    }
    if !gateway.updates.status()["job"].is_null() {
        let job = end(&gateway).await;
        let board = bench.board.lock().unwrap();
        let whole = board.running == "1.0.0"
            || board
                .installed
                .as_ref()
                .is_some_and(|(_, bytes)| ["2.0.0", "3.0.0"].iter().any(|v| *bytes == payload_of(v)));
        assert!(whole && ["1.0.0", "2.0.0", "3.0.0"].contains(&board.running.as_str()), "{job}");
        if job["state"] == "done" {
            assert_eq!((&job["version"], board.trying.as_ref()), (&Json::from(board.running.clone()), None));
        }
    }
    let said = bench.cloud.said.lock().unwrap();
    let mut highest = std::collections::HashMap::new();
    for saying in said.iter() {
        if let Said::Progress { step, .. } = saying.what
            && step > 0
        {
            let highest = highest.entry(saying.job.clone()).or_insert(0);
            assert!(step >= *highest, "{saying:?} after {highest}");
            *highest = step;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 50, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_offers_kills_faults_and_wishes_ends_whole(happenings in proptest::collection::vec(happening(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            for version in ["0.9.0", "2.0.0", "3.0.0"] {
                bench.file(version);
            }
            let (base, _) = server(bench.home.path().to_owned(), None).await;
            live(&bench, happenings, &base).await;
        });
    }
}
