//! PURE. Brokers that close the connection on a message they do not like: MQTT 3.1.1 has no other way to refuse one.
//!
//! After some losses in a row messages go one at a time and smaller each time. So a broker with a limit of its own is
//! learned, and a reading that alone ends connections is found. It is set aside only when the broker, in those very
//! connections, had taken other messages just before: a broker that takes nothing at all is no judge.

use crate::model::Timestamp;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Losses in a row, with messages on their way, before messages go one at a time.
const LOSSES: u32 = 3;
/// Connections a single reading must have ended, each after another message was taken.
const PROOFS: u32 = 3;
/// Acknowledged messages in a row after which the trouble is over.
const CALM: u32 = 100;
/// Acknowledged messages after which a learned limit is put to the test again.
const RETRY: u32 = 20_000;
/// How long a suspect waits for another message to be taken first.
const HELD: Duration = Duration::from_secs(30);
/// Readings remembered as guilty until their parcels are done.
const REMEMBERED: usize = 4096;

/// One reading of one parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadingId {
    pub seq: u64,
    pub device: u32,
    pub point: u32,
    pub time: Timestamp,
}

/// What was on its way when the connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnItsWay {
    Nothing,
    /// More than one message: nobody knows which is to blame.
    Several,
    /// One message of so many bytes, and which reading if it held one only.
    One {
        bytes: usize,
        single: Option<ReadingId>,
    },
}

#[derive(Debug)]
pub struct Suspicion {
    normal: usize,
    /// How large messages may be: learned, or the normal limit.
    cap: usize,
    losses: u32,
    careful: bool,
    /// Acknowledged in a row since the last loss.
    calm: u32,
    suspects: HashMap<ReadingId, u32>,
    guilty: HashSet<ReadingId>,
}

impl Suspicion {
    #[must_use]
    pub fn new(normal: usize) -> Suspicion {
        Suspicion {
            normal,
            cap: normal,
            losses: 0,
            careful: false,
            calm: 0,
            suspects: HashMap::new(),
            guilty: HashSet::new(),
        }
    }

    /// Messages go one at a time.
    #[must_use]
    pub fn is_careful(&self) -> bool {
        self.careful
    }

    /// How large messages may be.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.cap
    }

    /// The broker will not take this reading, ever.
    #[must_use]
    pub fn is_guilty(&self, reading: ReadingId) -> bool {
        !self.guilty.is_empty() && self.guilty.contains(&reading)
    }

    /// Whether a message waits until the broker has shown in this connection that it takes others.
    #[must_use]
    pub fn holds(&self, single: Option<ReadingId>, delivered: bool, connected: Duration) -> bool {
        !delivered && connected < HELD && single.is_some_and(|id| self.suspects.contains_key(&id))
    }

    /// The broker has taken a message.
    pub fn acknowledged(&mut self, single: Option<ReadingId>) {
        if let Some(id) = single {
            self.suspects.remove(&id);
        }
        self.calm += 1;
        if self.calm == CALM {
            self.losses = 0;
            if self.careful && self.suspects.is_empty() {
                self.careful = false;
                // Single readings pass where larger messages did not only because one of them was to blame.
                self.cap = if self.cap > 1 { self.cap } else { self.normal };
            }
        } else if self.calm >= RETRY {
            self.calm = CALM;
            self.cap = (self.cap * 2).min(self.normal);
        }
    }

    /// The connection was lost. `delivered`: the broker had taken messages in it. Returns the reading that was found
    /// guilty by it.
    pub fn lost(&mut self, on_its_way: OnItsWay, delivered: bool) -> Option<ReadingId> {
        self.calm = 0;
        if on_its_way == OnItsWay::Nothing {
            return None;
        }
        self.losses += 1;
        if !self.careful {
            self.careful = self.losses >= LOSSES;
            return None;
        }
        let OnItsWay::One { bytes, single } = on_its_way else { return None };
        let Some(id) = single else {
            self.cap = (self.cap.min(bytes) / 4).max(1);
            return None;
        };
        let proofs = self.suspects.entry(id).or_default();
        *proofs += u32::from(delivered);
        if *proofs < PROOFS {
            return None;
        }
        self.suspects.remove(&id);
        if self.guilty.len() == REMEMBERED {
            self.guilty.clear();
        }
        self.guilty.insert(id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ReadingId = ReadingId { seq: 1, device: 2, point: 3, time: Timestamp(4) };
    const ALONE: OnItsWay = OnItsWay::One { bytes: 50, single: Some(ID) };

    fn careful() -> Suspicion {
        let mut suspicion = Suspicion::new(1000);
        for _ in 0..LOSSES {
            assert!(!suspicion.is_careful());
            suspicion.lost(OnItsWay::Several, true);
        }
        assert!(suspicion.is_careful());
        suspicion
    }

    #[test]
    fn a_few_losses_change_nothing_and_calm_forgets_them() {
        let mut suspicion = Suspicion::new(1000);
        for _ in 0..50 {
            suspicion.lost(OnItsWay::Several, true);
            suspicion.lost(OnItsWay::Nothing, true);
            for _ in 0..CALM {
                suspicion.acknowledged(None);
            }
        }
        assert!(!suspicion.is_careful());
        assert_eq!(suspicion.limit(), 1000);
    }

    #[test]
    fn a_limit_of_the_broker_is_learned_and_put_to_the_test_much_later() {
        let mut suspicion = careful();
        let (mut limit, brokers) = (suspicion.limit(), 300);
        while limit > brokers {
            suspicion.lost(OnItsWay::One { bytes: limit, single: None }, true);
            limit = suspicion.limit();
        }
        assert_eq!(limit, 250);
        for _ in 0..CALM {
            suspicion.acknowledged(None);
        }
        assert!(!suspicion.is_careful());
        assert_eq!(suspicion.limit(), 250);
        for _ in 0..RETRY {
            suspicion.acknowledged(None);
        }
        assert_eq!(suspicion.limit(), 500);
    }

    #[test]
    fn a_reading_is_guilty_when_others_were_taken_before_it_three_times() {
        let mut suspicion = careful();
        assert_eq!(suspicion.lost(ALONE, false), None, "the broker may be the one to blame");
        assert!(suspicion.holds(Some(ID), false, Duration::ZERO));
        assert!(!suspicion.holds(Some(ID), true, Duration::ZERO));
        assert!(!suspicion.holds(Some(ID), false, HELD), "it is tried all the same, or it would wait for ever");
        assert!(!suspicion.holds(None, false, Duration::ZERO));
        assert_eq!(suspicion.lost(ALONE, true), None);
        assert_eq!(suspicion.lost(ALONE, true), None);
        assert_eq!(suspicion.lost(ALONE, true), Some(ID));
        assert!(suspicion.is_guilty(ID));
        for _ in 0..CALM {
            suspicion.acknowledged(None);
        }
        assert!(!suspicion.is_careful());
    }

    #[test]
    fn a_broker_that_takes_nothing_finds_nobody_guilty() {
        let mut suspicion = careful();
        for _ in 0..1000 {
            assert_eq!(suspicion.lost(ALONE, false), None);
        }
        assert!(!suspicion.is_guilty(ID));
        suspicion.acknowledged(Some(ID));
        assert!(!suspicion.holds(Some(ID), false, Duration::ZERO), "taken after all");
    }
}
