//! PURE. How many bytes a second go out: at most what is agreed, less where the cloud says that it is too much. Time is
//! an argument.
//!
//! What is agreed is kept to in every second, not on average: each message takes its time on a running clock, and the
//! next one waits for it. Live data may overdraw that clock a little, so that it never waits for a message of backlog.
//!
//! What the cloud refuses is learned as CUBIC learns of a link (RFC 9438): down to a part of what was taken at once,
//! back to just below it soon, past it slowly and then ever faster, so that a limit that was lifted is found again.

use std::time::Duration;

/// One message takes at most this part of a second's bytes.
const PARTS: u64 = 8;
const SMALLEST_MESSAGE: usize = 8 << 10;
/// How far live data may run ahead of the clock.
const OVERDRAFT: Duration = Duration::from_millis(100);
/// Slower than this is not learned: it is about a reading every few seconds and would look like an outage.
const SLOWEST: f64 = 1024.0;
/// What is left after a refusal, of what was taken before; and when nothing at all has come through since the last one.
const DOWN: f64 = 0.9;
const DOWN_AGAIN: f64 = 0.5;
/// Refusals within this time are one: what was under way is refused together.
const ONE_REFUSAL: Duration = Duration::from_millis(1000);
/// So soon the rate is back where it was refused.
const BACK: f64 = 10.0;
/// A rate so far beyond the refusal is no bound any more.
const FORGOTTEN: f64 = 16.0;
/// Whole seconds whose deliveries are remembered.
const SECONDS: usize = 5;

/// The bounds of bytes sent.
#[derive(Debug)]
pub struct Throttle {
    agreed: Option<f64>,
    learned: Option<Learned>,
    /// When all that was sent has had its time.
    next: Duration,
    taken: Taken,
}

/// A refusal and what followed.
#[derive(Clone, Copy, Debug)]
struct Learned {
    /// Bytes a second that were too much.
    peak: f64,
    /// Bytes a second after the refusal.
    low: f64,
    at: Duration,
    delivered_since: bool,
}

/// Bytes the cloud took in each of the last seconds.
#[derive(Debug, Default)]
struct Taken {
    second: u64,
    bytes: [u64; SECONDS],
}

impl Throttle {
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>) -> Throttle {
        #[expect(clippy::cast_precision_loss, reason = "a rate is far below 2^52")]
        let agreed = bytes_per_second.map(|rate| rate.max(1) as f64);
        Throttle { agreed, learned: None, next: Duration::ZERO, taken: Taken::default() }
    }

    /// Bytes a second at the moment; `None` without a bound.
    #[must_use]
    pub fn rate(&self, now: Duration) -> Option<f64> {
        let learned = self.learned.map(|learned| learned.rate(now));
        match (self.agreed, learned) {
            (Some(agreed), Some(learned)) => Some(agreed.min(learned)),
            (agreed, learned) => agreed.or(learned),
        }
    }

    /// What the cloud is thought to take, while that is less than agreed.
    #[must_use]
    pub fn slowed_to(&self, now: Duration) -> Option<u64> {
        let learned = self.learned?.rate(now);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive and below 2^52"
        )]
        self.agreed.is_none_or(|agreed| learned < agreed).then_some(learned as u64)
    }

    /// The largest message that does not make the others wait for long.
    #[must_use]
    pub fn message_bytes(&self, now: Duration) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate is positive and below 2^52"
        )]
        self.rate(now).map_or(usize::MAX, |rate| ((rate as u64 / PARTS) as usize).max(SMALLEST_MESSAGE))
    }

    /// When live data may be sent.
    #[must_use]
    pub fn live_from(&self) -> Duration {
        self.next.saturating_sub(OVERDRAFT)
    }

    /// When backlog may be sent.
    #[must_use]
    pub fn backlog_from(&self) -> Duration {
        self.next
    }

    pub fn sent(&mut self, bytes: usize, now: Duration) {
        if let Some(rate) = self.rate(now) {
            #[expect(clippy::cast_precision_loss, reason = "a message is far below 2^52 bytes")]
            let takes = Duration::from_secs_f64(bytes as f64 / rate);
            self.next = self.next.max(now) + takes;
        }
    }

    /// The cloud took so much.
    pub fn delivered(&mut self, bytes: usize, now: Duration) {
        self.taken.add(bytes as u64, now);
        if let Some(learned) = &mut self.learned {
            learned.delivered_since = true;
            let rate = learned.rate(now);
            if self.agreed.is_some_and(|agreed| rate > 1.25 * agreed) || rate > FORGOTTEN * learned.peak {
                self.learned = None;
            }
        }
    }

    /// The cloud has too much. Returns whether that is news.
    pub fn refused(&mut self, now: Duration) -> bool {
        if self.learned.is_some_and(|learned| now < learned.at + ONE_REFUSAL) {
            return false;
        }
        let taken = self.taken.most(now);
        let peak = match self.rate(now) {
            // Nothing says that the rate is what was really sent: a site may send little at a high bound.
            Some(rate) if taken > 0.0 => rate.min(1.25 * taken).max(SLOWEST),
            Some(rate) => rate,
            None => taken.max(64.0 * SLOWEST),
        };
        let down = if self.learned.is_some_and(|learned| !learned.delivered_since) { DOWN_AGAIN } else { DOWN };
        let low = (peak * down).max(SLOWEST);
        self.learned = Some(Learned { peak: peak.max(low), low, at: now, delivered_since: false });
        true
    }
}

impl Learned {
    fn rate(&self, now: Duration) -> f64 {
        let since = now.saturating_sub(self.at).as_secs_f64();
        if since < BACK {
            return self.low + (self.peak - self.low) * since / BACK;
        }
        let beyond = since - BACK;
        self.peak * (1.0 + 0.002 * beyond + (beyond / 120.0).powi(2))
    }
}

impl Taken {
    fn add(&mut self, bytes: u64, now: Duration) {
        self.turn(now.as_secs());
        self.bytes[0] += bytes;
    }

    fn turn(&mut self, second: u64) {
        let steps = usize::try_from(second.saturating_sub(self.second)).unwrap_or(SECONDS).min(SECONDS);
        self.bytes.rotate_right(steps % SECONDS);
        self.bytes[..steps].fill(0);
        self.second = self.second.max(second);
    }

    /// Bytes of the best of the last seconds.
    #[expect(clippy::cast_precision_loss, reason = "bytes of a second are far below 2^52")]
    fn most(&mut self, now: Duration) -> f64 {
        self.turn(now.as_secs());
        self.bytes.iter().copied().max().unwrap_or(0) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn no_second_holds_more_than_is_agreed_and_live_data_overdraws_by_a_tenth() {
        let mut throttle = Throttle::new(Some(1_000_000));
        let mut sent = Vec::new();
        let mut now = MS(0);
        while now < MS(10_000) {
            let size = throttle.message_bytes(now);
            if throttle.backlog_from() <= now {
                throttle.sent(size, now);
                sent.push((now, size));
            } else if now.as_millis() % 200 == 0 && throttle.live_from() <= now {
                throttle.sent(1000, now);
                sent.push((now, 1000));
            }
            now += MS(1);
        }
        for (start, _) in &sent {
            let second = sent.iter().filter(|(at, _)| at >= start && *at < *start + MS(1000));
            let bytes: usize = second.map(|(_, size)| size).sum();
            assert!(bytes <= 1_100_000, "{bytes} from {start:?}");
        }
        let all: usize = sent.iter().map(|(_, size)| size).sum();
        assert!(all > 9_900_000, "{all}");
    }

    #[test]
    fn without_a_bound_nothing_waits() {
        let mut throttle = Throttle::new(None);
        throttle.sent(1 << 30, MS(5));
        assert_eq!((throttle.backlog_from(), throttle.message_bytes(MS(5))), (MS(0), usize::MAX));
    }

    #[test]
    fn a_refusal_slows_down_and_is_forgotten_slowly() {
        let mut throttle = Throttle::new(Some(1_000_000));
        throttle.delivered(100_000, MS(500));
        assert!(throttle.refused(MS(1000)));
        assert!(!throttle.refused(MS(1500)), "what was under way is refused together");
        let at = |throttle: &Throttle, seconds| throttle.rate(Duration::from_secs(seconds)).unwrap();
        assert!((112_499.0..112_501.0).contains(&at(&throttle, 1)), "{}", at(&throttle, 1));
        assert!((124_999.0..125_001.0).contains(&at(&throttle, 11)));
        assert!(at(&throttle, 41) < 1.15 * 125_000.0);
        assert!(throttle.refused(MS(41_000)));
        assert!(at(&throttle, 41) < 0.6 * 150_000.0, "nothing came through since: {}", at(&throttle, 41));
        throttle.delivered(1, Duration::from_secs(1000));
        assert_eq!(throttle.slowed_to(Duration::from_secs(1000)), None);
        assert!((at(&throttle, 1000) - 1_000_000.0).abs() < 1.0);
    }
}
