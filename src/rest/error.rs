//! PURE. Why a call brought nothing.

use std::time::Duration;

/// Why a call brought nothing. What the caller branches on is a variant; no variant holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestError {
    /// The client can not be made: authority file, proxy.
    #[error("{0}")]
    Setup(String),
    #[error("{host} can not be reached: {reason}")]
    Unreachable { host: String, reason: String },
    /// The peer could not prove who it is, or spoke no TLS. Nothing was sent.
    #[error("tls with {host}: {reason}")]
    Tls { host: String, reason: String },
    #[error("{host} gave no answer within {within:?}")]
    Silent { host: String, within: Duration },
    #[error("{host} answered with http status {status}: {words}")]
    Status { host: String, status: u16, words: String },
    /// The cloud understood and said no.
    #[error("refused with code {code}: {message}")]
    Refused { code: i64, message: String },
    /// The account may not do this, or is not known.
    #[error(
        "not authorised (code {code}: {message}); check access_key and secret_key of rest:, and that this service account \
         is authorised for the organisation unit"
    )]
    NotAuthorised { code: i64, message: String },
    /// An answer nobody can read.
    #[error("{host} answered what is no answer of this interface: {reason}")]
    Garbled { host: String, reason: String },
}

impl RestError {
    /// True when the same question may bring an answer later without anybody changing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            RestError::Unreachable { .. } | RestError::Silent { .. } | RestError::Garbled { .. } => true,
            RestError::Status { status, .. } => *status >= 500 || *status == 429 || *status == 408,
            RestError::Setup(_)
            | RestError::Tls { .. }
            | RestError::Refused { .. }
            | RestError::NotAuthorised { .. } => false,
        }
    }
}
