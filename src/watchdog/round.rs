//! PURE. What one look at the running daemon leads to: the watchdog is fed, or it is not and it is told why.

use super::judge::{Judge, Stuck};
use crate::model::Pulse;
use std::time::{Duration, Instant};

/// The running daemon as the watchdog sees it.
pub trait Watched: Send + Sync {
    /// Every part with its name.
    fn parts(&self, say: &mut dyn FnMut(&str, &Pulse));
    /// What it does, in one line for people.
    fn summary(&self) -> String;
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Everything gets on.
    Feed,
    /// A new line for `systemctl status`.
    Status(String),
    /// For the log, of consequence.
    Say(String),
    /// It is over.
    Trigger,
    /// What was stuck gets on again.
    Relief,
}

pub struct Rounds {
    judge: Judge,
    status: String,
    is_stuck: bool,
}

impl Rounds {
    #[must_use]
    pub fn new(limit: Duration, period: Duration) -> Rounds {
        Rounds { judge: Judge::new(limit, period), status: String::new(), is_stuck: false }
    }

    /// Looks once.
    pub fn look(&mut self, now: Instant, watched: &dyn Watched) -> Vec<Act> {
        let mut inside = None;
        let mut look = self.judge.look(now);
        watched.parts(&mut |name, pulse| {
            look.part(name, pulse.standing());
            if pulse.is_inside() {
                inside.get_or_insert_with(|| name.to_owned());
            }
        });
        let stuck = look.done();
        if stuck.is_empty() {
            return self.well(watched);
        }
        if std::mem::replace(&mut self.is_stuck, true) {
            return Vec::new();
        }
        let words = words(&stuck, inside.as_deref());
        self.status.clone_from(&words);
        vec![Act::Status(words.clone()), Act::Say(words), Act::Trigger]
    }

    fn well(&mut self, watched: &dyn Watched) -> Vec<Act> {
        let mut acts = vec![Act::Feed];
        if std::mem::take(&mut self.is_stuck) {
            acts.push(Act::Relief);
        }
        let summary = watched.summary();
        if summary != self.status {
            self.status.clone_from(&summary);
            acts.push(Act::Status(summary));
        }
        acts
    }
}

/// Who is stuck, at most three by name. While the thread that all share is kept, nobody else can get on.
fn words(stuck: &[Stuck], inside: Option<&str>) -> String {
    if let Some(runtime) = stuck.iter().find(|stuck| stuck.part == super::RUNTIME) {
        let by = inside.map_or_else(String::new, |who| format!(", kept by the driver of {who}"));
        return format!("stuck: {}{by}", one(runtime));
    }
    let named: Vec<String> = stuck.iter().take(3).map(one).collect();
    let more = stuck.len().saturating_sub(named.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("stuck: {}{more}", named.join(", "))
}

fn one(stuck: &Stuck) -> String {
    match stuck.late {
        Some(late) => format!("{} (for {} s)", stuck.part, late.as_secs()),
        None => format!("{} (has ended)", stuck.part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const LIMIT: Duration = Duration::from_secs(30);
    const PERIOD: Duration = Duration::from_secs(5);

    #[derive(Default)]
    struct Daemon {
        parts: Vec<(&'static str, Pulse)>,
        summary: Mutex<String>,
    }

    impl Watched for Daemon {
        fn parts(&self, say: &mut dyn FnMut(&str, &Pulse)) {
            self.parts.iter().for_each(|(name, pulse)| say(name, pulse));
        }

        fn summary(&self) -> String {
            self.summary.lock().unwrap().clone()
        }
    }

    fn daemon(names: &[&'static str]) -> Daemon {
        Daemon { parts: names.iter().map(|name| (*name, Pulse::default())).collect(), ..Daemon::default() }
    }

    #[test]
    fn it_is_fed_while_all_get_on_and_says_what_is_new() {
        let (mut rounds, daemon, now) = (Rounds::new(LIMIT, PERIOD), daemon(&["outbox"]), Instant::now());
        *daemon.summary.lock().unwrap() = "polling 2 of 2".into();
        assert_eq!(rounds.look(now, &daemon), [Act::Feed, Act::Status("polling 2 of 2".into())]);
        assert_eq!(rounds.look(now + PERIOD, &daemon), [Act::Feed]);
    }

    #[test]
    fn a_stuck_part_is_told_once_and_the_watchdog_starves_until_it_gets_on() {
        let (mut rounds, daemon, begun) = (Rounds::new(LIMIT, PERIOD), daemon(&["outbox", "cloud"]), Instant::now());
        daemon.parts[0].1.back_by(begun);
        let mut acts = Vec::new();
        for step in 1..=7 {
            acts = rounds.look(begun + PERIOD * step, &daemon);
        }
        let words = "stuck: outbox (for 30 s)".to_owned();
        assert_eq!(acts, [Act::Status(words.clone()), Act::Say(words), Act::Trigger]);
        assert_eq!(rounds.look(begun + PERIOD * 8, &daemon), []);
        daemon.parts[0].1.rests();
        assert_eq!(rounds.look(begun + PERIOD * 9, &daemon)[..2], [Act::Feed, Act::Relief]);
    }

    #[test]
    fn who_keeps_the_thread_that_all_share_is_named() {
        let names = ["connection \"a\"", "connection \"b\"", super::super::RUNTIME];
        let (mut rounds, daemon, begun) = (Rounds::new(LIMIT, PERIOD), daemon(&names), Instant::now());
        daemon.parts.iter().for_each(|(_, pulse)| pulse.back_by(begun));
        let acts = daemon.parts[1].1.within(|| (1..=7).map(|step| rounds.look(begun + PERIOD * step, &daemon)).last());
        let words = "stuck: the runtime (for 30 s), kept by the driver of connection \"b\"".to_owned();
        assert_eq!(acts.unwrap()[0], Act::Status(words));
    }

    #[test]
    fn of_many_that_are_stuck_three_are_named() {
        let stuck: Vec<Stuck> = (0..5).map(|i| Stuck { part: format!("c{i}"), late: None }).collect();
        assert_eq!(words(&stuck, None), "stuck: c0 (has ended), c1 (has ended), c2 (has ended) and 2 more");
    }
}
