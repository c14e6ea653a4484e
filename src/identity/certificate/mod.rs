//! The client certificate's life: key and request made here, applied for, tried in a real connection, promoted, renewed
//! before it expires, applied for anew after it has.
//!
//! - `key`, `facts`, `check`: what is made, and whether what comes back may be used;
//! - `turns`, `schedule`: which pair is offered next, and when another is asked for; both PURE;
//! - `record`: how a pair lies on disk; `slots`: all pairs, offered to the link as [`super::Certificates`];
//! - `authority`, `renewer`: who is asked, and the task that asks;
//! - `pace`: how long no request goes out, kept across restarts;
//! - `owner`: two files that somebody else renews;
//! - `expiry`: what people are told, and when.

mod authority;
mod check;
mod expiry;
mod facts;
mod key;
mod owner;
mod pace;
mod record;
mod renewer;
mod schedule;
mod slots;
#[cfg(test)]
mod test_ca;
mod turns;

pub use authority::{Authority, Cloud, Issued};
pub use facts::Facts;
pub use owner::Owner;
pub use renewer::{Asked, Clock, Handle, Renewer, SystemClock};
pub use schedule::How;
pub use slots::Slots;

/// What stands in each certificate of a PEM text, in its order.
///
/// # Errors
/// In words, without the text.
pub fn facts_of(pem: &str) -> Result<Vec<Facts>, String> {
    Ok(facts::parse(pem)?.into_iter().map(|certificate| certificate.facts).collect())
}

/// The keys of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityNames {
    pub product_key: String,
    pub device_key: String,
}
