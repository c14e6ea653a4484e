//! enos-edge: an open runtime daemon for industrial gateways, compatible with the EnOS Cloud.
//!
//! `ARCHITECTURE.md` says where things live and which way they may lean on each other.

pub mod app;
pub mod cli;
pub mod cloud;
pub mod config;
pub mod diagnostic;
pub mod doors;
pub mod engine;
pub mod fetch;
pub mod forward;
pub mod heap;
pub mod identity;
pub mod logs;
pub mod mapping;
pub mod model;
pub mod mqtt;
pub mod operate;
pub mod outbox;
pub mod package;
pub mod privacy;
pub mod rest;
pub mod shutdown;
pub mod south;
pub mod store;
pub mod systemd;
pub mod telemetry;
pub mod trigger;
pub mod update;
pub mod version;
pub mod watchdog;
pub mod yaml;
