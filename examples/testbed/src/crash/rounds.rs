//! PURE. What happens in each round, drawn from a seed.

use std::time::Duration;

/// One round: quiet, then a kill, an outage of the cloud, or both overlapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Round {
    pub outage: Option<Outage>,
    pub kill: Option<Moment>,
}

/// When the gateway is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long after the round began.
    At(Duration),
    /// So long after the first value that came when the outage was over: in the middle of catching up.
    Returning(Duration),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Outage {
    pub fault: Fault,
    pub from: Duration,
    pub until: Duration,
}

/// What is wrong with the cloud for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Ports and connections closed.
    Down,
    /// Connections closed once.
    Dropped,
    /// Sub-devices are logged out once, unasked.
    ForgottenLogins,
    /// PUBACKs are held back.
    WithheldAcks,
    /// Some requests are taken and never answered.
    ForgottenReplies,
    /// Some requests are neither taken nor answered.
    LostRequests,
}

const FAULTS: [Fault; 6] = [
    Fault::Down,
    Fault::Dropped,
    Fault::ForgottenLogins,
    Fault::WithheldAcks,
    Fault::ForgottenReplies,
    Fault::LostRequests,
];
/// Milliseconds of health before anything happens.
const QUIET: std::ops::Range<u64> = 200..2_000;
const LENGTH: std::ops::Range<u64> = 500..4_000;
/// A kill beside an outage comes up to this long after its end,
const AFTERWARDS: u64 = 500;
/// or up to this long after the first value that comes then.
const RETURNING: u64 = 200;

/// Kill, outage and both take turns, so that the gateway needs less than the 3 connects in 2 minutes it allows itself.
#[must_use]
pub fn rounds(count: usize, seed: u64) -> Vec<Round> {
    let mut chance = fastrand::Rng::with_seed(seed);
    (0..count).map(|number| round(number, &mut chance)).collect()
}

fn round(number: usize, chance: &mut fastrand::Rng) -> Round {
    let from = chance.u64(QUIET);
    let until = from + chance.u64(LENGTH);
    // Half of the outages close the port: the others are rarer in the field.
    let fault = if chance.bool() { Fault::Down } else { FAULTS[chance.usize(..FAULTS.len())] };
    let outage = Outage { fault, from: Duration::from_millis(from), until: Duration::from_millis(until) };
    let at = |ms: u64| Moment::At(Duration::from_millis(ms));
    match number % 3 {
        0 => Round { outage: None, kill: Some(at(from)) },
        1 => Round { outage: Some(outage), kill: None },
        _ if chance.bool() => Round { kill: Some(at(chance.u64(from..until + AFTERWARDS))), outage: Some(outage) },
        _ => {
            let moment = Moment::Returning(Duration::from_millis(chance.u64(..RETURNING)));
            Round { kill: Some(moment), outage: Some(outage) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_the_whole_story_and_every_kind_of_round_is_in_it() {
        let story = rounds(60, 7);
        assert_eq!(story, rounds(60, 7));
        assert_ne!(story, rounds(60, 8));
        let kinds = |kill: bool, outage: bool| {
            story.iter().filter(|r| r.kill.is_some() == kill && r.outage.is_some() == outage).count()
        };
        assert_eq!((kinds(true, false), kinds(false, true), kinds(true, true)), (20, 20, 20));
        for fault in FAULTS {
            assert!(story.iter().flat_map(|r| &r.outage).any(|o| o.fault == fault), "{fault:?}");
        }
        let in_outage = |r: &&Round| {
            r.kill.zip(r.outage.as_ref()).is_some_and(|(kill, o)| matches!(kill, Moment::At(at) if at < o.until))
        };
        assert!(story.iter().filter(in_outage).count() > 3, "kills fall into outages, too");
        let returning = story.iter().filter(|r| matches!(r.kill, Some(Moment::Returning(_))));
        assert!(returning.count() > 3, "and into catching up");
    }
}
