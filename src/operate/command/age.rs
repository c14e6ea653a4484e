//! PURE. How long a command is still good for.

use crate::config::CommandConfig;
use crate::model::command::What;
use crate::model::{Command, Timestamp, clock};
use std::time::Duration;

/// Whether a clock that tells this time was ever set.
pub(super) fn is_set(time: i64) -> bool {
    clock::is_set(Timestamp(time))
}

/// What is left of a command's time at `now`, when it came.
///
/// # Errors
/// Why it must not be carried out.
pub(super) fn left(command: &Command, now: Timestamp, config: &CommandConfig) -> Result<Duration, String> {
    if command.retained {
        return Err("the broker kept it and its age is not known".to_owned());
    }
    // Without an id nobody can tell whether it was carried out then; to read twice does no harm.
    if command.again && command.id.is_none() && !matches!(command.what, What::Get(_)) {
        return Err("the broker may have brought it before, and it has no id to tell".to_owned());
    }
    let time_to_live = command.time_to_live.unwrap_or(config.default_time_to_live).min(config.longest_time_to_live);
    let Some(issued) = command.issued_at else {
        return if time_to_live.is_zero() { Err("its time to live is 0".to_owned()) } else { Ok(time_to_live) };
    };
    if !is_set(now.0) {
        return Err("the gateway's clock is not set, so its age is not known".to_owned());
    }
    let age = now.0.saturating_sub(issued.0);
    if age < -millis(config.clock_skew) {
        return Err(format!("it was issued {} ms in the future; the clocks are apart", age.unsigned_abs()));
    }
    let age = Duration::from_millis(u64::try_from(age).unwrap_or(0));
    match time_to_live.checked_sub(age) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err(format!("it is {} ms old and was good for {} ms", age.as_millis(), time_to_live.as_millis())),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command::Target;

    const NOW: i64 = 1_800_000_000_000;

    fn left_of(issued: Option<i64>, ttl: Option<u64>, retained: bool, now: i64) -> Result<u128, String> {
        let command = Command {
            door: "enos".into(),
            id: None,
            target: Target::Edge,
            what: What::Get(vec![]),
            issued_at: issued.map(Timestamp),
            time_to_live: ttl.map(Duration::from_millis),
            retained,
            again: false,
        };
        left(&command, Timestamp(now), &CommandConfig::default()).map(|left| left.as_millis())
    }

    #[test]
    fn time_counts_from_the_issue_and_else_from_the_arrival() {
        assert_eq!(left_of(None, None, false, NOW), Ok(30_000));
        assert_eq!(left_of(Some(NOW - 4000), Some(5000), false, NOW), Ok(1000));
        assert_eq!(left_of(None, Some(u64::MAX), false, NOW), Ok(3_600_000));
        assert!(left_of(Some(NOW - 5000), Some(5000), false, NOW).is_err());
        assert!(left_of(Some(NOW - 31_000), None, false, NOW).is_err(), "late by its time to live and a second");
        assert!(left_of(None, Some(0), false, NOW).is_err());
    }

    #[test]
    fn what_may_have_come_before_is_carried_out_only_if_its_id_tells() {
        let write = What::Set(serde_json::Map::new());
        for (id, what, good) in [
            (None, write.clone(), false),
            (Some("1"), write, true),
            (None, What::Raw(vec![6]), false),
            (None, What::Get(vec![]), true),
        ] {
            let command = Command {
                door: "enos".into(),
                id: id.map(str::to_owned),
                target: Target::Edge,
                what,
                issued_at: None,
                time_to_live: None,
                retained: false,
                again: true,
            };
            assert_eq!(left(&command, Timestamp(NOW), &CommandConfig::default()).is_ok(), good, "{command:?}");
        }
    }

    #[test]
    fn what_has_no_known_age_is_too_old() {
        assert!(left_of(None, None, true, NOW).is_err());
        assert!(left_of(Some(1000), None, false, 2000).is_err(), "1970");
        assert_eq!(left_of(Some(NOW + 5000), None, false, NOW), Ok(30_000), "clocks 5 s apart");
        assert!(left_of(Some(NOW + 5001), None, false, NOW).is_err());
        assert!(left_of(Some(i64::MIN), None, false, NOW).is_err());
        assert!(left_of(Some(i64::MAX), None, false, NOW).is_err());
    }
}
