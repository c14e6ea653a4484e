//! Claims about running connections, with a scripted protocol and in paused time.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod asked;
mod bench;
mod files;
mod lost;
mod polling;
mod pushed;
mod stopping;
