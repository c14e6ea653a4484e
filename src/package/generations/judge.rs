//! PURE. Judges a new package by its readings: shares of good values and of accepted readings, before and now. Time is
//! an argument.

use crate::config::PackageWatchConfig;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Of how many, how many were as they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub good: u64,
    pub all: u64,
}

impl Share {
    pub fn add(&mut self, good: u64, all: u64) {
        self.good += good;
        self.all += all;
    }

    /// Per cent; `None` of nothing.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    pub fn percent(self) -> Option<f64> {
        (self.all > 0).then(|| self.good as f64 * 100.0 / self.all as f64)
    }
}

/// What is compared, at one moment. New devices count nowhere: nobody knows what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Values of devices whose connections went on.
    pub unchanged: Share,
    /// Values of devices whose connections were started anew.
    pub changed: Share,
    /// Readings the destinations answered, and those of them they took.
    pub accepted: Share,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Watching,
    Kept,
    /// Back to the one before, and why.
    Back(String),
}

/// One switch under watch.
#[derive(Debug)]
pub struct Judge {
    config: PackageWatchConfig,
    before: Look,
    low_since: Option<Duration>,
}

/// Connections get so long to start, or half of a short window.
const START: Duration = Duration::from_secs(5);
/// Fewer answers say nothing about a share.
const ENOUGH_ANSWERS: u64 = 20;

impl Judge {
    /// `before`: the same devices just before the switch; `accepted` since the start of the gateway.
    #[must_use]
    pub fn new(config: PackageWatchConfig, before: Look) -> Judge {
        Judge { config, before, low_since: None }
    }

    /// How often to look.
    #[must_use]
    pub fn period(config: &PackageWatchConfig) -> Duration {
        (config.window / 60).clamp(Duration::from_millis(500), Duration::from_secs(10))
    }

    /// `now` counts from the switch. A share that is low for a tenth of the window, after a tenth and some seconds for
    /// starting, is low; so is one at the end of it.
    pub fn look(&mut self, now: Duration, look: &Look) -> Verdict {
        let (tenth, over) = (self.config.window / 10, now >= self.config.window);
        let start = tenth.max(START.min(self.config.window / 2));
        let low = if now < start { None } else { self.low(look) };
        let Some(why) = low else {
            self.low_since = None;
            return if over { Verdict::Kept } else { Verdict::Watching };
        };
        let since = *self.low_since.get_or_insert(now);
        if over || now.saturating_sub(since) >= tenth { Verdict::Back(why) } else { Verdict::Watching }
    }

    fn low(&self, look: &Look) -> Option<String> {
        let fell = |what: &str, before: Share, now: Share, drop: u8| {
            let (before, now) = (before.percent()?, now.percent()?);
            (now < before - f64::from(drop)).then(|| format!("{what} fell from {before:.0} % to {now:.0} %"))
        };
        let (before, drop) = (&self.before, self.config.good_drop);
        let accepted = Some(look.accepted).filter(|share| share.all >= ENOUGH_ANSWERS);
        // Before anything was ever answered, all that is answered should be taken.
        let accepted_before = if before.accepted.all == 0 { Share { good: 1, all: 1 } } else { before.accepted };
        fell("good values of changed devices", before.changed, look.changed, drop)
            .or_else(|| fell("good values of unchanged devices", before.unchanged, look.unchanged, drop))
            .or_else(|| fell("accepted readings", accepted_before, accepted?, self.config.accepted_drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn look(changed: u64) -> Look {
        Look { unchanged: Share { good: 50, all: 50 }, changed: Share { good: changed, all: 100 }, ..Look::default() }
    }

    fn judge() -> Judge {
        Judge::new(PackageWatchConfig { window: 100 * S, ..PackageWatchConfig::default() }, look(90))
    }

    #[test]
    fn half_of_the_good_values_gone_is_enough_within_the_window() {
        let mut judge = judge();
        assert_eq!(judge.look(5 * S, &look(0)), Verdict::Watching, "connections start");
        assert_eq!(judge.look(15 * S, &look(45)), Verdict::Watching, "it must last");
        let Verdict::Back(why) = judge.look(25 * S, &look(45)) else { panic!("not taken back") };
        assert_eq!(why, "good values of changed devices fell from 90 % to 45 %");
    }

    #[test]
    fn a_short_window_leaves_time_to_connect() {
        let config = PackageWatchConfig { window: 6 * S, ..PackageWatchConfig::default() };
        let mut judge = Judge::new(config, look(90));
        assert_eq!(judge.look(S, &look(0)), Verdict::Watching);
        assert_eq!(judge.look(2 * S, &look(0)), Verdict::Watching);
        assert_eq!(judge.look(3 * S, &look(80)), Verdict::Watching);
        assert_eq!(judge.look(6 * S, &look(80)), Verdict::Kept);
    }

    #[test]
    fn a_dip_and_a_small_loss_are_no_reason() {
        let mut judge = judge();
        for at in 1..100 {
            let good = if at % 12 == 0 { 10 } else { 75 };
            assert_eq!(judge.look(at * S, &look(good)), Verdict::Watching, "at {at}");
        }
        assert_eq!(judge.look(100 * S, &look(75)), Verdict::Kept);
    }

    #[test]
    fn readings_that_the_cloud_refuses_bring_it_back_and_a_few_do_not() {
        let with = |good, all| Look { accepted: Share { good, all }, ..look(90) };
        let mut judge =
            Judge::new(PackageWatchConfig { window: 100 * S, ..PackageWatchConfig::default() }, with(99, 100));
        assert_eq!(judge.look(15 * S, &with(0, 10)), Verdict::Watching);
        assert_eq!(judge.look(30 * S, &with(0, 10)), Verdict::Watching);
        assert_eq!(judge.look(40 * S, &with(50, 100)), Verdict::Watching);
        assert!(
            matches!(judge.look(55 * S, &with(50, 100)), Verdict::Back(why) if why.starts_with("accepted readings fell"))
        );
    }
}
