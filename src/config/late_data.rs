//! `late_data:` of `cloud:` in `edge.yaml`: what is late, in which order it goes, and on which channel.

use super::numbers::seconds;
use crate::diagnostic::Diagnostic;
use crate::model::LatePolicy;
use crate::yaml::fields::{Faults, Fields};
use std::time::Duration;

/// How readings of an outage travel beside those of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateDataConfig {
    pub order: Order,
    /// Readings older than this when they are sent are late.
    pub threshold: Duration,
    /// Of points whose model does not say otherwise.
    pub policy: LatePolicy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Live readings first; what waits takes what they leave.
    RealTimeFirst,
    /// Strictly the oldest first: live readings queue up behind those that wait.
    Fifo,
}

impl Default for LateDataConfig {
    fn default() -> LateDataConfig {
        LateDataConfig { order: Order::RealTimeFirst, threshold: THRESHOLD, policy: LatePolicy::HisChannel }
    }
}

/// A reading that waited longer has missed its moment for an alert. The product takes 120 minutes for it.
const THRESHOLD: Duration = Duration::from_secs(30);

pub(super) const KEYS: &[&str] = &["order", "threshold_s", "policy"];

/// What `threshold_s` was called, beside `late_data:`.
pub(super) const OLD_KEY: &str = "late_after_s";

const ORDERS: &[(&str, Order)] = &[("real_time_first", Order::RealTimeFirst), ("fifo", Order::Fifo)];
const POLICIES: &[(&str, LatePolicy)] = &[
    ("real_channel", LatePolicy::RealChannel),
    ("his_channel", LatePolicy::HisChannel),
    ("remove", LatePolicy::Remove),
];

pub(super) fn read(cloud: &Fields<'_, '_>, faults: &mut Faults) -> LateDataConfig {
    let default = LateDataConfig::default();
    let section = cloud.node("late_data").and_then(|node| Fields::open(cloud.file, node, "late_data", KEYS, faults));
    let mut config = default;
    if let Some(late) = &section {
        config.order = late.word("order", ORDERS, faults).unwrap_or(default.order);
        config.threshold = threshold(late, "threshold_s", faults);
        config.policy = late.word("policy", POLICIES, faults).unwrap_or(default.policy);
    }
    if let Some(old) = cloud.text(OLD_KEY, &mut Faults::new()) {
        if section.is_some_and(|late| late.node("threshold_s").is_some()) {
            let problem = format!("{OLD_KEY} and late_data.threshold_s say the same thing twice");
            faults.push(Diagnostic::error(old.place, problem).help(format!("remove {OLD_KEY}, the older name")));
        }
        config.threshold = threshold(cloud, OLD_KEY, faults);
    }
    config
}

/// A week at most: beyond that nothing would ever be late.
fn threshold(fields: &Fields<'_, '_>, key: &str, faults: &mut Faults) -> Duration {
    seconds(fields, key, THRESHOLD.as_secs(), 1..=604_800, faults)
}
