//! The engine's slots, a trial under way and how the last one ended, as they lie in the state folder.

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::cli::moments::stamp;
use crate::engine::{Folder, How, Place, Record, Slot};
use crate::store::RealDisk;
use crate::update::firmware::Firmware;
use std::path::Path;

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let config = match configured(ground, "the engine") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let ours = env!("CARGO_PKG_VERSION");
    let mut findings = vec![match ground.status().and_then(|status| status["version"].as_str()) {
        Some(theirs) if theirs != ours => {
            Finding::note(format!("the gateway runs engine {theirs}; this program is {ours}"))
                .help("after an update over the air that is so; after an upgrade of the package restart the gateway")
        }
        _ => Finding::ok(format!("this is engine {ours}")),
    }];
    let folder = Folder::of(&config.state_dir);
    match Record::read(&RealDisk, &folder) {
        Ok(record) => findings.extend(record.iter().flat_map(|record| told(&folder, record))),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            findings.push(Finding::unseen("the slots", error).at(folder.path().display()));
        }
        Err(error) => findings.push(
            Finding::fault(format!("the pointer to the engine can not be read: {error}"))
                .at(folder.path().display())
                .help("restart the gateway: its launcher lays a damaged pointer aside; then update again, and check the disk"),
        ),
    }
    findings.extend(programs(&config.update.firmware_dir));
    findings
}

/// Firmware targets that would be refused when an update comes.
fn programs(folder: &Path) -> Vec<Finding> {
    let refused = |name: &String| Firmware::check(folder, name).err().map(|why| (name.clone(), why));
    let each = Firmware::names(folder).iter().filter_map(refused).collect::<Vec<_>>();
    each.into_iter()
        .map(|(name, why)| {
            let (what, remedy) = why.rsplit_once(": ").unwrap_or((&why, "see docs/reference/firmware.md"));
            Finding::warning(format!("firmware target {name} would not be run: {what}"))
                .at(folder.display())
                .help(remedy)
        })
        .collect()
}

fn told(folder: &Folder, record: &Record) -> Vec<Finding> {
    let mut findings = Vec::new();
    let slot = match record.current {
        Place::Packaged => None,
        Place::A => Some(Slot::A),
        Place::B => Some(Slot::B),
    };
    if let Some(slot) = slot {
        let program = folder.program(slot);
        let version = record.slots.get(&slot).map_or("unknown", |facts| facts.version.as_str());
        findings.push(if program.is_file() {
            Finding::ok(format!("slot {} with engine {version} is the one that starts", slot.word()))
                .at(program.display())
        } else {
            Finding::fault(format!("slot {} is the one that starts, and it is empty", slot.word()))
                .at(program.display())
                .help("the launcher falls back to the engine of the package; update again, and check the disk")
        });
    }
    if let Some(trial) = &record.trial {
        let what =
            format!("engine {} is on trial; it is taken back when it does not show that it works", trial.version);
        findings.push(Finding::note(what));
    }
    if let Some(last) = record.last.as_ref().filter(|last| last.how == How::RolledBack) {
        findings.push(
            Finding::warning(format!("engine {} was taken back on {}: {}", last.version, stamp(last.at), last.why))
                .help("whoever made it needs a support bundle"),
        );
    }
    findings
}
