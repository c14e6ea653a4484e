//! The link to the cloud against a scripted MQTT server on loopback.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod adopt;
mod broker;
mod data;
mod devices;
mod gateway;
mod identity;
mod link;
mod mutual;
mod outlet;
mod plain_broker;
mod trust;
