//! PURE. Judges an engine on trial by what it shows: the package, the sub-devices, the cloud, the outbox, its own version,
//! each compared with what the engine before it left as a baseline. Time is an argument.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// All claims hold for so long before the engine is the one: two scans of the usual period.
pub const SETTLE: Duration = Duration::from_secs(20);
/// Of the devices that answered before, so many in a hundred may be silent: one always breaks in a large site.
const MAY_BE_SILENT: u64 = 10;
/// Per cent points by which the share of good values of all devices may fall.
const MAY_FALL: f64 = 20.0;

/// What ran well before, written by the engine that switched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Generation of the package; 0 when there is none.
    pub generation: u64,
    /// Good values and all values of each device, as far as it answered.
    pub devices: BTreeMap<String, (u64, u64)>,
    /// The cloud acknowledged a message within the last hour.
    pub acknowledged: bool,
}

/// What is so at this moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub generation: u64,
    pub devices: BTreeMap<String, (u64, u64)>,
    /// Readings that the cloud acknowledged since this engine started.
    pub acknowledged: u64,
    /// Why the outbox takes no writes.
    pub outbox_trouble: Option<String>,
}

/// One thing the engine has to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claim {
    pub what: &'static str,
    pub holds: bool,
    pub words: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    OnTrial,
    Proven,
    /// It never will be.
    Failed(String),
}

/// One trial.
#[derive(Debug)]
pub struct Judge {
    /// Absent when nobody ran before who could have written it: then nothing is compared.
    baseline: Option<Baseline>,
    announced: String,
    running: String,
    settle: Duration,
    since: Option<Duration>,
    claims: Vec<Claim>,
}

impl Judge {
    /// `announced`: the version of the manifest; `running`: what the program says of itself.
    #[must_use]
    pub fn new(baseline: Option<Baseline>, announced: &str, running: &str, settle: Duration) -> Judge {
        let (announced, running) = (announced.to_owned(), running.to_owned());
        Judge { baseline, announced, running, settle, since: None, claims: Vec::new() }
    }

    /// The evidence of the last look.
    #[must_use]
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// What is still waited for, in words.
    #[must_use]
    pub fn waits_for(&self) -> String {
        let missing: Vec<&str> = self.claims.iter().filter(|c| !c.holds).map(|c| c.words.as_str()).collect();
        match (missing.is_empty(), self.claims.is_empty()) {
            (false, _) => missing.join("; "),
            (true, true) => "has just started".to_owned(),
            (true, false) => format!("all is well; it has to stay so for {} s", self.settle.as_secs()),
        }
    }

    /// `now` counts from the start of the engine.
    pub fn look(&mut self, now: Duration, look: &Look) -> Verdict {
        if self.announced != self.running {
            let (running, announced) = (&self.running, &self.announced);
            return Verdict::Failed(format!("it says it is {running}, and its manifest says {announced}"));
        }
        self.claims = self.all(look);
        if !self.claims.iter().all(|claim| claim.holds) {
            self.since = None;
            return Verdict::OnTrial;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_sub(since) >= self.settle { Verdict::Proven } else { Verdict::OnTrial }
    }

    fn all(&self, look: &Look) -> Vec<Claim> {
        let outbox = Claim {
            what: "outbox",
            holds: look.outbox_trouble.is_none(),
            words: match &look.outbox_trouble {
                None => "the outbox is open and has committed".to_owned(),
                Some(trouble) => format!("the outbox takes no writes: {trouble}"),
            },
        };
        let Some(before) = &self.baseline else { return vec![outbox] };
        vec![package(before, look), devices(before, look), values(before, look), cloud(before, look), outbox]
    }
}

fn package(before: &Baseline, look: &Look) -> Claim {
    let words = format!("package generation {} is loaded, {} was before", look.generation, before.generation);
    Claim { what: "package", holds: look.generation >= before.generation, words }
}

/// Devices that answered before and are in the package still.
fn devices(before: &Baseline, look: &Look) -> Claim {
    let known = before.devices.iter().filter(|(name, (good, _))| *good > 0 && look.devices.contains_key(*name));
    let (mut all, mut silent) = (0, Vec::new());
    for (name, _) in known {
        all += 1;
        if look.devices.get(name).is_none_or(|(good, _)| *good == 0) {
            silent.push(name.as_str());
        }
    }
    let holds = silent.len() as u64 * 100 <= all * MAY_BE_SILENT;
    let words = match silent.first() {
        None => format!("all {all} sub-devices that answered before answer"),
        Some(first) => {
            format!("{} of {all} sub-devices that answered before are silent, first \"{first}\"", silent.len())
        }
    };
    Claim { what: "sub-devices", holds, words }
}

fn values(before: &Baseline, look: &Look) -> Claim {
    let both = || before.devices.keys().filter(|name| look.devices.contains_key(*name));
    let (then, now) = (share(&before.devices, both()), share(&look.devices, both()));
    let words = format!("{now:.0} % of their values are good, {then:.0} % were before");
    Claim { what: "values", holds: now >= then - MAY_FALL, words }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn share<'a>(of: &BTreeMap<String, (u64, u64)>, names: impl Iterator<Item = &'a String>) -> f64 {
    let (good, all) = names.filter_map(|name| of.get(name)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    if all == 0 { 100.0 } else { good as f64 * 100.0 / all as f64 }
}

fn cloud(before: &Baseline, look: &Look) -> Claim {
    let words = match (before.acknowledged, look.acknowledged) {
        (_, 1..) => format!("the cloud acknowledged {} readings", look.acknowledged),
        (true, 0) => "the cloud has acknowledged nothing yet, and did within the hour before".to_owned(),
        (false, 0) => "the cloud acknowledged nothing within the hour before either".to_owned(),
    };
    Claim { what: "cloud", holds: look.acknowledged > 0 || !before.acknowledged, words }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn site(devices: &[(&str, u64, u64)]) -> BTreeMap<String, (u64, u64)> {
        devices.iter().map(|(name, good, all)| ((*name).to_owned(), (*good, *all))).collect()
    }

    fn before() -> Baseline {
        Baseline { generation: 3, devices: site(&[("a", 10, 10), ("b", 8, 10), ("dead", 0, 10)]), acknowledged: true }
    }

    fn well() -> Look {
        let devices = site(&[("a", 10, 10), ("b", 8, 10), ("dead", 0, 10), ("new", 0, 10)]);
        Look { generation: 3, devices, acknowledged: 1, outbox_trouble: None }
    }

    fn judge() -> Judge {
        Judge::new(Some(before()), "2.0.0", "2.0.0", 20 * S)
    }

    fn waits(look: &Look) -> String {
        let mut judge = judge();
        assert_eq!(judge.look(S, look), Verdict::OnTrial);
        assert_eq!(judge.look(100 * S, look), Verdict::OnTrial, "however long: {}", judge.waits_for());
        judge.waits_for()
    }

    #[test]
    fn an_engine_that_does_as_before_is_proven_after_a_while_and_not_at_once() {
        let mut judge = judge();
        assert_eq!(judge.look(5 * S, &well()), Verdict::OnTrial);
        assert!(judge.waits_for().contains("stay so for 20 s"));
        assert_eq!(judge.look(24 * S, &well()), Verdict::OnTrial);
        assert_eq!(judge.look(25 * S, &well()), Verdict::Proven);
    }

    #[test]
    fn a_relapse_begins_the_while_anew() {
        let mut judge = judge();
        judge.look(5 * S, &well());
        judge.look(15 * S, &Look { outbox_trouble: Some("no room".to_owned()), ..well() });
        assert!(judge.waits_for().contains("no room"));
        assert_eq!(judge.look(26 * S, &well()), Verdict::OnTrial);
        assert_eq!(judge.look(46 * S, &well()), Verdict::Proven);
    }

    #[test]
    fn each_claim_alone_holds_it_back_and_says_so() {
        assert!(waits(&Look { generation: 2, ..well() }).contains("generation 2 is loaded, 3 was before"));
        let silent = site(&[("a", 10, 10), ("b", 0, 10), ("dead", 0, 10)]);
        assert!(
            waits(&Look { devices: silent, ..well() })
                .contains("1 of 2 sub-devices that answered before are silent, first \"b\"")
        );
        let poor = site(&[("a", 5, 10), ("b", 5, 10), ("dead", 0, 10)]);
        assert!(waits(&Look { devices: poor, ..well() }).contains("33 % of their values are good, 60 % were before"));
        assert!(waits(&Look { acknowledged: 0, ..well() }).contains("acknowledged nothing yet"));
    }

    #[test]
    fn what_was_broken_before_is_not_held_against_it() {
        let mut one = Judge::new(Some(Baseline { acknowledged: false, ..before() }), "2.0.0", "2.0.0", S);
        let look = Look { acknowledged: 0, ..well() };
        one.look(S, &look);
        assert_eq!(
            one.look(3 * S, &look),
            Verdict::Proven,
            "a link that was down, a device that was dead, one that is new"
        );
        let mut gone = judge();
        let fewer = Look { devices: site(&[("a", 10, 10)]), generation: 4, ..well() };
        gone.look(S, &fewer);
        assert_eq!(gone.look(21 * S, &fewer), Verdict::Proven, "a device that a newer package does without");
        let mut nobody = Judge::new(None, "2.0.0", "2.0.0", S);
        nobody.look(S, &Look::default());
        assert_eq!(nobody.look(2 * S, &Look::default()), Verdict::Proven, "nothing to compare with");
        let many: BTreeMap<_, _> = (0..40).map(|n| (format!("d{n}"), (1, 1))).collect();
        let mut some = many.clone();
        for name in ["d1", "d2", "d3", "d4"] {
            some.insert(name.to_owned(), (0, 1));
        }
        let baseline = Baseline { devices: many, acknowledged: false, generation: 0 };
        let mut large = Judge::new(Some(baseline), "2.0.0", "2.0.0", S);
        let mut look = Look { devices: some, ..Look::default() };
        large.look(S, &look);
        assert_eq!(large.look(2 * S, &look), Verdict::Proven, "one in ten");
        look.devices.insert("d5".to_owned(), (0, 1));
        assert_eq!(large.look(3 * S, &look), Verdict::OnTrial);
    }

    #[test]
    fn an_engine_that_lies_about_its_version_fails_at_once() {
        let mut judge = Judge::new(Some(before()), "2.0.0", "1.9.0", S);
        let Verdict::Failed(why) = judge.look(S, &well()) else { panic!("believed") };
        assert_eq!(why, "it says it is 1.9.0, and its manifest says 2.0.0");
    }
}
