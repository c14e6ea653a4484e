//! PURE. Local time out of a file of zones (RFC 9636) and its last line, the rule for years to come (POSIX TZ).

/// Offsets from UTC, in seconds, east positive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// From this second on (1970, UTC) this offset holds; sorted.
    changes: Vec<(i64, i32)>,
    /// Before the first change.
    first: i32,
    /// After the last one.
    rule: Option<Rule>,
}

/// `CET-1CEST,M3.5.0,M10.5.0/3`
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    standard: i32,
    /// Summer's offset, and when it begins and ends, in local time of the other.
    summer: Option<(i32, Turn, Turn)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn {
    day: Day,
    seconds: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// Month, week (5: the last), weekday from Sunday 0.
    Month(u32, u32, u32),
    /// 1 to 365 without 29 February.
    Julian(i64),
    /// 0 to 365.
    Year(i64),
}

impl Zone {
    #[must_use]
    pub fn utc() -> Zone {
        Zone { changes: Vec::new(), first: 0, rule: None }
    }

    /// Reads a file of zones, version 2 or newer (all are, since 2006).
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(file: &[u8]) -> Result<Zone, String> {
        let head = Head::parse(file).ok_or("is no file of time zones")?;
        if head.version < b'2' {
            return Err("is a file of time zones of an old format".to_owned());
        }
        let second = file.get(44 + head.length(4)..).ok_or("is cut off")?;
        let head = Head::parse(second).ok_or("is cut off")?;
        let body = second.get(44..).unwrap_or_default();
        read(&head, body).ok_or_else(|| "is cut off or broken".to_owned())
    }

    /// Seconds east of UTC at this second of 1970, UTC.
    #[must_use]
    pub fn offset(&self, at: i64) -> i32 {
        let after = self.changes.partition_point(|(from, _)| *from <= at);
        match (&self.rule, after) {
            (Some(rule), after) if after == self.changes.len() => rule.offset(at),
            (_, 0) => self.first,
            (_, after) => self.changes[after - 1].1,
        }
    }
}

impl Rule {
    fn offset(&self, at: i64) -> i32 {
        let Some((summer, begins, ends)) = &self.summer else { return self.standard };
        let year = civil((at + i64::from(self.standard)).div_euclid(86_400)).0;
        let begin = begins.at(year) - i64::from(self.standard);
        let end = ends.at(year) - i64::from(*summer);
        let is_summer = if begin < end { (begin..end).contains(&at) } else { !(end..begin).contains(&at) };
        if is_summer { *summer } else { self.standard }
    }

    fn parse(text: &str) -> Option<Rule> {
        let (standard, rest) = named_offset(text)?;
        if rest.is_empty() {
            return Some(Rule { standard, summer: None });
        }
        let rest = after_name(rest)?;
        let (summer, rest) = match rest.split_at_checked(rest.find(',')?)? {
            ("", rest) => (standard + 3600, rest),
            (offset, rest) => (-clock(offset)?, rest),
        };
        let mut turns = rest.strip_prefix(',')?.split(',').map(Turn::parse);
        let (begins, ends) = (turns.next()??, turns.next()??);
        Some(Rule { standard, summer: Some((summer, begins, ends)) })
    }
}

impl Turn {
    fn parse(text: &str) -> Option<Turn> {
        let (day, time) = text.split_once('/').map_or((text, None), |(day, time)| (day, Some(time)));
        let seconds = time.map_or(Some(7200), clock)?;
        let day = if let Some(rest) = day.strip_prefix('M') {
            let mut parts = rest.split('.').map(str::parse::<u32>);
            let (month, week, weekday) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
            ((1..=12).contains(&month) && (1..=5).contains(&week) && weekday < 7)
                .then_some(Day::Month(month, week, weekday))?
        } else if let Some(rest) = day.strip_prefix('J') {
            Day::Julian(rest.parse().ok()?)
        } else {
            Day::Year(day.parse().ok()?)
        };
        Some(Turn { day, seconds })
    }

    /// Seconds since 1970 of the wall clock.
    fn at(self, year: i64) -> i64 {
        let january = days(year, 1, 1);
        let day = match self.day {
            Day::Year(number) => january + number,
            Day::Julian(number) => january + number - 1 + i64::from(number > 59 && is_leap(year)),
            Day::Month(month, week, weekday) => {
                let first = days(year, month, 1);
                // 1 January 1970 was a Thursday.
                let lead = (i64::from(weekday) - (first + 4).rem_euclid(7)).rem_euclid(7);
                let length = days(year + i64::from(month == 12), month % 12 + 1, 1) - first;
                let mut day = lead + 7 * i64::from(week - 1);
                if day >= length {
                    day -= 7;
                }
                first + day
            }
        };
        day * 86_400 + i64::from(self.seconds)
    }
}

/// What stands before the body.
struct Head {
    version: u8,
    /// UT indicators, standard indicators, leaps, transitions, types, letters.
    counts: [usize; 6],
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Head> {
        let head = bytes.get(..44).filter(|head| head.starts_with(b"TZif"))?;
        let mut counts = [0; 6];
        for (count, four) in counts.iter_mut().zip(head[20..].chunks_exact(4)) {
            *count = usize::try_from(u32::from_be_bytes(four.try_into().ok()?)).ok().filter(|count| *count < 65_536)?;
        }
        Some(Head { version: head[4], counts })
    }

    /// Bytes of the body when times take so many each.
    fn length(&self, time: usize) -> usize {
        let [ut, standard, leaps, transitions, types, letters] = self.counts;
        transitions * (time + 1) + types * 6 + letters + leaps * (time + 4) + standard + ut
    }
}

fn read(head: &Head, body: &[u8]) -> Option<Zone> {
    let [_, _, _, transitions, types, _] = head.counts;
    let (times, rest) = body.split_at_checked(transitions * 8)?;
    let (kinds, rest) = rest.split_at_checked(transitions)?;
    let offsets: Vec<i32> = rest
        .get(..types * 6)?
        .chunks_exact(6)
        .map(|kind| i32::from_be_bytes([kind[0], kind[1], kind[2], kind[3]]))
        .collect();
    let mut changes = Vec::with_capacity(transitions);
    for (time, kind) in times.chunks_exact(8).zip(kinds) {
        changes.push((i64::from_be_bytes(time.try_into().ok()?), *offsets.get(usize::from(*kind))?));
    }
    let footer = body.get(head.length(8)..)?;
    let footer = std::str::from_utf8(footer).ok()?.strip_prefix('\n')?.split_once('\n')?.0;
    let rule = if footer.is_empty() { None } else { Some(Rule::parse(footer)?) };
    Some(Zone { changes, first: *offsets.first()?, rule })
}

/// A name and its offset: `CET-1` is an hour east.
fn named_offset(text: &str) -> Option<(i32, &str)> {
    let rest = after_name(text)?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '+' | '-'))).unwrap_or(rest.len());
    Some((-clock(&rest[..end])?, &rest[end..]))
}

fn after_name(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('<') {
        return rest.split_once('>').map(|(_, rest)| rest);
    }
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    (end >= 3).then(|| &text[end..])
}

/// `[+-]h[h][:mm[:ss]]` in seconds.
fn clock(text: &str) -> Option<i32> {
    let (sign, text) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let mut seconds = 0;
    for (part, unit) in text.split(':').zip([3600, 60, 1]) {
        seconds += part.parse::<i32>().ok().filter(|number| (0..=167).contains(number))? * unit;
    }
    Some(sign * seconds)
}

fn is_leap(year: i64) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

/// Days since 1970 of a date of the Gregorian calendar.
#[must_use]
pub fn days(year: i64, month: u32, day: u32) -> i64 {
    // A year that begins in March has its leap day at its end.
    let (year, month) = if month > 2 { (year, i64::from(month) - 3) } else { (year - 1, i64::from(month) + 9) };
    let in_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + in_year - 719_468
}

/// Year, month and day of a day since 1970.
#[must_use]
pub fn civil(day: i64) -> (i64, u32, u32) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let in_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let date = in_year - (153 * month + 2) / 5 + 1;
    let civil_month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(civil_month <= 2);
    (year, u32::try_from(civil_month).unwrap_or(1), u32::try_from(date).unwrap_or(1))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::update) fn of_rule(rule: &str) -> Zone {
        Zone { changes: Vec::new(), first: 0, rule: Some(Rule::parse(rule).unwrap()) }
    }

    #[test]
    fn dates_and_days_are_one_another_s_reverse() {
        assert_eq!((days(1970, 1, 1), days(2000, 3, 1), days(2026, 11, 22)), (0, 11_017, 20_779));
        for day in (-200_000..200_000).step_by(37) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
    }

    #[test]
    fn rules_turn_at_the_second() {
        let berlin = of_rule("CET-1CEST,M3.5.0,M10.5.0/3");
        let spring = days(2026, 3, 29) * 86_400 + 3600;
        assert_eq!((berlin.offset(spring - 1), berlin.offset(spring)), (3600, 7200));
        let autumn = days(2026, 10, 25) * 86_400 + 3600;
        assert_eq!((berlin.offset(autumn - 1), berlin.offset(autumn)), (7200, 3600));
        let santiago = of_rule("<-04>4<-03>,M9.1.6/24,M4.1.6/24");
        assert_eq!(santiago.offset(days(2026, 1, 15) * 86_400), -10_800, "summer over the turn of the year");
        assert_eq!(santiago.offset(days(2026, 7, 15) * 86_400), -14_400);
        assert_eq!(of_rule("<+0530>-5:30").offset(0), 19_800);
        let newfoundland = of_rule("NST3:30NDT,M3.2.0,M11.1.0");
        assert_eq!(newfoundland.offset(days(2026, 7, 1) * 86_400), -9000);
        for wrong in ["", "C1", "CET", "CET-1CEST", "CET-1CEST,M13.1.0,M1.1.0", "CET-1CEST,M3.5.0"] {
            assert_eq!(Rule::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_of_zones_is_read_with_its_history_and_its_rule() {
        let mut file = Vec::new();
        let head = |counts: [u32; 6]| {
            let mut head = b"TZif2".to_vec();
            head.resize(20, 0);
            head.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
            head
        };
        file.extend(head([0, 0, 0, 0, 1, 4]));
        file.extend([0; 6]);
        file.extend(b"LMT\0");
        file.extend(head([0, 0, 0, 1, 2, 8]));
        file.extend(1000i64.to_be_bytes());
        file.push(1);
        file.extend(100i32.to_be_bytes());
        file.extend([0, 0]);
        file.extend(3600i32.to_be_bytes());
        file.extend([0, 4]);
        file.extend(b"LMT\0CET\0\nCET-1CEST,M3.5.0,M10.5.0/3\n");
        let zone = Zone::parse(&file).unwrap();
        assert_eq!((zone.offset(999), zone.offset(1000)), (100, 3600));
        assert_eq!(zone.offset(days(2030, 7, 1) * 86_400), 7200);
        for length in 0..file.len() - 1 {
            assert!(Zone::parse(&file[..length]).is_err(), "cut at {length}");
        }
    }
}
