//! PURE. Which parts of the daemon do not get on. Time is an argument.
//!
//! A part is late once the moment has passed by which it meant to be back. It is stuck after being late for the limit
//! with the same moment in hand: a slow part says a new one each time it gets on. What is counted is the time in which
//! the judge itself was awake: of a look that comes late, because the whole process stood still, only one period counts.
//! So neither a clock that steps, nor a suspend, nor a SIGSTOP that ends makes a part stuck.

use crate::model::Standing;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A part that does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub part: String,
    /// For how long; `None`: it has ended.
    pub late: Option<Duration>,
}

/// Remembers who was late at the last look.
pub struct Judge {
    /// How late a part may be.
    limit: Duration,
    /// How often it is to look.
    period: Duration,
    looked: Option<Instant>,
    late: HashMap<String, Late>,
}

struct Late {
    standing: Standing,
    time: Duration,
}

/// One round over all parts.
pub struct Look<'a> {
    judge: &'a mut Judge,
    now: Instant,
    passed: Duration,
    before: HashMap<String, Late>,
    stuck: Vec<Stuck>,
}

impl Judge {
    #[must_use]
    pub fn new(limit: Duration, period: Duration) -> Judge {
        Judge { limit, period, looked: None, late: HashMap::new() }
    }

    /// Begins a round.
    pub fn look(&mut self, now: Instant) -> Look<'_> {
        let passed = self.looked.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        self.looked = Some(now);
        let before = std::mem::take(&mut self.late);
        let passed = passed.min(self.period);
        Look { judge: self, now, passed, before, stuck: Vec::new() }
    }
}

impl Look<'_> {
    /// What one part says. Names tell parts apart.
    pub fn part(&mut self, name: &str, standing: Standing) {
        let late = match standing {
            Standing::Resting => return,
            Standing::Back(at) if at >= self.now => return,
            Standing::Back(_) | Standing::Ended => standing,
        };
        let before = self.before.remove(name).filter(|before| before.standing == late);
        // Before the first look it was late for at most one period, and nobody knows for how much of it.
        let time = before.map_or(Duration::ZERO, |before| before.time + self.passed);
        if time >= self.judge.limit {
            let late = (standing != Standing::Ended).then_some(time);
            self.stuck.push(Stuck { part: name.to_owned(), late });
        }
        self.judge.late.insert(name.to_owned(), Late { standing, time });
    }

    /// Who is stuck.
    #[must_use]
    pub fn done(self) -> Vec<Stuck> {
        self.stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const PERIOD: Duration = Duration::from_secs(5);

    struct Bench {
        judge: Judge,
        now: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { judge: Judge::new(LIMIT, PERIOD), now: Instant::now() }
        }

        fn after(&mut self, wait: Duration, parts: &[(&str, Standing)]) -> Vec<String> {
            self.now += wait;
            let mut look = self.judge.look(self.now);
            parts.iter().for_each(|(name, standing)| look.part(name, *standing));
            look.done().into_iter().map(|stuck| stuck.part).collect()
        }

        /// Looks every period for `time`, and says when somebody is stuck.
        fn until_stuck(&mut self, time: Duration, part: (&str, Standing)) -> Option<Duration> {
            let begun = self.now;
            while self.now - begun < time {
                if !self.after(PERIOD, &[part]).is_empty() {
                    return Some(self.now - begun);
                }
            }
            None
        }
    }

    #[test]
    fn a_part_that_does_not_come_back_is_stuck_after_the_limit_and_named() {
        let mut bench = Bench::new();
        let promise = Standing::Back(bench.now + Duration::from_secs(60));
        let found = bench.until_stuck(Duration::from_secs(300), ("outbox", promise)).expect("it is found");
        assert!(found > Duration::from_secs(90) && found <= Duration::from_secs(90) + 2 * PERIOD, "{found:?}");
    }

    #[test]
    fn a_disk_that_takes_twenty_seconds_for_a_commit_is_slow_and_not_stuck() {
        let mut bench = Bench::new();
        for _ in 0..50 {
            let at_work = Standing::Back(bench.now);
            assert_eq!(bench.until_stuck(Duration::from_secs(20), ("outbox", at_work)), None);
        }
    }

    #[test]
    fn who_rests_may_rest_for_ever() {
        let mut bench = Bench::new();
        assert_eq!(bench.until_stuck(Duration::from_secs(86_400), ("connection \"a\"", Standing::Resting)), None);
        let tomorrow = Standing::Back(bench.now + Duration::from_secs(86_400));
        assert_eq!(bench.until_stuck(Duration::from_secs(80_000), ("connection \"a\"", tomorrow)), None);
    }

    #[test]
    fn a_pause_of_the_whole_process_is_nobodys_fault() {
        let mut bench = Bench::new();
        let promise = Standing::Back(bench.now + Duration::from_secs(1));
        assert!(bench.after(PERIOD, &[("outbox", promise)]).is_empty());
        for pause in [60, 600, 86_400] {
            assert!(bench.after(Duration::from_secs(pause), &[("outbox", promise)]).is_empty(), "paused for {pause} s");
            // Awake again, it gets on.
            let again = Standing::Back(bench.now + Duration::from_secs(1));
            assert!(bench.after(PERIOD, &[("outbox", again)]).is_empty());
        }
    }

    #[test]
    fn a_part_that_ended_is_stuck_even_though_it_was_never_late() {
        let mut bench = Bench::new();
        let found = bench.until_stuck(Duration::from_secs(60), ("connection \"a\"", Standing::Ended)).expect("found");
        assert_eq!(found, LIMIT + PERIOD);
    }

    #[test]
    fn parts_are_judged_apart() {
        let mut bench = Bench::new();
        let bad = Standing::Back(bench.now);
        for _ in 0..6 {
            assert!(bench.after(PERIOD, &[("bad", bad), ("good", Standing::Back(bench.now + PERIOD))]).is_empty());
        }
        assert_eq!(bench.after(PERIOD, &[("bad", bad), ("good", Standing::Back(bench.now))]), ["bad"]);
    }

    #[test]
    fn a_part_that_is_gone_is_forgotten() {
        let mut bench = Bench::new();
        let late = Standing::Back(bench.now);
        for _ in 0..6 {
            bench.after(PERIOD, &[("connection \"a\"", late)]);
        }
        bench.after(PERIOD, &[]);
        assert!(bench.judge.late.is_empty());
        assert!(bench.after(PERIOD, &[("connection \"a\"", late)]).is_empty(), "it begins from nothing");
    }
}
