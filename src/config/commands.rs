//! `commands:` of `edge.yaml`: how long commands are good for, how they are remembered, how many at once.

use super::numbers::{seconds, whole};
use crate::diagnostic::Diagnostic;
use crate::yaml::fields::{Faults, Fields};
use std::time::Duration;

/// How commands are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandConfig {
    /// Of a command that says nothing about it.
    pub default_time_to_live: Duration,
    /// A caller that wants longer gets this.
    pub longest_time_to_live: Duration,
    /// How far apart the clocks of caller and gateway may be.
    pub clock_skew: Duration,
    /// How long an id is remembered, and how many at most.
    pub remember: Duration,
    pub remember_most: usize,
    /// From then on an id with other contents is a new command.
    pub reuse_id: Duration,
    /// Commands under way at once: in all, and of one device.
    pub at_once: usize,
    pub device_at_once: usize,
    /// Doors whose commands are refused.
    pub forbid: Vec<String>,
    pub audit_file_bytes: u64,
    pub audit_files: usize,
}

impl Default for CommandConfig {
    fn default() -> CommandConfig {
        CommandConfig {
            default_time_to_live: Duration::from_secs(30),
            longest_time_to_live: Duration::from_secs(3600),
            clock_skew: Duration::from_secs(5),
            remember: Duration::from_secs(72 * 3600),
            remember_most: 50_000,
            reuse_id: Duration::from_secs(600),
            at_once: 64,
            device_at_once: 16,
            forbid: Vec::new(),
            audit_file_bytes: 8 << 20,
            audit_files: 8,
        }
    }
}

pub(super) const KEYS: &[&str] = &[
    "default_ttl_s",
    "max_ttl_s",
    "clock_skew_s",
    "remember_h",
    "remember_max",
    "reuse_id_min",
    "at_once",
    "device_at_once",
    "forbid_doors",
    "audit_file_mb",
    "audit_files",
];

pub(super) fn read(fields: &Fields<'_, '_>, faults: &mut Faults) -> CommandConfig {
    let default_time_to_live = seconds(fields, "default_ttl_s", 30, 1..=86_400, faults);
    let longest_time_to_live = seconds(fields, "max_ttl_s", 3600, 1..=172_800, faults);
    if default_time_to_live > longest_time_to_live {
        let problem = "default_ttl_s is longer than max_ttl_s";
        faults.push(Diagnostic::error(fields.place.clone(), problem).help("raise max_ttl_s (default 3600)"));
    }
    CommandConfig {
        default_time_to_live,
        longest_time_to_live,
        clock_skew: seconds(fields, "clock_skew_s", 5, 0..=3600, faults),
        remember: seconds_of_hours(whole(fields, "remember_h", 72, 1..=8760, faults)),
        remember_most: size(whole(fields, "remember_max", 50_000, 100..=1_000_000, faults)),
        reuse_id: Duration::from_secs(60 * whole(fields, "reuse_id_min", 10, 1..=525_600, faults)),
        at_once: size(whole(fields, "at_once", 64, 1..=1000, faults)),
        device_at_once: size(whole(fields, "device_at_once", 16, 1..=1000, faults)),
        forbid: doors(fields, faults),
        audit_file_bytes: whole(fields, "audit_file_mb", 8, 1..=1024, faults) << 20,
        audit_files: size(whole(fields, "audit_files", 8, 2..=1000, faults)),
    }
}

fn seconds_of_hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn doors(fields: &Fields<'_, '_>, faults: &mut Faults) -> Vec<String> {
    let scalar = |node, faults: &mut Faults| {
        crate::yaml::fields::scalar(fields.file, node, "forbid_doors", faults).map(|text| text.text)
    };
    fields.list("forbid_doors", faults).iter().filter_map(|node| scalar(node, faults)).collect()
}
