//! PURE. What was lost, held against the moments of the kills, and what came twice, held against the window.

use serde::Serialize;

/// When the gateway was killed: before the signal, and when it was gone. Milliseconds since 1970, as all times here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kill {
    pub from: i64,
    pub to: i64,
}

/// One life of the gateway and what it said of itself last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub from: i64,
    pub to: i64,
    /// Readings it said to be on disk.
    pub stored: u64,
}

/// A round's events and what came twice in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeats {
    pub kills: u64,
    pub outages: u64,
    pub duplicated: u64,
}

/// How old a reading may be when the gateway is killed and yet be lost.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// The durability bound; nothing in strict mode.
    pub bound_ms: i64,
    /// From the device's answer to the outbox: a scan that was not finished. In strict mode also one commit.
    pub in_flight_ms: i64,
}

/// What became of the readings that never came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    pub within_bound: u64,
    pub beyond_bound: u64,
    /// Age of the oldest lost reading when the gateway was killed.
    pub oldest_ms: i64,
}

/// One line for scripts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    pub rounds: usize,
    pub kills: u64,
    pub outages: u64,
    pub delivered: u64,
    pub lost: u64,
    pub lost_within_bound: u64,
    pub lost_beyond_bound: u64,
    pub oldest_lost_ms: i64,
    pub allowed_ms: i64,
    /// Readings a killed gateway had said to be on disk and that never came.
    pub stored_and_lost: u64,
    pub duplicated: u64,
    pub max_duplicates_per_kill: u64,
    pub max_duplicates_per_outage: u64,
    pub window: u64,
    pub repeated: u64,
    /// Requests to devices that got no answer in time: what they asked for was never accepted.
    pub timeouts: u64,
    pub values_per_second: u64,
    pub strict: bool,
    /// Packages installed meanwhile, and installations that a kill came into.
    pub swaps: u64,
    pub swaps_cut: u64,
    pub seed: u64,
}

impl Lost {
    /// Takes one lost reading; `given` is when its device gave it out, if that is known.
    pub fn take(&mut self, given: Option<i64>, kills: &[Kill], allowance: Allowance) {
        let next =
            given.and_then(|given| kills.iter().find(|k| k.to + allowance.in_flight_ms >= given).map(|k| (k, given)));
        match next {
            Some((kill, given)) => {
                let age = kill.from - given;
                self.oldest_ms = self.oldest_ms.max(age);
                if age <= allowance.bound_ms + allowance.in_flight_ms {
                    self.within_bound += 1;
                } else {
                    self.beyond_bound += 1;
                }
            }
            None => self.beyond_bound += 1,
        }
    }
}

/// What a life said to be stored beyond what came of the readings given out in it. `given` and `lost` are the times of
/// all readings, `lost` of those that never came.
#[must_use]
pub fn broken_promise(life: Life, given: &[i64], lost: &[i64]) -> u64 {
    let within = |times: &[i64]| times.iter().filter(|time| (life.from..=life.to).contains(time)).count() as u64;
    life.stored.saturating_sub(within(given) - within(lost))
}

impl Figures {
    /// Most duplicates of a round with a kill, and of one without.
    pub fn repeats(&mut self, rounds: &[Repeats]) {
        let most = |with_kill: bool| {
            let of = rounds.iter().filter(|r| (r.kills > 0) == with_kill).map(|r| r.duplicated);
            of.max().unwrap_or(0)
        };
        (self.max_duplicates_per_kill, self.max_duplicates_per_outage) = (most(true), most(false));
    }

    /// Every promise that was broken.
    #[must_use]
    pub fn faults(&self, rounds: &[Repeats]) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |broken: bool, text: String| {
            if broken {
                faults.push(text);
            }
        };
        fault(self.delivered == 0, "nothing was delivered".into());
        fault(self.lost_beyond_bound > 0, format!("{} readings lost beyond the bound", self.lost_beyond_bound));
        fault(self.stored_and_lost > 0, format!("{} readings lost that were said to be stored", self.stored_and_lost));
        fault(self.repeated > 0, format!("{} values under a wrong time", self.repeated));
        for (number, round) in rounds.iter().enumerate() {
            let most = self.window * (round.kills + round.outages);
            let text = format!("{} came twice in round {}, {most} may", round.duplicated, number + 1);
            fault(round.duplicated > most, text);
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDED: Allowance = Allowance { bound_ms: 1000, in_flight_ms: 200 };
    const KILLS: [Kill; 2] = [Kill { from: 10_000, to: 10_010 }, Kill { from: 20_000, to: 20_010 }];

    fn lost(given: &[Option<i64>]) -> Lost {
        let mut lost = Lost::default();
        given.iter().for_each(|given| lost.take(*given, &KILLS, BOUNDED));
        lost
    }

    #[test]
    fn a_reading_may_be_lost_when_it_was_younger_than_the_bound_at_the_next_kill() {
        assert_eq!(lost(&[Some(8_800), Some(10_000), Some(10_200)]).within_bound, 3);
        assert_eq!(lost(&[Some(8_799)]), Lost { within_bound: 0, beyond_bound: 1, oldest_ms: 1_201 });
        // Long after one kill is long before the next.
        assert_eq!(lost(&[Some(10_300), Some(30_000), None]).beyond_bound, 3);
    }

    #[test]
    fn what_was_said_to_be_stored_must_have_come() {
        let life = Life { from: 0, to: 100, stored: 3 };
        assert_eq!(broken_promise(life, &[1, 2, 3, 100, 101], &[100]), 0);
        assert_eq!(broken_promise(life, &[1, 2, 3, 100, 101], &[3, 100]), 1);
    }

    #[test]
    fn a_round_has_as_many_windows_as_events() {
        let rounds = [
            Repeats { kills: 1, outages: 1, duplicated: 20 },
            Repeats { kills: 1, outages: 0, duplicated: 11 },
            Repeats { kills: 0, outages: 1, duplicated: 10 },
        ];
        let mut figures = Figures {
            rounds: 3,
            kills: 2,
            outages: 2,
            delivered: 1,
            lost: 0,
            lost_within_bound: 0,
            lost_beyond_bound: 0,
            oldest_lost_ms: 0,
            allowed_ms: 1200,
            stored_and_lost: 0,
            duplicated: 41,
            max_duplicates_per_kill: 0,
            max_duplicates_per_outage: 0,
            window: 10,
            repeated: 0,
            timeouts: 0,
            values_per_second: 1,
            strict: false,
            swaps: 0,
            swaps_cut: 0,
            seed: 1,
        };
        figures.repeats(&rounds);
        assert_eq!((figures.max_duplicates_per_kill, figures.max_duplicates_per_outage), (20, 10));
        assert_eq!(figures.faults(&rounds), ["11 came twice in round 2, 10 may"]);
    }
}
