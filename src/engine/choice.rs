//! PURE. Which engine is started next, from what the pointer says and what the trial has used up.

use super::tried::Tried;
use super::{Place, Record, Slot, Trial};
use std::time::Duration;

/// Starts of one trial: one, one after a crash, one after a power cut.
pub const STARTS: u32 = 3;
/// Times an engine on trial may end by itself. The second brings the old one back, so that a crash after 5 s is over
/// within 15 s.
pub const CRASHES: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Start this one, and if it is not sound those after it; the packaged engine is always the last.
    Start(Vec<Slot>),
    /// Start this one under supervision.
    Try(Slot),
    /// The trial is over before it is started again.
    Back(String),
    /// The package of the operating system was changed since: its engine is what a person chose last.
    Upgraded,
}

/// What the pointer asks for. `packaged` is the version of the launcher.
#[must_use]
pub fn choose(record: &Record, packaged: &str) -> Choice {
    if record.packaged != packaged && record.current != Place::Packaged {
        return Choice::Upgraded;
    }
    match (record.current.slot(), &record.trial) {
        (Some(slot), Some(trial)) => match &trial.failed {
            Some(why) => Choice::Back(why.clone()),
            None => Choice::Try(slot),
        },
        (current, _) => Choice::Start(current.into_iter().chain(second(record)).collect()),
    }
}

/// What ran before, when what should run is not sound.
fn second(record: &Record) -> Option<Slot> {
    record.previous.slot().filter(|slot| Some(*slot) != record.current.slot() && record.current != Place::Packaged)
}

/// Counts one more start, to be written down before it is made.
///
/// # Errors
/// Why there is none left.
pub fn one_more(trial: &Trial, tried: &Tried) -> Result<Tried, String> {
    if tried.crashes >= CRASHES {
        return Err(format!("engine {} ended by itself {} times", trial.version, tried.crashes));
    }
    if tried.starts >= STARTS {
        return Err(format!("engine {} was started {} times and has not proven itself", trial.version, tried.starts));
    }
    if tried.ran() >= Duration::from_millis(trial.window_ms) {
        return Err(too_long(trial));
    }
    Ok(Tried { starts: tried.starts + 1, ..tried.clone() })
}

#[must_use]
pub fn too_long(trial: &Trial) -> String {
    format!("engine {} has not proven itself within {} s", trial.version, trial.window_ms / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(current: Place, previous: Place) -> Record {
        Record { current, previous, packaged: "1.0.0".to_owned(), ..Record::default() }
    }

    fn trial() -> Trial {
        Trial { job: "j".to_owned(), version: "2.0.0".to_owned(), window_ms: 60_000, ..Trial::default() }
    }

    #[test]
    fn the_pointer_is_followed_then_what_was_before() {
        assert_eq!(choose(&record(Place::Packaged, Place::A), "1.0.0"), Choice::Start(Vec::new()));
        assert_eq!(choose(&record(Place::B, Place::A), "1.0.0"), Choice::Start(vec![Slot::B, Slot::A]));
        assert_eq!(choose(&record(Place::B, Place::Packaged), "1.0.0"), Choice::Start(vec![Slot::B]));
        assert_eq!(choose(&record(Place::B, Place::B), "1.0.0"), Choice::Start(vec![Slot::B]));
    }

    #[test]
    fn a_changed_package_of_the_system_is_the_last_word_of_a_person() {
        let mut on_trial = record(Place::B, Place::A);
        on_trial.trial = Some(trial());
        assert_eq!(choose(&on_trial, "1.0.0"), Choice::Try(Slot::B));
        assert_eq!(choose(&on_trial, "0.9.0"), Choice::Upgraded);
        assert_eq!(choose(&record(Place::A, Place::B), "1.1.0"), Choice::Upgraded);
        assert_eq!(choose(&record(Place::Packaged, Place::B), "1.1.0"), Choice::Start(Vec::new()));
    }

    #[test]
    fn a_trial_ends_by_starts_by_crashes_by_time_and_by_its_own_word() {
        let tried = |starts, crashes, ran_ms| Tried { job: "j".to_owned(), starts, crashes, ran_ms };
        assert_eq!(one_more(&trial(), &tried(0, 0, 0)).unwrap().starts, 1);
        assert!(one_more(&trial(), &tried(3, 0, 0)).unwrap_err().contains("started 3 times"));
        assert!(one_more(&trial(), &tried(2, 2, 0)).unwrap_err().contains("ended by itself 2 times"));
        assert!(one_more(&trial(), &tried(1, 0, 60_000)).unwrap_err().contains("within 60 s"));
        let mut failed = record(Place::B, Place::A);
        failed.trial = Some(Trial { failed: Some("lies".to_owned()), ..trial() });
        assert_eq!(choose(&failed, "1.0.0"), Choice::Back("lies".to_owned()));
    }
}
