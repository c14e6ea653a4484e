//! Kills and outages at random moments, short: a kill, an outage and both. The long story is `testbed crash`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::Value;
use std::process::Command;

/// Lives three rounds and returns the ledger's verdict.
fn three_rounds(more: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["crash", "--rounds", "3", "--rate", "2000", "--json", "--keep"])
        .arg(folder.path())
        .args(more)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stdout));
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&figures["kills"], &figures["outages"]), (&2.into(), &2.into()), "{figures}");
    assert!(figures["delivered"].as_u64().unwrap() > 2000 * 4, "{figures}");
    figures
}

#[test]
fn kills_and_outages_lose_nothing_older_than_the_bound() {
    let figures = three_rounds(&[]);
    assert_eq!(figures["lost_beyond_bound"], 0, "{figures}");
}

#[test]
fn strict_durability_loses_nothing_that_was_stored() {
    let figures = three_rounds(&["--strict"]);
    assert_eq!((&figures["lost_beyond_bound"], &figures["stored_and_lost"]), (&0.into(), &0.into()), "{figures}");
}

/// Packages come and go all the while: devices change their numbers under the kills, a line is opened anew.
#[test]
fn kills_in_the_middle_of_swaps_lose_nothing_older_than_the_bound_and_in_strict_mode_nothing_stored() {
    for (more, lost) in [(&["--swaps"][..], "lost_beyond_bound"), (&["--swaps", "--strict"], "stored_and_lost")] {
        let figures = three_rounds(more);
        assert_eq!((&figures["lost_beyond_bound"], &figures[lost]), (&0.into(), &0.into()), "{figures}");
        assert!(figures["swaps"].as_u64() >= Some(5), "{figures}");
    }
}

/// The control: this seed's last kill comes three seconds into an outage, and the outbox is deleted there.
#[test]
fn a_deleted_outbox_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let output = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["crash", "--rounds", "3", "--rate", "2000", "--seed", "32", "--strict", "--json", "--state"])
        .arg(&state)
        .args(["--after-kill", &format!("rm -r {}", state.join("outbox").display())])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("lost beyond the bound"), "{told}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(figures["lost_beyond_bound"].as_u64() > Some(1000), "{figures}");
    assert!(figures["stored_and_lost"].as_u64() > Some(1000), "{figures}");
}
