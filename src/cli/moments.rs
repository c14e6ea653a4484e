//! Times, spans and sizes as people read them. Pure: the time now is an argument.

/// "up 5 min": the largest unit that says enough.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// "2 s ago", "in 5 s", "now"; both in milliseconds since 1970. Nothing for a time that never was.
pub(super) fn relative(time: i64, now: i64) -> String {
    if time <= 0 {
        return String::new();
    }
    let seconds = now.abs_diff(time) / 1000;
    match (seconds, time <= now) {
        (0, _) => "now".into(),
        (_, true) => format!("{} ago", span(seconds)),
        (_, false) => format!("in {}", span(seconds)),
    }
}

/// "2026-11-22 12:03:10Z".
pub(super) fn stamp(time: i64) -> String {
    let (days, seconds) = (time.div_euclid(86_400_000), time.rem_euclid(86_400_000) / 1000);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March here, so that the leap day is the last.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day_of_month)
}

/// 3 456 789 -> "3.5 MB".
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match UNITS.iter().find(|(least, _)| bytes >= *least) {
        #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
        Some((least, unit)) => format!("{:.1} {unit}", bytes as f64 / *least as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_from_now() {
        let now = 1_700_000_000_000;
        let told = [0, now, now - 2500, now - 600_000, now + 5000].map(|time| relative(time, now));
        assert_eq!(told, ["", "now", "2 s ago", "10 min ago", "in 5 s"]);
    }

    #[test]
    fn a_stamp_is_the_calendars() {
        let stamps = [0, 951_782_400_000, 1_709_164_799_000, 1_763_812_990_123].map(stamp);
        assert_eq!(
            stamps,
            ["1970-01-01 00:00:00Z", "2000-02-29 00:00:00Z", "2024-02-28 23:59:59Z", "2025-11-22 12:03:10Z"]
        );
    }

    #[test]
    fn a_size_has_a_unit() {
        assert_eq!(
            [0, 999, 1500, 3_456_789, 1_073_741_824].map(size),
            ["0 bytes", "999 bytes", "1.5 kB", "3.5 MB", "1.1 GB"]
        );
    }
}
