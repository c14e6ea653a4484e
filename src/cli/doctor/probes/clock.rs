//! The clock: readings bear its time, and no certificate counts under a wrong one.

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::cli::doctor::program;
use crate::model::clock::EARLIEST;
use crate::rest::Client;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::time::timeout;

/// 2100-01-01.
const LATEST: i64 = 4_102_444_800_000;
/// What an answer may take on its way, twice.
const FINE_S: i64 = 10;
const BAD_S: i64 = 300;
const PATIENCE: Duration = Duration::from_secs(8);
const REMEDY: &str = "start a time service (`timedatectl set-ntp true`), open UDP port 123 to it, and check the battery of the real-time clock";

pub(in crate::cli::doctor) async fn look(ground: Arc<Ground>) -> Vec<Finding> {
    let mut findings = vec![year(ground.now)];
    findings.extend(future(&ground));
    let (kept, cloud) = tokio::join!(kept(&ground), cloud(&ground));
    findings.push(kept);
    findings.extend(cloud);
    findings
}

fn year(now: i64) -> Finding {
    let told = format!("it is {} UTC", stamp(now));
    if (EARLIEST.0..LATEST).contains(&now) {
        Finding::ok(told)
    } else {
        Finding::fault(format!("{told}, and can not be")).help(REMEDY)
    }
}

fn stamp(ms: i64) -> String {
    crate::cli::moments::stamp(ms)
}

/// What was written later than now says that the clock went back.
fn future(ground: &Ground) -> Option<Finding> {
    let outbox = ground.config.as_ref()?.state_dir.join("outbox/outbox.db");
    let written = std::fs::metadata(outbox).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let ahead = i64::try_from(written.as_millis()).ok()? - ground.now;
    (ahead > BAD_S * 1000).then(|| {
        Finding::fault(format!("the outbox was last written {} s from now: the clock went back", ahead / 1000))
            .help(REMEDY)
    })
}

async fn kept(ground: &Ground) -> Finding {
    if ground.path("run/systemd/timesync/synchronized").exists() {
        return Finding::ok("systemd-timesyncd keeps it");
    }
    let shown = program::said("timedatectl", &["show", "-p", "NTPSynchronized", "--value"]).await;
    match shown.as_deref().map(str::trim) {
        Some("yes") => Finding::ok("a time service keeps it"),
        Some("no") => Finding::warning("no time service keeps it").help(REMEDY),
        _ => Finding::unseen("who keeps the clock", "timedatectl does not tell"),
    }
}

/// What the cloud's web server says the time is.
async fn cloud(ground: &Ground) -> Option<Finding> {
    let rest = ground.config.as_ref()?.rest.clone()?;
    let place = rest.url.clone();
    let asked = async { Client::new(rest).ok()?.date().await.ok() };
    // Why it does not answer is told by another probe.
    let theirs = timeout(PATIENCE, asked).await.ok()???;
    Some(compared(ground.now, theirs).at(place))
}

fn compared(ours: i64, theirs: i64) -> Finding {
    let apart = (ours - theirs) / 1000;
    let way = if apart > 0 { "ahead of" } else { "behind" };
    let told = format!("{} s {way} the cloud's clock", apart.abs());
    if apart.abs() <= FINE_S {
        return Finding::ok("agrees with the cloud's clock");
    }
    let finding = if apart.abs() <= BAD_S { Finding::warning(told) } else { Finding::fault(told) };
    finding.help(REMEDY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    #[test]
    fn a_clock_that_can_not_be_right_is_a_fault() {
        let level = |now| year(now).level;
        assert_eq!(
            [0, EARLIEST.0 - 1, EARLIEST.0, LATEST].map(level),
            [Level::Fault, Level::Fault, Level::Ok, Level::Fault]
        );
        assert!(year(0).what.contains("1970-01-01"), "{}", year(0).what);
    }

    #[test]
    fn the_difference_to_the_cloud_is_told_with_its_sign() {
        assert_eq!(compared(5000, 0).level, Level::Ok);
        let behind = compared(0, 60_000);
        assert_eq!((behind.level, behind.what.as_str()), (Level::Warning, "60 s behind the cloud's clock"));
        assert_eq!(compared(3_600_000, 0).level, Level::Fault);
    }
}
