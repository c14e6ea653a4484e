//! The program as packaging/build calls it. That this test needs it is also why `cargo test` makes it for packaging/check.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_enos-edge-texts"))
}

#[test]
fn it_writes_two_pages_and_three_completions_and_wants_a_date() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!program().arg(folder.path()).status().unwrap().success());
    assert!(program().arg(folder.path()).arg("2026-11-22").status().unwrap().success());
    for (name, holds) in [
        ("enos-edge.1", "2026-11-22"),
        ("edge.yaml.5", "durability: bounded"),
        ("enos-edge.bash", "complete -F"),
        ("_enos-edge", "#compdef enos-edge"),
        ("enos-edge.fish", "complete -c enos-edge"),
    ] {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(text.contains(holds), "{name}");
    }
}
