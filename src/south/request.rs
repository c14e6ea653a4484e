//! What others ask of a running connection: read a device now, write a point. Goes before polling; a step of sending a
//! file takes turns with it.

use crate::model::{Reason, Value};
use driver::{SessionError, Transfer};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Requests that wait for one connection. When full, the next one is refused as busy.
pub(super) const WAITING: usize = 32;

pub(super) struct Request {
    pub ask: Ask,
    pub moments: Moments,
    pub claim: Arc<Claim>,
    /// Bytes for [`Ask::Raw`], nothing for the others.
    pub reply: oneshot::Sender<Result<Vec<u8>, AskError>>,
}

/// When a request must be begun and ended.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// A request that waited longer is not carried out any more.
    pub start_by: Instant,
    /// The device's answer is not waited for any longer.
    pub end_by: Instant,
}

impl Moments {
    #[must_use]
    pub fn within(limit: Duration) -> Moments {
        let at = Instant::now() + limit;
        Moments { start_by: at, end_by: at }
    }
}

/// Decides once between "it is carried out" and "it was given up": a stale command must never fire, and nobody may
/// be told "nothing was done" when something was.
#[derive(Debug, Default)]
pub(super) struct Claim(AtomicBool);

impl Claim {
    /// True for the first who asks.
    pub(super) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// All scan groups of a device, by its index within the connection.
    Read(u32),
    /// The scan groups of a device that hold one of these points.
    ReadPoints(u32, Vec<u32>),
    Write(u32, Value),
    /// Bytes for a device, as they are.
    Raw(u32, Vec<u8>),
    /// A step of sending a file to a device.
    Transfer(u32, Slot),
}

/// Holds a transfer while its connection takes a step of it.
#[derive(Clone, Debug)]
pub(super) struct Slot(Arc<Mutex<Option<Transfer>>>);

impl Slot {
    pub(super) fn new(file: Transfer) -> Slot {
        Slot(Arc::new(Mutex::new(Some(file))))
    }

    /// `None` while somebody else has it: then it is given up with the step.
    pub(super) fn take(&self) -> Option<Transfer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn give_back(&self, file: Transfer) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }
}

impl Request {
    /// True when it shall be carried out now; it can not be given up any more.
    pub(super) fn begin(&self) -> bool {
        Instant::now() < self.moments.start_by && self.claim.take()
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self.ask, Ask::Write(..) | Ask::Raw(..))
    }

    /// The asker may have gone; that is its right.
    pub(super) fn answer(self, result: Result<Vec<u8>, AskError>) {
        let _ = self.reply.send(result);
    }
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("connection \"{0}\" is not known")]
    UnknownConnection(String),
    #[error("device \"{0}\" is not known")]
    UnknownDevice(String),
    #[error("point {0} is not known")]
    UnknownPoint(u32),
    #[error("measurement point \"{0}\" has no control point")]
    NoControl(String),
    #[error("point {0} is a collection point and can not be written")]
    NotWritable(u32),
    /// Nothing was written.
    #[error("the value does not fit the point: {0}")]
    Unfit(Reason),
    /// Nothing was done.
    #[error("too many requests wait for the connection")]
    Busy,
    /// Nothing was done.
    #[error("the connection did not come to it in time")]
    Expired,
    /// Nothing was done.
    #[error("the connection has ended")]
    Stopped,
    /// Nothing was done.
    #[error("not connected: {0}")]
    NotConnected(String),
    /// The device refused.
    #[error("point {point} refused: {reason}")]
    Refused { point: u32, reason: Reason },
    /// Nothing was done: protocol or configuration do not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// The device took no file, or not this part of it, and will not.
    #[error("{0}")]
    FileRefused(String),
    /// The device takes the next part of a file later.
    #[error("{0}")]
    Later(String),
    /// A read got no answer.
    #[error("{0}")]
    NotRead(SessionError),
    /// A write may or may not have reached the device.
    #[error("the outcome is not known: {0}")]
    Unconfirmed(SessionError),
}

impl From<SessionError> for AskError {
    fn from(error: SessionError) -> AskError {
        match error {
            SessionError::Rejected { point, reason } => AskError::Refused { point, reason },
            other => AskError::Unconfirmed(other),
        }
    }
}
