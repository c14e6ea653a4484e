//! `outbox:` of `edge.yaml`: how readings are kept.

use super::numbers::{millis, whole};
use crate::yaml::fields::{Faults, Fields};
use std::time::Duration;

/// How readings are kept.
#[derive(Clone, Debug)]
pub struct OutboxConfig {
    pub durability: Durability,
    /// A reading is acknowledged or on disk within this time.
    pub bound: Duration,
    /// Bytes on disk, write-ahead log and free pages included.
    pub quota_bytes: u64,
    pub max_age: Duration,
    /// Bytes of free disk that are never used.
    pub disk_reserve_bytes: u64,
    /// Bytes of readings in memory, when the disk is stuck.
    pub memory_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Acknowledged or stored within the bound.
    Bounded,
    /// Stored before it is sent.
    Strict,
}

impl Default for OutboxConfig {
    fn default() -> OutboxConfig {
        OutboxConfig {
            durability: Durability::Bounded,
            bound: Duration::from_secs(1),
            quota_bytes: 1 << 30,
            max_age: Duration::from_secs(720 * 3600),
            disk_reserve_bytes: 64 << 20,
            memory_bytes: 8 << 20,
        }
    }
}

pub(super) const KEYS: &[&str] = &["durability", "bound_ms", "quota_mb", "max_age_h", "disk_reserve_mb", "memory_mb"];

const DURABILITY: &[(&str, Durability)] = &[("bounded", Durability::Bounded), ("strict", Durability::Strict)];

pub(super) fn read(fields: &Fields<'_, '_>, faults: &mut Faults) -> OutboxConfig {
    OutboxConfig {
        durability: fields.word("durability", DURABILITY, faults).unwrap_or(Durability::Bounded),
        bound: millis(fields, "bound_ms", 1000, 50..=60_000, faults),
        quota_bytes: whole(fields, "quota_mb", 1024, 1..=10_000_000, faults) << 20,
        max_age: Duration::from_secs(whole(fields, "max_age_h", 720, 1..=876_000, faults) * 3600),
        disk_reserve_bytes: whole(fields, "disk_reserve_mb", 64, 0..=1_000_000, faults) << 20,
        memory_bytes: (whole(fields, "memory_mb", 8, 1..=1024, faults) as usize) << 20,
    }
}
