//! Who is connected to the listener for packages. Those who have not shown who they are hold a place only until somebody
//! else wants it, so that nobody is kept out by connections that say nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::task::AbortHandle;

/// Connections that have not shown who they are; the oldest of more is cut off.
const STRANGERS: usize = 32;
/// Requests of those who have, at once; a further one is told to come back.
const ADMITTED: usize = 8;

#[derive(Default)]
pub(super) struct Guests {
    last: AtomicU64,
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    strangers: VecDeque<(u64, AbortHandle)>,
    admitted: usize,
}

/// A place of one who has shown who he is.
pub(super) struct Place<'a>(&'a Guests);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().admitted -= 1;
    }
}

impl Guests {
    /// Of the next connection.
    pub fn number(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed)
    }

    pub fn enter(&self, number: u64, task: AbortHandle) {
        if task.is_finished() {
            return;
        }
        let mut seats = self.lock();
        seats.strangers.push_back((number, task));
        if seats.strangers.len() > STRANGERS
            && let Some((_, oldest)) = seats.strangers.pop_front()
        {
            oldest.abort();
        }
    }

    pub fn leave(&self, number: u64) {
        self.lock().strangers.retain(|(each, _)| *each != number);
    }

    /// From now on nobody cuts it off. `None` when too many are there.
    pub fn admit(&self, number: u64) -> Option<Place<'_>> {
        let mut seats = self.lock();
        if seats.admitted >= ADMITTED {
            return None;
        }
        seats.admitted += 1;
        seats.strangers.retain(|(each, _)| *each != number);
        Some(Place(self))
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        // Every change is whole before the lock is given back.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_stranger_goes_first_and_never_one_who_was_admitted() {
        let guests = Guests::default();
        let waiting = || tokio::spawn(std::future::pending::<()>());
        let first = waiting();
        guests.enter(guests.number(), first.abort_handle());
        let place = guests.admit(0).unwrap();
        let second = waiting();
        guests.enter(guests.number(), second.abort_handle());
        let others: Vec<_> = (0..STRANGERS).map(|_| waiting()).collect();
        others.iter().for_each(|task| guests.enter(guests.number(), task.abort_handle()));
        assert!(second.await.unwrap_err().is_cancelled());
        assert!(!first.is_finished() && others.iter().all(|task| !task.is_finished()));
        let more: Vec<_> = (1..ADMITTED).map(|_| guests.admit(guests.number()).unwrap()).collect();
        assert!(guests.admit(guests.number()).is_none());
        drop((place, more));
        assert!(guests.admit(guests.number()).is_some());
    }
}
