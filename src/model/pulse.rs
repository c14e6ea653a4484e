//! PURE. By when a part of the daemon means to be back: what the watchdog looks at.
//!
//! A part says so before it waits or calls somebody, and again after that. It never has to wake up for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Something is ready, nothing is under way and nothing is waited for: so long that is not taken for a fault.
pub const STANDSTILL: Duration = Duration::from_secs(300);

/// What a part said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It waits for somebody else, for ever if need be.
    #[default]
    Resting,
    /// It will have got on by then. Said once more, with another moment, it has.
    Back(Instant),
    /// It came to an end that nobody asked for.
    Ended,
}

/// Written by one part, read by the watchdog.
#[derive(Debug, Default)]
pub struct Pulse {
    standing: Mutex<Standing>,
    inside: AtomicBool,
}

impl Pulse {
    pub fn rests(&self) {
        *self.lock() = Standing::Resting;
    }

    pub fn back_by(&self, at: Instant) {
        *self.lock() = Standing::Back(at);
    }

    #[must_use]
    pub fn standing(&self) -> Standing {
        *self.lock()
    }

    /// Around code that is not ours, which may keep the thread it runs on.
    pub fn within<T>(&self, foreign: impl FnOnce() -> T) -> T {
        self.inside.store(true, Ordering::Relaxed);
        let result = foreign();
        self.inside.store(false, Ordering::Relaxed);
        result
    }

    /// Foreign code runs at this moment.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.inside.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        // It is replaced as a whole.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of a link and of what is sent with it. A server that is out of reach is no hang of either.
#[derive(Clone, Debug, Default)]
pub struct LinkPulses {
    pub link: Arc<Pulse>,
    pub flow: Arc<Pulse>,
}

impl LinkPulses {
    /// The link means to get on within this time from now on.
    pub fn back_in(&self, now: Instant, time: Duration) {
        match now.checked_add(time) {
            Some(at) => self.link.back_by(at),
            None => self.link.rests(),
        }
    }

    /// Whether what is ready moves: `idle` when nothing is ready, or something is under way, which has its own patience.
    /// Until `wake` it waits by intention.
    pub fn tell_flow(&self, idle: bool, wake: Option<Instant>, now: Instant) {
        if idle {
            self.flow.rests();
        } else if let Some(at) = wake {
            self.flow.back_by(at + STANDSTILL);
        } else if self.flow.standing() == Standing::Resting {
            self.flow.back_by(now + STANDSTILL);
        }
    }
}

/// Held by the part itself: gone with it, also in a panic, it tells the watchdog.
#[derive(Debug)]
pub struct OnDuty(Arc<Pulse>);

impl OnDuty {
    #[must_use]
    pub fn new(pulse: &Arc<Pulse>) -> OnDuty {
        OnDuty(Arc::clone(pulse))
    }

    #[must_use]
    pub fn pulse(&self) -> &Pulse {
        &self.0
    }

    /// The part ends as it should.
    pub fn done(self) {
        let pulse = Arc::clone(&self.0);
        drop(self);
        pulse.rests();
    }
}

impl Drop for OnDuty {
    fn drop(&mut self) {
        *self.0.lock() = Standing::Ended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ready_and_does_not_move_is_late_once_and_what_is_under_way_is_not() {
        let (pulses, now) = (LinkPulses::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        pulses.tell_flow(false, None, now);
        pulses.tell_flow(false, None, at(100));
        assert_eq!(
            pulses.flow.standing(),
            Standing::Back(now + STANDSTILL),
            "it says no new moment without getting on"
        );
        pulses.tell_flow(false, Some(at(200)), at(100));
        assert_eq!(pulses.flow.standing(), Standing::Back(at(200) + STANDSTILL), "a pace is no hang");
        pulses.tell_flow(true, None, at(100));
        assert_eq!(pulses.flow.standing(), Standing::Resting);
        pulses.back_in(now, Duration::MAX);
        assert_eq!(pulses.link.standing(), Standing::Resting);
    }

    #[test]
    fn a_part_that_panics_has_ended_and_one_that_is_done_rests() {
        let pulse = Arc::new(Pulse::default());
        let duty = OnDuty::new(&pulse);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _duty = duty;
            panic!("in the middle");
        }));
        assert!(panicked.is_err());
        assert_eq!(pulse.standing(), Standing::Ended);
        OnDuty::new(&pulse).done();
        assert_eq!(pulse.standing(), Standing::Resting);
    }
}
