//! Programs that are asked before an update runs: is the battery full, is the plant idle, does the operator agree?

use super::Manifest;
use super::firmware::Group;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Not now, as sysexits.h says it (`EX_TEMPFAIL`).
const NOT_NOW: i32 = 75;
/// Of what a program says.
const WORDS: u64 = 4096;
/// More programs are a mistake.
const MOST: usize = 32;

/// What they say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    NotNow(String),
    No(String),
}

/// Asks one after the other until one does not say yes. A folder that is not there has no objection.
pub async fn ask(folder: &Path, patience: Duration, job: &str, manifest: &Manifest) -> Answer {
    let programs = match programs(folder) {
        Ok(programs) => programs,
        Err(error) => {
            return Answer::NotNow(format!("the conditions in {} can not be read: {error}", folder.display()));
        }
    };
    for program in programs {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match one(&program, patience, job, manifest).await {
            (Some(0), _) => {}
            (Some(NOT_NOW), words) => return Answer::NotNow(said(&name, &words)),
            (Some(_), words) => return Answer::No(said(&name, &words)),
            // It hangs, was killed or can not be started: nobody said yes.
            (None, words) => return Answer::NotNow(said(&name, &words)),
        }
    }
    Answer::Yes
}

fn said(name: &str, words: &str) -> String {
    let line: String = words.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect();
    if line.is_empty() { format!("condition {name} says no") } else { format!("condition {name}: {line}") }
}

/// As run-parts takes them: executable files with plain names, in order.
fn programs(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    use std::os::unix::fs::PermissionsExt;
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut programs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().chars().all(plain));
        let found = std::fs::metadata(&path)?;
        if named && found.is_file() && found.permissions().mode() & 0o111 != 0 {
            programs.push(path);
        }
    }
    programs.sort();
    programs.truncate(MOST);
    Ok(programs)
}

/// Exit status and the beginning of what it said.
async fn one(program: &Path, patience: Duration, job: &str, manifest: &Manifest) -> (Option<i32>, String) {
    let mut command = Command::new(program);
    command.env("UPDATE_JOB", job).env("UPDATE_TARGET", manifest.kind.target());
    command.env("UPDATE_VERSION", manifest.version.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return (None, format!("it can not be started: {error}")),
    };
    // What it started goes with it: it is asked each minute, for a week.
    let _group = Group::of(&child);
    let run = async {
        let mut words = Vec::new();
        if let Some(out) = child.stdout.take() {
            // What it says is for people; what can not be read says nothing.
            let _ = out.take(WORDS).read_to_end(&mut words).await;
        }
        (child.wait().await.ok().and_then(|status| status.code()), String::from_utf8_lossy(&words).into_owned())
    };
    timeout(patience, run).await.unwrap_or_else(|_| (None, format!("it does not answer within {patience:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::Kind;
    use std::os::unix::fs::PermissionsExt;

    fn manifest() -> Manifest {
        Manifest {
            kind: Kind::Firmware { target: "rauc".into(), device: None },
            version: semver::Version::new(2, 0, 0),
            payload: "payload".into(),
            payload_bytes: 1,
            payload_sha256: String::new(),
            replaces_from: None,
        }
    }

    fn script(folder: &Path, name: &str, text: &str) {
        std::fs::write(folder.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn all_must_say_yes_and_who_does_not_is_named() {
        let home = tempfile::tempdir().unwrap();
        let ask = async || ask(home.path(), Duration::from_secs(10), "1-a", &manifest()).await;
        assert_eq!(super::ask(&home.path().join("none"), Duration::from_secs(1), "1", &manifest()).await, Answer::Yes);
        script(home.path(), "10-power", "test \"$UPDATE_TARGET $UPDATE_VERSION\" = 'rauc 2.0.0'");
        std::fs::write(home.path().join("README"), "not executable").unwrap();
        script(home.path(), "left-over.dpkg-old", "exit 1");
        assert_eq!(ask().await, Answer::Yes);
        script(home.path(), "20-battery", "echo 'battery at 31 %, 50 % are needed'; echo more; exit 75");
        assert_eq!(ask().await, Answer::NotNow("condition 20-battery: battery at 31 %, 50 % are needed".into()));
        script(home.path(), "15-never", "exit 3");
        assert_eq!(ask().await, Answer::No("condition 15-never says no".into()));
    }

    #[tokio::test]
    async fn what_one_leaves_behind_is_ended() {
        let home = tempfile::tempdir().unwrap();
        let note = home.path().join("note.pid");
        // The reader of its output would wait for the child; the shell itself is waited for, or the time-out.
        for rest in ["wait", "exit 0"] {
            script(home.path(), "c", &format!("sleep 600 & echo $! >{}.tmp; mv {0}.tmp {0}; {rest}", note.display()));
            let answer = ask(home.path(), Duration::from_secs(2), "1-a", &manifest()).await;
            assert!(matches!(answer, Answer::NotNow(_)), "{answer:?}");
            let pid = std::fs::read_to_string(&note).unwrap();
            let status = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
            let is_gone = || status().map_or(true, |stat| stat.contains(") Z "));
            let began = std::time::Instant::now();
            while !is_gone() {
                assert!(began.elapsed() < Duration::from_secs(10), "{pid} still runs");
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn one_that_hangs_is_stopped_and_nothing_runs() {
        let home = tempfile::tempdir().unwrap();
        script(home.path(), "hang", "exec sleep 600");
        let answer = ask(home.path(), Duration::from_millis(200), "1-a", &manifest()).await;
        assert!(matches!(answer, Answer::NotNow(words) if words.contains("within 200ms")));
    }
}
