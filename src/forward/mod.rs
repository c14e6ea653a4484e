//! Readings to plain MQTT brokers beside the cloud, and what those brokers send: one task a destination.

mod command;
mod composer;
#[cfg(test)]
mod composer_tests;
mod inbound;
pub mod integration;
mod ledger;
mod payload;
mod run;
mod session;
mod status;
mod suspicion;
mod topics;

pub use inbound::{Feed, FeedDesk};
pub use run::{ForwardPorts, log_in_once, run};
pub use status::{OfBroker, Received, Snapshot, State, Status};
pub use topics::Place;
