//! The update job as it lies in the state folder: whether it goes on, how it ended, and what a person can do.

mod conditions;

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::{Gateway, Ground};
use crate::cli::moments::{span, stamp};
use crate::config::UpdateConfig;
use crate::store::RealDisk;
use crate::update::job::{Job, State};
use crate::update::shelf::{FOLDER, Shelf};
use crate::update::{Manifest, Stage};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Looking for room, proving a signature: minutes on the slowest gateway.
const QUICK: Duration = Duration::from_secs(3600);
/// Writing takes as long as the disk and the target need.
const WRITING: Duration = Duration::from_secs(6 * 3600);
/// Beyond its own limits.
const MARGIN: Duration = Duration::from_secs(3600);
/// So many starts in one step are none of a person's.
const STARTS: u32 = 3;
/// How it ended is a warning for so long.
const LATELY_MS: i64 = 30 * 86_400_000;

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let config = match configured(ground, "updates") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let at = config.state_dir.join(FOLDER);
    let gone_on = !matches!(ground.gateway, Gateway::Stopped);
    let shelf = Shelf::new(Arc::new(RealDisk), &config.state_dir);
    let finding = match shelf.look() {
        Ok(None) if config.update.keys.is_empty() => {
            Finding::note("no update is taken: update.keys names no key").help("see docs/reference/update.md")
        }
        Ok(None) => Finding::ok("no update was ever taken"),
        Ok(Some(job)) => judge(&job, &config.update, gone_on, ground.now),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::unseen("the update job", error),
        Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::FileTooLarge) => Finding::fault(
            format!("the update job can not be understood: {error}"),
        )
        .help(
            "the gateway lays it aside when it starts, as job.json.broken; offer the update again, and check the disk",
        ),
        Err(error) => {
            let (what, remedy) = shelf.unread(&error);
            Finding::fault(format!("no update is taken, for {what}")).help(remedy)
        }
    };
    let mut findings = vec![finding.at(at.join("job.json").display())];
    findings.extend(shelf.laid_aside().into_iter().map(laid_aside));
    findings.extend(conditions::look(ground, &config.update.conditions));
    findings
}

fn laid_aside(path: PathBuf) -> Finding {
    let what = "a record of updates could not be understood and was laid aside; nothing depends on it any more";
    Finding::note(what).at(path.display()).help(format!("check the disk, then rm -r {}", path.display()))
}

/// What the job is, and of which version to which.
fn named(job: &Job) -> String {
    let manifest = job.manifest.as_deref().and_then(|text| Manifest::parse(text).ok()).map(|(_, manifest)| manifest);
    let target = manifest.as_ref().map_or("update", |manifest| manifest.kind.target());
    let version = manifest.as_ref().map(|manifest| manifest.version.to_string());
    let version = version.or_else(|| job.offer().map(|offer| offer.version.clone())).unwrap_or_default();
    let before = job.from.as_ref().map_or_else(String::new, |before| format!("{before} → "));
    format!("{target} {before}{version}").trim_end().to_owned()
}

fn judge(job: &Job, config: &UpdateConfig, gone_on: bool, now: i64) -> Finding {
    if job.state.is_end() { ended(job, now) } else { under_way(job, config, gone_on, now) }
}

fn under_way(job: &Job, config: &UpdateConfig, gone_on: bool, now: i64) -> Finding {
    let (name, state) = (named(job), job.state.word());
    if !gone_on {
        return Finding::warning(format!("{name} is {state}, and no gateway runs that goes on with it"))
            .help("start the gateway; it goes on where it was");
    }
    let since = Duration::from_millis(u64::try_from(now.saturating_sub(job.changed)).unwrap_or(0));
    let why = if job.state.why().is_empty() { String::new() } else { format!(": {}", job.state.why()) };
    let told = format!("{name} is {state} for {}{why}", span(since.as_secs()));
    if job.starts >= STARTS {
        return Finding::warning(format!("{told}; the gateway was started {} times meanwhile", job.starts)).help(
            "look at the journal for what kills it; when it changes something yet the update is given up by itself, before that \
             `enos-edge update cancel` gives it up",
        );
    }
    let (limit, remedy) = patience(&job.state, config);
    if since > limit {
        return Finding::fault(format!("{told}: it is stuck")).help(remedy);
    }
    Finding::note(told).help(match job.state {
        State::Waiting { .. } => "`enos-edge update cancel` gives it up",
        _ => "`enos-edge update status` shows how it goes on",
    })
}

/// How long a job may be in a state, and what to do when it is there for longer.
fn patience(state: &State, config: &UpdateConfig) -> (Duration, &'static str) {
    match state {
        State::Downloading => (
            config.deadline + MARGIN,
            "see the findings of names and network; `enos-edge update cancel` gives it up, then offer it again",
        ),
        State::Waiting { .. } => (
            config.wait + MARGIN,
            "look at update.window and the programs of conditions_dir; `enos-edge update cancel` gives it up",
        ),
        State::Preparing | State::Installing | State::Activating => (
            WRITING,
            "the target hangs, or the disk refuses: look at the journal and the findings of disk, and restart the gateway",
        ),
        State::OnTrial { .. } => (
            config.trial * 2 + MARGIN,
            "`enos-edge update roll-back` takes it back; restart the gateway when that does not help",
        ),
        _ => (QUICK, "look at the journal and the findings of disk, and restart the gateway: it does the step again"),
    }
}

fn ended(job: &Job, now: i64) -> Finding {
    let told = format!("{} ended on {}: {}", named(job), stamp(job.changed), job.state.word());
    let why = job.state.why();
    let told = if why.is_empty() { told } else { format!("{told}: {why}") };
    if job.state.is_half_done() {
        return Finding::fault(format!("{told}; what runs now was confirmed by nobody")).help(
            "look which version runs (`enos-edge status`, or the target itself), and install another version than both",
        );
    }
    let remedy = match &job.state {
        State::Done => return Finding::ok(told),
        State::Failed { failure } => match failure.stage {
            Stage::Download => "see the findings of names and network, then offer it again",
            Stage::Verification => "upload the file to the cloud again, signed with a key that update.keys names",
            Stage::Writing => "see the findings of disk, then offer it again",
            Stage::Refused | Stage::Other => "whoever made it needs a support bundle",
        },
        State::RolledBack { .. } => "what ran before runs; whoever made the update needs a support bundle",
        _ => "it is not for this gateway, or update: of edge.yaml says no; nothing was changed",
    };
    if now.saturating_sub(job.changed) > LATELY_MS {
        return Finding::note(told);
    }
    Finding::warning(told).help(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;
    use crate::model::update::{Method, Offer};
    use crate::update::Failure;
    use crate::update::job::Origin;

    const NOW: i64 = 2_000_000_000_000;

    fn job(state: State, minutes: i64) -> Job {
        let offer = Offer {
            product_key: "p".into(),
            device_key: "d".into(),
            version: "2.0.0".into(),
            method: Method::Sha256,
            sign: String::new(),
            url: String::new(),
            size: 1,
        };
        let job = Job::new("1-a".into(), Origin::Cloud(offer), false, NOW - minutes * 60_000);
        Job { state, from: Some("1.0.0".into()), ..job }
    }

    fn seen(state: State, minutes: i64) -> (Level, String, String) {
        let finding = judge(&job(state, minutes), &UpdateConfig::default(), true, NOW);
        (finding.level, finding.what, finding.remedy)
    }

    #[test]
    fn each_state_is_stuck_after_its_own_time() {
        let day = 24 * 60;
        for (state, well, stuck) in [
            (State::Offered, 30, 61),
            (State::Downloading, day, day + 61),
            (State::Downloaded, 30, 61),
            (State::Waiting { why: "the window".into() }, 7 * day, 7 * day + 61),
            (State::Installing, 300, 361),
            (State::OnTrial { why: "the cloud".into() }, 60, 100),
            (State::RollingBack { why: "x".into(), failure: None }, 30, 61),
        ] {
            let (level, what, remedy) = seen(state.clone(), well);
            assert!(level == Level::Note && !remedy.is_empty(), "{what}");
            let (level, what, remedy) = seen(state, stuck);
            assert!(level == Level::Fault && what.contains("stuck") && !remedy.is_empty(), "{what}");
        }
    }

    #[test]
    fn how_it_ended_is_told_with_what_to_do() {
        let failed = |stage, words: &str| State::Failed { failure: Failure::new(stage, words) };
        assert_eq!(seen(State::Done, 10).0, Level::Ok);
        let (level, what, remedy) = seen(failed(Stage::Download, "download: no way"), 10);
        assert!(level == Level::Warning && what.contains("1.0.0 → 2.0.0") && remedy.contains("network"), "{what}");
        assert!(seen(failed(Stage::Verification, "x"), 10).2.contains("update.keys"));
        let (level, what, _) = seen(failed(Stage::Other, "w; and the way back failed: y"), 10);
        assert!(level == Level::Fault && what.contains("confirmed by nobody"), "{what}");
        assert_eq!(seen(State::RolledBack { why: "it crashed".into() }, 10).0, Level::Warning);
        assert_eq!(seen(State::Refused { why: "older".into() }, 10).0, Level::Warning);
        assert_eq!(seen(State::Refused { why: "older".into() }, 50_000).0, Level::Note, "long ago");
    }

    #[test]
    fn an_update_that_nobody_carries_on_and_one_that_kills_its_gateway_are_told() {
        let stopped = judge(&job(State::Installing, 5), &UpdateConfig::default(), false, NOW);
        assert!(stopped.level == Level::Warning && stopped.remedy.contains("start the gateway"));
        let again = judge(&Job { starts: 4, ..job(State::Downloaded, 5) }, &UpdateConfig::default(), true, NOW);
        assert!(again.level == Level::Warning && again.what.contains("started 4 times"), "{}", again.what);
    }
}
