//! PURE. How far a long piece of work is. The work counts, somebody else looks; neither waits for the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    #[default]
    Bytes,
    Things,
}

/// Handed to the work. The default is looked at by nobody, and costs nothing.
#[derive(Clone, Debug, Default)]
pub struct Progress(Option<Arc<State>>);

#[derive(Debug, Default)]
struct State {
    step: Mutex<Step>,
    done: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    name: &'static str,
    total: u64,
    unit: Unit,
    number: u32,
}

/// What is seen of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// "" before the first step.
    pub step: &'static str,
    /// 0: nobody knows how much it will be.
    pub total: u64,
    /// At most `total`, where that is known.
    pub done: u64,
    pub unit: Unit,
    /// Steps so far: another number is another step, even of the same name.
    pub number: u32,
}

/// Steps of an installation by a gateway, which tells them to whoever waits.
pub const INSTALLING: &[&str] =
    &["unpacking", "packing", "taking over", "verifying", "reading", "checking", "preparing", "switching"];

impl Progress {
    /// Whether anybody looks at it.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        self.0.is_some()
    }

    /// One that can be looked at.
    #[must_use]
    pub fn seen() -> Progress {
        Progress(Some(Arc::default()))
    }

    /// The next step begins; `total` 0 when nobody knows how much it will be.
    pub fn step(&self, name: &'static str, total: u64, unit: Unit) {
        let Some(state) = &self.0 else { return };
        // A step is whole at any time.
        let mut step = state.step.lock().unwrap_or_else(PoisonError::into_inner);
        *step = Step { name, total, unit, number: step.number.wrapping_add(1) };
        state.done.store(0, Ordering::Relaxed);
    }

    /// So much more of the step is done.
    pub fn add(&self, more: u64) {
        if let Some(state) = &self.0 {
            state.done.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// So much of the step is done in all, as when a transfer goes on where it broke.
    pub fn set(&self, done: u64) {
        if let Some(state) = &self.0 {
            state.done.store(done, Ordering::Relaxed);
        }
    }

    #[must_use]
    pub fn look(&self) -> Look {
        let Some(state) = &self.0 else { return Look::default() };
        let step = *state.step.lock().unwrap_or_else(PoisonError::into_inner);
        let done = state.done.load(Ordering::Relaxed);
        let done = if step.total > 0 { done.min(step.total) } else { done };
        Look { step: step.name, total: step.total, done, unit: step.unit, number: step.number }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_never_shows_more_than_all() {
        let progress = Progress::seen();
        assert_eq!(progress.look(), Look::default());
        progress.step("unpacking", 100, Unit::Bytes);
        progress.clone().add(70);
        assert_eq!((progress.look().done, progress.look().total), (70, 100));
        progress.add(70);
        assert_eq!(progress.look().done, 100);
        progress.step("unpacking", 0, Unit::Things);
        progress.set(250);
        assert_eq!(progress.look(), Look { step: "unpacking", total: 0, done: 250, unit: Unit::Things, number: 2 });
    }

    #[test]
    fn one_that_nobody_sees_counts_nothing() {
        let progress = Progress::default();
        progress.step("x", 1, Unit::Bytes);
        progress.add(1);
        assert_eq!(progress.look(), Look::default());
    }
}
