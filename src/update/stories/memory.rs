//! How much memory an update takes: the file goes through it in blocks, however large it is.

use super::*;
use std::process::{Command, Stdio};

/// What the peak of a large file may be above that of a small one, in KiB. What both take, as code that is read in, buffers of
/// a decompressor and a few blocks, says nothing of whether the file is held.
const MOST_KB: u64 = 4 << 10;
const SMALL_MB: usize = 2;
/// Far more than the bound, and quick enough for each run. `ENOS_EDGE_UPDATE_MB` takes another.
const USUAL_MB: usize = 12;
const HOME: &str = "ENOS_EDGE_STORY_HOME";
const ADDRESS: &str = "ENOS_EDGE_STORY_ADDRESS";
const TOLD: &str = "memory of the update, KiB:";

/// Peak of resident memory, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells it");
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Does not compress.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes_of = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    (0..bytes / 4).flat_map(|_| bytes_of().to_le_bytes()).collect()
}

/// The gateway is a process of its own, so that nobody else's memory is measured: peak before and after, in KiB.
async fn peaks(ending: &str, megabytes: usize) -> (u64, u64) {
    let bench = Bench::at(tempfile::tempdir().unwrap());
    let (payload, file) = (bench.home.path().join("raw"), bench.home.path().join(format!("2.0.0.{ending}")));
    std::fs::write(&payload, noise(megabytes << 20)).unwrap();
    let kind = Kind::Firmware { target: "rauc".into(), device: None };
    let version = "2.0.0".parse().unwrap();
    let wanted = Wanted { kind, name: "panel", version, replaces_from: None, payload: &payload };
    build(&wanted, &bench.key, &file, &limits(1 << 30, None)).unwrap();
    std::fs::remove_file(payload).unwrap();
    let (base, _) = server(bench.home.path().to_owned(), None).await;
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "update::stories::memory::the_gateway_of_it", "--ignored", "--nocapture"]);
    child.env(HOME, bench.home.path()).env(ADDRESS, format!("{base}/2.0.0.{ending}")).stderr(Stdio::inherit());
    let told = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    let figures = told.lines().find_map(|line| line.split_once(TOLD)).unwrap_or_else(|| panic!("{told}")).1;
    let figures: Vec<u64> = figures.split_whitespace().map(|figure| figure.parse().unwrap()).collect();
    (figures[0], figures[1])
}

#[tokio::test]
async fn a_large_file_is_fetched_proven_and_unpacked_in_the_memory_of_a_small_one() {
    let megabytes = std::env::var("ENOS_EDGE_UPDATE_MB").map_or(USUAL_MB, |text| text.parse().unwrap());
    for ending in ["tar.gz", "tar.zst", "zip"] {
        let (_, small) = peaks(ending, SMALL_MB).await;
        let (before, large) = peaks(ending, megabytes).await;
        println!("{ending}: peak {before} KiB idle, {small} KiB with {SMALL_MB} MB, {large} KiB with {megabytes} MB");
        assert!(large < small + MOST_KB, "{ending}: {small} KiB with {SMALL_MB} MB, {large} KiB with {megabytes} MB");
    }
}

#[tokio::test]
#[ignore = "run by the test above, in a process of its own"]
async fn the_gateway_of_it() {
    let (Some(home), Ok(address)) = (std::env::var_os(HOME), std::env::var(ADDRESS)) else { return };
    let mut bench = Bench::in_folder(Path::new(&home));
    bench.board.lock().unwrap().light = true;
    bench.config.max_bytes = 1 << 30;
    let file = Path::new(&home).join(address.rsplit('/').next().unwrap());
    let offer = Offer {
        product_key: "p".into(),
        device_key: "gw".into(),
        version: "2.0.0".into(),
        method: Method::Sha256,
        sign: RealDisk.digest(&file).unwrap(),
        url: address,
        size: file.metadata().unwrap().len(),
    };
    let gateway = bench.start();
    let before = peak();
    assert_eq!(gateway.updates.offered(offer, true).await.code, 200);
    let job = end(&gateway).await;
    assert_eq!(job["state"], "done", "{job}");
    println!("{TOLD} {before} {}", peak());
}
