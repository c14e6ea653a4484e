//! Is `edge.yaml` readable and valid?

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::diagnostic::{Diagnostic, Severity};

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let mut findings: Vec<Finding> = ground.faults.iter().map(|fault| told(ground, fault)).collect();
    if let Some(config) = &ground.config {
        findings.extend(config.warnings.iter().map(|fault| told(ground, fault)));
        if config.cloud.is_none() && config.destinations.is_empty() {
            findings.push(
                Finding::note("no cloud and no destination is configured; readings wait in the outbox")
                    .at(ground.config_path.display())
                    .help("write `cloud:` or `destinations:`"),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("is readable and valid").at(ground.config_path.display()));
    }
    findings
}

fn told(ground: &Ground, fault: &Diagnostic) -> Finding {
    // The daemon may be able to read what this user can not.
    let another = ground.user != 0 && ground.daemon() != Some(ground.user);
    let closed = fault.problem.contains("Permission denied") || fault.problem.contains("CREDENTIALS_DIRECTORY");
    let finding = match fault.severity {
        Severity::Error if fault.problem.contains("CREDENTIALS_DIRECTORY") => {
            return Finding::note("a secret comes from systemd, which hands it to the service only").at(&fault.place);
        }
        Severity::Error if another && closed => {
            return Finding::unseen("what another user may read", &fault.problem)
                .at(&fault.place)
                .help("run it as root to look at everything");
        }
        Severity::Error => Finding::fault(&fault.problem),
        Severity::Warning => Finding::warning(&fault.problem),
    };
    finding.at(&fault.place).help(fault.help.clone().unwrap_or_else(|| "see docs/reference/edge-yaml.md".to_owned()))
}
