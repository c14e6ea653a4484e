//! PURE. What can be set wrong with the REST side while it runs.

use std::time::Duration;

/// Faults on demand. The default is healthy.
#[derive(Debug, Clone, Default)]
pub struct RestKnobs {
    /// Connections are closed without an answer.
    pub down: bool,
    /// Every request is answered with this HTTP status and nothing else.
    pub status: Option<u16>,
    /// The account may not do this: code 403.
    pub unauthorised: bool,
    /// Certificates that must not be used.
    pub wrong: Option<Wrong>,
    /// Renewals are refused with 99400.
    pub refuse_renewals: bool,
    /// Messages of logic assets are refused with this code and words.
    pub refuse_points: Option<(i64, String)>,
    /// Those that hold a negative value of this point are refused with 1204.
    pub refuse_negative: Option<String>,
    /// They are taken, and the connection is closed without an answer.
    pub withhold_answers: bool,
    pub delay: Option<Duration>,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    OtherKey,
    OtherAuthority,
    NotYet,
    Expired,
    Garbage,
}
