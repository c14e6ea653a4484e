//! PURE. How fast sub-devices are brought in, and when the cloud has no room for more.

use std::time::Duration;

/// Requests for one device alone, a second: ten thousand that are refused shall not fill the link.
pub const ALONE: u32 = 10;
/// Logouts a second; each is a message of its own.
pub const LOGOUT: u32 = 100;

/// The cloud's limit is told by no documented code, so a refusal for lack of room is believed for a long time.
const FIRST_WAIT: Duration = Duration::from_secs(600);
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// So many devices a second, in requests of many.
#[derive(Debug)]
pub struct Pace {
    rate: u32,
    next: Duration,
}

impl Pace {
    #[must_use]
    pub fn new(rate: u32) -> Pace {
        Pace { rate: rate.max(1), next: Duration::ZERO }
    }

    /// When the next request may go.
    #[must_use]
    pub fn next(&self) -> Duration {
        self.next
    }

    pub fn sent(&mut self, devices: usize, now: Duration) {
        let count = u32::try_from(devices).unwrap_or(u32::MAX);
        self.next = self.next.max(now) + Duration::from_secs(1) * count / self.rate;
    }
}

/// Whether the cloud takes more devices online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    Room,
    /// Nobody asks before `until`; then one device alone.
    Full {
        until: Duration,
        wait: Duration,
    },
    Probing {
        wait: Duration,
    },
}

impl Capacity {
    /// A login was refused for lack of room.
    pub fn refused(&mut self, now: Duration) {
        *self = match *self {
            Capacity::Full { .. } => return,
            Capacity::Room => Capacity::Full { until: now + FIRST_WAIT, wait: FIRST_WAIT },
            Capacity::Probing { wait } => {
                let wait = (wait * 2).min(LONGEST_WAIT);
                Capacity::Full { until: now + wait, wait }
            }
        };
    }

    /// One of ours has gone: there is a place, perhaps.
    pub fn left(&mut self, now: Duration) {
        if let Capacity::Full { wait, .. } = *self {
            *self = Capacity::Full { until: now, wait };
        }
    }

    /// The one that was tried is refused for reasons of its own: the next one is tried.
    pub fn undecided(&mut self, now: Duration) {
        if let Capacity::Probing { wait } = *self {
            *self = Capacity::Full { until: now, wait };
        }
    }
}

/// 739 is the one code that speaks of too many devices; which one it really is, nobody has documented, so the words
/// count as well.
#[must_use]
pub fn lacks_room(code: i64, words: &str) -> bool {
    let words = words.to_lowercase();
    code == 739 || ["too many", "maximum number", "exceed", "上限", "超过"].iter().any(|part| words.contains(part))
}
