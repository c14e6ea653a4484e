//! A client for the cloud's REST interface: token, signed calls, multipart calls. Used for certificates and for the points
//! of logic assets.
//!
//! One call is one attempt: nothing is tried again here but a call whose token the cloud no longer takes. Every call ends
//! within `timeout`, whatever the peer does.

mod account;
mod answer;
mod client;
mod date;
mod error;
mod multipart;
mod sign;
mod token;
mod transport;

pub use client::{Call, Client};
pub use error::RestError;
pub use multipart::Part;

#[cfg(test)]
mod tests;
