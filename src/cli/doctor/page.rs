//! PURE. The findings as a person reads them: the worst first where it counts, each with place and remedy.

use super::finding::{Level, Report};

/// Sections in the order of the table; without `all`, what is in order is only counted.
#[must_use]
pub fn page(report: &Report, all: bool) -> String {
    let mut text = String::new();
    let mut section = "";
    for finding in report.findings.iter().filter(|finding| all || finding.level > Level::Ok) {
        let head = if finding.probe == section { "" } else { finding.probe };
        section = finding.probe;
        let place = if finding.r#where.is_empty() { String::new() } else { format!("{}: ", finding.r#where) };
        let what = finding.what.replace('\n', &format!("\n{:24}", ""));
        text.push_str(&format!("{head:<15}{:<9}{place}{what}\n", word(finding.level)));
        if !finding.remedy.is_empty() {
            text.push_str(&format!("{:24}-> {}\n", "", finding.remedy));
        }
    }
    let count = |level| report.count(level);
    text.push_str(&format!(
        "\n{} faults, {} warnings, {} notes, {} in order; the gateway {}; {:.1} s\n",
        count(Level::Fault),
        count(Level::Warning),
        count(Level::Note),
        count(Level::Ok),
        gateway(report.gateway),
        report.took_ms as f64 / 1000.0
    ));
    text
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Note => "note",
        Level::Warning => "WARNING",
        Level::Fault => "FAULT",
    }
}

fn gateway(state: &str) -> &'static str {
    match state {
        "running" => "runs",
        "stopped" => "does not run",
        "silent" => "runs and does not answer",
        _ => "may run or not: this user can not tell",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Finding;

    #[test]
    fn a_page_shows_place_and_remedy_and_counts_the_rest() {
        let of = |probe, finding: Finding| Finding { probe, ..finding };
        let findings = vec![
            of("clock", Finding::ok("it is 2026")),
            of("disk", Finding::fault("full").at("/var").help("make room")),
            of("disk", Finding::note("slow")),
        ];
        let report = Report { version: "1", at: 0, took_ms: 1500, gateway: "running", worst: Level::Fault, findings };
        let shown = page(&report, false);
        assert_eq!(shown.lines().next(), Some("disk           FAULT    /var: full"));
        assert!(shown.contains("-> make room") && !shown.contains("2026"), "{shown}");
        assert!(shown.contains("1 faults, 0 warnings, 1 notes, 1 in order; the gateway runs; 1.5 s"), "{shown}");
        assert!(page(&report, true).contains("it is 2026"));
    }
}
