//! PURE. How many bytes a second go out: at most what is agreed, less where the cloud says that it is too much. Time is
//! an argument.
//!
//! What is agreed is kept to in every second, not on average. Each message takes its time on a running clock, and the
//! next one waits for it; live data may overdraw that clock a little, so that it never waits for a message of backlog.
//!
//! What the cloud refuses is learned as CUBIC learns of a link (RFC 9438): down to a part of what was taken, back to it
//! soon, past it slowly and then ever faster, so that a limit that was lifted is found again.

use super::taken::{Slots, Taken};
use std::time::Duration;

/// One message takes at most this part of a second's bytes.
const PARTS: u64 = 8;
/// Smaller ones where the cloud says what is too much: it may count in short steps.
const PARTS_LEARNED: u64 = 24;
const SMALLEST_MESSAGE: usize = 2 << 10;
/// How far live data may run ahead of the clock.
const OVERDRAFT: Duration = Duration::from_millis(100);
/// Slower than this is not learned: it is about a reading every few seconds and would look like an outage.
const SLOWEST: f64 = 1024.0;
/// Where it begins when nothing is known of what the cloud takes.
const BLIND: f64 = 64.0 * 1024.0;
/// What is left after a refusal, of what was taken before;
const DOWN: f64 = 0.93;
/// besides, when it comes again before a whole second went through;
const DOWN_MORE: f64 = 0.85;
/// and when it comes once more, or nothing is known.
const DOWN_BLIND: f64 = 0.5;
/// Refusals within this time are one: what was under way is refused together.
const ONE_REFUSAL: Duration = Duration::from_secs(1);
/// So soon the rate is back where it was refused,
const BACK: f64 = 5.0;
/// so long it is tried a little above,
const TRIED: f64 = 30.0;
const ABOVE: f64 = 0.04;
/// and then it doubles in this time; sooner when nobody knows what the cloud takes.
const DOUBLES: f64 = 15.0;
const DOUBLES_BLIND: f64 = 2.0;
/// A rate so far beyond the refusal is no bound any more.
const FORGOTTEN: f64 = 64.0;

/// The bounds of bytes sent.
#[derive(Debug)]
pub struct Throttle {
    agreed: Option<u64>,
    learned: Option<Learned>,
    /// When all that was sent has had its time.
    next: Duration,
    sent: Slots,
    taken: Taken,
}

/// A refusal and what followed.
#[derive(Clone, Copy, Debug)]
struct Learned {
    /// Bytes a second that are about what the cloud takes.
    peak: f64,
    /// Bytes a second after the refusal.
    low: f64,
    at: Duration,
    known: Known,
}

/// How sure the peak is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Well,
    /// It was measured while the rate grew fast: it may lie well below.
    Roughly,
    Not,
}

impl Throttle {
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>) -> Throttle {
        let agreed = bytes_per_second.map(|rate| rate.max(PARTS));
        Throttle { agreed, learned: None, next: Duration::ZERO, sent: Slots::default(), taken: Taken::default() }
    }

    /// Bytes a second at the moment; `None` without a bound.
    #[must_use]
    pub fn rate(&self, now: Duration) -> Option<f64> {
        let learned = self.learned.map(|learned| learned.rate(now));
        match (self.agreed_rate(), learned) {
            (Some(agreed), Some(learned)) => Some(agreed.min(learned)),
            (agreed, learned) => agreed.or(learned),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate is far below 2^52")]
    fn agreed_rate(&self) -> Option<f64> {
        self.agreed.map(|agreed| agreed as f64)
    }

    /// What the cloud is thought to take, while that is less than agreed.
    #[must_use]
    pub fn slowed_to(&self, now: Duration) -> Option<u64> {
        let learned = self.learned?.rate(now);
        self.agreed_rate().is_none_or(|agreed| learned < agreed).then_some(whole(learned))
    }

    /// The largest message that fits into what is left of the second.
    #[must_use]
    pub fn room(&self, now: Duration) -> usize {
        let left = self.agreed.map_or(u64::MAX, |agreed| agreed.saturating_sub(self.sent.sum(now)));
        self.message_bytes(now).min(usize::try_from(left).unwrap_or(usize::MAX)).max(SMALLEST_MESSAGE)
    }

    /// The largest message that does not make the others wait for long.
    #[must_use]
    pub fn message_bytes(&self, now: Duration) -> usize {
        let parts = if self.learned.is_some() { PARTS_LEARNED } else { PARTS };
        let part = |rate| usize::try_from(whole(rate) / parts).unwrap_or(usize::MAX);
        self.rate(now).map_or(usize::MAX, |rate| part(rate).max(SMALLEST_MESSAGE))
    }

    /// When live data may be sent.
    #[must_use]
    pub fn live_from(&self) -> Duration {
        let clock = self.next.saturating_sub(OVERDRAFT);
        self.agreed.map_or(clock, |agreed| clock.max(self.sent.below(agreed)))
    }

    /// When backlog may be sent.
    #[must_use]
    pub fn backlog_from(&self) -> Duration {
        self.agreed.map_or(self.next, |agreed| self.next.max(self.sent.below(agreed - agreed / PARTS / 2)))
    }

    pub fn sent(&mut self, bytes: usize, now: Duration) {
        self.sent.add(bytes as u64, now);
        if let Some(rate) = self.rate(now) {
            #[expect(clippy::cast_precision_loss, reason = "a message is far below 2^52 bytes")]
            let takes = Duration::from_secs_f64(bytes as f64 / rate);
            self.next = self.next.max(now) + takes;
        }
    }

    /// The cloud took so much.
    pub fn delivered(&mut self, bytes: usize, now: Duration) {
        self.taken.add(bytes as u64, now);
        let agreed = self.agreed_rate();
        if let Some(learned) = &mut self.learned {
            let rate = learned.rate(now);
            if agreed.is_some_and(|agreed| rate > 1.25 * agreed) || rate > FORGOTTEN * learned.peak {
                self.learned = None;
            }
        }
    }

    /// The cloud has too much. Returns whether that is news.
    pub fn refused(&mut self, now: Duration) -> bool {
        self.slow_down(0.0, now)
    }

    /// The peer hung up on what was just sent, for the `nth` time in a row, and took something since the last time. What
    /// it took may be all there was: a trickle says nothing about what it can take, until it hangs up again and again.
    pub fn hung_up_on(&mut self, nth: u32, now: Duration) -> bool {
        self.slow_down(BLIND / f64::from(nth.min(16)).exp2(), now)
    }

    /// `least`: bytes a second that it certainly takes.
    fn slow_down(&mut self, least: f64, now: Duration) -> bool {
        if self.learned.is_some_and(|learned| now < learned.at + ONE_REFUSAL) {
            return false;
        }
        let before = self.rate(now);
        let taken = self.taken.best(now);
        self.taken.forget(now);
        self.learned = Some(match (taken, before) {
            (Some(taken), before) => {
                let rough = self.learned.is_none_or(|learned| learned.hurries(now));
                Learned::new(
                    taken.max(least).min(before.unwrap_or(f64::MAX)),
                    DOWN,
                    if rough { Known::Roughly } else { Known::Well },
                    now,
                )
            }
            // No whole second went through since the last one: that was a little too much, or nothing is known.
            (None, Some(before)) if self.learned.is_some_and(|learned| learned.known == Known::Well) => {
                Learned::new(before * DOWN_MORE, DOWN, Known::Roughly, now)
            }
            (None, before) => Learned::new(before.unwrap_or(BLIND), DOWN_BLIND, Known::Not, now),
        });
        // What was sent too fast must not be waited for at the slow rate.
        self.next = self.next.min(now + OVERDRAFT);
        true
    }
}

impl Learned {
    fn new(peak: f64, down: f64, known: Known, at: Duration) -> Learned {
        let peak = peak.max(SLOWEST);
        Learned { peak, low: (peak * down).max(SLOWEST), at, known }
    }

    fn rate(&self, now: Duration) -> f64 {
        let since = now.saturating_sub(self.at).as_secs_f64();
        if self.known == Known::Not {
            return self.low * (since / DOUBLES_BLIND).min(64.0).exp2();
        }
        if since < BACK {
            return self.low + (self.peak - self.low) * since / BACK;
        }
        let tries = self.tries();
        let (tried, faster) = ((since - BACK).min(tries), (since - BACK - tries).max(0.0));
        self.peak * (1.0 + ABOVE * tried / TRIED) * (faster / DOUBLES).min(64.0).exp2()
    }

    fn tries(&self) -> f64 {
        if self.known == Known::Well { TRIED } else { 0.0 }
    }

    /// Whether the rate grows so fast that the last second says little.
    fn hurries(&self, now: Duration) -> bool {
        self.known == Known::Not || now.saturating_sub(self.at).as_secs_f64() > BACK + self.tries()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive, and too large saturates"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn no_second_holds_more_than_is_agreed() {
        let mut throttle = Throttle::new(Some(1_000_000));
        let (mut sent, mut now, mut chance) = (Vec::new(), MS(0), fastrand::Rng::with_seed(5));
        while now < MS(20_000) {
            let size = chance.usize(1..=throttle.room(now));
            if throttle.backlog_from() <= now {
                throttle.sent(size, now);
                sent.push((now, size));
            } else if now.as_millis().is_multiple_of(200) && throttle.live_from() <= now {
                throttle.sent(1000, now);
                sent.push((now, 1000));
            }
            now += MS(1);
        }
        for (start, _) in &sent {
            let second = sent.iter().filter(|(at, _)| at >= start && *at < *start + MS(1000));
            let bytes: usize = second.map(|(_, size)| size).sum();
            assert!(bytes <= 1_001_000, "{bytes} from {start:?}");
        }
        let all: usize = sent.iter().map(|(_, size)| size).sum();
        assert!(all > 18_000_000, "{all}");
    }

    #[test]
    fn without_a_bound_nothing_waits() {
        let mut throttle = Throttle::new(None);
        throttle.sent(1 << 30, MS(5));
        assert_eq!((throttle.backlog_from(), throttle.message_bytes(MS(5))), (MS(0), usize::MAX));
    }

    fn at(throttle: &Throttle, ms: u64, expected: f64) {
        let rate = throttle.rate(MS(ms)).unwrap();
        assert!((rate - expected).abs() < 1.0, "{rate} at {ms} ms, not {expected}");
    }

    /// A cloud that took 100,000 bytes a second for ten seconds.
    fn refused_once() -> Throttle {
        let mut throttle = Throttle::new(Some(1_000_000));
        (0..10).for_each(|second| throttle.delivered(100_000, MS(500 + 1000 * second)));
        assert!(throttle.refused(MS(10_000)));
        assert!(!throttle.refused(MS(10_500)), "what was under way is refused together");
        throttle
    }

    #[test]
    fn a_refusal_slows_down_and_is_forgotten_slowly() {
        let mut throttle = refused_once();
        at(&throttle, 10_000, 93_000.0);
        at(&throttle, 15_000, 100_000.0);
        // Measured once only: it grows soon.
        at(&throttle, 30_000, 200_000.0);
        (11..13).for_each(|second| throttle.delivered(98_000, MS(500 + 1000 * second)));
        assert!(throttle.refused(MS(13_000)));
        at(&throttle, 13_000, 0.93 * 97_200.0);
        at(&throttle, 18_000, 97_200.0);
        at(&throttle, 48_000, 1.04 * 97_200.0);
        at(&throttle, 63_000, 2.08 * 97_200.0);
        throttle.delivered(1, Duration::from_secs(1000));
        assert_eq!(throttle.slowed_to(Duration::from_secs(1000)), None);
        at(&throttle, 1_000_000, 1_000_000.0);
    }

    #[test]
    fn refusals_without_a_whole_second_between_them_halve_it_at_last() {
        let mut throttle = refused_once();
        (11..13).for_each(|second| throttle.delivered(98_000, MS(500 + 1000 * second)));
        assert!(throttle.refused(MS(13_000)));
        assert!(throttle.refused(MS(14_000)));
        let before = 97_200.0 * (0.93 + 0.07 / 5.0);
        at(&throttle, 14_000, before * DOWN_MORE * DOWN);
        assert!(throttle.refused(MS(15_000)));
        at(&throttle, 15_000, before * DOWN_MORE * (0.93 + 0.07 / 5.0) / 2.0);
        // And is found again soon, once something comes through.
        at(&throttle, 17_000, before * DOWN_MORE * (0.93 + 0.07 / 5.0));
    }

    #[test]
    fn a_hang_up_on_a_trickle_teaches_nothing_until_it_repeats() {
        let trickle = |nth| {
            let mut throttle = Throttle::new(None);
            (0..10).for_each(|second| throttle.delivered(500, MS(500 + 1000 * second)));
            assert!(throttle.hung_up_on(nth, MS(10_000)));
            throttle.rate(MS(15_000)).unwrap()
        };
        assert!((trickle(1) - BLIND / 2.0).abs() < 1.0 && (trickle(3) - BLIND / 8.0).abs() < 1.0);
        assert!((trickle(20) - SLOWEST).abs() < 1.0, "{}", trickle(20));
        // What goes through beyond that is measured.
        let mut throttle = Throttle::new(Some(1_000_000));
        (0..10).for_each(|second| throttle.delivered(100_000, MS(500 + 1000 * second)));
        assert!(throttle.hung_up_on(1, MS(10_000)));
        at(&throttle, 10_000, 93_000.0);
    }

    #[test]
    fn messages_are_small_where_the_cloud_may_count_in_short_steps() {
        let throttle = refused_once();
        assert_eq!(throttle.message_bytes(MS(15_000)), 100_000 / 24);
        assert_eq!(Throttle::new(Some(1_000_000)).message_bytes(MS(0)), 125_000);
    }
}
