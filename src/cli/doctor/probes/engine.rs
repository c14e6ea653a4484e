//! The engine's slots and the job of an update, as they lie in the state folder.

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let config = match configured(ground, "the engine") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let ours = env!("CARGO_PKG_VERSION");
    let mut findings = Vec::new();
    match ground.status().and_then(|status| status["version"].as_str()) {
        Some(theirs) if theirs != ours => findings.push(
            Finding::note(format!("the gateway runs engine {theirs}; this program is {ours}"))
                .help("after an update over the air that is so; after an upgrade of the package restart the gateway"),
        ),
        _ => findings.push(Finding::ok(format!("this is engine {ours}"))),
    }
    if let Err(error) = std::fs::read_dir(&config.state_dir)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        findings.push(Finding::unseen("slots and updates", error).at(config.state_dir.display()));
    }
    findings
}
