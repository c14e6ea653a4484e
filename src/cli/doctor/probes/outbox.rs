//! What waits, what was lost, what was refused, and whether the file is whole.

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::{Gateway, Ground};
use crate::cli::moments::{relative, size, stamp};
use crate::cli::terminal::grouped;
use crate::outbox::{self, Integrity};
use serde_json::Value as Json;

/// A backlog that is older says that something was wrong for long.
const OLD_MS: i64 = 3_600_000;
/// Losses that are older are history.
const RECENT_MS: i64 = 7 * 86_400_000;

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let config = match configured(ground, "the outbox") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let folder = config.state_dir.join("outbox");
    let findings = match &ground.gateway {
        Gateway::Running(status) => told(&status["outbox"], ground.now),
        Gateway::Silent(why) | Gateway::Unknown(why) => vec![Finding::unseen("the outbox", why)],
        Gateway::Stopped => match outbox::inspect(&folder) {
            Ok(None) => vec![Finding::note("is not there yet; the first start makes it")],
            Ok(Some(found)) => {
                let mut findings = vec![integrity(&found.integrity)];
                findings.extend(told(&serde_json::json!(found), ground.now));
                findings
            }
            Err(why) => vec![Finding::fault(why).help(
                "the next start sets a damaged file aside and carries over what can be read; take a copy of the folder before",
            )],
        },
    };
    findings.into_iter().map(|finding| finding.at(folder.display())).collect()
}

fn integrity(found: &Integrity) -> Finding {
    match found {
        Integrity::Whole => Finding::ok("the file is whole"),
        Integrity::Unfinished => Finding::note("the file is too large to be read in full here; what was read of it is whole"),
        Integrity::NotLooked(why) => Finding::unseen("the file", why),
        Integrity::Damaged(what) => Finding::fault(format!("the file is damaged: {what}")).help(
            "the next start sets it aside and carries over what can be read; take a copy of the folder before, and check the disk",
        ),
    }
}

/// Of a running gateway and of the file alike.
fn told(outbox: &Json, now: i64) -> Vec<Finding> {
    let mut findings = vec![backlog(outbox, now)];
    let recent = |row: &&Json, key: &str| row[key].as_i64().is_some_and(|at| now - at < RECENT_MS);
    let gaps: Vec<&Json> = outbox["gaps"].as_array().into_iter().flatten().filter(|gap| recent(gap, "to")).collect();
    if let Some(last) = gaps.last() {
        let lost: u64 = gaps.iter().filter_map(|gap| gap["readings"].as_u64()).sum();
        let text = |key: &str| last[key].as_str().unwrap_or_default();
        let until = stamp(last["to"].as_i64().unwrap_or(0));
        findings.push(
            Finding::warning(format!(
                "{} readings were lost in the last days, the last of {until} for {}: {}",
                grouped(lost),
                text("destination"),
                text("reason")
            ))
            .help(lost_remedy(text("reason"))),
        );
    }
    let refused: Vec<&Json> =
        outbox["set_aside_rows"].as_array().into_iter().flatten().filter(|row| recent(row, "at")).collect();
    if let Some(last) = refused.last() {
        let text = |key: &str| last[key].as_str().unwrap_or_default();
        findings.push(
            Finding::warning(format!(
                "{} refused values were set aside, the last of {} · {}: code {}: {}",
                text("destination"),
                text("device"),
                text("point"),
                last["code"],
                text("reason")
            ))
            .help("the model in the cloud and the one of the package differ: compare types and ranges of that point"),
        );
    }
    if let Some(file) = outbox["quarantine"]["file"].as_str() {
        let problem = outbox["quarantine"]["problem"].as_str().unwrap_or_default();
        findings.push(
            Finding::warning(format!("a damaged file was set aside as {file}: {problem}"))
                .help("check the disk; delete the file when nobody wants to look at it"),
        );
    }
    findings
}

fn lost_remedy(reason: &str) -> &'static str {
    match reason {
        "quota" | "age" => {
            "set outbox.quota_mb or max_age_h higher, or find out why the destination was away for so long"
        }
        "disk_full" => "make room on the disk of the state folder",
        _ => "check the disk of the state folder",
    }
}

fn backlog(outbox: &Json, now: i64) -> Finding {
    let of = |key: &str| outbox[key].as_u64().unwrap_or(0);
    let waiting = of("readings_in_memory") + of("readings_on_disk");
    let bytes = size(of("bytes_on_disk"));
    let Some(oldest) = outbox["oldest_waiting"].as_i64().filter(|_| waiting > 0) else {
        return Finding::ok(format!("nothing waits; {bytes} on disk"));
    };
    let what = format!(
        "{} readings wait, the oldest of {} ({}); {bytes} on disk",
        grouped(waiting),
        stamp(oldest),
        relative(oldest, now)
    );
    if now - oldest > OLD_MS {
        Finding::warning(what).help("a destination is away or slow: see the findings of login, network and delivery")
    } else {
        Finding::ok(what)
    }
}
