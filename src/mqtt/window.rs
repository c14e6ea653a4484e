//! PURE. How much may be under way: slots, bytes that follow the link, the pace of the backlog, and the wait a busy
//! cloud asks for. Time and chance are arguments.
//!
//! A fixed window of large messages never gets through a slow link: all of it times out and is sent again. So the
//! bytes under way grow while answers come quickly and shrink when they take long.

use std::time::Duration;

/// About a second of a slow mobile link.
const START: usize = 128 << 10;
const SMALLEST: usize = 4 << 10;
/// Enough for 40 MB/s at a round trip of 100 ms; more would only cost memory.
const LARGEST: usize = 4 << 20;
/// What answers may take beyond the quickest one before the window stops growing: the queue on the way is ours.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is under way now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub messages: usize,
    pub bytes: usize,
}

/// The bounds of what is sent and not yet acknowledged.
#[derive(Debug)]
pub struct Window {
    slots: usize,
    bytes: usize,
    largest_message: usize,
    reply_timeout: Duration,
    quickest: Duration,
}

impl Window {
    /// `slots`: messages under way at most.
    #[must_use]
    pub fn new(slots: usize, largest_message: usize, reply_timeout: Duration) -> Window {
        Window { slots: slots.max(1), bytes: START, largest_message, reply_timeout, quickest: Duration::MAX }
    }

    /// Whether live data may be sent. One message always may.
    #[must_use]
    pub fn live_fits(&self, all: Load) -> bool {
        all.messages == 0 || all.messages < self.slots && all.bytes < self.bytes
    }

    /// Whether backlog may be sent: a quarter of the slots and bytes stays free for live data.
    #[must_use]
    pub fn backlog_fits(&self, all: Load, backlog: Load) -> bool {
        let share = (self.slots - self.slots / 4).min(self.slots.saturating_sub(1)).max(1);
        self.live_fits(all) && backlog.messages < share && backlog.bytes < self.bytes / 4 * 3
    }

    /// How large the next message may be.
    #[must_use]
    pub fn message_bytes(&self) -> usize {
        (self.bytes / 2).min(self.largest_message)
    }

    /// The cloud takes no larger messages than this.
    pub fn limit(&mut self, largest_message: usize) {
        self.largest_message = largest_message;
    }

    /// A message arrived, so long after it was sent: more may be under way, or less.
    pub fn delivered(&mut self, bytes: usize, took: Duration) {
        self.quickest = self.quickest.min(took);
        if took < self.quickest + PATIENCE {
            self.bytes = (self.bytes + bytes).min(LARGEST.max(2 * self.largest_message));
        } else if took > self.reply_timeout / 4 {
            self.bytes = (self.bytes / 4 * 3).max(SMALLEST);
        }
    }

    /// A message got no answer, or the cloud has too much.
    pub fn troubled(&mut self) {
        self.bytes = (self.bytes / 2).max(SMALLEST);
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// What was under way is refused too, until then.
const BRIEF: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// When nothing at all may be sent, because the cloud said it has too much.
#[derive(Debug, Default)]
pub struct Pause {
    until: Duration,
    step: u32,
}

impl Pause {
    /// The cloud refused for lack of capacity; answers while paused count once.
    pub fn busy(&mut self, now: Duration, chance: f64) {
        if now >= self.until {
            let longest = FIRST_PAUSE.saturating_mul(1 << self.step.min(7)).min(LONGEST_PAUSE);
            self.until = now + longest.mul_f64(0.5 + chance / 2.0);
            self.step += 1;
        }
    }

    /// Refused by a cloud whose pace is known: a moment is enough if anything was delivered since the last one.
    pub fn brief(&mut self, now: Duration, chance: f64) {
        if self.step > 0 {
            self.busy(now, chance);
        } else if now >= self.until {
            self.until = now + BRIEF.mul_f64(0.5 + chance / 2.0);
            self.step = 1;
        }
    }

    /// The cloud takes messages again: the next pause is a short one.
    pub fn delivered(&mut self) {
        self.step = 0;
    }

    /// Nothing is sent before this time.
    #[must_use]
    pub fn until(&self) -> Duration {
        self.until
    }
}

/// Bytes a second of backlog.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: Option<u64>,
    next: Duration,
}

impl Pace {
    /// `None`: no bound.
    #[must_use]
    pub fn new(bytes_per_second: Option<u64>) -> Pace {
        Pace { bytes_per_second: bytes_per_second.map(|n| n.max(1)), next: Duration::ZERO }
    }

    /// A message of backlog went out.
    pub fn sent(&mut self, bytes: usize, now: Duration) {
        if let Some(rate) = self.bytes_per_second {
            #[expect(clippy::cast_precision_loss, reason = "a message is far below 2^52 bytes")]
            let takes = Duration::from_secs_f64(bytes as f64 / rate as f64);
            self.next = self.next.max(now) + takes;
        }
    }

    /// The next message may go at this time.
    #[must_use]
    pub fn next(&self) -> Duration {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn window() -> Window {
        Window::new(16, 512 << 10, Duration::from_secs(30))
    }

    #[test]
    fn a_quick_link_opens_the_window_and_a_slow_one_closes_it() {
        let mut quick = window();
        for _ in 0..100 {
            quick.delivered(quick.message_bytes(), MS(20));
        }
        assert_eq!(quick.message_bytes(), 512 << 10);
        let mut slow = window();
        for _ in 0..100 {
            // 64 kbit/s: a full window takes its bytes / 8000 seconds to come through.
            let took = Duration::from_secs_f64(slow.bytes as f64 / 8000.0);
            slow.delivered(slow.message_bytes(), took);
            assert!(took < Duration::from_secs(30), "nothing may time out");
        }
    }

    #[test]
    fn backlog_leaves_room_for_live() {
        let window = window();
        let backlog = Load { messages: 12, bytes: 0 };
        assert!(!window.backlog_fits(backlog, backlog));
        assert!(window.live_fits(backlog));
        let one = Window::new(1, 1 << 20, Duration::from_secs(30));
        assert!(one.backlog_fits(Load::default(), Load::default()));
        let two = Window::new(2, 1 << 20, Duration::from_secs(30));
        let backlog = Load { messages: 1, bytes: 1 };
        assert!(!two.backlog_fits(backlog, backlog));
        assert!(two.live_fits(backlog));
    }

    #[test]
    fn a_busy_cloud_gets_longer_and_longer_pauses() {
        let mut pause = Pause::default();
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..8 {
            pause.busy(now, 1.0);
            waits.push((pause.until() - now).as_millis());
            pause.busy(now, 1.0);
            now = pause.until();
        }
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000]);
        pause.delivered();
        pause.busy(now, 1.0);
        assert_eq!(pause.until() - now, MS(500));
    }

    #[test]
    fn a_moment_is_enough_where_the_pace_is_known_but_not_twice_in_a_row() {
        let mut pause = Pause::default();
        pause.brief(MS(0), 1.0);
        assert_eq!(pause.until(), MS(200));
        pause.brief(MS(100), 1.0);
        assert_eq!(pause.until(), MS(200), "answers while paused count once");
        pause.brief(MS(200), 1.0);
        assert_eq!(pause.until(), MS(1200), "nothing was delivered since");
        pause.delivered();
        pause.brief(MS(1200), 0.0);
        assert_eq!(pause.until(), MS(1300));
    }

    #[test]
    fn backlog_keeps_its_pace() {
        let mut pace = Pace::new(Some(1000));
        pace.sent(500, MS(0));
        pace.sent(500, MS(0));
        assert_eq!(pace.next(), MS(1000));
        pace.sent(100, MS(5000));
        assert_eq!(pace.next(), MS(5100));
        let mut free = Pace::new(None);
        free.sent(1 << 20, MS(9));
        assert_eq!(free.next(), MS(0));
    }
}
