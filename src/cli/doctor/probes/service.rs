//! What systemd says of the service: does it run, how often was it restarted, and why.

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::{Gateway, Ground};
use crate::cli::doctor::program;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The unit that the package installs.
pub(in crate::cli) const UNIT: &str = "enos-edge.service";
const WANTED: &str = "LoadState,ActiveState,SubState,UnitFileState,NRestarts,Result,ExecMainStatus,WatchdogUSec";

pub(in crate::cli::doctor) async fn look(ground: Arc<Ground>) -> Vec<Finding> {
    if !ground.path("run/systemd/system").is_dir() {
        return vec![Finding::note("this machine is not run by systemd")];
    }
    let Some(text) = program::said("systemctl", &["show", UNIT, "-p", WANTED]).await else {
        return vec![Finding::unseen("the service", "systemctl does not answer")];
    };
    told(&text, &ground.gateway)
}

fn told(text: &str, gateway: &Gateway) -> Vec<Finding> {
    let shown: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let get = |key: &str| shown.get(key).copied().unwrap_or_default();
    if get("LoadState") != "loaded" {
        return vec![Finding::note("there is no service enos-edge on this machine").at(UNIT)];
    }
    let mut findings = vec![state(get("ActiveState"), get("SubState"), get("Result"), get("ExecMainStatus"), gateway)];
    if get("UnitFileState") == "disabled" {
        findings.push(Finding::warning("it is not started with the machine").help("systemctl enable enos-edge"));
    }
    let restarts: u64 = get("NRestarts").parse().unwrap_or(0);
    if restarts > 0 {
        findings.push(
            Finding::warning(format!("systemd has restarted it {restarts} times; the last end: {}", get("Result")))
                .help("its log says why it ended: `journalctl -u enos-edge -p warning`; take a support bundle"),
        );
    }
    if get("WatchdogUSec") == "0" || get("WatchdogUSec") == "infinity" {
        findings.push(Finding::note("no watchdog looks after it").help("set WatchdogSec= in the unit"));
    }
    findings.into_iter().map(|finding| finding.at(UNIT)).collect()
}

fn state(active: &str, sub: &str, result: &str, status: &str, gateway: &Gateway) -> Finding {
    match active {
        "active" => Finding::ok(format!("is {active} ({sub})")),
        "inactive" if matches!(gateway, Gateway::Running(_)) => {
            Finding::note("the gateway runs, and not as this service").help("somebody started it by hand: `ps -ef | grep enos-edge`")
        }
        "activating" => Finding::warning(format!("is being started ({sub}), the last end: {result}"))
            .help("when it stays so, its log says why: `journalctl -u enos-edge`"),
        "inactive" => Finding::warning("is stopped").help("systemctl start enos-edge"),
        other => Finding::fault(format!("is {other} ({sub}): {result}, exit status {status}"))
            .help("its log says why: `journalctl -u enos-edge`; then `systemctl reset-failed enos-edge && systemctl start enos-edge`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn restarts_and_failures_are_told_with_their_remedy() {
        let text = "LoadState=loaded\nActiveState=failed\nSubState=failed\nUnitFileState=disabled\nNRestarts=7\nResult=watchdog\nExecMainStatus=6\nWatchdogUSec=30s\n";
        let findings = told(text, &Gateway::Stopped);
        let levels: Vec<Level> = findings.iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Fault, Level::Warning, Level::Warning]);
        assert!(findings[0].what.contains("watchdog") && findings[2].what.contains("7 times"), "{findings:?}");
        let absent = told("LoadState=not-found\n", &Gateway::Stopped);
        assert_eq!(absent[0].level, Level::Note);
    }
}
