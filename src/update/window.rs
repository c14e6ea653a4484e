//! PURE. Whether a maintenance window is open, and when the next one opens. Right also on days of 23 and 25 hours.

use super::zone::{Zone, civil};
use crate::config::Window;

const DAY: i64 = 86_400;
/// A weekly window comes again within this.
const AHEAD: i64 = 9;

/// `None` when an update may run now (always, without windows); else the second of 1970 when the next window opens.
#[must_use]
pub fn closed_until(windows: &[Window], zone: &Zone, now: i64) -> Option<i64> {
    if windows.is_empty() {
        return None;
    }
    let today = (now + i64::from(zone.offset(now))).div_euclid(DAY);
    let spans = || {
        windows.iter().flat_map(move |window| {
            let days = (today - 1..=today + AHEAD).filter(|day| begins_on(*window, *day));
            days.map(move |day| span(*window, zone, day))
        })
    };
    if spans().any(|(from, to)| (from..to).contains(&now)) {
        return None;
    }
    spans().map(|(from, _)| from).filter(|from| *from > now).min().or(Some(now + DAY))
}

/// `sun 2026-11-22 22:00` on the wall clock.
#[must_use]
pub fn wall_clock(zone: &Zone, at: i64) -> String {
    let local = at + i64::from(zone.offset(at));
    let day = local.div_euclid(DAY);
    let (year, month, date) = civil(day);
    let name = ["thu", "fri", "sat", "sun", "mon", "tue", "wed"][usize::try_from(day.rem_euclid(7)).unwrap_or(0)];
    let minutes = local.rem_euclid(DAY) / 60;
    format!("{name} {year}-{month:02}-{date:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

fn begins_on(window: Window, day: i64) -> bool {
    // 1 January 1970 was a Thursday, bit 3.
    window.days & (1 << (day + 3).rem_euclid(7)) != 0
}

fn span(window: Window, zone: &Zone, day: i64) -> (i64, i64) {
    let minutes = |minutes: u16| i64::from(minutes) * 60;
    let over_midnight = window.to < window.from;
    let begin = day * DAY + minutes(window.from);
    let end = (day + i64::from(over_midnight)) * DAY + minutes(window.to);
    let (from, to) = (instants(zone, begin).0, instants(zone, end).1);
    // The clocks jumped over all of it: it lasts as long as it would have.
    (from, if to > from { to } else { from + end - begin })
}

/// The first and the last second at which the wall clock shows this; where it jumps over it, the second of the jump.
fn instants(zone: &Zone, wall: i64) -> (i64, i64) {
    // No zone is further than this from UTC, and none turns twice in so short a time.
    let (before, after) = (i64::from(zone.offset(wall - DAY)), i64::from(zone.offset(wall + DAY)));
    let (early, late) = (wall - before.max(after), wall - before.min(after));
    let fits = |at: i64| at + i64::from(zone.offset(at)) == wall;
    match (fits(early), fits(late)) {
        (true, true) => (early, late),
        (true, false) => (early, early),
        (false, true) => (late, late),
        (false, false) => {
            let jump = jump(zone, early, late);
            (jump, jump)
        }
    }
}

/// The second between both at which the offset changes.
fn jump(zone: &Zone, mut before: i64, mut after: i64) -> i64 {
    let old = zone.offset(before);
    while after - before > 1 {
        let middle = i64::midpoint(before, after);
        if zone.offset(middle) == old { before = middle } else { after = middle }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::super::zone::tests::of_rule;
    use super::*;
    use crate::update::zone::days;

    const DAILY: u8 = 0b111_1111;

    fn window(days: u8, from: (u16, u16), to: (u16, u16)) -> Window {
        Window { days, from: from.0 * 60 + from.1, to: to.0 * 60 + to.1 }
    }

    /// Minutes of a day, UTC, during which the window is open.
    fn open(window: Window, zone: &Zone, from: i64, to: i64) -> i64 {
        (from..to).step_by(60).filter(|at| closed_until(&[window], zone, *at).is_none()).count() as i64
    }

    #[test]
    fn without_windows_any_time_is_good() {
        assert_eq!(closed_until(&[], &Zone::utc(), 5), None);
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let friday_night = window(1 << 4, (22, 0), (4, 0));
        let friday = days(2026, 11, 20) * DAY;
        let zone = Zone::utc();
        for (at, is_open) in
            [(21 * 3600 + 3599, false), (22 * 3600, true), (DAY + 4 * 3600 - 1, true), (DAY + 4 * 3600, false)]
        {
            assert_eq!(closed_until(&[friday_night], &zone, friday + at).is_none(), is_open, "{at}");
        }
        assert_eq!(closed_until(&[friday_night], &zone, friday), Some(friday + 22 * 3600));
        let next = closed_until(&[friday_night], &zone, friday + 2 * DAY).unwrap();
        assert_eq!(next, friday + 7 * DAY + 22 * 3600);
        assert_eq!(wall_clock(&zone, next), "fri 2026-11-27 22:00");
        let all_day = window(DAILY, (0, 0), (24, 0));
        assert_eq!(open(all_day, &zone, friday, friday + 3 * DAY), 3 * 1440);
    }

    #[test]
    fn days_of_23_and_25_hours_have_their_windows() {
        let berlin = of_rule("CET-1CEST,M3.5.0,M10.5.0/3");
        let (spring, autumn) = (days(2026, 3, 29) * DAY - 3600, days(2026, 10, 25) * DAY - 7200);
        let night = window(DAILY, (1, 0), (5, 0));
        assert_eq!(open(night, &berlin, spring, spring + DAY), 180, "from 1 to 5, and 2 to 3 is not there");
        assert_eq!(open(night, &berlin, autumn, autumn + DAY), 300, "from 1 to 5, and 2 to 3 is there twice");
        let lost = window(DAILY, (2, 15), (2, 45));
        assert_eq!(open(lost, &berlin, spring, spring + DAY), 30, "the clocks jump over it, and it is not left out");
        assert_eq!(open(lost, &berlin, autumn, autumn + DAY), 90, "it ends when the clock shows its end for good");
        for day in (85..90).chain(295..300) {
            let midnight = days(2026, 1, 1) * DAY + day * DAY;
            assert!(open(lost, &berlin, midnight, midnight + DAY) >= 30, "day {day}");
        }
    }

    #[test]
    fn a_closed_window_always_names_an_opening_that_is_open() {
        let zone = of_rule("NST3:30NDT,M3.2.0,M11.1.0");
        for number in 0..2000 {
            let at = days(2026, 1, 1) * DAY + number * 17_351;
            let window = window(1 << (number % 7), ((number % 24) as u16, 30), (((number * 5) % 24) as u16, 10));
            if let Some(opens) = closed_until(&[window], &zone, at) {
                assert!(opens > at && closed_until(&[window], &zone, opens).is_none(), "{number}");
            }
        }
    }
}
