//! Programs that are asked before an update runs: is the battery full, is the plant idle, does the operator agree?

mod folder;

pub use folder::{Deaf, Folder};

use super::Manifest;
use super::firmware::Group;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Not now, as sysexits.h says it (`EX_TEMPFAIL`).
const NOT_NOW: i32 = 75;
/// Of what a program says.
const WORDS: u64 = 4096;

/// What they say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Yes,
    NotNow(String),
    No(String),
}

/// Which files were said not to be asked: once a job, not with each minute of its waiting.
#[derive(Debug, Default)]
pub struct Warned(Mutex<(String, Vec<Deaf>)>);

impl Warned {
    /// Those of them that were not told of this job.
    fn news(&self, job: &str, deaf: Vec<Deaf>) -> Vec<Deaf> {
        // It is replaced as a whole.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = if told.0 == job { std::mem::take(&mut told.1) } else { Vec::new() };
        let news = deaf.iter().filter(|one| !known.contains(one)).cloned().collect();
        *told = (job.to_owned(), deaf);
        news
    }
}

/// Asks one after the other until one does not say yes. A folder that is not there has no objection.
pub async fn ask(folder: &Path, patience: Duration, job: &str, manifest: &Manifest, warned: &Warned) -> Answer {
    let found = match Folder::read(folder) {
        Ok(found) => found,
        Err(why) => return Answer::NotNow(format!("the conditions in {} can not be read: {why}", folder.display())),
    };
    for deaf in warned.news(job, found.deaf) {
        let (file, remedy) = (deaf.path.display(), deaf.remedy());
        tracing::warn!(%file, remedy, "a condition of updates is not asked: {}", deaf.why());
    }
    for program in found.programs {
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

    async fn asked(folder: &Path, patience: Duration) -> Answer {
        ask(folder, patience, "1-a", &manifest(), &Warned::default()).await
    }

    #[tokio::test]
    async fn what_is_not_asked_is_told_once_a_job_and_holds_nothing_back() {
        let (home, warned) = (tempfile::tempdir().unwrap(), Warned::default());
        std::fs::write(home.path().join("10-power"), "#!/bin/sh\nexit 1\n").unwrap();
        std::fs::write(home.path().join("README"), "not executable").unwrap();
        script(home.path(), "idle.sh", "exit 1");
        assert_eq!(asked(home.path(), Duration::from_secs(10)).await, Answer::Yes);
        let news = |job: &str| warned.news(job, Folder::read(home.path()).unwrap().deaf).len();
        assert_eq!((news("1-a"), news("1-a")), (2, 0), "not each minute again");
        script(home.path(), "late.sh", "exit 1");
        assert_eq!((news("1-a"), news("1-a"), news("2-b")), (1, 0, 3), "what is new, and another job");
    }

    #[tokio::test]
    async fn all_must_say_yes_and_who_does_not_is_named() {
        let home = tempfile::tempdir().unwrap();
        let ask = async || asked(home.path(), Duration::from_secs(10)).await;
        assert_eq!(asked(&home.path().join("none"), Duration::from_secs(1)).await, Answer::Yes);
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
            let answer = asked(home.path(), Duration::from_secs(2)).await;
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
        let answer = asked(home.path(), Duration::from_millis(200)).await;
        assert!(matches!(answer, Answer::NotNow(words) if words.contains("within 200ms")));
    }
}
