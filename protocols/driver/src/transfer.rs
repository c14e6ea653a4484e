//! A file on its way to a device: what was done of it, and the piece of it that is sent next.
//!
//! A file is sent in steps. Each step takes the line once, like a command, and gives it back, so that the other devices
//! of the line are read in between. The caller keeps the [`Transfer`] between the steps and over broken conversations.

use crate::SessionError;
use std::time::Duration;

/// How a device takes a file. Decided with the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferShape {
    /// Bytes of the largest file.
    pub most: u64,
    /// Bytes of the largest piece that one step sends.
    pub piece: usize,
    /// Longest time one step may take, with every request at its own dead-line.
    pub patience: Duration,
    /// After the conversation broke it goes on where it was; else from the beginning.
    pub resumes: bool,
}

/// What the next step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Sends bytes.
    Writing,
    /// Reads back what was sent, and compares.
    Checking,
    /// All was sent, and found again where that was asked for.
    Done,
}

/// A file on its way to one device.
///
/// ```
/// use enos_edge_driver::{Phase, Transfer};
/// let mut file = Transfer::new(1, 5);
/// assert_eq!((file.phase, file.bytes(4)), (Phase::Writing, None));
/// file.load(0, b"hello".to_vec());
/// assert_eq!(file.bytes(4), Some(&b"hell"[..]));
/// file.done = 4;
/// assert_eq!(file.bytes(4), Some(&b"o"[..]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Names this attempt: a session that does not know it has not begun it.
    pub id: u64,
    /// Bytes of the whole file, one at least.
    pub size: u64,
    pub phase: Phase,
    /// Bytes that the device has confirmed in this phase.
    pub done: u64,
    /// Times that what stands at `done` was not what had been sent there.
    pub again: u8,
    at: u64,
    piece: Vec<u8>,
}

impl Transfer {
    #[must_use]
    pub fn new(id: u64, size: u64) -> Transfer {
        Transfer { id, size, phase: Phase::Writing, done: 0, again: 0, at: 0, piece: Vec::new() }
    }

    /// One of which an earlier run of the gateway had sent so much. Only for devices that resume.
    #[must_use]
    pub fn resumed(id: u64, size: u64, done: u64) -> Transfer {
        Transfer { done: done.min(size), ..Transfer::new(id, size) }
    }

    /// Gives it bytes of the file from `at` on.
    pub fn load(&mut self, at: u64, piece: Vec<u8>) {
        (self.at, self.piece) = (at, piece);
    }

    /// The bytes at `done`: `most` of them, fewer at the end of the file only. `None` when they are not loaded: a step
    /// then gives the line back without sending anything, and is called again with them.
    #[must_use]
    pub fn bytes(&self, most: usize) -> Option<&[u8]> {
        let left = usize::try_from(self.size.saturating_sub(self.done)).unwrap_or(usize::MAX);
        let from = usize::try_from(self.done.checked_sub(self.at)?).ok()?;
        let want = most.min(left);
        self.piece.get(from..from.checked_add(want)?).filter(|bytes| !bytes.is_empty())
    }

    /// From the beginning of a phase.
    pub fn enter(&mut self, phase: Phase) {
        (self.phase, self.done, self.again) = (phase, 0, 0);
    }

    /// The device has so many bytes more.
    pub fn advance(&mut self, bytes: usize) {
        self.done = self.done.saturating_add(bytes as u64).min(self.size);
        self.again = 0;
    }

    #[must_use]
    pub fn is_through(&self) -> bool {
        self.done >= self.size
    }
}

/// Why a step did not get on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The device, or what the package says of it, does not allow it. Asking again would not help.
    #[error("{0}")]
    Refused(String),
    /// Not now; the same step may be asked again after a while.
    #[error("{0}")]
    Busy(String),
    #[error("{0}")]
    Session(#[from] SessionError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_whole_or_none_but_at_the_end_of_the_file() {
        let mut file = Transfer::new(1, 10);
        file.load(0, (0..8).collect());
        assert_eq!(file.bytes(8), Some(&[0, 1, 2, 3, 4, 5, 6, 7][..]));
        file.done = 6;
        assert_eq!(file.bytes(4), None, "two of the four are not here");
        file.load(6, vec![6, 7, 8, 9]);
        assert_eq!(file.bytes(64), Some(&[6, 7, 8, 9][..]));
        file.done = 0;
        assert_eq!(file.bytes(1), None, "what lies before was given back");
        file.done = 10;
        assert_eq!(file.bytes(1), None);
        assert!(file.is_through());
    }
}
