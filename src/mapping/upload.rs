//! PURE. Which values of a measurement point are worth sending, and when.

use crate::model::{Timestamp, Upload, Value, ValueRef};
use std::time::Duration;

/// A value that was sent, or that waits for its interval.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub value: Value,
    pub quality: u8,
    pub time: Timestamp,
}

/// A value that asks to be sent.
#[derive(Clone, Copy)]
pub(super) struct Offer<'a> {
    pub value: ValueRef<'a>,
    pub quality: u8,
    pub time: Timestamp,
}

/// What a rule with memory remembers. Rules that send always or never have none.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate {
    /// The last value sent, for CHANGE.
    sent: Option<(Value, u8)>,
    /// The newest value not sent yet, for TIMER.
    waiting: Option<Kept>,
    /// The end of the current interval.
    next: Option<Duration>,
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Send,
    /// Not now; it goes out at the end of the interval unless a newer one comes.
    Wait,
    /// Not at all.
    Hold,
}

impl Gate {
    /// Decides over one value. `held` grows by every value that will never be sent.
    pub(super) fn offer(&mut self, upload: Upload, offer: Offer<'_>, now: Duration, held: &mut u64) -> Verdict {
        let verdict = match upload {
            Upload::Realtime => Verdict::Send,
            Upload::Never => Verdict::Hold,
            Upload::Timer(interval) => self.on_timer(interval, now, false),
            Upload::Change { deadband } if self.changed(offer, deadband) => Verdict::Send,
            Upload::Change { .. } => Verdict::Hold,
            Upload::ChangeTimer { deadband, interval } => {
                let changed = self.changed(offer, deadband);
                self.on_timer(interval, now, changed)
            }
        };
        self.remember(upload, offer, verdict, held);
        verdict
    }

    /// The waiting value, when its interval is over.
    pub(super) fn due(&mut self, upload: Upload, now: Duration) -> Option<Kept> {
        let (Upload::Timer(interval) | Upload::ChangeTimer { interval, .. }) = upload else {
            return None;
        };
        if self.waiting.is_none() || self.next.is_some_and(|next| now < next) {
            return None;
        }
        self.advance(interval, now);
        let kept = self.waiting.take()?;
        if matches!(upload, Upload::ChangeTimer { .. }) {
            self.sent = Some((kept.value.clone(), kept.quality));
        }
        Some(kept)
    }

    /// When [`Gate::due`] is worth asking.
    pub(super) fn wakes_at(&self) -> Option<Duration> {
        self.waiting.as_ref().and(self.next)
    }

    fn on_timer(&mut self, interval: Duration, now: Duration, changed: bool) -> Verdict {
        if self.next.is_none_or(|next| now >= next) {
            self.advance(interval, now);
            Verdict::Send
        } else if changed {
            Verdict::Send
        } else {
            Verdict::Wait
        }
    }

    /// Moves the end of the interval past `now`, on the grid that began with the first value.
    fn advance(&mut self, interval: Duration, now: Duration) {
        let Some(next) = self.next else {
            self.next = Some(now + interval);
            return;
        };
        let passed = (now - next).as_nanos() / interval.as_nanos().max(1) + 1;
        let step = interval.saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX));
        self.next = Some((next + step).max(now));
    }

    fn changed(&self, offer: Offer<'_>, deadband: f64) -> bool {
        match &self.sent {
            None => true,
            Some((value, quality)) => *quality != offer.quality || differs(value, offer.value, deadband),
        }
    }

    fn remember(&mut self, upload: Upload, offer: Offer<'_>, verdict: Verdict, held: &mut u64) {
        let replaced = self.waiting.take().is_some();
        match verdict {
            Verdict::Send => {
                if matches!(upload, Upload::Change { .. } | Upload::ChangeTimer { .. }) {
                    self.sent = Some((offer.value.to_value(), offer.quality));
                }
            }
            Verdict::Wait => {
                let Offer { value, quality, time } = offer;
                self.waiting = Some(Kept { value: value.to_value(), quality, time });
            }
            Verdict::Hold => *held += 1,
        }
        *held += u64::from(replaced);
    }
}

/// True when a value lies outside the dead-band around the last one sent.
fn differs(sent: &Value, value: ValueRef<'_>, deadband: f64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "a dead-band is a double")]
    let distance = match (sent, value) {
        (Value::Bool(a), ValueRef::Bool(b)) => return *a != b,
        (Value::Text(a), ValueRef::Text(b)) => return **a != *b,
        (Value::Int(a), ValueRef::Int(b)) => a.abs_diff(b) as f64,
        // Compared as doubles: the dead-band 0.1 means the same for both widths.
        (Value::Float(a), ValueRef::Float(b)) => (f64::from(*a) - f64::from(b)).abs(),
        (Value::Double(a), ValueRef::Double(b)) => (a - b).abs(),
        _ => return true,
    };
    distance > deadband
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: Duration = Duration::from_secs(1);

    fn offer(value: i64, time: i64) -> Offer<'static> {
        Offer { value: ValueRef::Int(value), quality: 0, time: Timestamp(time) }
    }

    #[test]
    fn a_timer_sends_the_newest_value_at_the_end_of_the_interval_and_never_repeats_it() {
        let (mut gate, mut held) = (Gate::default(), 0);
        let upload = Upload::Timer(S * 10);
        assert_eq!(gate.offer(upload, offer(1, 0), S * 100, &mut held), Verdict::Send, "the first goes at once");
        assert_eq!(gate.offer(upload, offer(2, 1), S * 101, &mut held), Verdict::Wait);
        assert_eq!(gate.offer(upload, offer(3, 2), S * 102, &mut held), Verdict::Wait);
        assert_eq!(gate.due(upload, S * 109), None);
        assert_eq!(gate.wakes_at(), Some(S * 110));
        assert_eq!(gate.due(upload, S * 110).map(|k| (k.value, k.time)), Some((Value::Int(3), Timestamp(2))));
        assert_eq!(gate.due(upload, S * 120), None, "no new sample, nothing to send");
        assert_eq!(gate.wakes_at(), None);
        assert_eq!(held, 1, "the value that was replaced");
    }

    #[test]
    fn a_quiet_timer_keeps_its_grid() {
        let (mut gate, mut held) = (Gate::default(), 0);
        let upload = Upload::Timer(S * 10);
        gate.offer(upload, offer(1, 0), Duration::ZERO, &mut held);
        assert_eq!(gate.offer(upload, offer(2, 0), S * 57, &mut held), Verdict::Send);
        assert_eq!(gate.offer(upload, offer(3, 0), S * 59, &mut held), Verdict::Wait);
        assert_eq!(gate.wakes_at(), Some(S * 60));
    }

    #[test]
    fn change_is_measured_from_the_last_value_sent_so_a_creep_gets_through() {
        let (mut gate, mut held) = (Gate::default(), 0);
        let upload = Upload::Change { deadband: 2.0 };
        let sent: Vec<i64> =
            (0..10).filter(|v| gate.offer(upload, offer(*v, 0), Duration::ZERO, &mut held) == Verdict::Send).collect();
        assert_eq!(sent, [0, 3, 6, 9]);
        assert_eq!(held, 6);
    }

    #[test]
    fn a_change_of_quality_alone_is_a_change() {
        let (mut gate, mut held) = (Gate::default(), 0);
        let upload = Upload::Change { deadband: 2.0 };
        gate.offer(upload, offer(1, 0), S, &mut held);
        let doubtful = Offer { quality: 1, ..offer(1, 0) };
        assert_eq!(gate.offer(upload, doubtful, S, &mut held), Verdict::Send);
    }

    /// CHANGE_TIMER said in other words: walk all moments, keep what was offered and what was sent.
    fn reference(events: &[(u64, i64)], deadband: i64, interval: u64) -> Vec<(u64, i64)> {
        let mut sent: Vec<(u64, i64)> = Vec::new();
        let Some(start) = events.first().map(|e| e.0) else { return sent };
        let end = events.last().expect("not empty").0 + 2 * interval;
        let mut newest: Option<i64> = None;
        let mut served = false;
        for now in start..=end {
            if (now - start).is_multiple_of(interval) {
                served = false;
                if let Some(value) = newest.take() {
                    sent.push((now, value));
                    served = true;
                }
            }
            for (_, value) in events.iter().filter(|e| e.0 == now) {
                if !served || sent.last().is_some_and(|(_, last)| (value - last).abs() > deadband) {
                    sent.push((now, *value));
                    newest = None;
                    served = true;
                } else {
                    newest = Some(*value);
                }
            }
        }
        sent
    }

    proptest! {
        #[test]
        fn change_timer_agrees_with_a_naive_reference(
            steps in prop::collection::vec((0u64..7, -5i64..5), 1..60), deadband in 0i64..4, interval in 1u64..20,
        ) {
            let mut now = 0;
            let events: Vec<_> = steps.iter().map(|(wait, v)| { now += wait; (now, *v) }).collect();
            let upload = Upload::ChangeTimer { deadband: deadband as f64, interval: S * interval as u32 };
            let (mut gate, mut held, mut sent) = (Gate::default(), 0, Vec::new());
            for second in events[0].0..=now + 2 * interval {
                let at = Duration::from_secs(second);
                if let Some(Kept { value: Value::Int(v), .. }) = gate.due(upload, at) {
                    sent.push((second, v));
                }
                for (_, value) in events.iter().filter(|e| e.0 == second) {
                    if gate.offer(upload, offer(*value, 0), at, &mut held) == Verdict::Send {
                        sent.push((second, *value));
                    }
                }
            }
            prop_assert_eq!(&sent, &reference(&events, deadband, interval));
            prop_assert_eq!(held as usize + sent.len(), events.len(), "every value is sent or counted");
        }
    }
}
