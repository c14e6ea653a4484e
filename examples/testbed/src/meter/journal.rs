//! When registers were given out: what a crash test holds against the moment of a kill.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Answers remembered. Beyond that nothing is noted, and readings without a time count as lost beyond every bound.
const MOST: usize = 4 << 20;

/// One answer with holding registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    pub unit: u8,
    pub first: u16,
    pub count: u16,
    /// Milliseconds since 1970.
    pub at: i64,
}

impl Given {
    #[must_use]
    pub fn holds(&self, unit: u8, address: u16) -> bool {
        self.unit == unit
            && (u32::from(self.first)..u32::from(self.first) + u32::from(self.count)).contains(&address.into())
    }
}

/// One register or coil that a request wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub unit: u8,
    pub address: u16,
    pub value: u16,
}

/// Off until somebody wants it.
#[derive(Debug, Default)]
pub(super) struct Journal {
    on: AtomicBool,
    given: Mutex<Vec<Given>>,
    written: Mutex<Vec<Written>>,
}

impl Journal {
    pub(super) fn keep(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    pub(super) fn note(&self, unit: u8, first: u16, count: u16) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() < MOST {
            given.push(Given { unit, first, count, at });
        }
    }

    pub(super) fn note_write(&self, unit: u8, address: u16, value: u16) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if self.on.load(Ordering::Relaxed) && written.len() < MOST {
            written.push(Written { unit, address, value });
        }
    }

    pub(super) fn writes(&self) -> Vec<Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn all(&self) -> Vec<Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_its_registers_and_no_others() {
        let given = Given { unit: 2, first: 65_500, count: 36, at: 0 };
        assert!(given.holds(2, 65_500) && given.holds(2, 65_535));
        assert!(!given.holds(2, 65_499) && !given.holds(1, 65_500));
    }

    #[test]
    fn nothing_is_noted_until_it_is_wanted() {
        let journal = Journal::default();
        journal.note(1, 0, 10);
        assert_eq!(journal.all(), []);
        journal.keep();
        journal.note(1, 0, 10);
        assert_eq!(journal.all().len(), 1);
    }
}
