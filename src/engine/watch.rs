//! PURE. Watches one start of an engine on trial: ready in time, alive, within its window, the disk not filled. Time is
//! an argument, counted from the start.

use std::time::Duration;

/// An engine that beats at all misses its beat after this part of the systemd watchdog's time, so that the launcher acts
/// before systemd does.
const BEAT_PART: (u32, u32) = (9, 10);

/// So long it may take to stop in order.
const IN_ORDER: Duration = crate::shutdown::WHOLE;
const FILLING: Duration = Duration::from_secs(5);
const NO_LIFE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct Limits {
    pub version: String,
    pub ready: Duration,
    /// What is left of the trial's window.
    pub window: Duration,
    /// `WATCHDOG_USEC` of the unit.
    pub watchdog: Option<Duration>,
    pub floor_bytes: u64,
}

/// One start under watch.
#[derive(Debug)]
pub struct Watch {
    limits: Limits,
    ready: bool,
    beat: Option<Duration>,
    /// Until then it may take its time, by its own word.
    extended: Duration,
}

/// What an engine said on its notify socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub ready: bool,
    pub beat: bool,
    pub extend: Option<Duration>,
}

impl Said {
    /// One datagram of sd_notify(3).
    #[must_use]
    pub fn read(text: &str) -> Said {
        let extend = text.lines().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
        Said {
            ready: text.lines().any(|line| line == "READY=1"),
            beat: text.lines().any(|line| line == "WATCHDOG=1"),
            extend: extend.and_then(|usec| usec.parse().ok()).map(Duration::from_micros),
        }
    }
}

impl Watch {
    #[must_use]
    pub fn new(limits: Limits) -> Watch {
        Watch { limits, ready: false, beat: None, extended: Duration::ZERO }
    }

    pub fn said(&mut self, now: Duration, said: Said) {
        self.ready |= said.ready;
        if said.ready || said.beat {
            self.beat = Some(now);
        }
        if let Some(more) = said.extend {
            // A start that is migrating may ask for time, and never for more than there is.
            self.extended = self.extended.max(now.saturating_add(more));
        }
    }

    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// How long an engine that must go gets to store what it holds: next to nothing when it shows no life, little when
    /// it fills the disk.
    #[must_use]
    pub fn grace(&self, now: Duration, free: Option<u64>) -> Duration {
        let fills = free.is_some_and(|free| free < self.limits.floor_bytes);
        match (self.ready && self.silence(now).is_none(), fills) {
            (false, _) => NO_LIFE,
            (true, true) => FILLING,
            (true, false) => IN_ORDER,
        }
    }

    /// For how long it has shown no life, when that is too long.
    fn silence(&self, now: Duration) -> Option<Duration> {
        let patience = self.limits.watchdog? * BEAT_PART.0 / BEAT_PART.1;
        Some(now.saturating_sub(self.beat?)).filter(|silent| *silent >= patience)
    }

    /// Why it must go; `None` while it may stay. `free`: bytes of the state folder's file system.
    #[must_use]
    pub fn fault(&self, now: Duration, free: Option<u64>) -> Option<String> {
        let (limits, version) = (&self.limits, &self.limits.version);
        if now >= limits.window {
            return Some(format!("engine {version} has not proven itself within its time"));
        }
        if !self.ready && now >= limits.ready.max(self.extended) {
            return Some(format!("engine {version} was not ready within {} s", limits.ready.as_secs()));
        }
        if let Some(free) = free.filter(|free| *free < limits.floor_bytes) {
            return Some(format!("engine {version} left {free} bytes on the disk, fewer than {}", limits.floor_bytes));
        }
        let silent = self.silence(now)?;
        Some(format!("engine {version} hangs: no sign of life for {} s", silent.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn watch() -> Watch {
        let version = "2.0.0".to_owned();
        Watch::new(Limits { version, ready: 30 * S, window: 600 * S, watchdog: Some(20 * S), floor_bytes: 100 })
    }

    fn beat() -> Said {
        Said::read("STATUS=fine\nWATCHDOG=1\n")
    }

    #[test]
    fn never_ready_hanging_filling_and_too_long_are_told_apart() {
        let mut one = watch();
        assert_eq!(one.fault(29 * S, Some(100)), None);
        assert!(one.fault(30 * S, None).unwrap().contains("not ready within 30 s"));
        one.said(29 * S, Said::read("READY=1"));
        assert!(one.is_ready());
        assert_eq!(one.fault(46 * S, None), None);
        assert!(one.fault(47 * S, None).unwrap().contains("hangs"));
        assert_eq!([30u32, 47].map(|at| one.grace(S * at, None)), [IN_ORDER, NO_LIFE]);
        assert_eq!(one.grace(30 * S, Some(99)), FILLING);
        one.said(46 * S, beat());
        assert_eq!(one.fault(60 * S, None), None);
        assert!(one.fault(60 * S, Some(99)).unwrap().contains("left 99 bytes"));
        one.said(599 * S, beat());
        assert!(one.fault(600 * S, None).unwrap().contains("not proven itself"));
    }

    #[test]
    fn an_engine_that_asks_for_time_gets_it_within_the_window() {
        let mut one = watch();
        one.said(20 * S, Said::read("EXTEND_TIMEOUT_USEC=60000000"));
        assert_eq!(one.fault(79 * S, None), None);
        assert!(one.fault(80 * S, None).unwrap().contains("not ready"));
        one.said(80 * S, Said::read("EXTEND_TIMEOUT_USEC=18446744073709551615"));
        assert!(one.fault(600 * S, None).is_some(), "the window holds whatever it says");
        assert_eq!(Said::read("XREADY=1\nREADY=0"), Said::default());
    }
}
