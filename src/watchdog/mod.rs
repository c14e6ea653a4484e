//! Tells systemd what the daemon does, and feeds its watchdog as long as every part gets on.
//!
//! It has a thread of its own: what it watches may keep the thread that all others share.

mod judge;
mod loading;
mod round;

pub use round::{Act, Rounds, Watched};

use crate::systemd;
use loading::Loading;
use sd_notify::NotifyState;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The part that all tasks share, by its name.
pub const RUNTIME: &str = "the runtime";
/// Without a watchdog of systemd's a part that is stuck is still told of, after this time.
const LIMIT: Duration = Duration::from_secs(30);
/// The longest time between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// A log that takes nothing does not keep the watchdog from what it has to do.
const SAYING: Duration = Duration::from_secs(1);
/// It formats a line and sends a datagram.
const STACK: usize = 256 << 10;

#[derive(Clone)]
enum Phase {
    Starting(&'static str),
    Running(Arc<dyn Watched>),
    Stopping,
    Over,
}

/// Ends with the daemon.
pub struct Watchdog(Arc<Shared>);

struct Shared {
    phase: Mutex<(u64, Phase)>,
    changed: Condvar,
}

impl Watchdog {
    /// The daemon starts.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start() -> std::io::Result<Watchdog> {
        let phase = Mutex::new((0, Phase::Starting("starting")));
        let shared = Arc::new(Shared { phase, changed: Condvar::new() });
        let limit = systemd::watchdog().unwrap_or(LIMIT);
        let round = Thread { shared: Arc::clone(&shared), period: (limit / 6).min(PERIOD), limit };
        std::thread::Builder::new().name("watchdog".into()).stack_size(STACK).spawn(move || round.run())?;
        Ok(Watchdog(shared))
    }

    /// What the start is about now.
    pub fn starting(&self, what: &'static str) {
        self.enter(Phase::Starting(what));
    }

    /// It polls, or waits for something to poll.
    pub fn running(&self, watched: Arc<dyn Watched>) {
        self.enter(Phase::Running(watched));
    }

    /// It was told to stop.
    pub fn stopping(&self) {
        self.enter(Phase::Stopping);
    }

    fn enter(&self, phase: Phase) {
        let mut now = self.0.lock();
        *now = (now.0 + 1, phase);
        drop(now);
        self.0.changed.notify_one();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.enter(Phase::Over);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (u64, Phase)> {
        // It is replaced as a whole.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The phase, when it has changed since `seen` or `period` is over.
    fn next(&self, seen: u64, period: Duration) -> (u64, Phase) {
        let phase = self.lock();
        let waited = self.changed.wait_timeout_while(phase, period, |now| now.0 == seen);
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

struct Thread {
    shared: Arc<Shared>,
    period: Duration,
    limit: Duration,
}

impl Thread {
    fn run(self) {
        let mut rounds = Rounds::new(self.limit, self.period);
        let mut loading = Loading::new(Instant::now());
        let mut seen = 0;
        loop {
            let (number, phase) = self.shared.next(seen, self.period);
            let is_new = number != seen;
            seen = number;
            match phase {
                Phase::Starting(what) => starting(&mut loading, is_new.then_some(what)),
                Phase::Running(watched) => {
                    if is_new {
                        systemd::tell(&[NotifyState::Ready]);
                    }
                    rounds.look(Instant::now(), watched.as_ref()).into_iter().for_each(act);
                }
                Phase::Stopping if is_new => {
                    systemd::tell(&[NotifyState::Stopping, NotifyState::Status("stopping: what waits is stored")]);
                }
                // TimeoutStopSec= bounds it.
                Phase::Stopping => systemd::tell(&[NotifyState::Watchdog]),
                Phase::Over => return,
            }
        }
    }
}

fn starting(loading: &mut Loading, what: Option<&str>) {
    if let Some(what) = what {
        systemd::tell(&[NotifyState::Status(what)]);
    }
    // Without it no time is asked for, and the start has what the unit says.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(more) = loading.look(Instant::now(), loading::used(&stat)) {
        systemd::tell(&[NotifyState::ExtendTimeoutUsec(u32::try_from(more.as_micros()).unwrap_or(u32::MAX))]);
    }
}

fn act(act: Act) {
    match act {
        Act::Feed => systemd::tell(&[NotifyState::Watchdog]),
        Act::Status(line) => systemd::tell(&[NotifyState::Status(&line)]),
        Act::Say(words) => say(words),
        // systemd restarts us now; one that is older than 243 does when it has waited for the next sign of life.
        Act::Trigger => systemd::tell(&[NotifyState::WatchdogTrigger]),
        Act::Relief => tracing::warn!("what was stuck gets on again"),
    }
}

/// From a thread of its own, which may stay behind.
fn say(words: String) {
    // Nothing is sent: its end is the message.
    let (said, waits) = std::sync::mpsc::sync_channel::<()>(1);
    let thread = std::thread::Builder::new().name("last words".into()).stack_size(STACK);
    let spawned = thread.spawn(move || {
        tracing::error!("{words}; the watchdog is not fed until it gets on");
        drop(said);
    });
    if spawned.is_ok() {
        let _ = waits.recv_timeout(SAYING);
    }
}
