//! PURE. Numbers of `edge.yaml` with their range and default.

use crate::diagnostic::Diagnostic;
use crate::yaml::fields::{Faults, Fields};
use std::time::Duration;

pub(super) fn seconds(
    f: &Fields<'_, '_>,
    key: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    faults: &mut Faults,
) -> Duration {
    Duration::from_secs(whole(f, key, default, range, faults))
}

pub(super) fn millis(
    f: &Fields<'_, '_>,
    key: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    faults: &mut Faults,
) -> Duration {
    Duration::from_millis(whole(f, key, default, range, faults))
}

pub(super) fn whole(
    fields: &Fields<'_, '_>,
    key: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
    faults: &mut Faults,
) -> u64 {
    let Some(text) = fields.text(key, faults) else { return default };
    match text.text.parse::<u64>() {
        Ok(number) if range.contains(&number) => number,
        _ => {
            faults.push(Diagnostic::error(text.place, format!("{key}: \"{}\" does not fit", text.text)).help(format!(
                "write a whole number from {} to {}; default {default}",
                range.start(),
                range.end()
            )));
            default
        }
    }
}
