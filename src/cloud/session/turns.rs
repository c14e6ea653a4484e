//! PURE. Whose event is told next: one that the cloud does not take holds up those of its own device only, and not for ever.

use std::collections::HashMap;
use std::time::Duration;

/// Between two tries of the same.
const RETRY: Duration = Duration::from_secs(10);
/// Answers with an error before it is given up. Silence is the link's trouble, and not counted.
const TRIES: u32 = 30;

/// Product and device key; `None`: the gateway.
pub type Whose = Option<(String, String)>;

/// One is under way at a time.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    under_way: Option<Whose>,
    later: HashMap<Whose, Later>,
}

#[derive(Clone, Debug, Default)]
struct Later {
    at: Duration,
    refused: u32,
}

impl Turns {
    pub fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    pub fn may(&self, whose: &Whose, now: Duration) -> bool {
        self.later.get(whose).is_none_or(|later| later.at <= now)
    }

    pub fn begin(&mut self, whose: Whose) {
        self.under_way = Some(whose);
    }

    /// It is settled.
    pub fn done(&mut self) {
        if let Some(whose) = self.under_way.take() {
            self.later.remove(&whose);
        }
    }

    /// It was not taken, and may be later: true. Or it was refused so often that it is settled.
    pub fn again(&mut self, refused: bool, now: Duration) -> bool {
        let Some(whose) = self.under_way.take() else { return true };
        let later = self.later.entry(whose.clone()).or_default();
        later.at = now + RETRY;
        later.refused += u32::from(refused);
        if later.refused < TRIES {
            return true;
        }
        self.later.remove(&whose);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_not_taken_holds_up_only_its_own_device_and_not_for_ever() {
        let (mut turns, mut now) = (Turns::default(), Duration::ZERO);
        let (bad, good) = (Some(("pk".to_owned(), "bad".to_owned())), None);
        for round in 1..=TRIES {
            assert!(turns.may(&bad, now), "{round}");
            turns.begin(bad.clone());
            assert!(turns.is_under_way());
            assert_eq!(turns.again(true, now), round < TRIES);
            assert!(!turns.is_under_way() && turns.may(&good, now));
            assert_eq!(turns.may(&bad, now), round == TRIES);
            now += RETRY;
        }
        for _ in 0..100 {
            turns.begin(bad.clone());
            assert!(turns.again(false, now), "silence");
        }
        turns.begin(bad.clone());
        turns.done();
        assert!(turns.may(&bad, now));
    }
}
