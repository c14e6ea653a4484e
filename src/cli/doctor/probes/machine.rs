//! The machine: memory, load, open files, where logs are kept, and what system it is.

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::cli::doctor::{holders, program};
use std::sync::Arc;

/// Less than the daemon and its peaks need.
const LITTLE_KB: u64 = 48 << 10;

pub(in crate::cli::doctor) async fn look(ground: Arc<Ground>) -> Vec<Finding> {
    let libc = program::said("getconf", &["GNU_LIBC_VERSION"]).await;
    let beside = Arc::clone(&ground);
    let looked = tokio::task::spawn_blocking(move || {
        let mut findings: Vec<Finding> =
            [memory(&beside), load(&beside), journal(&beside)].into_iter().flatten().collect();
        findings.extend(open_files(&beside));
        findings
    });
    let mut findings = looked.await.unwrap_or_default();
    let kernel = ground.text("proc/sys/kernel/osrelease").unwrap_or_default();
    findings.push(Finding::ok(format!(
        "Linux {} on {}, {}",
        kernel.trim(),
        std::env::consts::ARCH,
        libc.as_deref().map_or("libc unknown", str::trim)
    )));
    findings
}

fn memory(ground: &Ground) -> Option<Finding> {
    let text = ground.text("proc/meminfo")?;
    let of =
        |key: &str| text.lines().find(|line| line.starts_with(key))?.split_whitespace().nth(1)?.parse::<u64>().ok();
    let (total, free) = (of("MemTotal:")?, of("MemAvailable:")?);
    let told = format!("{} of {} MB of memory are available", free >> 10, total >> 10);
    Some(if free < LITTLE_KB || free * 20 < total {
        Finding::warning(told)
            .help("see what takes it with `top`; the kernel may end the gateway when there is none left")
    } else {
        Finding::ok(told)
    })
}

fn load(ground: &Ground) -> Option<Finding> {
    let text = ground.text("proc/loadavg")?;
    let five = text.split_whitespace().nth(1)?.parse::<f64>().ok()?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let told = format!("load {five} on {processors} processors");
    Some(if five > 4.0 * processors as f64 {
        Finding::warning(told).help("see what takes the time with `top`; reads of sub-devices come late")
    } else {
        Finding::ok(told)
    })
}

/// Of the running gateway.
fn open_files(ground: &Ground) -> Option<Finding> {
    let process = holders::processes(&ground.root)
        .into_iter()
        .filter(|process| *process != std::process::id())
        .find(|process| holders::name(&ground.root, *process) == "enos-edge")?;
    let limits = ground.text(&format!("proc/{process}/limits"))?;
    let most: u64 =
        limits.lines().find(|line| line.starts_with("Max open files"))?.split_whitespace().nth(3)?.parse().ok()?;
    let open = std::fs::read_dir(ground.path(&format!("proc/{process}/fd"))).ok().map(Iterator::count);
    Some(match open {
        Some(open) if open as u64 * 10 > most * 8 => {
            Finding::warning(format!("the gateway has {open} of {most} files open"))
                .help("set LimitNOFILE= in the unit higher (`systemctl edit enos-edge`)")
        }
        Some(open) => Finding::ok(format!("the gateway has {open} of {most} files open")),
        None => Finding::unseen("open files of the gateway", "they belong to another user"),
    })
}

fn journal(ground: &Ground) -> Option<Finding> {
    if !ground.path("run/systemd/journal").is_dir() {
        return None;
    }
    let kept = ground.path("var/log/journal").is_dir();
    Some(if kept {
        Finding::ok("the journal is kept on disk")
    } else {
        Finding::note("the journal is lost with each restart of the machine").at("/var/log/journal").help(
            "set Storage=persistent and SystemMaxUse=100M in /etc/systemd/journald.conf: without it nobody sees why the machine restarted",
        )
    })
}
