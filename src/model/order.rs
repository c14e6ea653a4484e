//! PURE. Times of one point in a strict order: the cloud keeps one value for each device, point and time.

use driver::Timestamp;

/// A reading may be moved ahead of its own time by so many milliseconds. It is enough for what an OPC UA server queues
/// between two messages; a clock that was set back by more counts at once.
const MOST: i64 = 20;

/// The time of a reading that follows one of the time `last`. A `repeat` is the same reading told once more: it keeps
/// the time it had.
#[must_use]
pub fn after(last: Timestamp, time: Timestamp, repeat: bool) -> Timestamp {
    let behind = last.0.saturating_sub(time.0);
    if !(0..MOST).contains(&behind) {
        time
    } else if repeat {
        last
    } else {
        Timestamp(last.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_increase_strictly_and_a_clock_set_back_is_never_followed_far() {
        let mut last = Timestamp(1_000);
        for expected in 1_001..=1_000 + MOST {
            last = after(last, Timestamp(1_000), false);
            assert_eq!(last, Timestamp(expected));
        }
        assert_eq!(after(last, Timestamp(2_000), false), Timestamp(2_000), "a later time stays");
        assert_eq!(after(Timestamp(1_000_000), Timestamp(5), false), Timestamp(5), "the new clock counts");
        assert_eq!(after(Timestamp(1_003), Timestamp(1_000), true), Timestamp(1_003), "the same reading again");
        assert_eq!(after(Timestamp(i64::MAX), Timestamp(i64::MIN), false), Timestamp(i64::MIN));
    }
}
