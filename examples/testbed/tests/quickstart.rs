//! The README's first command, as a script runs it: real gateway process, one outage, the ledger's verdict.

use serde_json::Value;
use std::process::Command;

#[test]
fn an_outage_of_the_cloud_loses_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_testbed"))
        .args(["quickstart", "--for", "8", "--json", "--keep"])
        .arg(folder.path())
        .output()
        .unwrap();
    let (told, log) =
        (String::from_utf8_lossy(&output.stderr), std::fs::read_to_string(folder.path().join("gateway.log")));
    let context = format!("{told}\n{}", log.unwrap_or_default());
    assert!(output.status.success(), "{context}");
    let lines: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("{\"delivered\":"), "{}", lines[0]);
    let verdict: Value = serde_json::from_str(lines[0]).unwrap();
    // 50 values of the meter five times a second for at least eight seconds.
    assert!(verdict["delivered"].as_u64().unwrap() > 50 * 5 * 7, "{verdict}");
    assert_eq!((&verdict["lost"], &verdict["repeated"]), (&0.into(), &0.into()), "{verdict}\n{context}");
    assert!(told.contains("cloud=down"), "{told}");
    assert!(verdict["counting_points"].as_u64().unwrap() > 50, "both sub-devices count: {verdict}");
}
