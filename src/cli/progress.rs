//! A bar for long work: on the standard error of a terminal only. Pipes, `--json` and `--quiet` see nothing of it.
//!
//! The work gets a [`Progress`] and counts; a thread looks at it a few times a second and draws.

use super::terminal::{cut, grouped};
use crate::model::progress::{Look, Progress, Unit};
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Work that is done sooner draws nothing.
const PATIENCE: Duration = Duration::from_millis(700);
const REDRAWN: Duration = Duration::from_millis(150);
/// A rate over less says nothing.
const SETTLED: Duration = Duration::from_millis(500);
const BAR: usize = 24;

/// Runs `work`. On a terminal a bar shows how far it is, unless `quiet`.
pub(super) fn with_bar<T>(verb: &'static str, quiet: bool, work: impl FnOnce(&Progress) -> T) -> T {
    Screen::open(quiet).during(verb, work)
}

/// Where bars are drawn, if anywhere. Lines that are printed meanwhile go through [`Screen::say`].
pub(super) struct Screen {
    /// Whether a bar stands on the line of the cursor; `None`: no terminal.
    drawn: Option<Mutex<bool>>,
}

impl Screen {
    pub(super) fn open(quiet: bool) -> Screen {
        Screen { drawn: (!quiet && std::io::stderr().is_terminal()).then(|| Mutex::new(false)) }
    }

    pub(super) fn during<T>(&self, verb: &'static str, work: impl FnOnce(&Progress) -> T) -> T {
        let Some(drawn) = &self.drawn else { return work(&Progress::default()) };
        let progress = Progress::seen();
        // One message, sent when the work is done or has panicked; nobody waits for room.
        let (done, waiting) = sync_channel::<()>(1);
        std::thread::scope(|scope| {
            let looked_at = progress.clone();
            scope.spawn(move || {
                let mut pace = Pace::new(verb, Instant::now());
                let mut wait = PATIENCE;
                while waiting.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    let line = pace.line(&looked_at.look(), Instant::now());
                    draw(drawn, &line);
                    wait = REDRAWN;
                }
                clear(drawn);
            });
            let result = work(&progress);
            drop(done);
            result
        })
    }

    /// Prints a line of the answer above the bar.
    pub(super) fn say(&self, text: &str) {
        match &self.drawn {
            None => super::terminal::say(text),
            Some(drawn) => {
                let mut drawn = drawn.lock().unwrap_or_else(PoisonError::into_inner);
                wipe(&mut drawn);
                super::terminal::say(text);
            }
        }
    }
}

fn draw(drawn: &Mutex<bool>, line: &str) {
    let mut drawn = drawn.lock().unwrap_or_else(PoisonError::into_inner);
    // A terminal that is gone is nobody's fault: the work goes on.
    let _ = write!(std::io::stderr(), "\r{}\x1b[K", cut(line, columns()));
    *drawn = true;
}

fn clear(drawn: &Mutex<bool>) {
    wipe(&mut drawn.lock().unwrap_or_else(PoisonError::into_inner));
}

fn wipe(drawn: &mut bool) {
    if std::mem::take(drawn) {
        // As above.
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

/// One less than the terminal has: a full line would wrap.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(80, |size| usize::from(size.ws_col));
    if size < 20 { 79 } else { size - 1 }
}

/// Since when the step is under way, and so how fast.
struct Pace {
    verb: &'static str,
    began: Instant,
    number: u32,
    step_began: Instant,
    /// Done when the step was first seen: what a transfer had before is no speed.
    from: u64,
}

impl Pace {
    fn new(verb: &'static str, now: Instant) -> Pace {
        Pace { verb, began: now, number: 0, step_began: now, from: 0 }
    }

    fn line(&mut self, look: &Look, now: Instant) -> String {
        if look.number != self.number {
            // The first step began with the work, not with the first look at it.
            let first = self.number == 0 && look.number == 1;
            (self.number, self.step_began) = (look.number, if first { self.began } else { now });
            self.from = if first { 0 } else { look.done };
        }
        let name = if look.step.is_empty() { self.verb } else { look.step };
        let elapsed = now.saturating_duration_since(self.step_began);
        let rate = rate(look.done.saturating_sub(self.from), elapsed);
        if look.total == 0 {
            let done = if look.done > 0 { format!("  {}", amount(look.done, look.unit)) } else { String::new() };
            return format!(
                "{name}{done}{}  {}",
                speed(rate, look.unit),
                time(now.saturating_duration_since(self.began))
            );
        }
        let left = rate
            .map(|rate| Duration::try_from_secs_f64((look.total - look.done) as f64 / rate).unwrap_or(Duration::MAX));
        let left = left.map_or(String::new(), |left| format!("  {} left", time(left)));
        let filled = share(look.done, look.total, BAR as u64) as usize;
        let percent = share(look.done, look.total, 100);
        let bar = format!("{}{}", "#".repeat(filled), "-".repeat(BAR - filled));
        format!("{name} [{bar}] {percent:>3} %{}{left}", speed(rate, look.unit))
    }
}

/// `done` of `total`, in `parts`.
fn share(done: u64, total: u64, parts: u64) -> u64 {
    u64::try_from(u128::from(done.min(total)) * u128::from(parts) / u128::from(total.max(1))).unwrap_or(parts)
}

/// In a second; `None` while there is nothing to judge by.
fn rate(done: u64, elapsed: Duration) -> Option<f64> {
    (done > 0 && elapsed >= SETTLED).then(|| done as f64 / elapsed.as_secs_f64())
}

fn speed(rate: Option<f64>, unit: Unit) -> String {
    rate.map_or(String::new(), |rate| format!("  {}/s", amount(rate as u64, unit)))
}

fn amount(count: u64, unit: Unit) -> String {
    let tenths = |size: u64, name: &str| format!("{}.{} {name}", count / size, count % size * 10 / size);
    match unit {
        Unit::Things => grouped(count),
        Unit::Bytes if count < 1000 => format!("{count} B"),
        Unit::Bytes if count < 1_000_000 => tenths(1000, "kB"),
        Unit::Bytes if count < 1_000_000_000 => tenths(1_000_000, "MB"),
        Unit::Bytes => tenths(1_000_000_000, "GB"),
    }
}

fn time(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds < 60 => format!("{seconds} s"),
        seconds if seconds < 3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} min", (seconds / 3600).min(9999), seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(done: u64, total: u64, unit: Unit, number: u32) -> Look {
        Look { step: "packing", total, done, unit, number }
    }

    #[test]
    fn a_bar_says_share_rate_and_time_left() {
        let began = Instant::now();
        let mut pace = Pace::new("building", began);
        let after = |seconds| began + Duration::from_secs(seconds);
        let half = pace.line(&look(5_000_000, 10_000_000, Unit::Bytes, 1), after(2));
        assert_eq!(half, "packing [############------------]  50 %  2.5 MB/s  2 s left");
        let all = pace.line(&look(10_000_000, 10_000_000, Unit::Bytes, 1), after(4));
        assert_eq!(all, "packing [########################] 100 %  2.5 MB/s  0 s left");
        // A step that is first seen half way, as a transfer that goes on: only what came since is speed.
        assert_eq!(pace.line(&look(600, 1000, Unit::Things, 2), after(5)), "packing [##############----------]  60 %");
        let on = pace.line(&look(700, 1000, Unit::Things, 2), after(6));
        assert_eq!(on, "packing [################--------]  70 %  100/s  3 s left");
    }

    #[test]
    fn work_of_unknown_size_says_how_long_it_has_been() {
        let began = Instant::now();
        let mut pace = Pace::new("installing", began);
        assert_eq!(pace.line(&Look::default(), began + Duration::from_secs(75)), "installing  1 min 15 s");
        let counted = pace.line(&look(2048, 0, Unit::Bytes, 1), began + Duration::from_secs(4000));
        assert_eq!(counted, "packing  2.0 kB  0 B/s  1 h 06 min");
    }

    #[test]
    fn no_number_is_too_large_for_a_bar() {
        let began = Instant::now();
        let line = Pace::new("x", began).line(&look(u64::MAX, u64::MAX, Unit::Bytes, 1), began);
        assert!(line.contains("100 %"), "{line}");
        let slow = Pace::new("x", began).line(&look(1, u64::MAX, Unit::Things, 1), began + Duration::from_secs(60));
        assert!(slow.contains("left"), "{slow}");
    }

    #[test]
    fn what_the_work_answers_comes_back_and_a_pipe_sees_no_bar() {
        // Tests have no terminal: the work is handed a progress nobody looks at.
        let seen = with_bar("testing", false, |progress| {
            progress.step("a", 1, Unit::Things);
            progress.add(1);
            progress.look()
        });
        assert_eq!(seen, Look::default());
    }
}
