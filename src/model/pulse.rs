//! PURE. By when a part of the daemon means to be back: what the watchdog looks at.
//!
//! A part says so before it waits or calls somebody, and again after that. It never has to wake up for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

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
