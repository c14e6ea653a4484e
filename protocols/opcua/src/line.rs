//! One secure channel, the task that moves its bytes, and how both end.

use driver::{Answer, SessionError};
use opcua::client::UARequest;
use opcua::client::services::CloseSession;
use opcua::client::transport::{AsyncSecureChannel, Connector, SecureChannelEventLoop, Transport, TransportPollResult};
use opcua::types::{Error, NodeId, StatusCode};
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server gets this long to hear our farewell, and not longer than any request; after that its own
/// session timeout has to do.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a request needs: the channel, the session's token, the dead-line.
pub(crate) struct Talk {
    pub(crate) channel: AsyncSecureChannel,
    token: OnceLock<NodeId>,
    pub(crate) timeout: Duration,
}

/// The first arguments of every request builder: session number (for the library's logs only),
/// dead-line, token and request handle.
pub(crate) type Head = (u32, Duration, NodeId, u32);

impl Talk {
    pub(crate) fn head(&self) -> Head {
        self.head_within(self.timeout)
    }

    pub(crate) fn head_within(&self, timeout: Duration) -> Head {
        let token = self.token.get().cloned().unwrap_or_else(NodeId::null);
        (0, timeout, token, self.channel.request_handle())
    }

    /// From here on requests belong to this session, and hanging up closes it.
    pub(crate) fn set_token(&self, token: &NodeId) {
        self.channel.set_auth_token(token.clone());
        let _ = self.token.set(token.clone());
    }

    /// Sends one request and waits for its answer. `doing` names it in the error.
    ///
    /// Boxed, because the compiler can not yet see through the builders' futures (rust-lang/rust#100013).
    pub(crate) fn call<'a, R>(&'a self, doing: &'a str, request: R) -> Answer<'a, Result<R::Out, Failure>>
    where
        R: UARequest + Send + 'a,
        R::Out: Send + 'a,
    {
        let answer: Answer<'a, Result<R::Out, Error>> = Box::pin(request.send(&self.channel));
        Box::pin(self.bounded(doing, answer))
    }

    /// The library keeps request dead-lines itself, but only while its transport is polled; this
    /// second one holds even if that task is gone.
    pub(crate) async fn bounded<T>(
        &self,
        doing: &str,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout + Duration::from_millis(100), answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::new(doing, &error, self.timeout)),
            Err(_) => Err(Failure { status: StatusCode::BadTimeout, error: SessionError::Timeout(self.timeout) }),
        }
    }
}

/// Why a whole request failed: the code to branch on, and the error that would end the session.
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) error: SessionError,
}

impl From<Failure> for SessionError {
    fn from(failure: Failure) -> SessionError {
        failure.error
    }
}

impl Failure {
    pub(crate) fn new(doing: &str, error: &Error, timeout: Duration) -> Failure {
        let status = error.status();
        let error = match status {
            StatusCode::BadTimeout | StatusCode::BadRequestTimeout => SessionError::Timeout(timeout),
            StatusCode::BadDecodingError
            | StatusCode::BadEncodingLimitsExceeded
            | StatusCode::BadUnknownResponse
            | StatusCode::BadUnexpectedError
            | StatusCode::BadSequenceNumberInvalid => SessionError::Broken(format!("{doing}: {error}")),
            _ => SessionError::Disconnected(format!("{doing}: {error}")),
        };
        Failure { status, error }
    }

    /// True when asking for fewer things at once may help.
    pub(crate) fn too_much(&self) -> bool {
        matches!(
            self.status,
            StatusCode::BadTooManyOperations
                | StatusCode::BadRequestTooLarge
                | StatusCode::BadResponseTooLarge
                | StatusCode::BadTcpMessageTooLarge
                | StatusCode::BadEncodingLimitsExceeded
        )
    }
}

/// Aborts its task when dropped.
pub(crate) struct Task<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An open channel. Dropping it says goodbye in the background, within [`FAREWELL`].
pub(crate) struct Line {
    pub(crate) talk: Arc<Talk>,
    /// Dropped to hang up.
    _hold: oneshot::Sender<()>,
    pump: JoinHandle<()>,
}

impl Line {
    /// Opens the channel and starts the task that moves its bytes.
    pub(crate) async fn open(
        channel: AsyncSecureChannel,
        connector: impl Connector,
        timeout: Duration,
    ) -> Result<Line, Failure> {
        let talk = Arc::new(Talk { channel, token: OnceLock::new(), timeout });
        // No second dead-line here: the connect as a whole has one.
        let events = talk
            .channel
            .connect_no_retry(&connector)
            .await
            .map_err(|e| Failure::new("open secure channel", &e, timeout))?;
        let (hold, released) = oneshot::channel();
        let pump = tokio::spawn(pump(events, Arc::clone(&talk), released));
        Ok(Line { talk, _hold: hold, pump })
    }

    /// Ends the conversation and waits for the end.
    pub(crate) async fn close(self) {
        let Line { talk: _, _hold, pump } = self;
        drop(_hold);
        // The pump has its own dead-line; a panic inside the library ends it too.
        let _ = tokio::time::timeout(FAREWELL * 2, pump).await;
    }
}

/// Moves bytes until the transport closes or the line is released; then says goodbye.
///
/// The library's decoder runs here: should it ever panic, this task ends, every waiting request
/// fails with `BadConnectionClosed`, and the gateway lives on.
async fn pump<T>(mut events: SecureChannelEventLoop<T>, talk: Arc<Talk>, released: oneshot::Receiver<()>)
where
    T: Transport + Send + Sync + 'static,
{
    tokio::select! {
        status = drain(&mut events) => tracing::debug!(%status, "secure channel closed"),
        _ = released => {
            let both = async { tokio::join!(farewell(&talk), drain(&mut events)) };
            let _ = tokio::time::timeout(FAREWELL.min(talk.timeout), both).await;
        }
    }
}

async fn drain<T: Transport + Send + Sync + 'static>(events: &mut SecureChannelEventLoop<T>) -> StatusCode {
    loop {
        if let TransportPollResult::Closed(status) = events.poll().await {
            return status;
        }
    }
}

/// Without this the server keeps the session until its timeout, and soon says BadTooManySessions.
async fn farewell(talk: &Talk) {
    if talk.token.get().is_some() {
        let (number, timeout, token, handle) = talk.head_within(FAREWELL);
        let request = CloseSession::new_manual(number, timeout, token, handle).delete_subscriptions(true);
        let _ = request.send(&talk.channel).await;
    }
    talk.channel.close_channel().await;
}
