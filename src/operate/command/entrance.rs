//! Who is let in: a bounded number of commands, one answer for a command that comes twice at once, and the order of
//! commands to one device.

use super::digest::Digest;
use super::record::Identified;
use super::window::Key;
use crate::model::Outcome;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};

pub(super) struct Entrance {
    places: Arc<Semaphore>,
    device_places: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    under_way: HashMap<Key, (Digest, watch::Receiver<Option<Outcome>>)>,
    /// One a device that got a command, by its name: numbers change with the package.
    lanes: HashMap<String, Lane>,
}

#[derive(Clone)]
struct Lane {
    turn: Arc<tokio::sync::Mutex<()>>,
    places: Arc<Semaphore>,
}

pub(super) enum Entry {
    Admitted(Ticket),
    /// The same command is being carried out; its outcome comes here.
    UnderWay(watch::Receiver<Option<Outcome>>),
    /// The same id with other contents is being carried out.
    Reused,
    Full,
}

type Turn = Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>;

/// The right to be carried out. Dropped when the command has ended, however it did.
pub(super) struct Ticket {
    entrance: Arc<Entrance>,
    key: Option<Key>,
    outcome: watch::Sender<Option<Outcome>>,
    turn: Option<Turn>,
    _places: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl Entrance {
    pub(super) fn new(places: usize, device_places: usize) -> Entrance {
        Entrance { places: Arc::new(Semaphore::new(places)), device_places, inside: Mutex::default() }
    }

    /// Takes a place, and the next turn at the device, in the order of the calls.
    pub(super) fn enter(self: &Arc<Entrance>, identified: Option<&Identified>, device: Option<&str>) -> Entry {
        let mut inside = self.inside();
        if let Some(Identified { key, contents, .. }) = identified
            && let Some((known, outcome)) = inside.under_way.get(key)
        {
            return if known == contents { Entry::UnderWay(outcome.clone()) } else { Entry::Reused };
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return Entry::Full };
        let mut at_device = None;
        let mut turn = None;
        if let Some(device) = device {
            let lane = inside
                .lanes
                .entry(device.to_owned())
                .or_insert_with(|| Lane { turn: Arc::default(), places: Arc::new(Semaphore::new(self.device_places)) });
            let Ok(permit) = Arc::clone(&lane.places).try_acquire_owned() else { return Entry::Full };
            at_device = Some(permit);
            turn = Some(queue(Arc::clone(&lane.turn)));
        }
        let (outcome, told) = watch::channel(None);
        if let Some(Identified { key, contents, .. }) = identified {
            inside.under_way.insert(*key, (*contents, told));
        }
        drop(inside);
        let key = identified.map(|identified| identified.key);
        Entry::Admitted(Ticket { entrance: Arc::clone(self), key, outcome, turn, _places: (place, at_device) })
    }

    /// Another package: lanes of devices that nobody commands now are made anew when needed.
    pub(super) fn forget_idle(&self) {
        self.inside().lanes.retain(|_, lane| {
            lane.places.available_permits() < self.device_places || Arc::strong_count(&lane.turn) > 1
        });
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands in the queue of the lock at once, not when the task is polled for the first time.
fn queue(lane: Arc<tokio::sync::Mutex<()>>) -> Turn {
    let mut turn: Turn = Box::pin(tokio::task::unconstrained(lane.lock_owned()));
    match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(guard) => Box::pin(std::future::ready(guard)),
        Poll::Pending => turn,
    }
}

impl Ticket {
    /// Waits for the turn at the device. Dropped, it gives up its place in the queue.
    pub(super) async fn turn(&mut self) -> Option<OwnedMutexGuard<()>> {
        match self.turn.take() {
            Some(turn) => Some(turn.await),
            None => None,
        }
    }

    pub(super) fn tell(&self, outcome: &Outcome) {
        self.outcome.send_replace(Some(outcome.clone()));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.entrance.inside().under_way.remove(key);
        }
    }
}
