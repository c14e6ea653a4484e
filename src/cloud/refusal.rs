//! PURE. What the cloud's codes mean for data, and which values it has refused. Time is an argument.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// What to do about a message that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    /// Some value in it does not fit the model: find it.
    Value,
    /// Some device in it may not send: log it in again, then find it.
    Device,
    /// Cut it.
    TooLarge,
    /// Later, and slower: the cloud says that it is too much.
    Overload,
    /// Later, and slower; it may also be the message that the cloud stumbles over.
    Busy,
}

impl Verdict {
    /// From the code of the answer. Codes nobody has documented are taken as "later": that loses nothing.
    #[must_use]
    pub fn of(code: i64) -> Verdict {
        match code {
            200 => Verdict::Delivered,
            1008 => Verdict::TooLarge,
            // 1009: no permission for the topic, or not logged in; 1212: offline, or not under this gateway.
            1009 | 1212 | 705 | 723 | 740 | 742 | 746 | 771 => Verdict::Device,
            // 400 and 460 stand in the vendor's client for a request that is wrong in itself.
            400 | 460 | 600..=999 | 1200..=1299 => Verdict::Value,
            429 | 503 => Verdict::Overload,
            _ => Verdict::Busy,
        }
    }
}

/// After so many pauses the message itself is suspected, if others came through meanwhile: a server that stumbles
/// over one value answers 500 for ever.
pub const BUSY_UNTIL_SUSPECT: u32 = 6;

/// How long a refused value is kept out of messages before it is tried once more, alone. A model may be mended.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Bound of the memory: a package of ten thousand wrong points is remembered.
const MOST: usize = 16_384;

/// The whole device instead of one point.
pub const ALL_POINTS: u32 = u32::MAX;

/// Whose value: epoch, device, point.
pub type Who = (u64, u32, u32);

/// Why something is kept out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub code: i64,
    pub reason: String,
}

/// What to do with one reading before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Screened<'a> {
    Clean,
    /// Set it aside.
    Refused(&'a Why),
    /// Send it alone, to see whether it is still refused.
    Retry,
}

#[derive(Debug)]
struct Guilty {
    why: Why,
    until: Duration,
    /// Of a device that was refused as a whole.
    keys: Option<(String, String)>,
    /// It was sent alone and the answer is out.
    on_trial: bool,
}

/// The values the cloud has refused.
#[derive(Debug, Default)]
pub struct Refusals {
    guilty: HashMap<Who, Guilty>,
    devices: HashSet<(u64, u32)>,
}

impl Refusals {
    /// Whether nothing of this device was refused.
    #[must_use]
    pub fn clear_of(&self, epoch: u64, device: u32) -> bool {
        self.devices.is_empty() || !self.devices.contains(&(epoch, device))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.guilty.is_empty()
    }

    /// The cloud refused this value, and it was alone.
    pub fn refused(&mut self, who: Who, why: Why, now: Duration) {
        self.device_refused(who, why, None, now);
    }

    /// The cloud refused a device, not a value of it.
    pub fn device_refused(&mut self, who: Who, why: Why, keys: Option<(String, String)>, now: Duration) {
        if self.guilty.len() >= MOST {
            self.guilty.retain(|_, guilty| guilty.until > now);
        }
        if self.guilty.len() < MOST {
            self.guilty.insert(who, Guilty { why, until: now + REMEMBERED, keys, on_trial: false });
            self.devices.insert((who.0, who.1));
        }
    }

    /// The cloud took a value that was on trial.
    pub fn forgiven(&mut self, who: Who) {
        let on_trial = |who: &Who| self.guilty.get(who).is_some_and(|guilty| guilty.on_trial);
        let whole = (who.0, who.1, ALL_POINTS);
        if let Some(found) = [whole, who].into_iter().find(on_trial) {
            self.guilty.remove(&found);
            if !self.guilty.keys().any(|(epoch, device, _)| (*epoch, *device) == (who.0, who.1)) {
                self.devices.remove(&(who.0, who.1));
            }
        }
    }

    /// The device has logged in: whether its readings are still refused is tried with the next one.
    pub fn try_device(&mut self, keys: &(String, String), now: Duration) {
        let of_it = self.guilty.values_mut().filter(|guilty| guilty.keys.as_ref() == Some(keys));
        of_it.for_each(|guilty| guilty.until = guilty.until.min(now));
    }

    /// The link is new: no trial is under way.
    pub fn reconnected(&mut self) {
        self.guilty.values_mut().for_each(|guilty| guilty.on_trial = false);
    }

    /// What to do with a value of this point.
    pub fn screen(&mut self, epoch: u64, device: u32, point: u32, now: Duration) -> Screened<'_> {
        let who =
            [(epoch, device, ALL_POINTS), (epoch, device, point)].into_iter().find(|w| self.guilty.contains_key(w));
        let Some(guilty) = who.and_then(|who| self.guilty.get_mut(&who)) else {
            return Screened::Clean;
        };
        if now >= guilty.until && !guilty.on_trial {
            guilty.on_trial = true;
            return Screened::Retry;
        }
        Screened::Refused(&guilty.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_code_has_its_meaning() {
        for (code, verdict) in [
            (200, Verdict::Delivered),
            (1204, Verdict::Value),
            (1206, Verdict::Value),
            (1220, Verdict::Value),
            (1212, Verdict::Device),
            (1009, Verdict::Device),
            (1008, Verdict::TooLarge),
            (429, Verdict::Overload),
            (503, Verdict::Overload),
            (500, Verdict::Busy),
            (520, Verdict::Busy),
            (0, Verdict::Busy),
            (-1, Verdict::Busy),
            (99_999, Verdict::Busy),
        ] {
            assert_eq!(Verdict::of(code), verdict, "{code}");
        }
    }

    #[test]
    fn a_refused_value_is_tried_alone_after_ten_minutes() {
        let mut refusals = Refusals::default();
        let why = Why { code: 1204, reason: "unknown point".to_owned() };
        let at = Duration::from_secs;
        refusals.refused((1, 2, 3), why.clone(), at(0));
        assert!(!refusals.clear_of(1, 2));
        assert!(refusals.clear_of(1, 3));
        assert_eq!(refusals.screen(1, 2, 4, at(1)), Screened::Clean);
        assert_eq!(refusals.screen(1, 2, 3, at(1)), Screened::Refused(&why));
        assert_eq!(refusals.screen(1, 2, 3, at(600)), Screened::Retry);
        assert_eq!(refusals.screen(1, 2, 3, at(601)), Screened::Refused(&why), "one trial at a time");
        refusals.forgiven((1, 2, 3));
        assert_eq!(refusals.screen(1, 2, 3, at(602)), Screened::Clean);
        assert!(refusals.is_empty() && refusals.clear_of(1, 2));
    }

    #[test]
    fn a_device_that_was_refused_as_a_whole_is_forgiven_when_any_reading_of_it_was_taken() {
        let mut refusals = Refusals::default();
        let (why, keys) = (Why { code: 1212, reason: String::new() }, ("pk".to_owned(), "d".to_owned()));
        refusals.device_refused((1, 2, ALL_POINTS), why, Some(keys.clone()), Duration::ZERO);
        refusals.try_device(&keys, Duration::from_secs(1));
        assert_eq!(refusals.screen(1, 2, 77, Duration::from_secs(1)), Screened::Retry);
        refusals.forgiven((1, 2, 77));
        assert!(refusals.is_empty() && refusals.clear_of(1, 2));
    }

    #[test]
    fn a_refused_device_stands_for_all_its_points() {
        let mut refusals = Refusals::default();
        let why = Why { code: 1212, reason: String::new() };
        refusals.refused((1, 2, ALL_POINTS), why.clone(), Duration::ZERO);
        assert_eq!(refusals.screen(1, 2, 77, Duration::ZERO), Screened::Refused(&why));
    }
}
