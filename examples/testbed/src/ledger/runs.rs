//! PURE. A set of sequence numbers that costs a few bytes as long as nothing is missing.

/// Numbers that follow each other without a gap, with the times of the two at the ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: i64,
    last: i64,
    first_time: i64,
    last_time: i64,
}

/// Sequence numbers as runs. In a healthy stream there is one; an outage makes two until it is caught up.
#[derive(Debug, Default)]
pub struct Runs {
    runs: Vec<Run>,
    /// The run touched last: the next number mostly belongs to it.
    hint: usize,
}

/// Numbers that are missing between two that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    pub first: i64,
    pub last: i64,
    /// Time of the reading before the hole, and of the one after it (`None` at the end of the stream).
    pub after: i64,
    pub before: Option<i64>,
}

impl Hole {
    #[must_use]
    pub fn count(&self) -> u64 {
        (self.last - self.first).unsigned_abs() + 1
    }
}

impl Runs {
    /// Adds a number; false when it was there.
    pub fn insert(&mut self, number: i64, time: i64) -> bool {
        if let Some(run) = self.runs.get_mut(self.hint)
            && run.last + 1 == number
            && self.runs.get(self.hint + 1).is_none_or(|next| next.first > number + 1)
        {
            let run = &mut self.runs[self.hint];
            (run.last, run.last_time) = (number, time);
            return true;
        }
        self.insert_anywhere(number, time)
    }

    fn insert_anywhere(&mut self, number: i64, time: i64) -> bool {
        let at = self.runs.partition_point(|run| run.last < number);
        if self.runs.get(at).is_some_and(|run| run.first <= number) {
            return false;
        }
        let joins_left = at > 0 && self.runs[at - 1].last + 1 == number;
        let joins_right = self.runs.get(at).is_some_and(|run| run.first == number + 1);
        self.hint = match (joins_left, joins_right) {
            (true, true) => {
                let right = self.runs.remove(at);
                let left = &mut self.runs[at - 1];
                (left.last, left.last_time) = (right.last, right.last_time);
                at - 1
            }
            (true, false) => {
                let left = &mut self.runs[at - 1];
                (left.last, left.last_time) = (number, time);
                at - 1
            }
            (false, true) => {
                let right = &mut self.runs[at];
                (right.first, right.first_time) = (number, time);
                at
            }
            (false, false) => {
                self.runs.insert(at, Run { first: number, last: number, first_time: time, last_time: time });
                at
            }
        };
        true
    }

    #[must_use]
    pub fn first(&self) -> Option<i64> {
        self.runs.first().map(|run| run.first)
    }

    #[must_use]
    pub fn last(&self) -> Option<i64> {
        self.runs.last().map(|run| run.last)
    }

    /// What is missing between the first number that came and `end` (or the last that came).
    pub fn holes(&self, end: Option<i64>) -> impl Iterator<Item = Hole> + '_ {
        let inner = self.runs.windows(2).map(|pair| Hole {
            first: pair[0].last + 1,
            last: pair[1].first - 1,
            after: pair[0].last_time,
            before: Some(pair[1].first_time),
        });
        let tail = self.runs.last().zip(end).filter(|(run, end)| run.last < *end).map(|(run, end)| Hole {
            first: run.last + 1,
            last: end,
            after: run.last_time,
            before: None,
        });
        inner.chain(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Against a plain set, in orders as outages and catch-up make them.
    #[test]
    fn runs_know_the_same_as_a_plain_set() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
            for _ in 0..random.usize(1..120) {
                let number = random.i64(0..60);
                assert_eq!(runs.insert(number, number * 10), set.insert(number));
            }
            let last = *set.last().unwrap();
            let missing: Vec<i64> = (*set.first().unwrap()..=last + 3).filter(|n| !set.contains(n)).collect();
            let holes: Vec<Hole> = runs.holes(Some(last + 3)).collect();
            let listed: Vec<i64> = holes.iter().flat_map(|hole| hole.first..=hole.last).collect();
            assert_eq!(listed, missing);
            assert!(holes.iter().all(|hole| hole.after == (hole.first - 1) * 10));
            assert!(holes.iter().all(|hole| hole.before.is_none_or(|time| time == (hole.last + 1) * 10)));
        }
    }

    #[test]
    fn a_caught_up_outage_leaves_one_run() {
        let mut runs = Runs::default();
        for number in (0..100).chain(200..300).chain(100..200) {
            assert!(runs.insert(number, number));
        }
        assert_eq!(runs.runs.len(), 1);
        assert_eq!(runs.holes(None).count(), 0);
    }
}
