//! `kill -9` at random moments: what was said to be safe is there, and no number is used twice.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "powercut/writer.rs"]
#[allow(dead_code, reason = "its main is the power-cut script's")]
mod writer;

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

const FOLDER: &str = "OUTBOX_KILL_FOLDER";
const ROUND: &str = "OUTBOX_KILL_ROUND";
const MODE: &str = "OUTBOX_KILL_MODE";
/// Batches that may come twice after a kill: those in the window the outbox states, here all that one phase delivers.
const WINDOW: usize = 400;

/// The child: this test does nothing unless the other one runs it.
#[test]
fn child() {
    let (Ok(folder), Ok(round), Ok(mode)) = (std::env::var(FOLDER), std::env::var(ROUND), std::env::var(MODE)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(writer::write(std::path::Path::new(&folder), round.parse().unwrap(), &mode));
}

#[test]
fn a_killed_gateway_has_lost_nothing_it_accepted() {
    for mode in ["bounded", "strict"] {
        let (accepted, duplicates) = kill_many(mode, 12);
        assert!(accepted > 1000, "{accepted} accepted in {mode} mode: the kills came too early to show anything");
        println!("{mode}: 12 kills, {accepted} batches accepted, 0 lost, {duplicates} came twice");
    }
}

fn kill_many(mode: &str, rounds: u64) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (mut ledger, mut duplicates) = (String::new(), 0);
    for round in 1..=rounds {
        let wait = Duration::from_millis(fastrand::u64(150..700));
        ledger.push_str(&one_life(folder.path(), round, mode, wait));
        let found = runtime.block_on(writer::verify(folder.path(), &ledger));
        assert_eq!((found.lost, found.corrupt), (0, 0), "{mode} round {round}: {found:?}");
        assert!(found.duplicates <= WINDOW * round as usize, "{mode} round {round}: {found:?}");
        duplicates = duplicates.max(found.duplicates);
    }
    (ledger.lines().filter(|line| line.starts_with("accepted")).count(), duplicates)
}

/// What the child said before it was killed, whole lines only.
fn one_life(folder: &std::path::Path, round: u64, mode: &str, wait: Duration) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .envs([(FOLDER, folder.to_str().unwrap()), (ROUND, &round.to_string()), (MODE, mode)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    });
    // The moment of the kill is what is tested: real time, not a wait for something.
    std::thread::sleep(wait);
    child.kill().unwrap();
    child.wait().unwrap();
    let text = reader.join().unwrap();
    text[..text.rfind('\n').map_or(0, |end| end + 1)].to_owned()
}
