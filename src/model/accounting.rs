//! PURE. Counts what is sent to a destination, by kind and by day: a cloud charges by the message. Time is an argument.

use super::Timestamp;
use serde::Serialize;
use std::collections::VecDeque;

const DAY: i64 = 86_400_000;
const MINUTE: i64 = 60_000;
/// Minutes that the forecast looks back.
const LOOK_BACK: usize = 15;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Live readings.
    Post,
    /// Late readings, or those that waited.
    Resume,
    /// Logins, topology and whatever else is asked of a cloud.
    Request,
    /// Answers to commands.
    Answer,
}

/// Messages of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub messages: u64,
    /// Of payloads, as they travel.
    pub bytes: u64,
    /// In them; 0 for what carries none.
    pub readings: u64,
}

/// All kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub post: Count,
    pub resume: Count,
    pub request: Count,
    pub answer: Count,
}

/// What `status` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Shown {
    pub since_start: Counts,
    /// Since midnight UTC.
    pub today: Counts,
    pub yesterday: Counts,
    /// Readings in a message of data, since the start.
    pub readings_per_message: f64,
    /// Messages of a whole day, if it goes on as in the last quarter of an hour.
    pub messages_a_day: u64,
    /// Late readings that their points wanted removed, since the start.
    pub late_removed: u64,
}

/// One destination's accounts.
#[derive(Debug, Default)]
pub struct Accounting {
    shown: Shown,
    day: Option<i64>,
    /// Minute, messages in it; the newest last.
    minutes: VecDeque<(i64, u64)>,
}

impl Counts {
    fn of(&mut self, kind: Kind) -> &mut Count {
        match kind {
            Kind::Post => &mut self.post,
            Kind::Resume => &mut self.resume,
            Kind::Request => &mut self.request,
            Kind::Answer => &mut self.answer,
        }
    }
}

impl Accounting {
    /// These messages went out.
    pub fn sent(&mut self, kind: Kind, more: Count, now: Timestamp) {
        self.turn(now);
        for counts in [&mut self.shown.since_start, &mut self.shown.today] {
            let count = counts.of(kind);
            count.messages += more.messages;
            count.bytes += more.bytes;
            count.readings += more.readings;
        }
        let minute = now.0.div_euclid(MINUTE);
        match self.minutes.back_mut() {
            // A clock that was set back counts on in the newest minute.
            Some((newest, messages)) if *newest >= minute => *messages += more.messages,
            _ => self.minutes.push_back((minute, more.messages)),
        }
        if self.minutes.len() > LOOK_BACK + 1 {
            self.minutes.pop_front();
        }
    }

    pub fn late_removed(&mut self, readings: u64) {
        self.shown.late_removed += readings;
    }

    /// A new day begins. A clock that was set back stays in the day that was.
    fn turn(&mut self, now: Timestamp) {
        let today = now.0.div_euclid(DAY);
        let day = *self.day.get_or_insert(today);
        if today > day {
            let gone = std::mem::take(&mut self.shown.today);
            self.shown.yesterday = if today == day + 1 { gone } else { Counts::default() };
            self.day = Some(today);
        }
    }

    #[must_use]
    pub fn shown(&mut self, now: Timestamp) -> Shown {
        self.turn(now);
        let mut shown = self.shown;
        let data = [shown.since_start.post, shown.since_start.resume];
        let messages: u64 = data.iter().map(|count| count.messages).sum();
        let readings: u64 = data.iter().map(|count| count.readings).sum();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let per_message = readings as f64 / messages.max(1) as f64;
        shown.readings_per_message = (per_message * 10.0).round() / 10.0;
        shown.messages_a_day = self.forecast(now);
        shown
    }

    /// From whole minutes only; the running one would make it jump.
    fn forecast(&self, now: Timestamp) -> u64 {
        let minute = now.0.div_euclid(MINUTE);
        let from = minute - i64::try_from(LOOK_BACK).expect("a small number");
        let Some((first, _)) = self.minutes.front() else { return 0 };
        let whole = self.minutes.iter().filter(|(at, _)| (from..minute).contains(at));
        let messages: u64 = whole.map(|(_, messages)| messages).sum();
        let minutes = minute.saturating_sub(from.max(*first)).max(0);
        u64::try_from(minutes).ok().filter(|minutes| *minutes > 0).map_or(0, |minutes| messages * 1440 / minutes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDNIGHT: i64 = 20_000 * DAY;

    fn one(readings: u64) -> Count {
        Count { messages: 1, bytes: 100, readings }
    }

    #[test]
    fn days_end_at_midnight_and_a_day_without_messages_is_empty() {
        let mut accounting = Accounting::default();
        accounting.sent(Kind::Post, one(10), Timestamp(MIDNIGHT - 1));
        accounting.sent(Kind::Resume, one(5), Timestamp(MIDNIGHT));
        accounting.sent(Kind::Answer, one(0), Timestamp(MIDNIGHT + 1));
        let shown = accounting.shown(Timestamp(MIDNIGHT + 2));
        assert_eq!((shown.yesterday.post, shown.today.post), (one(10), Count::default()));
        assert_eq!((shown.today.resume, shown.today.answer), (one(5), one(0)));
        assert_eq!((shown.since_start.post, shown.readings_per_message), (one(10), 7.5));
        let later = accounting.shown(Timestamp(MIDNIGHT + 2 * DAY));
        assert_eq!((later.today, later.yesterday), (Counts::default(), Counts::default()));
        assert_eq!(later.since_start, shown.since_start);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_no_day() {
        let mut accounting = Accounting::default();
        accounting.sent(Kind::Post, one(1), Timestamp(MIDNIGHT));
        accounting.sent(Kind::Post, one(1), Timestamp(MIDNIGHT - 1));
        let shown = accounting.shown(Timestamp(MIDNIGHT));
        assert_eq!((shown.today.post.messages, shown.yesterday.post.messages), (2, 0));
    }

    #[test]
    fn the_forecast_is_the_rate_of_the_last_minutes() {
        let mut accounting = Accounting::default();
        assert_eq!(accounting.shown(Timestamp(MIDNIGHT)).messages_a_day, 0);
        for second in 0..1800 {
            accounting.sent(Kind::Post, one(1), Timestamp(MIDNIGHT + second * 1000));
        }
        assert_eq!(accounting.shown(Timestamp(MIDNIGHT + 1_800_000)).messages_a_day, 86_400);
        assert_eq!(accounting.shown(Timestamp(MIDNIGHT + 2_700_000)).messages_a_day, 0, "it stopped");
        accounting.late_removed(3);
        assert_eq!(accounting.shown(Timestamp(MIDNIGHT + 2_700_000)).late_removed, 3);
    }
}
