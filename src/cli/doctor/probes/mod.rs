//! One thing that is looked at, one file.

pub(super) mod certificate;
pub(super) mod clock;
pub(super) mod configuration;
pub(super) mod delivery;
pub(super) mod devices;
pub(super) mod disk;
pub(super) mod engine;
pub(super) mod login;
pub(super) mod machine;
pub(super) mod names;
pub(super) mod network;
pub(super) mod outbox;
pub(super) mod package;
pub(super) mod ports;
pub(super) mod rights;
pub(super) mod serial;
pub(in crate::cli) mod service;
pub(super) mod update;

use super::finding::Finding;
use super::ground::Ground;
use crate::config::Config;

const NO_CONFIGURATION: &str = "the configuration can not be read";

/// The configuration, or the finding that there is none.
fn configured<'g>(ground: &'g Ground, what: &str) -> Result<&'g Config, Vec<Finding>> {
    ground.config.as_ref().ok_or_else(|| vec![Finding::unseen(what, NO_CONFIGURATION)])
}
