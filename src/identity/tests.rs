//! The keeper through whole stories: activation with the power cut at every step, refusals, restarts.

use super::*;
use crate::store::power_cut::{AFTERMATHS, CutDisk};
use std::path::Path;

const SECRET: &str = "planted-device";

fn config() -> CloudConfig {
    let product_secret = Some(Secret::new("planted-product".to_owned()));
    CloudConfig { product_secret, ..CloudConfig::new("cloud", 18883, "产品", "网关-1") }
}

fn keeper(disk: &Arc<CutDisk>) -> Keeper {
    Keeper::open(&config(), Path::new("/state"), Arc::clone(disk) as _)
}

/// Which secret the next connection would sign with, and in which mode.
async fn proof(keeper: &Keeper) -> (u8, String) {
    match keeper.proof().await.unwrap().secret {
        LoginSecret::None => (0, String::new()),
        LoginSecret::Device(secret) => (2, secret.reveal().to_owned()),
        LoginSecret::Product(secret) => (3, secret.reveal().to_owned()),
    }
}

fn activation(secret: &str) -> Activation {
    Activation { secret: Secret::new(secret.to_owned()), asset_id: None }
}

/// The cloud of the stories. It sends the secret until it has the answer 200, and never again after that: nothing
/// says that EnOS would.
#[derive(Default)]
struct Cloud {
    answered: bool,
}

impl Cloud {
    /// A gateway from its start to a login that works, or until its power goes. True when it is logged in.
    async fn meets(&mut self, disk: &Arc<CutDisk>) -> bool {
        let keeper = keeper(disk);
        for _ in 0..10 {
            match proof(&keeper).await {
                (3, secret) if secret == "planted-product" && !self.answered => {
                    keeper.logged_in(Ok(()));
                    if keeper.activated(activation(SECRET)).await.is_err() {
                        return false;
                    }
                    self.answered = true;
                }
                (2, secret) if secret == SECRET => return true,
                other => panic!("no way to log in any more: {other:?}, answered: {}", self.answered),
            }
        }
        panic!("it goes round in circles")
    }
}

#[tokio::test]
async fn whenever_the_power_goes_during_activation_the_gateway_logs_in_after_the_next_start() {
    let mut cuts = 0;
    for n in 0.. {
        let disk = Arc::new(CutDisk::default());
        disk.cut_at(n);
        let mut cloud = Cloud::default();
        let finished = cloud.meets(&disk).await && disk.steps() < n;
        for aftermath in AFTERMATHS {
            // Cut once more, at each step of the second start.
            for again in 0.. {
                let second = Arc::new(disk.after(aftermath));
                second.cut_at(again);
                let mut cloud = Cloud { answered: cloud.answered };
                let whole = cloud.meets(&second).await && second.steps() < again;
                for aftermath in AFTERMATHS {
                    let third = Arc::new(second.after(aftermath));
                    assert!(Cloud { answered: cloud.answered }.meets(&third).await, "{n} {again} {aftermath:?}");
                    cuts += 1;
                }
                if whole || again > 20 {
                    break;
                }
            }
        }
        if finished {
            break;
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 1000, "{cuts}");
}

#[tokio::test]
async fn a_refused_secret_is_kept_and_the_product_s_asks_for_a_new_one() {
    let disk = Arc::new(CutDisk::default());
    let keeper = keeper(&disk);
    keeper.activated(activation("one")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(proof(&keeper).await, (2, "one".to_owned()));
        keeper.logged_in(Err(4));
    }
    assert_eq!(proof(&keeper).await.0, 3);
    assert_eq!(keeper.status()["device_secret"], "awaited");
    // The cloud refuses that as well: back to the secret that once worked.
    keeper.logged_in(Err(5));
    assert_eq!(proof(&keeper).await, (2, "one".to_owned()));
    for _ in 0..3 {
        keeper.logged_in(Err(4));
    }
    keeper.logged_in(Ok(()));
    keeper.activated(activation("two")).await.unwrap();
    assert_eq!(proof(&keeper).await, (2, "two".to_owned()));
    // The new one is wrong after all.
    for _ in 0..3 {
        keeper.logged_in(Err(4));
    }
    assert_eq!(proof(&keeper).await, (2, "one".to_owned()));
}

#[tokio::test]
async fn a_disk_that_takes_nothing_leaves_the_old_identity_in_force() {
    let disk = Arc::new(CutDisk::default());
    let keeper = keeper(&disk);
    keeper.activated(activation("one")).await.unwrap();
    disk.cut_at(0);
    let error = keeper.activated(activation("two")).await.unwrap_err();
    assert!(error.contains("/state/identity") && !error.contains("two"), "{error}");
    assert_eq!(proof(&keeper).await, (2, "one".to_owned()));
}

#[tokio::test]
async fn nothing_that_is_shown_holds_a_secret() {
    let keeper = keeper(&Arc::new(CutDisk::default()));
    keeper.activated(activation(SECRET)).await.unwrap();
    let proof = keeper.proof().await.unwrap();
    let shown = format!("{} {proof:?} {:?} {:?}", keeper.status(), config(), activation(SECRET));
    assert!(!shown.contains("planted"), "{shown}");
    assert_eq!(keeper.status()["device_secret"], "activated");
}
