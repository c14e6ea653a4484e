//! Packages that change under load, short. The long story is `testbed swaps`, it alone judges periods that were missed, and its figures are in SPECIFICATION.md.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and prints its figures")]

use serde_json::Value;
use std::process::Command;

#[test]
fn sixty_swaps_at_ten_thousand_values_a_second_cost_unchanged_devices_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["swaps", "--swaps", "60", "--missed", "10", "--json", "--keep"])
        .arg(folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stdout));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{figures}");
    assert!(figures["delivered"].as_u64().unwrap() > 100_000, "{figures}");
}
