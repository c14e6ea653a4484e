//! PURE. Services of the gateway itself, as the cloud may call them.

use super::Outcome;
use driver::Answer;
use serde_json::{Map, Value as Json};

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The door it came through, for example `enos`.
    pub door: &'a str,
    /// The caller's own id of it.
    pub id: Option<&'a str>,
    pub service: &'a str,
    pub input: &'a Map<String, Json>,
}

/// Whoever has services of the gateway itself.
pub trait Services: Send + Sync {
    /// Looks whether it may be done; nothing is done before the answer is awaited.
    ///
    /// # Errors
    /// Why it is not done.
    fn prepare(&self, asked: Asked<'_>) -> Result<Answer<'static, Outcome>, Outcome>;
}
