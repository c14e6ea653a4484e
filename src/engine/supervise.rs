//! Runs an engine on trial as a child: passes signals on, hears what it tells systemd, and ends it when it must go.
//!
//! The child has a notify socket of the launcher's, so that the unit needs no more than `NotifyAccess=main`; what systemd
//! may hear is passed on. It dies with the launcher, whatever kills that.

use super::watch::{Limits, Said, Watch};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

/// How often the trial is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Somebody asked for the end: whoever that is, as systemd, has a limit of his own, and this one lies beyond it.
const ASKED: Duration = Duration::from_secs(60);
/// systemd is told that the launcher is alive while an engine is ending.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// Largest datagram an engine sends.
const DATAGRAM: usize = 4096;

/// What is started.
pub struct Program<'a> {
    /// This program: it starts the child so that the child dies with the launcher.
    pub own: PathBuf,
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    /// What its environment says of its place.
    pub slot: &'static str,
    pub packaged: &'a str,
    pub scratch: PathBuf,
    /// Where the notify socket is made.
    pub socket: PathBuf,
}

/// The launcher's side of a trial while the child lives.
pub trait Eyes {
    /// Free bytes for the state folder; `None` when nobody knows.
    fn free(&self) -> Option<u64>;
    /// What the pointer says by now.
    fn standing(&self) -> Standing;
    /// What the engine needlessly wrote is taken away, so that there is room for what it holds.
    fn make_room(&self);
    /// So much running time was used up, to be written down now and then.
    fn ran(&mut self, ran: Duration);
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    OnTrial,
    /// Confirmed: it is a child like any engine is systemd's.
    Passed,
    Failed(String),
    /// Somebody chose another engine meanwhile.
    Chosen,
}

/// How a start ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself, with this status.
    Itself(ExitStatus),
    /// Somebody told the launcher to stop, and it did.
    Asked(ExitStatus),
    /// It had to go.
    Put(String),
}

/// Starts the child and stays until it is gone.
///
/// # Errors
/// When it can not be started, or not be watched.
pub async fn supervise(
    program: &Program<'_>,
    limits: Limits,
    eyes: &mut dyn Eyes,
    signals: &mut Signals,
) -> io::Result<Ended> {
    let ears = Ears::open(&program.socket)?;
    let began = Instant::now();
    let mut child = start(program)?;
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut watch = Watch::new(limits);
    let mut passed = false;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        tokio::select! {
            status = child.wait() => {
                eyes.ran(began.elapsed());
                break match eyes.standing() {
                    Standing::Failed(why) => Ended::Put(why),
                    _ => Ended::Itself(status?),
                };
            }
            asked = signals.next() => {
                let status = end(&mut child, asked, ASKED).await?;
                eyes.ran(began.elapsed());
                break Ended::Asked(status);
            }
            said = ears.next() => watch.said(began.elapsed(), said),
            _ = look.tick(), if !passed => {
                eyes.ran(began.elapsed());
                let why = match eyes.standing() {
                    Standing::Passed => {
                        passed = true;
                        None
                    }
                    Standing::Failed(why) => Some(why),
                    Standing::Chosen => Some("another engine was chosen".to_owned()),
                    Standing::OnTrial => watch.fault(began.elapsed(), eyes.free()),
                };
                if let Some(why) = why {
                    let grace = watch.grace(began.elapsed(), eyes.free());
                    eyes.make_room();
                    // The one before needs its time to start.
                    tell(&[extend(grace + ASKED)]);
                    end(&mut child, Signal::TERM, grace).await?;
                    eyes.ran(began.elapsed());
                    break Ended::Put(why);
                }
            }
        }
    };
    // What it may have started and left behind goes with it. Best effort: mostly there is nobody any more.
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    Ok(ended)
}

/// Asks systemd for time.
pub(super) fn extend(more: Duration) -> sd_notify::NotifyState<'static> {
    sd_notify::NotifyState::ExtendTimeoutUsec(u32::try_from(more.as_micros()).unwrap_or(u32::MAX))
}

pub(super) fn tell(states: &[sd_notify::NotifyState<'_>]) {
    // Best effort: without systemd nobody listens.
    let _ = sd_notify::notify(states);
}

fn start(program: &Program<'_>) -> io::Result<Child> {
    let mut command = Command::new(&program.own);
    command
        .arg(CHILD_COMMAND)
        .arg(std::process::id().to_string())
        .arg(&program.path)
        .args(&program.arguments)
        .env("NOTIFY_SOCKET", &program.socket)
        // Names the launcher, which is not who beats.
        .env_remove("WATCHDOG_PID")
        .env(super::SLOT_VARIABLE, program.slot)
        .env(super::LAUNCHER_VARIABLE, program.packaged)
        .env("TMPDIR", &program.scratch)
        .process_group(0)
        .kill_on_drop(true);
    command.spawn()
}

/// The hidden command that becomes the engine: `CHILD_COMMAND PARENT PROGRAM ARGUMENTS…`.
pub const CHILD_COMMAND: &str = "become";

/// Becomes the engine on trial. Comes back only when that fails.
pub fn become_engine(parent: u32, program: &Path, arguments: &[OsString]) -> io::Error {
    use std::os::unix::process::CommandExt;
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // It may have died before the line above.
    if rustix::process::getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get().unsigned_abs()) != Some(parent) {
        return io::Error::other("the launcher is gone");
    }
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    if std::env::var_os("LISTEN_FDS").is_some() {
        // sd_listen_fds(3) looks whether the sockets are meant for this very process.
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    command.exec()
}

/// Asks the child to end, and insists when it does not.
async fn end(child: &mut Child, asked: Signal, grace: Duration) -> io::Result<ExitStatus> {
    if let Some(pid) = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
        // It may have gone this very moment.
        let _ = rustix::process::kill_process(pid, asked);
    }
    let until = Instant::now() + grace;
    while Instant::now() < until {
        tell(&[sd_notify::NotifyState::Watchdog]);
        if let Ok(status) = tokio::time::timeout(SIGN_OF_LIFE, child.wait()).await {
            return status;
        }
    }
    child.kill().await?;
    child.wait().await
}

/// Signals that are passed on, heard from the first trial on: one that comes between two starts is not lost.
pub struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    /// A closed terminal or a log rotation must not stop a gateway.
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    /// # Errors
    /// When the process can not watch for signals.
    pub fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Cancel-safe.
    pub async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Signal::TERM,
                _ = self.interrupt.recv() => return Signal::INT,
                _ = self.hangup.recv() => {}
            }
        }
    }
}

/// What the child tells systemd, heard and passed on.
struct Ears {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Ears {
    fn open(path: &Path) -> io::Result<Ears> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Ears { socket: UnixDatagram::bind(path)?, path: path.to_owned() })
    }

    /// Cancel-safe.
    async fn next(&self) -> Said {
        let mut bytes = [0; DATAGRAM];
        let Ok(length) = self.socket.recv(&mut bytes).await else {
            // Nothing more will come; the limits of the trial hold all the same.
            return std::future::pending().await;
        };
        let text = String::from_utf8_lossy(&bytes[..length]);
        pass_on(&text);
        Said::read(&text)
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        // Best effort: the next trial replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// STOPPING is not passed on: for systemd the service goes on, with the engine before. Nor is MAINPID: the launcher is it.
fn pass_on(text: &str) {
    for line in text.lines() {
        match line.split_once('=') {
            Some(("READY", "1")) => tell(&[sd_notify::NotifyState::Ready]),
            Some(("WATCHDOG", "1")) => tell(&[sd_notify::NotifyState::Watchdog]),
            Some(("STATUS", words)) => tell(&[sd_notify::NotifyState::Status(words)]),
            Some(("EXTEND_TIMEOUT_USEC", usec)) => {
                if let Ok(usec) = usec.parse() {
                    tell(&[sd_notify::NotifyState::ExtendTimeoutUsec(usec)]);
                }
            }
            _ => {}
        }
    }
}
