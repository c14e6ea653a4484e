//! Holds a driver to the contract: every call ends by its dead-line, and a panic ends the session, not the daemon.

use crate::model::Pulse;
use driver::{Reason, SessionError};
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Why a guarded call gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    /// What the driver itself said.
    #[error("{0}")]
    Said(SessionError),
    /// The driver neither answered nor gave up in time.
    #[error("the driver did not come back within {0:?}")]
    Overdue(Duration),
    #[error("the driver panicked: {0}")]
    Panicked(String),
    /// The daemon stops and there is no time left for the call.
    #[error("the daemon stops")]
    Stopped,
}

impl Fault {
    pub(super) fn is_timeout(&self) -> bool {
        matches!(self, Fault::Said(SessionError::Timeout(_)) | Fault::Overdue(_))
    }

    /// The reason for points that got no sample.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Fault::Said(error) => error.reason(),
            Fault::Overdue(_) | Fault::Panicked(_) => Reason::NoAnswer,
            Fault::Stopped => Reason::NotConnected,
        }
    }
}

impl From<Fault> for SessionError {
    fn from(fault: Fault) -> SessionError {
        match fault {
            Fault::Said(error) => error,
            Fault::Overdue(limit) => SessionError::Timeout(limit),
            Fault::Panicked(text) => SessionError::Broken(format!("the driver panicked: {text}")),
            Fault::Stopped => SessionError::Disconnected("the daemon stops".to_owned()),
        }
    }
}

/// Runs one call of a driver. The future is dropped when it is overdue; its session must then be dropped too.
pub(super) async fn guarded<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, SessionError>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(limit, caught(call)).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => Err(Fault::Said(error)),
        Ok(Err(text)) => Err(Fault::Panicked(text)),
        Err(_) => Err(Fault::Overdue(limit)),
    }
}

/// Tells the watchdog while the driver's own code has the thread.
pub(super) async fn watched<T>(pulse: &Pulse, call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    poll_fn(|context| pulse.within(|| call.as_mut().poll(context))).await
}

/// Polls a future; a panic inside becomes its text.
pub(super) async fn caught<T>(call: impl Future<Output = T>) -> Result<T, String> {
    let mut call = pin!(call);
    poll_fn(|context| {
        // The future is never polled again after a panic, and its session is dropped.
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(payload) => Poll::Ready(Err(text_of(payload.as_ref()))),
        }
    })
    .await
}

/// Drops what a panicking driver left behind; its destructors may panic again.
pub(super) fn discard<T>(thing: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(thing)));
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_ends_is_overdue() {
        let fault = guarded::<()>(Duration::from_secs(3), std::future::pending()).await.unwrap_err();
        assert_eq!(SessionError::from(fault), SessionError::Timeout(Duration::from_secs(3)));
    }

    #[tokio::test]
    async fn a_panic_becomes_an_error_that_ends_the_session() {
        let fault = guarded::<()>(Duration::from_secs(3), async { panic!("index 7") }).await.unwrap_err();
        let error = SessionError::from(fault);
        assert!(error.ends_session());
        assert!(error.to_string().contains("index 7"), "{error}");
    }
}
