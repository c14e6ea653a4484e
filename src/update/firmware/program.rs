//! Runs one step of a firmware program: in a process group of its own, with a dead-line, its words bounded, one run at a time.
//!
//! Its standard input is the locked file: a run that outlives this process keeps the lock, so that the next one waits for
//! its end instead of writing the same flash beside it.

use crate::update::Tell;
use crate::yaml::fields::is_invisible;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep_until};

/// Lines that are kept, the first ones.
const LINES: usize = 64;
/// A longer line is cut there.
const LONGEST: usize = 512;
/// How long words may still come when the program itself has ended.
const DRAIN: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(100);
const BUS: &str = "DBUS_SYSTEM_BUS_ADDRESS";

/// What is run.
pub(super) struct Call<'a> {
    pub program: &'a Path,
    pub step: &'a str,
    pub environment: Vec<(&'static str, String)>,
    pub lock: PathBuf,
    pub within: Duration,
}

/// What it said.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// `None`: ended by a signal.
    pub status: Option<i32>,
    pub signal: Option<i32>,
    /// Of standard output, without progress.
    pub lines: Vec<String>,
    /// The last line of standard error, else of standard output.
    pub words: String,
}

/// The whole group goes with it: what a program leaves behind holds the flash.
pub(in crate::update) struct Group(Option<Pid>);

impl Group {
    pub(in crate::update) fn of(leader: &tokio::process::Child) -> Group {
        Group(leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Best effort: mostly nobody is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// # Errors
/// In words: it can not be started, or takes too long. It is ended then.
pub(super) async fn run(call: &Call<'_>, tell: &dyn Tell) -> Result<Said, String> {
    let deadline = Instant::now() + call.within;
    let lock = locked(call, deadline).await?;
    let mut child = Command::new(call.program)
        .arg(call.step)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        // Where the system's bus is, if not where it is always.
        .envs(std::env::var_os(BUS).map(|value| (BUS, value)))
        .envs(call.environment.iter().map(|(key, value)| (key, value)))
        .current_dir("/")
        .stdin(Stdio::from(lock))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("can not be started: {error}{}", remedy(&error)))?;
    let group = Group::of(&child);
    let mut said = Said::default();
    let (mut out, mut err) = (Words::of(child.stdout.take()), Words::of(child.stderr.take()));
    let (mut complained, mut ended, mut limit) = (String::new(), None, deadline);
    while ended.is_none() || out.open() || err.open() {
        tokio::select! {
            line = out.line(), if out.open() => said.hear(line, tell),
            line = err.line(), if err.open() => complained = line.filter(|line| !line.is_empty()).unwrap_or(complained),
            status = child.wait(), if ended.is_none() => {
                ended = Some(status.map_err(|error| error.to_string())?);
                // Its last words are in the pipe; a helper that it left may hold that open for ever.
                limit = limit.min(Instant::now() + DRAIN);
            }
            () = sleep_until(limit) => break,
        }
    }
    drop(group);
    let Some(status) = ended else { return Err(format!("it took longer than {:?} and was ended", call.within)) };
    said.status = status.code();
    said.signal = status.signal();
    if !complained.is_empty() {
        said.words = complained;
    }
    Ok(said)
}

/// The program is there, belongs to root and may be executed: what the kernel misses then is in its first line.
fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "; the interpreter that its first line names is not there, or that line ends with a carriage return"
        }
        std::io::ErrorKind::PermissionDenied => "; is its file system mounted noexec?",
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            "; a script begins with a line as #!/bin/sh, and a program is built for this processor"
        }
        _ => "",
    }
}

impl Said {
    fn hear(&mut self, line: Option<String>, tell: &dyn Tell) {
        let Some(line) = line.filter(|line| !line.is_empty()) else { return };
        if let Some((percent, words)) = progress(&line) {
            tell.tell(percent, words);
            return;
        }
        if self.lines.len() < LINES {
            self.lines.push(line.clone());
        }
        self.words = line;
    }
}

/// `progress 35 writing slot B`; a number out of range is the nearest that is in it.
fn progress(line: &str) -> Option<(u8, &str)> {
    let rest = line.strip_prefix("progress ")?;
    let (percent, words) = rest.split_once(' ').unwrap_or((rest, ""));
    let percent = percent.trim_end_matches('%').parse::<f32>().ok().filter(|percent| !percent.is_nan())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    Some((percent.clamp(0.0, 100.0) as u8, words.trim()))
}

/// Lines of a pipe. Bounded, whatever comes; waiting for one may be given up at any time.
struct Words<R> {
    pipe: Option<BufReader<R>>,
    part: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Words<R> {
    fn of(pipe: Option<R>) -> Words<R> {
        Words { pipe: pipe.map(BufReader::new), part: Vec::new() }
    }

    fn open(&self) -> bool {
        self.pipe.is_some()
    }

    /// The next line; `None` at the end.
    async fn line(&mut self) -> Option<String> {
        loop {
            let pipe = self.pipe.as_mut()?;
            let bytes = pipe.fill_buf().await.unwrap_or_default();
            if bytes.is_empty() {
                self.pipe = None;
                let last = self.take();
                return (!last.is_empty()).then_some(last);
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let room = LONGEST.saturating_sub(self.part.len());
            self.part.extend(bytes[..end.unwrap_or(bytes.len())].iter().take(room));
            let used = end.map_or(bytes.len(), |end| end + 1);
            pipe.consume(used);
            if end.is_some() {
                return Some(self.take());
            }
        }
    }

    fn take(&mut self) -> String {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.part)).trim().to_owned();
        line.chars().filter(|c| !c.is_control() && !is_invisible(*c)).collect()
    }
}

/// The file that says that it runs: waited for while an earlier run still holds it.
async fn locked(call: &Call<'_>, deadline: Instant) -> Result<File, String> {
    let told = |error: &dyn std::fmt::Display| format!("lock {}: {error}", call.lock.display());
    let file = File::options().read(true).append(true).create(true).mode(0o600).open(&call.lock);
    let file = file.map_err(|error| told(&error))?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            Err(rustix::io::Errno::WOULDBLOCK) => return Err("an earlier run of it has not ended".to_owned()),
            Err(error) => return Err(told(&error)),
        }
    }
}
